"""Asks the TPU compiler what a whole program costs, on one mesh or on the best of several."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping

import jax

from mmgen_jax.compiler import kernel_cycles, prediction, programs
from mmgen_jax.compiler.hlo import Program
from mmgen_jax.compiler.prediction import Prediction
from mmgen_jax.compiler.topology import parse_topology, tpu_devices
from mmgen_jax.models import flops
from mmgen_jax.parallel import sharding
from mmgen_jax.parallel.chips import CHIPS
from mmgen_jax.sampling import sampler
from mmgen_jax.settings import Settings
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import RunError, UsageError
from mmgen_jax.training import standins

DEPTHS = (2, 4)  # numbers of blocks that are compiled to extrapolate to a whole model without a loop over blocks
GIB = 2**30


def model_flops(chosen: Settings, what: str) -> float:
    """Model flops of one call of the program, over all devices."""
    a = standins.architecture(chosen)
    if what == "train":
        return flops.train_step_flops(a, chosen.train.batch)
    if what == "encode":
        return flops.encoder_flops(a, chosen.encode.batch)
    section = chosen.sample
    return sampler.sampler_flops(a, section.batch, section.count, section.solver, 1 + (section.guidance != 1))


def with_depth(chosen: Settings, depth: int) -> Settings:
    """The same settings for a model with fewer blocks, still without a loop over them."""
    encoder_depth = min(chosen.model.encoder_depth, depth // 2)
    return chosen.changed(model={"depth": depth, "unroll": depth, "encoder_depth": encoder_depth})


def compiled(chosen: Settings, what: str, topology: str, sizes: Mapping[str, int]) -> Prediction:
    """Compiles one program and predicts its cost. Raises RunError if it does not fit into the devices' memory."""
    devices = tpu_devices(topology)
    chip = CHIPS[parse_topology(topology)[0]]
    mesh = sharding.make_mesh(devices, sizes["data"], sizes["fsdp"], sizes["tensor"])
    start = time.monotonic()
    try:
        executable = programs.LOWER[what](chosen, mesh).compile()
    except jax.errors.JaxRuntimeError as error:
        cause = str(error).splitlines()[0]
        if "RESOURCE_EXHAUSTED" not in cause:
            raise
        raise RunError(f"does not fit into the memory of a device: {cause[:300]}") from error
    kernels = Program.of(executable).kernels()
    cycles = {}
    if kernels:
        model = chosen.model
        tokens = (chosen.data.image_size // chosen.autoencoder.factor // model.patch) ** 2
        cycles = kernel_cycles.measure(topology, tokens, model.heads, model.width // model.heads, model.dtype)
    blocks = "" if what == "encode" else f" of {chosen.model.depth} blocks"
    say(f"compiled {what}{blocks} for {topology} in {time.monotonic() - start:.0f} s")
    return prediction.predict(executable, chip, list(mesh.devices.flat), cycles)


def examine(chosen: Settings, what: str, topology: str, sizes: Mapping[str, int], exact: bool) -> Prediction:
    """Does what `compiled` does. Without a loop over blocks it extrapolates from two small depths, which is faster."""
    unrolled = chosen.model.unroll >= chosen.model.depth > DEPTHS[1]
    if exact or not unrolled or what == "encode":
        return compiled(chosen, what, topology, sizes)
    few, more = (compiled(with_depth(chosen, depth), what, topology, sizes) for depth in DEPTHS)
    return prediction.extrapolate(few, more, DEPTHS, chosen.model.depth)


def report(found: Prediction, model: float, topology: str, sizes: Mapping[str, int]) -> dict:
    """All figures as plain numbers. Bytes and seconds are those of one device in one call."""
    kind, shape = parse_topology(topology)
    chip, devices = CHIPS[kind], math.prod(sizes.values())
    return {
        "topology": topology,
        "mesh": dict(sizes),
        "devices": devices,
        "memory": {
            "available": chip.memory,
            "peak": found.peak,
            "arguments": found.arguments,
            "temporaries": found.temporaries,
        },
        "fits": found.peak <= chip.memory,
        "model_flops": model,
        "compiled_flops": found.flops * devices,
        "bytes_accessed": found.traffic_bytes,
        "loops_counted_once": found.loops,
        "seconds": {
            "compute": found.compute,
            "kernels": found.kernels,
            "exposed_collectives": found.exposed,
            "hidden_collectives": found.hidden,
            "total": found.seconds,
        },
        "share_of_peak": prediction.share_of_peak(model, found, chip, devices),
        "share_of_peak_computing": model / (found.compute * chip.peak * devices),
        "collectives": [dataclasses.asdict(c) for c in found.collectives],
    }


def examined(chosen: Settings, what: str, topology: str, sizes: Mapping[str, int], exact: bool) -> dict:
    """Runs `examine` and returns its `report`."""
    found = examine(chosen, what, topology, sizes, exact)
    return report(found, model_flops(chosen, what), topology, sizes)


def lines(found: dict, what: str) -> list[str]:
    """Lines of text that show a `report`."""
    memory, seconds = found["memory"], found["seconds"]
    mesh = " ".join(f"{axis}={size}" for axis, size in found["mesh"].items())
    spare = (memory["available"] - memory["peak"]) / GIB
    verdict = f"fits, {spare:.2f} GiB to spare" if found["fits"] else f"does not fit, {-spare:.2f} GiB too much"
    loops = ", loop bodies counted once" if found["loops_counted_once"] else ""
    shown = [
        f"{what} on {found['topology']}, {found['devices']} devices, mesh {mesh}; nothing was run, the compiler says:",
        f"  memory      {memory['peak'] / GIB:.2f} of {memory['available'] / GIB:.0f} GiB a device "
        f"({memory['arguments'] / GIB:.2f} arguments, {memory['temporaries'] / GIB:.2f} temporaries): {verdict}",
        f"  flops       model {found['model_flops'] / 1e12:.1f} TFLOP; compiled "
        f"{found['compiled_flops'] / 1e12:.1f} TFLOP outside kernels{loops}",
        f"  bytes       {found['bytes_accessed'] / 1e9:.1f} GB a device{loops}",
        f"  compute     {1e3 * seconds['compute']:.2f} ms of cycles, "
        f"{1e3 * seconds['kernels']:.2f} of them in kernels: {found['share_of_peak_computing']:.1%} of peak",
    ]
    for c in found["collectives"]:
        how = "hidden" if c["overlapped"] else "exposed"
        shown.append(
            f"  {c['kind']:<18} {c['count']:6.0f} x over {c['group']:3d} devices {c['bytes'] / 1e9:8.3f} GB "
            f"{1e3 * c['seconds']:7.2f} ms {how}"
        )
    shown.append(
        f"  predicted   {1e3 * seconds['total']:.2f} ms ({1e3 * seconds['exposed_collectives']:.2f} of them exposed "
        f"collectives): {found['share_of_peak']:.1%} of peak"
    )
    return shown


def meshes(devices: int) -> list[dict[str, int]]:
    """The meshes that are worth trying on this number of devices."""
    tried = [(1, devices, 1), (devices, 1, 1)]
    if devices >= 4:
        tried += [(2, devices // 2, 1), (1, devices // 2, 2)]
    return [dict(zip(sharding.AXES, sizes, strict=True)) for sizes in dict.fromkeys(tried)]


def search(chosen: Settings, what: str, topology: str, exact: bool) -> list[dict]:
    """Reports of several meshes, the best first. Those that fit into memory come first, sorted by time."""
    found = []
    for sizes in meshes(len(tpu_devices(topology))):
        shown = " ".join(f"{axis}={size}" for axis, size in sizes.items())
        try:
            found.append(examined(chosen, what, topology, sizes, exact))
        except (RunError, UsageError) as error:
            say(f"mesh {shown}: {error}")
    if not found:
        raise RunError(f"no mesh of {topology} takes this config")
    return sorted(found, key=lambda one: (not one["fits"], one["seconds"]["total"]))
