"""Bytes that a compiled program moves between a chip's memory and its cores.

XLA's own count of a program for a TPU adds up what every instruction reads and writes, though most
of it may stay in the fast memory beside the cores, some 128 MiB, as layouts with `S(1)` say. Here
only what lies outside it counts: results written, and operands read, of which a slice or a gather
reads no more than it returns.
"""

import dataclasses
import functools
import math
import re

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8}
ARRAY = re.compile(r"\b(pred|[sufb]f?\d+)\[([\d,]*)\](\{[^}]*\})?")
COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
MADE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\(([^)]*)\)")
CALLS = re.compile(r"calls=%?([\w.\-]+)")
SLICES = {"dynamic-slice", "slice", "gather"}
# What moves nothing: names for results of others, and the ends of what began before.
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional"}
NOTHING = ("AllocateBuffer", "ConcatBitcast")  # what is called, where a call does no work
FREE |= {f"{kind}-done" for kind in ("copy", "slice", "async", "all-reduce", "all-gather")}


def size_of(shape: str, *, outside: bool = False) -> int:
    """Bytes of an array or a tuple as programs write shapes; `outside` the fast memory alone."""
    return sum(
        BYTES.get(kind, 4) * math.prod(int(n) for n in dims.split(",") if n)
        for kind, dims, layout in ARRAY.findall(shape)
        if not (outside and "S(1)" in layout)
    )


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a compiled program."""

    name: str
    shape: str
    kind: str
    operands: list[str]
    calls: str  # the computation of a fusion, or ""


class Program:
    """The instructions of a compiled program, by the computation that they are in."""

    def __init__(self, text: str):
        """Of `compiled.as_text()`."""
        self.computations: dict[str, dict[str, Instruction]] = {}
        self._roots: dict[str, str] = {}
        inside = ""
        for line in text.splitlines():
            if match := COMPUTATION.match(line):
                inside = match[1]
                self.computations[inside] = {}
            elif match := MADE.match(line):
                root, name, shape, kind, arguments = match.groups()
                called = CALLS.search(line)
                operands = re.findall(r"%([\w.\-]+)", arguments)
                if kind == "parameter":
                    operands = [arguments]  # its number
                if kind == "custom-call" and any(target in line for target in NOTHING):
                    kind = "bitcast"
                made = Instruction(name, shape, kind, operands, called[1] if called else "")
                self.computations[inside][name] = made
                if root:
                    self._roots[inside] = name

    def moved(self, inside: str, name: str) -> int:
        """Bytes that an instruction reads and writes outside the fast memory."""
        made = self.computations[inside][name]
        if made.kind in FREE:
            return 0
        if made.kind in ("copy-start", "slice-start"):  # (to, from) and ((from), to)
            arrays = ARRAY.findall(made.shape)[:2]
            size = min(size_of(f"{kind}[{dims}]") for kind, dims, _ in arrays)
            return size * sum("S(1)" not in layout for *_, layout in arrays)
        written = size_of(made.shape, outside=True)
        if made.kind == "fusion":
            written = min(written, self._written(made.calls))
        elif made.kind == "dynamic-update-slice":
            written = min(written, size_of(self.computations[inside][made.operands[1]].shape))
        return written + sum(self._read(inside, made, i) for i in range(len(made.operands)))

    def _written(self, computation: str) -> int:
        """Bytes that a fused computation writes; of an array that it updates, the new part."""
        there = self.computations[computation]
        root = there[self._roots[computation]]
        while root.kind == "bitcast":
            root = there[root.operands[0]]
        if root.kind == "dynamic-update-slice":
            root = there[root.operands[1]]
        return size_of(root.shape)

    def _read(self, inside: str, made: Instruction, place: int) -> int:
        """Bytes outside the fast memory that an instruction reads of one operand."""
        operand = self.computations[inside].get(made.operands[place])
        if operand is None or not (size := size_of(operand.shape, outside=True)):
            return 0
        if made.kind == "fusion":
            return min(size, self._of_parameter(made.calls, place))
        return min(size, _of_use(made, place, size))

    @functools.cache  # noqa: B019 - programs are few
    def _of_parameter(self, computation: str, place: int) -> int:
        """Bytes that a fused computation reads of one of its parameters."""
        there = self.computations[computation].values()
        (name,) = (m.name for m in there if m.kind == "parameter" and m.operands == [str(place)])
        return self._of_uses(computation, name)

    def _of_uses(self, computation: str, name: str) -> int:
        there = self.computations[computation]
        reads = [0]
        for made in there.values():
            for place, operand in enumerate(made.operands):
                if operand != name:
                    continue
                if made.kind == "bitcast":
                    reads.append(self._of_uses(computation, made.name))
                elif made.kind == "fusion":
                    reads.append(self._of_parameter(made.calls, place))
                else:
                    reads.append(_of_use(made, place, size_of(there[name].shape)))
        return max(reads)


def _of_use(made: Instruction, place: int, size: int) -> int:
    """Bytes of an operand of this size that an instruction, not a fusion, reads."""
    if made.kind in SLICES and place == 0:
        return size_of(made.shape)
    return 0 if made.kind == "dynamic-update-slice" and place == 0 else size
