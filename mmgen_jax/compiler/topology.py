"""Makes the devices of a TPU topology, which need not exist, for the compiler to compile for."""

from __future__ import annotations

import os
import pathlib
import re
import sys

import jax
from jax.experimental import topologies

from mmgen_jax.parallel.chips import CHIPS
from mmgen_jax.system.errors import UsageError, extra

# This library is installed apart from other packages, as JAX would look for a TPU in every process if it found it.
LIBRARY = pathlib.Path(sys.prefix) / "compiler" / "libtpu" / "libtpu.so"
_TOPOLOGY = re.compile(r"(\w+):(\d+)x(\d+)(?:x(\d+))?$")
# These variables keep the library from looking for a TPU, and let several processes compile at once.
_ENVIRONMENT = {
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def parse_topology(topology: str) -> tuple[str, tuple[int, ...]]:
    """Parses "v5e:4x4" to "v5e" and (4, 4). Raises UsageError for text that is not a topology."""
    found = _TOPOLOGY.match(topology)
    if not found or found[1] not in CHIPS:
        kinds = ", ".join(CHIPS)
        raise UsageError(f"--topology is {topology!r}; allowed: one of {kinds}, a colon and a shape, as v5e:4x4")
    return found[1], tuple(int(size) for size in found.groups()[1:] if size)


def tpu_devices(topology: str) -> list[jax.Device]:
    """Makes devices to compile for. Raises UsageError if there is no such topology, or no compiler is installed."""
    kind, shape = parse_topology(topology)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Programs for devices that do not exist here cannot be loaded again, so a cache of them would be useless.
    jax.config.update("jax_enable_compilation_cache", False)
    if LIBRARY.exists():
        os.environ.setdefault("TPU_LIBRARY_PATH", str(LIBRARY))
    # By default the compiler assumes whole hosts, and a single chip is not a whole host.
    options: dict[str, object] = {"chips_per_host_bounds": [1, 1, 1]} if set(shape) == {1} else {}
    if kind == "v4":
        options["chip_config_name"] = "megacore"  # JAX sees both cores of a v4 chip as one device
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        cause = str(error).splitlines()[0][:200]
        if "not installed" in cause:
            raise UsageError(f"the TPU compiler is not installed; {extra('compiler')} installs it") from error
        raise UsageError(f"--topology is {topology!r}; the compiler knows none of that shape ({cause})") from error
    return list(found.devices)
