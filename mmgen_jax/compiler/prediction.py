"""Predicts memory, time and share of the peak of a compiled program. Nothing is run; the compiler's figures are added.

Compute time is the sum of the cycles that the compiler estimates for every instruction, times the trip counts of loops,
divided by the clock. Pallas kernels add the bundles of their schedule, one per cycle. This assumes that memory traffic
is hidden as the compiler plans, so it is a lower bound. Collectives that no other work overlaps add the time that their
bytes take over the links.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax

from mmgen_jax.compiler.hlo import Collective, Program
from mmgen_jax.parallel.chips import Chip


@dataclass(frozen=True)
class Traffic:
    """All collectives of one kind and group size, overlapped or not, in one call of the program on one device.

    Attributes:
      kind: "all-gather", "all-reduce", "reduce-scatter", "collective-permute" or "all-to-all".
      group: number of devices that take part.
      overlapped: whether other work runs at the same time.
      count: number of collectives.
      bytes: bytes of their whole arrays.
      seconds: time that these bytes take over the links.
    """

    kind: str
    group: int
    overlapped: bool
    count: float
    bytes: float
    seconds: float


@dataclass(frozen=True)
class Prediction:
    """The predicted cost of one call of the program on each device.

    Attributes:
      peak: largest number of bytes of memory in use, arguments and temporaries included.
      compute: seconds of all cycles, those of kernels included.
      kernels: seconds of Pallas kernels.
      flops, traffic_bytes: the compiler's counts, in which the body of a loop counts once.
      loops: whether the program has loops, so that these two counts are too small.
      collectives: collectives, summed by kind, group size and whether they are overlapped.
    """

    peak: float
    arguments: float
    temporaries: float
    compute: float
    kernels: float
    flops: float
    traffic_bytes: float
    loops: bool
    collectives: tuple[Traffic, ...]

    @property
    def exposed(self) -> float:
        """Seconds of collectives during which no other work runs."""
        return sum(c.seconds for c in self.collectives if not c.overlapped)

    @property
    def hidden(self) -> float:
        """Seconds of collectives during which other work runs."""
        return sum(c.seconds for c in self.collectives if c.overlapped)

    @property
    def seconds(self) -> float:
        """Seconds of one call. Overlapped collectives count only as far as they take longer than all compute."""
        return max(self.compute, self.hidden) + self.exposed


def predict(
    compiled: jax.stages.Compiled, chip: Chip, devices: Sequence, kernel_cycles: Mapping[str, int]
) -> Prediction:
    """Predicts the cost of a compiled program.

    Args:
      compiled: the program, compiled for `devices`.
      chip: facts about this kind of device.
      devices: devices of the topology, in the order of their numbers in the program.
      kernel_cycles: a part of the name of each Pallas kernel -> its cycles for one row.
    """
    program = Program.of(compiled)
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
    assert memory  # the TPU compiler always tells
    kernels = sum(_cycles_of(name, kernel_cycles) * rows for name, rows in program.kernels().items())
    return Prediction(
        peak=memory.peak_memory_in_bytes,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        compute=(program.cycles() + kernels) / chip.clock,
        kernels=kernels / chip.clock,
        flops=cost.get("flops", 0.0),
        traffic_bytes=cost.get("bytes accessed", 0.0),
        loops=any(i.opcode == "while" for i, _ in program.walk()),
        collectives=_summed(program.collectives(), chip, devices),
    )


def _cycles_of(name: str, kernel_cycles: Mapping[str, int]) -> int:
    """Cycles of the kernel whose name is a part of an instruction's name, such as jvp_attention_forward_."""
    return next((cycles for kernel, cycles in kernel_cycles.items() if kernel in name), 0)


def _summed(found: Sequence[Collective], chip: Chip, devices: Sequence) -> tuple[Traffic, ...]:
    """Adds up collectives of the same kind and group size that are all overlapped, or all not."""
    rows: dict[tuple, list[float]] = {}
    for c in found:
        group = [devices[i] for i in c.group if i < len(devices)] or list(devices)
        row = rows.setdefault((c.kind, len(group), c.overlapped), [0, 0.0, 0.0])
        row[0] += c.count
        row[1] += c.count * c.bytes
        row[2] += c.count * _seconds(c, group, chip)
    return tuple(Traffic(*key, *row) for key, row in sorted(rows.items()))


def _seconds(collective: Collective, group: Sequence, chip: Chip) -> float:
    """Time that a collective takes over the links of the axes that the group spans.

    A ring of links is used in both directions, a line in one.
    """
    share = (len(group) - 1) / len(group)
    times = {"all-reduce": 2 * share, "all-to-all": share / 2, "collective-permute": 1.0}.get(collective.kind, share)
    return collective.bytes * times / _bandwidth(group, chip)


def _bandwidth(group: Sequence, chip: Chip) -> float:
    """Bytes/s, in one direction, into the worst connected device of a group."""
    spans = [len({d.coords[axis] for d in group}) for axis in range(len(group[0].coords))]
    links = sum(2 if span % chip.wraps == 0 else 1 for span in spans if span > 1)
    return max(links, 1) * chip.link


def extrapolate(few: Prediction, more: Prediction, depths: tuple[int, int], depth: int) -> Prediction:
    """Extrapolates to `depth` blocks from two smaller depths; each block adds the same to every figure."""
    weight = (depth - depths[0]) / (depths[1] - depths[0])

    def line(a: float, b: float) -> float:
        return a + (b - a) * weight

    first = {(c.kind, c.group, c.overlapped): c for c in few.collectives}
    second = {(c.kind, c.group, c.overlapped): c for c in more.collectives}
    zero = Traffic("", 0, False, 0, 0, 0)
    rows = []
    for key in sorted(first | second):
        a, b = first.get(key, zero), second.get(key, zero)
        values = (max(line(getattr(a, f), getattr(b, f)), 0) for f in ("count", "bytes", "seconds"))
        rows.append(Traffic(*key, *values))
    names = ("peak", "arguments", "temporaries", "compute", "kernels", "flops", "traffic_bytes")
    figures = {name: line(getattr(few, name), getattr(more, name)) for name in names}
    return Prediction(**figures, loops=few.loops or more.loops, collectives=tuple(rows))


def share_of_peak(model_flops: float, prediction: Prediction, chip: Chip, devices: int) -> float:
    """Model flops as a share of what the devices could compute in the predicted time."""
    return model_flops / (prediction.seconds * chip.peak * devices) if prediction.seconds else math.nan
