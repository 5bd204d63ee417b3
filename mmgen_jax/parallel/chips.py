"""Facts about accelerators: memory, clock and links of each kind of TPU, and the peak flop/s of every known chip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax


@dataclass(frozen=True)
class Chip:
    """Facts about one kind of TPU, from cloud.google.com/tpu/docs and jax-ml.github.io/scaling-book.

    Attributes:
      memory: bytes of HBM of one JAX device.
      clock: cycles per second of the tensor core, the unit of the compiler's estimates.
      peak: bfloat16 flop/s of one JAX device.
      link: bytes/s of one link between neighbouring chips, in one direction.
      wraps: an axis of this many chips, or of a multiple, is a ring; an axis of any other length is a line.
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
    "tpu7x": Chip(96 * 2**30, 2.2e9, 2307e12 / 2, 90 * GB, 4),  # each chip is two devices
}


# Dense bfloat16 flop/s of one chip, by the beginning of `jax.Device.device_kind`. The first match counts.
PEAKS = (
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5p", 459e12),
    ("TPU v5", 459e12),
    ("TPU v6 lite", 918e12),
    ("TPU v6e", 918e12),
    ("TPU v4", 275e12),
    ("TPU7x", 2307e12),
    ("NVIDIA H100", 989e12),
    ("NVIDIA H200", 989e12),
    ("NVIDIA A100", 312e12),
)


def peak_flops(device_kind: str) -> float | None:
    """Peak bfloat16 flop/s of one chip of this kind; None if it is not known, for instance for CPUs."""
    kind = device_kind.lower().replace("nvidia ", "")
    for name, peak in PEAKS:
        if kind.startswith(name.lower().replace("nvidia ", "")):
            return peak
    return None


def total_peak(devices: Sequence[jax.Device]) -> float | None:
    """Peak bfloat16 flop/s of the chips of `devices`, which are all of one kind; None if it is not known.

    Some TPU chips are two JAX devices. These have the same coordinates and are counted once.
    """
    peak = peak_flops(devices[0].device_kind)
    chips = {(d.process_index, tuple(getattr(d, "coords", None) or (d.id,))) for d in devices}
    return None if peak is None else peak * len(chips)
