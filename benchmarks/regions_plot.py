"""A picture of `results/regions.json`: what each arm gains over random crops, seed by seed.

python benchmarks/regions_plot.py benchmarks/results/regions.svg
"""

import argparse
import json
import pathlib

import matplotlib.pyplot as plt
from regions import Run, by_arm, differences, measures

RESULTS = pathlib.Path(__file__).parent / "results" / "regions.json"
TITLES = {
    "quickstart": "scenes of 12 to 32 objects",
    "regions": "scenes: other regions or crops",
    "expand": "scenes: larger boxes",
    "samplers": "scenes: other samplers",
    "scale": "scenes: other ranges of crops",
    "temperature": "scenes: temperature and local views",
    "methods": "scenes: other methods",
    "single_objects": "images of one object",
    "mosaics": "mosaics of CIFAR-10",
    "streets": "streets of CamVid, tested on CIFAR-10",
    "photograph_methods": "streets, other methods, tested on CIFAR-10",
    "photographs": "BSDS500, tested on CIFAR-10",
    "dense": "photographs, tested on CamVid's label maps (mean IoU)",
}
Row = tuple[str, list[float]]


def rows(runs: list[Run], study: str) -> list[Row]:
    """Names and gains of the first result, in percent, of the arms that have a baseline."""
    found = []
    for arm, by_seed, base in by_arm(runs, study):
        name = measures(next(iter(by_seed.values())))[0]
        if more := differences(by_seed, base, name):
            label = arm.removeprefix("region_crop, ").replace(", region_crop", "")
            found.append((label, [100 * value for value in more]))
    return found


def draw(out: pathlib.Path) -> None:
    """Draws all studies one below the other: a dot for each seed, a line for the mean."""
    runs = json.loads(RESULTS.read_text())["runs"]
    studies = {title: rows(runs, study) for study, title in TITLES.items()}
    studies = {title: found for title, found in studies.items() if found}
    height = sum(len(found) + 1 for found in studies.values())
    plt.rcParams |= {"svg.hashsalt": "jaxssl", "svg.fonttype": "none", "font.size": 9}
    figure, axes = plt.subplots(figsize=(7.5, 0.19 * height + 0.7), layout="constrained")
    places, names, y = [], [], 0
    for title, found in studies.items():
        axes.text(0, y, title, transform=axes.get_yaxis_transform(), weight="bold", va="center")
        for label, gains in found:
            y += 1
            places.append(y)
            names.append(label)
            mean = sum(gains) / len(gains)
            axes.plot(gains, [y] * len(gains), "o", color="tab:blue", alpha=0.5, markersize=4)
            axes.plot([mean] * 2, [y - 0.4, y + 0.4], color="black", linewidth=1.5)
        y += 1
    axes.axvline(0, color="gray", linewidth=0.8)
    axes.set_yticks(places, names)
    axes.set_ylim(y, -1)
    axes.set_xlabel("gain over random crops, percentage points of kNN accuracy")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=pathlib.Path, help="the picture to write: FILE.svg or FILE.png")
    draw(parser.parse_args().out)
