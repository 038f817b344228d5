"""A picture of what `compile_ahead.py` found: memory of a device, and bytes written by part.

python benchmarks/compile_ahead_plot.py detcon.py benchmarks/results/compile_ahead.svg
"""

import argparse
import json
import pathlib
from typing import Any

import matplotlib.pyplot as plt

RESULTS = pathlib.Path(__file__).parent / "results" / "compile_ahead_v5e.json"
MEMORY = 16  # GiB of a v5e
PARTS = ("forward", "backward", "views", "optimizer and the rest")


def bars(axes: Any, names: list[str], kinds: dict[str, list[float]], unit: str) -> None:
    """Bars on top of each other, one column for each name."""
    bottom = [0.0] * len(names)
    for kind, heights in kinds.items():
        axes.bar(names, heights, bottom=bottom, label=kind, width=0.6)
        bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
    axes.set_ylabel(unit)
    axes.legend(frameon=False)


def draw(config: str, out: pathlib.Path) -> None:
    """Draws the whole steps of a config, in the order in which they were compiled."""
    rows = [r for r in json.loads(RESULTS.read_text()) if r["part"] == "step" and r.get("parts")]
    rows = [r for r in rows if config in r["config"]]
    names = [r["environment"]["git"].removesuffix("-dirty") for r in rows]
    plt.rcParams["svg.hashsalt"] = "jaxssl"  # the same file for the same numbers
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    memory = {kind: [r["gib"][kind] for r in rows] for kind in ("held", "temporary")}
    bars(left, names, memory, "GiB of a device")
    left.axhline(MEMORY, color="gray", linestyle=":")
    left.set_ylim(top=1.3 * MEMORY)  # room for the legend
    written = {p: [r["parts"][p]["bytes"] / 1e9 for r in rows] for p in PARTS}
    bars(right, names, written, "GB written by a device in a step")
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("config", help="the name of a file in configs, or a part of it")
    parser.add_argument("out", type=pathlib.Path, help="the picture to write: FILE.svg or FILE.png")
    args = parser.parse_args()
    draw(args.config, args.out)
