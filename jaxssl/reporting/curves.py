"""Curves of the page: which there are, and where their points and ticks are drawn."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from jaxssl.evaluation.shown import is_fraction
from jaxssl.reporting.runs import Group, spell

WIDTH, HEIGHT = 360, 220  # units of the drawing
LEFT, RIGHT, TOP, BOTTOM = 48, WIDTH - 12, 10, HEIGHT - 34  # of the part with the lines
MAX_POINTS = 300  # of a line
_LARGEST = 1e30  # number that is drawn
COLORS = [f"var(--c{n})" for n in range(8)]  # of style.css

# Key of metrics.jsonl: title, explanation, key of a reference line or None.
MAIN = {
    "loss": ("Training loss", "mean over the steps since the last point", None),
    "embedding_std": ("Spread of the projections", "1 if even, 0 if collapsed", None),
    "health/std": ("Spread of the features", "std of a dimension; dashed: even",
                   "health/std_if_even"),
    "health/rank_me": ("RankMe", "effective rank of the features; higher is better", None),
    "health/alignment": ("Alignment", "squared distance of two views; lower is better", None),
    "health/uniformity": ("Uniformity", "0 if all features are the same; lower is better", None),
    "health/regions_per_image": ("Regions per image", "large enough to crop from", None),
    "health/no_region": ("No region", "share of images without a usable region", None),
}  # fmt: skip
MORE = {
    "fallback_fraction": ("Fallback", "share of images with views from anywhere", None),
    "learning_rate": ("Learning rate", "at the end of each interval", None),
    "grad_norm": ("Gradient norm", "mean over the steps since the last point", None),
    "images_per_sec": ("Images/s", "of the whole training loop", None),
    "data_wait": ("Waiting for data", "share of the time", None),
}  # fmt: skip

Points = list[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a chart."""

    name: str
    color: str
    points: Points  # epoch and value, or where they are drawn
    dashed: bool = False


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart as it is drawn: lines and ticks in units of the drawing."""

    title: str
    about: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]  # place, label
    y_ticks: list[tuple[float, str]]
    width, height, left, right, bottom = WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM


def main_charts(groups: Sequence[Group]) -> dict[str, Chart]:
    """Loss, every result of the evaluations during training, health; by key of metrics.jsonl."""
    keys = dict.fromkeys(key for g in groups for r in g.runs for line in r.lines for key in line)
    results = {
        key: (
            f"{spell(key.split('/')[2])} on {key.split('/')[1]}",
            "dashed: majority baseline",
            f"eval/{key.split('/')[1]}/majority_baseline",
        )
        for key in keys
        if key.startswith("eval/")
        and key.count("/") == 2
        and not key.endswith(("/majority_baseline", "_lr"))
    }
    return _charts(groups, {"loss": MAIN["loss"]} | results | MAIN)


def more_charts(groups: Sequence[Group]) -> dict[str, Chart]:
    """Speed and the course of the optimizer; by key of metrics.jsonl."""
    return _charts(groups, MORE)


def _charts(
    groups: Sequence[Group], texts: Mapping[str, tuple[str, str, str | None]]
) -> dict[str, Chart]:
    charts = {key: chart(groups, key, *text) for key, text in texts.items()}
    return {key: drawn for key, drawn in charts.items() if drawn}


def chart(
    groups: Sequence[Group], key: str, title: str, about: str, reference: str | None
) -> Chart | None:
    """A line for each run, colored by group; None if there is nothing to draw.

    Args:
      groups: runs that differ in their seed alone.
      key: of metrics.jsonl.
      title: of the chart.
      about: an explanation beside the title.
      reference: key of a dashed line, of the first run; None: no such line.
    """
    lines = [
        Line(run.name, COLORS[number % len(COLORS)], points)
        for number, group in enumerate(groups)
        for run in group.runs
        if (points := _drawable(run.curve(key)))
    ]
    if not lines or max(len(line.points) for line in lines) < 2:
        return None
    if reference and (points := _drawable(groups[0].first.curve(reference))):
        lines.append(Line(reference.rpartition("/")[2], "", points, dashed=True))
    elif "dashed" in about:
        about = about.partition("; dashed")[0] if ";" in about else ""
    return draw(title, about, lines, in_percent=is_fraction(key))


def legend(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """The name of each group and the color of its lines."""
    return [
        (
            group.name + (f" ({len(group.runs)} seeds)" if len(group.runs) > 1 else ""),
            COLORS[number % len(COLORS)],
        )
        for number, group in enumerate(groups)
    ]


def _drawable(points: Points) -> Points:
    """The points that are finite and of a size that can be drawn."""
    return [(x, y) for x, y in points if abs(x) < _LARGEST and abs(y) < _LARGEST]


def draw(title: str, about: str, lines: Sequence[Line], *, in_percent: bool = False) -> Chart:
    """The lines, from epoch 0 on, and round ticks around their values.

    Ticks of fractions are labeled `in_percent`.
    """
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    x_ticks, y_ticks = nice_ticks(0.0, max(xs), 5), nice_ticks(min(ys), max(ys), 4)
    x_high = max(max(xs), 1e-9)
    y_low, y_high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)

    def across(x: float) -> float:
        return round(LEFT + x / x_high * (RIGHT - LEFT), 1)

    def down(y: float) -> float:
        return round(BOTTOM - (y - y_low) / (y_high - y_low) * (BOTTOM - TOP), 1)

    drawn = [
        dataclasses.replace(line, points=[(across(x), down(y)) for x, y in thin(line.points)])
        for line in lines
    ]
    x_labels = [(across(x), short(x)) for x in x_ticks if x <= x_high]
    y_labels = [(down(y), f"{short(100 * y)} %" if in_percent else short(y)) for y in y_ticks]
    return Chart(title, about, drawn, x_labels, y_labels)


def thin(points: Points) -> Points:
    """At most `MAX_POINTS` points: means of runs of neighbors; the first and the last are kept."""
    size = -(-len(points) // MAX_POINTS)
    if size == 1:
        return list(points)
    chunks = [points[i : i + size] for i in range(0, len(points), size)]
    means = [(sum(x) / len(x), sum(y) / len(y)) for x, y in (zip(*c, strict=True) for c in chunks)]
    return [points[0], *means[1:-1], points[-1]]


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from `low` or just below to `high` or just above."""
    if high - low < 1 / _LARGEST:  # from 0 to twice the value, or to 1
        low, high = sorted((0.0, 2 * low if abs(low) > 1 / _LARGEST else 1.0))
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def short(value: float) -> str:
    """A number in at most six characters or so."""
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
