"""Reads what XLA's TPU compiler writes into a compiled program: cycles, kernels and collectives.

The compiler's own sums count the body of a loop once. Here everything is multiplied by the trip counts of the loops
around it, which are read from the loops' conditions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import jax

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.-]+) = (.*)$")
_OPCODE = re.compile(r" ([a-z][\w-]*)\(")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|called_computations=\{|branch_computations=\{)=?\{?%([\w.-]+)")
_SHAPE = re.compile(r"\b(pred|[subf]\d+|bf16|f8\w*)\[([\d,]*)\]")
_CONSTANT = re.compile(r"s32\[\]\S* constant\((\d+)\)")
_KERNEL = re.compile(r'custom_call_target="tpu_custom_call"')
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "collective-permute", "all-to-all")
BYTES = {"pred": 1, "s4": 0.5, "u4": 0.5, "bf16": 2}


@dataclass(frozen=True)
class Instruction:
    name: str
    opcode: str
    text: str

    @property
    def cycles(self) -> int:
        found = _CYCLES.search(self.text)
        return int(found[1]) if found else 0


@dataclass(frozen=True)
class Collective:
    """One collective of the program.

    Attributes:
      kind: one of COLLECTIVES.
      bytes: bytes that it reads, or that it writes, on a device, whichever are more.
      count: how often it runs in one call of the program.
      group: numbers of the devices in its first group; empty means all devices.
      overlapped: whether other work runs at the same time.
    """

    kind: str
    bytes: float
    count: int
    group: tuple[int, ...]
    overlapped: bool


@dataclass
class Program:
    """A compiled module: its computations by name, and the name of the entry."""

    computations: dict[str, list[Instruction]] = field(default_factory=dict)
    entry: str = ""

    @classmethod
    def parse(cls, text: str) -> Program:
        program = cls()
        current: list[Instruction] | None = None
        for line in text.splitlines():
            header = _COMPUTATION.match(line)
            if header:
                current = program.computations.setdefault(header[1], [])
                if line.startswith("ENTRY"):
                    program.entry = header[1]
                continue
            if current is not None and (found := _INSTRUCTION.match(line)):
                opcode = _OPCODE.search(" " + found[2])
                current.append(Instruction(found[1], opcode[1] if opcode else "", found[2]))
        return program

    @classmethod
    def of(cls, compiled: jax.stages.Compiled) -> Program:
        """What a compiled program consists of."""
        text = compiled.as_text()
        assert text  # the TPU compiler always writes one
        return cls.parse(text)

    def walk(self, name: str | None = None, times: int = 1) -> Iterator[tuple[Instruction, int]]:
        """Yields every scheduled instruction and how often it runs. A fusion counts as one instruction."""
        for instruction in self.computations.get(name or self.entry, ()):
            yield instruction, times
            if instruction.opcode == "while":
                yield from self.walk(_attribute(instruction, "body"), times * self._trips(instruction))
            elif instruction.opcode == "conditional":
                # Only one branch runs; all are taken to cost what the first one costs.
                yield from self.walk(_found(_CALLED, instruction)[1], times)
            elif instruction.opcode == "call":
                yield from self.walk(_attribute(instruction, "to_apply"), times)

    def _trips(self, loop: Instruction) -> int:
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.text)
        if known:
            return int(known[1])
        condition = self.computations[_attribute(loop, "condition")]
        bounds = [int(m[1]) for i in condition for m in _CONSTANT.finditer(i.text)]
        return max(bounds, default=1)

    def cycles(self) -> int:
        """Cycles of everything that the compiler estimates. It estimates neither kernels nor collectives."""
        return sum(instruction.cycles * times for instruction, times in self.walk())

    def kernels(self) -> dict[str, int]:
        """Number of rows that each Pallas kernel runs over, by name: the leading axis of its first result."""
        found: dict[str, int] = {}
        for instruction, times in self.walk():
            if _KERNEL.search(instruction.text):
                name = re.sub(r"(\.\d+)+$", "", instruction.name)
                rows = int(_found(_SHAPE, instruction)[2].partition(",")[0])
                found[name] = found.get(name, 0) + times * rows
        return found

    def collectives(self) -> list[Collective]:
        found = []
        for instruction, times in self.walk():
            kind = next((k for k in COLLECTIVES if instruction.opcode in (k, f"{k}-start")), None)
            if kind:
                started = instruction.opcode.endswith("-start")
                found.append(Collective(kind, _bytes(instruction), times, _group(instruction), started))
            elif instruction.opcode == "fusion":
                found += self._fused(_attribute(instruction, "calls"), times)
            elif instruction.opcode == "call-start":  # another core runs it at the same time
                found += self._called(_attribute(instruction, "to_apply"), times)
        return found

    def _called(self, name: str, times: int) -> list[Collective]:
        """Collectives that a SparseCore runs."""
        inside = self.computations.get(name, ())
        return [Collective(i.opcode, _bytes(i), times, _group(i), True) for i in inside if i.opcode in COLLECTIVES]

    def _fused(self, name: str, times: int) -> list[Collective]:
        """Collectives of a fusion: a reduce-scatter, or the start of a collective that other fusions continue."""
        inside = self.computations.get(name, [])
        started = any("AsyncCollectiveStart" in i.text for i in inside)
        if not started and not name.startswith("all-reduce-scatter"):
            return []
        return [
            Collective(kind if started else "reduce-scatter", _bytes(i), times, _group(i), started)
            for i in inside
            for kind in COLLECTIVES
            if i.opcode == kind and (started or kind == "all-reduce")
        ]


def _found(pattern: re.Pattern[str], instruction: Instruction) -> re.Match[str]:
    """What an instruction of this kind always has; raises ValueError for a text that the compiler did not write."""
    if found := pattern.search(instruction.text):
        return found
    raise ValueError(f"{instruction.name} has nothing like {pattern.pattern}: {instruction.text}")


def _attribute(instruction: Instruction, name: str) -> str:
    return _found(re.compile(rf"{name}=%([\w.-]+)"), instruction)[1]


def _bytes(instruction: Instruction) -> float:
    """Bytes of the results, or of the operands whose types are written out, whichever are more."""
    head, _, rest = instruction.text.partition(f" {instruction.opcode}(")
    sizes = [sum(_sizes(head)), sum(_sizes(rest.partition("), ")[0]))]
    if instruction.opcode.endswith("-start"):
        sizes[0] /= 2  # a start returns its operands too
    if instruction.opcode == "reduce-scatter":
        sizes[0] *= max(len(_group(instruction)), 1)
    return max(sizes)


def _sizes(text: str) -> Iterator[float]:
    for dtype, dimensions in _SHAPE.findall(text):
        width = BYTES.get(dtype) or (1 if dtype.startswith("f8") else int(dtype[1:]) / 8)
        yield width * math.prod(int(d) for d in dimensions.split(",") if d)


def _group(instruction: Instruction) -> tuple[int, ...]:
    """Members of the first group, which are listed or given as a slice of a mesh."""
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", instruction.text)
    if listed:
        return tuple(int(d) for d in listed[1].split(","))
    iota = re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", instruction.text)
    if iota:
        return tuple(range(int(iota[2])))
    mesh = re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", instruction.text)
    if mesh:
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh[1])}
        return tuple(range(math.prod(sizes[name] for name in re.findall(r"'(\w+)'", mesh[2]))))
    return ()
