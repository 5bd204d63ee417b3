"""Eight virtual CPU devices, and small data sets and models that several test files share."""

import contextlib
import os
import pathlib
import shutil
import subprocess

# The same small programs occur in many tests and runs; compiling them is most of the suite's time.
CACHE = pathlib.Path(__file__).parents[1] / ".pytest_cache" / "xla"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
# Most programs of tests run for less time than it takes to compile them; all that users see is compiled as it is by
# default, by the quickstart.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"

import jaxtyping  # noqa: E402

jaxtyping.install_import_hook("mmgen_jax", "annotations.check")  # before any of it is imported

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tiny_model  # noqa: E402
from absl import flags  # noqa: E402

from configs import shapes_tiny  # noqa: E402
from mmgen_jax.data.shapes import builder  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run tests that take minutes")


def pytest_collection_modifyitems(config, items):
    nameless = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if nameless:  # the two processes that share the tests would call it by two names
        raise pytest.UsageError(
            f"{nameless[0]}: a test is named by an address, which differs in each process; name it by ids="
        )
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; --slow runs it"))


@pytest.fixture(scope="session", autouse=True)
def parsed_flags():
    """Parses absl's flags, which Grain's workers and app.run need."""
    flags.FLAGS(["pytest"], known_only=True)


@pytest.fixture(scope="session")
def tiles_dir(tmp_path_factory) -> str:
    """A data set of 96 train and 24 test scenes at 16 x 16."""
    folder = str(tmp_path_factory.mktemp("tiles"))
    builder.build(folder, builder.Recipe(size=16, train=96, test=24))
    return folder


@pytest.fixture(scope="session")
def small_config(tiles_dir):
    """Makes configs/shapes_tiny.py with a network of a few thousand parameters on `tiles_dir`."""

    def make():
        config = shapes_tiny.get_config()
        config.data.dir = tiles_dir
        config.data.image_size = 16
        config.autoencoder.components = (8, 4, 8, 8)
        config.model.update({"depth": 2, "width": 16, "heads": 2})
        config.optim.update({"warmup_steps": 0, "decay_steps": 0})
        config.train.update({"batch": 16, "steps": 4, "save_every": 2, "log_every": 1, "sample_every": 0})
        return config

    return make


@pytest.fixture
def tiny_config(small_config):
    """One config of `small_config`."""
    return small_config()


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    """The folder of `tiny_model`."""
    return tiny_model.save(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def model_config(tiles_dir):
    """A config that `model_dir` fits, with the scenes of `tiles_dir`."""
    config = tiny_model.config()
    config.data.dir = tiles_dir
    config.sample.solver = "euler"
    return config


@pytest.fixture
def mounted():
    """A context manager: mounts a small file system in memory at a path with options, and removes it in the end."""

    @contextlib.contextmanager
    def mount(path, options):
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this machine does not allow mounting a tmpfs")
        try:
            yield path
        finally:
            subprocess.run(["umount", "-l", str(path)], check=True)

    return mount


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
