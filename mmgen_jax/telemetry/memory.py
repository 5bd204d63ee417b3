"""Measures how much memory there is, and how much a process and its devices have used."""

from __future__ import annotations

import os
import resource
import sys

import jax


def usage() -> dict[str, float]:
    """Peak memory in GB so far: `memory/host_gb` of this process, and `memory/device_gb` of its fullest device.

    The second is left out for devices that do not report it, such as CPUs.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"memory/host_gb": peak / 1e9 * (1 if sys.platform == "darwin" else 1024)}
    peaks = [stats["peak_bytes_in_use"] for d in jax.local_devices() if (stats := d.memory_stats())]
    return found | ({"memory/device_gb": max(peaks) / 1e9} if peaks else {})


def of_device() -> int:
    """Bytes of memory of a local device; CPUs share that of the machine."""
    first = jax.local_devices()[0]
    if stats := first.memory_stats():
        return stats["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // jax.local_device_count()
