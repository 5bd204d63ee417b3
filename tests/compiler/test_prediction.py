"""Compares figures that are read out of compiled TPU programs with programs whose figures are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mmgen_jax.compiler import hlo, kernel_cycles, prediction
from mmgen_jax.compiler.topology import LIBRARY, parse_topology, tpu_devices
from mmgen_jax.models import attention_kernel
from mmgen_jax.parallel import sharding
from mmgen_jax.parallel.chips import CHIPS
from mmgen_jax.system.errors import UsageError

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="./launch/setup.sh --compiler brings the compiler")
CHIP = CHIPS["v5e"]


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh(tpu_devices("v5e:2x4"), 1, 8, 1)


def compiled(mesh, function, *shapes):
    """Of one argument each, split by the mesh axes that stand after its shape and type."""
    structs = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, PartitionSpec(*spec)))
        for shape, dtype, *spec in shapes
    ]
    return jax.jit(function).lower(*structs).compile()


def looped(count):
    """x -> x w `count` times, in a loop."""
    return lambda x, w: jax.lax.fori_loop(0, count, lambda _, x: x @ w, x)


def test_cycles_of_a_loop_count_every_turn(mesh):
    shapes = ((2048, 2048), jnp.bfloat16), ((2048, 2048), jnp.bfloat16)
    cycles = {n: hlo.Program.parse(compiled(mesh, looped(n), *shapes).as_text()).cycles() for n in (10, 20, 40)}
    assert cycles[40] - cycles[20] == pytest.approx(2 * (cycles[20] - cycles[10]), rel=0.01)
    # No turn is faster than the matrix unit at its peak, nor much slower for so simple a product.
    turn = (cycles[40] - cycles[20]) / 20
    fastest = 2 * 2048**3 / CHIP.peak * CHIP.clock
    assert fastest < turn < 3 * fastest


@pytest.mark.parametrize("topology", ["v5e:2x4", "v5p:2x2x2", "v6e:2x4", "tpu7x:2x2x1"])
def test_collectives_are_told_by_kind_bytes_and_group(topology):
    mesh = sharding.make_mesh(tpu_devices(topology), 1, 8, 1)

    def moved(x, y):
        whole = jax.lax.all_gather(x, "fsdp", tiled=True)
        return whole * 2, jax.lax.psum(y, "fsdp"), jax.lax.ppermute(y, "fsdp", [(i, (i + 1) % 8) for i in range(8)])

    spec = PartitionSpec("fsdp")
    function = jax.shard_map(moved, mesh=mesh, in_specs=spec, out_specs=(spec, spec, spec), check_vma=False)
    program = compiled(mesh, function, ((1024, 256), jnp.bfloat16, "fsdp"), ((800, 128), jnp.float32, "fsdp"))
    found = {c.kind: c for c in hlo.Program.parse(program.as_text()).collectives()}
    assert found["all-gather"].bytes == 1024 * 256 * 2 and len(found["all-gather"].group) == 8
    assert found["all-reduce"].bytes == 100 * 128 * 4 and len(found["all-reduce"].group) == 8
    assert found["collective-permute"].bytes == pytest.approx(100 * 128 * 4, rel=0.01)
    assert all(c.count == 1 for c in found.values())


def test_seconds_of_collectives_are_bytes_over_links(mesh):
    devices = list(mesh.devices.flat)
    gather = hlo.Collective("all-gather", 90e9, 1, tuple(range(8)), False)
    # 2 x 4 chips in two lines: two links into the worst placed one, and 7/8 of the bytes come from others.
    assert prediction._seconds(gather, devices, CHIP) == pytest.approx(7 / 8)
    reduce = hlo.Collective("all-reduce", 90e9, 1, tuple(range(8)), False)
    assert prediction._seconds(reduce, devices, CHIP) == pytest.approx(2 * 7 / 8)
    ring = tpu_devices("v5e:16x16")
    row = [d for d in ring if d.coords[0] == 0]
    assert len(row) == 16 and prediction._bandwidth(row, CHIP) == 2 * CHIP.link  # a ring, so both ways


def test_kernels_count_by_rows_and_their_cycles_are_measured(mesh):
    qkv, bias = ((8, 3 * 144, 128), jnp.bfloat16), ((3 * 144,), jnp.float32)
    none = PartitionSpec()
    function = jax.shard_map(
        lambda qkv, bias: attention_kernel.attend(qkv, bias, 2),
        mesh=mesh,
        in_specs=(none, none),
        out_specs=none,
        check_vma=False,
    )
    program = compiled(mesh, function, qkv, bias)
    ((name, rows),) = hlo.Program.parse(program.as_text()).kernels().items()
    assert "attention_forward" in name and rows == 8
    cycles = kernel_cycles.measure("v5e:2x4", 128, 2, 72, "bfloat16")
    products = 2 * 128 * 128 * 144 * 2
    assert cycles["attention_forward"] > products / CHIP.peak * CHIP.clock
    assert cycles["attention_backward"] > cycles["attention_forward"]
    found = prediction.predict(program, CHIP, list(mesh.devices.flat), cycles)
    assert found.kernels == pytest.approx(8 * cycles["attention_forward"] / CHIP.clock)


def test_a_line_through_two_depths_is_exact_for_what_grows_evenly():
    def of(depth):
        traffic = prediction.Traffic("all-gather", 8, True, 5 * depth, 100.0 * depth, 0.1 * depth)
        return prediction.Prediction(10 + depth, 1, 2, 3 + 2 * depth, depth, depth, depth, False, (traffic,))

    assert prediction.extrapolate(of(2), of(4), (2, 4), 28) == of(28)


@pytest.mark.parametrize("topology", ["v5e", "v5e:4", "h100:2x2", "v5e:3x5"])
def test_topologies_that_do_not_exist_are_named(topology):
    with pytest.raises(UsageError, match=f"--topology is '{topology}'"):
        tpu_devices(topology)


def test_the_known_topologies_have_their_devices():
    for topology, count in (("v5e:1x1", 1), ("v5e:4x4", 16), ("v5p:2x2x2", 8), ("v6e:2x4", 8), ("v4:2x2x2", 8)):
        assert len(tpu_devices(topology)) == count, topology
    assert np.prod(parse_topology("v5p:2x2x4")[1]) == 16
