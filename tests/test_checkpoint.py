"""Checkpoints that are damaged end in one line that names them."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmgen_jax import checkpoint
from mmgen_jax.errors import UsageError
from mmgen_jax.train_state import TrainState


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Steps 1 and 2 of a state with arrays too large for the index."""
    folder = tmp_path_factory.mktemp("run")
    with checkpoint.make_manager(folder, 1, 5) as manager:
        for step in (1, 2):
            checkpoint.save(manager, step, make_state(step), {"samples": step})
            manager.wait_until_finished()
    return folder


def make_state(step: int) -> TrainState:
    params = {"large": jax.random.normal(jax.random.key(step), (300, 100)), "small": jnp.ones(3)}
    return TrainState(jnp.int32(step), params, jax.tree.map(jnp.copy, params), optax.adam(1e-3).init(params))


def restore(folder, step=None):
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.eval_shape(lambda: make_state(0))
    abstract = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes)
    with checkpoint.make_manager(folder, 1, 5) as manager:
        return checkpoint.restore(manager, abstract, step)


def test_what_was_saved_comes_back(workdir):
    for step in (1, 2):
        state, meta = restore(workdir, step)
        jax.tree.map(np.testing.assert_array_equal, state, make_state(step))
        assert meta == {"samples": step}
        ema, found = checkpoint.restore_ema(workdir, step)
        np.testing.assert_array_equal(ema["large"], state.ema["large"])
        assert found == step


def large_files(folder):
    """Those of arrays; into how many files they are put differs from run to run."""
    found = [p for p in folder.rglob("*") if p.is_file() and p.stat().st_size > 10_000]
    assert found
    return found


DAMAGES = {
    "arrays cut off": lambda folder: [p.write_bytes(p.read_bytes()[:1000]) for p in large_files(folder)],
    "arrays missing": lambda folder: [p.unlink() for p in large_files(folder)],
    "index cut off": lambda folder: (folder / "state" / "manifest.ocdbt").write_bytes(b"\f\xdb"),
    "index missing": lambda folder: (folder / "state" / "manifest.ocdbt").unlink(),
    "tree missing": lambda folder: (folder / "state" / "_METADATA").unlink(),
    "state missing": lambda folder: shutil.rmtree(folder / "state"),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of reads that Orbax gave up
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_told_in_one_line(workdir, tmp_path, damage):
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    DAMAGES[damage](copy / checkpoint.FOLDER / "2")
    message = rf"^checkpoint of step 2 in {copy}/checkpoints is damaged or .* to go on from step 1 \(\w+: "
    for read in (restore, checkpoint.restore_ema):
        with pytest.raises(UsageError, match=message) as caught:
            read(copy)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    jax.tree.map(np.testing.assert_array_equal, restore(copy, 1)[0], make_state(1))


def test_damaged_meta_matters_to_training_only(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "copy")
    (tmp_path / "copy" / checkpoint.FOLDER / "2" / "meta" / "metadata").write_text('{"samples"')
    with pytest.raises(UsageError, match="checkpoint of step 2 in .* is damaged"):
        restore(tmp_path / "copy")
    assert checkpoint.restore_ema(tmp_path / "copy")[1] == 2
