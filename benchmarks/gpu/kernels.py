"""Where the time of a program goes: a `jax.profiler` trace, by kernel and by part of the step."""

import collections
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import jax

COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = ")
OP_NAME = re.compile(r'op_name="([^"]*)"')
CALLS = re.compile(r"calls=%?([\w.\-]+)")
TOP = 30


def instructions(text: str) -> dict[str, str]:
    """Of each instruction of a compiled program the JAX operation that it comes from.

    A fusion that has none gets one from inside it.
    """
    operations: dict[str, str] = {}
    inside: dict[str, str] = {}  # by computation, the last operation of it
    computation = ""
    for line in text.splitlines():
        if match := COMPUTATION.match(line):
            computation = match.group(1)
        elif match := INSTRUCTION.match(line):
            operation, calls = OP_NAME.search(line), CALLS.search(line)
            found = operation.group(1) if operation else ""
            if not found and calls:
                found = inside.get(calls.group(1), "")
            operations[match.group(1)] = found
            inside[computation] = found or inside.get(computation, "")
    return operations


def part(operation: str) -> str:
    """Which part of a training step an operation belongs to; "" if it has no name."""
    if "transpose(" in operation:
        return "backward"
    if "jvp(" in operation:
        return "forward"
    if "views/" in operation:
        return "views"
    return "optimizer and the rest" if operation else ""


def summarize(folder: pathlib.Path, operations: dict[str, str], calls: int) -> dict[str, Any]:
    """Milliseconds a call of each part and of the longest kernels.

    Args:
      folder: of one trace.
      operations: `instructions` of the program.
      calls: of the program, in the trace.

    Returns:
      busy_ms, the sum over all kernels; span_ms, from the first one's start to the last one's end;
      kernels, their number; parts_ms, by part; top, the longest. A kernel of a library says
      nothing of where it comes from: it counts to the part of the one before it.
    """
    (path,) = folder.glob("**/*.xplane.pb")
    flat = {_flat(name): name for name in operations}
    times: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    parts: collections.Counter[str] = collections.Counter()
    events = sorted(_kernels(jax.profiler.ProfileData.from_file(str(path))), key=lambda e: e[1])
    now = "unknown"
    for name, _, duration in events:
        operation = operations.get(flat.get(_flat(name), ""), "")
        now = part(operation) or now
        parts[now] += duration / 1e6 / calls
        times[name, now].append(duration / 1e6 / calls)
    longest = sorted(times, key=lambda key: -sum(times[key]))[:TOP]
    rows = [
        {
            "kernel": name[:60],
            "part": which,
            "ms": round(sum(times[name, which]), 4),
            "count": len(times[name, which]) / calls,
            "operation": operations.get(flat.get(_flat(name), ""), "")[-100:],
        }
        for name, which in longest
    ]
    return {
        "busy_ms": sum(parts.values()),
        "span_ms": (max(s + d for _, s, d in events) - events[0][1]) / 1e6 / calls,
        "kernels": len(events) / calls,
        "parts_ms": dict(parts.most_common()),
        "top": rows,
    }


def _flat(name: str) -> str:
    """A name as kernels have it: those of CUDA know no dots."""
    return name.replace(".", "_").replace("-", "_")


def _kernels(profile: jax.profiler.ProfileData) -> Iterator[tuple[str, float, float]]:
    """Name, start and duration (ns) of what ran on an accelerator; without one, on XLA's threads.

    The name is that of the instruction, but for the kernels of a CUDA graph: those have their own.
    """
    devices = [plane for plane in profile.planes if plane.name.startswith("/device:")]
    for plane in devices or profile.planes:
        for line in plane.lines:
            for event in line.events:
                instruction = str(dict(event.stats).get("hlo_op", ""))
                if devices or instruction:
                    graph = not instruction or instruction.startswith("command_buffer")
                    name = event.name if graph else instruction
                    yield name, event.start_ns, event.duration_ns
