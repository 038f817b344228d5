"""What has become slower: images per second in a file of results beside those of an older one.

    python benchmarks/compare.py benchmarks/results/gpu_h200_first.json benchmarks/results/gpu.json

`throughput.py` and `gpu/run.py` do it by themselves when they write over a file. Only files of one
machine say anything; where its speed drifts, rates are compared relative to the row `step`.
"""

import argparse
import json
import pathlib
import statistics
import sys
from typing import Any

MOST = 0.1  # of its rate a row may lose without a warning
KEY = "images_per_second"


def rates(content: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], float]:
    """Every figure of images per second, by its place; of several the median."""
    if isinstance(content, dict):
        return {
            k: v for name, part in content.items() for k, v in rates(part, (*path, name)).items()
        }
    if KEY not in path or not content:
        return {}
    numbers = content if isinstance(content, list) else [content]
    return {tuple(p for p in path if p != KEY): statistics.median(numbers)}


def slower(before: Any, now: Any) -> list[str]:
    """A sentence for each row that has lost more than a tenth."""
    old, new = rates(before), rates(now)
    found = []
    for row in old.keys() & new.keys():
        ratio = new[row] / old[row]
        if (step := ("step",)) in old and step in new and row != step:
            ratio /= new[step] / old[step]
        if ratio < 1 - MOST:
            found.append(f"{', '.join(row)}: {old[row]:.1f} -> {new[row]:.1f}, {ratio - 1:+.0%}")
    return sorted(found)


def warn(before: pathlib.Path, now: Any) -> bool:
    """Says on stderr what is slower than in a file of results; whether anything is."""
    lines = slower(json.loads(before.read_text()), now) if before.exists() else []
    for line in lines:
        print(f"slower than in {before}: {line}", file=sys.stderr)
    return bool(lines)


def main() -> int:
    """Returns the exit status: 1 if anything is slower."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before", type=pathlib.Path, help="the older file of results")
    parser.add_argument("now", type=pathlib.Path)
    args = parser.parse_args()
    return int(warn(args.before, json.loads(args.now.read_text())))


if __name__ == "__main__":
    sys.exit(main())
