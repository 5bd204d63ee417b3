"""Tests programs for two pods that a slow network joins, as ./launch/tpu.sh create --slices=2 asks for."""

import pytest
from jax.experimental import topologies

from configs import shapes_tiny
from mmgen_jax import settings
from mmgen_jax.compiler import hlo, programs
from mmgen_jax.compiler.topology import LIBRARY, tpu_devices
from mmgen_jax.parallel import sharding
from mmgen_jax.system.errors import UsageError

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="./launch/setup.sh --compiler brings the compiler")


@pytest.fixture(scope="module")
def devices():
    tpu_devices("v5e:2x4")  # finds the compiler
    return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4", num_slices=2).devices


def test_only_data_crosses_pods(devices):
    mesh = sharding.make_mesh(devices, 2, -1, 1)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 8, "tensor": 1}
    assert [{d.slice_index for d in pod.flat} for pod in mesh.devices] == [{0}, {1}]
    with pytest.raises(UsageError, match="config key mesh.data is 1 for 2 pods; it must be a multiple of them"):
        sharding.make_mesh(devices, 1, -1, 1)


def test_weights_are_gathered_within_a_pod(devices):
    config = shapes_tiny.get_config()
    with config.unlocked():
        config.model.depth, config.model.width, config.model.heads, config.train.batch = 2, 32, 2, 32
    program = hlo.Program.parse(
        programs.train(settings.parse(config), sharding.make_mesh(devices, 2, -1, 1)).compile().as_text()
    )
    gathers = [c for c in program.collectives() if c.kind == "all-gather"]
    assert gathers and all(len(c.group) == 8 for c in gathers)
