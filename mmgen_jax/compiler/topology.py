"""Kinds of TPU, and topologies of them for the compiler."""

from __future__ import annotations

import os
import pathlib
import re
import sys
from dataclasses import dataclass

import jax
from jax.experimental import topologies

from mmgen_jax.system.errors import UsageError


@dataclass(frozen=True)
class Chip:
    """What a kind of TPU has; from cloud.google.com/tpu/docs and the scaling book (jax-ml.github.io/scaling-book).

    Attributes:
      memory: bytes of HBM of one JAX device.
      clock: cycles per second of the tensor core, which the compiler's cycles are of.
      peak: bfloat16 flop/s of one JAX device.
      link: bytes/s of one link between neighbours, one way.
      wraps: axes of this many chips (or multiples of it) are rings, shorter ones lines.
    """

    memory: float
    clock: float
    peak: float
    link: float
    wraps: int


GB = 1e9
CHIPS = {
    "v4": Chip(32 * 2**30, 1.05e9, 275e12, 45 * GB, 4),
    "v5e": Chip(16 * 2**30, 1.5e9, 197e12, 45 * GB, 16),
    "v5p": Chip(95 * 2**30, 1.75e9, 459e12, 90 * GB, 4),
    "v6e": Chip(32 * 2**30, 1.75e9, 918e12, 90 * GB, 16),
    "tpu7x": Chip(96 * 2**30, 2.2e9, 2307e12 / 2, 90 * GB, 4),  # two devices a chip
}
# Apart from the other packages: where JAX finds it by itself, it looks for a TPU in every process.
LIBRARY = pathlib.Path(sys.prefix) / "compiler" / "libtpu" / "libtpu.so"
_TOPOLOGY = re.compile(r"(\w+):(\d+)x(\d+)(?:x(\d+))?$")
# Silences the library's search for a TPU, and lets several processes compile at once.
_ENVIRONMENT = {
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def parse(topology: str) -> tuple[str, tuple[int, ...]]:
    """ "v5e:4x4" -> "v5e", (4, 4). Raises UsageError for what is none."""
    found = _TOPOLOGY.match(topology)
    if not found or found[1] not in CHIPS:
        kinds = ", ".join(CHIPS)
        raise UsageError(f"--topology is {topology!r}; allowed: one of {kinds}, a colon and a shape, as v5e:4x4")
    return found[1], tuple(int(size) for size in found.groups()[1:] if size)


def devices(topology: str) -> list[jax.Device]:
    """Devices of a topology to compile for. Raises UsageError if there is no such one, or no compiler here."""
    kind, shape = parse(topology)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # What is compiled for devices that are not here cannot be loaded again, so that a cache of it is of no use.
    jax.config.update("jax_enable_compilation_cache", False)
    if LIBRARY.exists():
        os.environ.setdefault("TPU_LIBRARY_PATH", str(LIBRARY))
    # One chip is no whole host, which is what the compiler assumes.
    options = {"chips_per_host_bounds": [1, 1, 1]} if set(shape) == {1} else {}
    if kind == "v4":
        options["chip_config_name"] = "megacore"  # both cores as one device, as JAX sees them
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        cause = str(error).splitlines()[0][:200]
        if "not installed" in cause:
            raise UsageError("the TPU compiler is not installed; ./launch/setup.sh --compiler does it") from error
        raise UsageError(f"--topology is {topology!r}; the compiler knows none of that shape ({cause})") from error
    return list(found.devices)
