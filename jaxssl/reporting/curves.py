"""Curves as SVG, drawn with the colours of the page, so that they fit light and dark."""

import dataclasses
import math
from collections.abc import Sequence

from jaxssl.reporting.markup import Markup, element, join
from jaxssl.reporting.runs import Group, spell

WIDTH, HEIGHT = 360, 220  # units of the drawing
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 34  # margins
MAX_POINTS = 300  # of a line
COLOURS = 8  # in style.css

# Key of metrics.jsonl: title, what it shows, key of a reference line or None.
MAIN = {
    "loss": ("Training loss", "mean over the steps since the last point", None),
    "embedding_std": ("Spread of the projections", "1 if even, 0 if collapsed", None),
    "health/std": ("Spread of the features", "std of a dimension; dashed: even",
                   "health/std_if_even"),
    "health/rank_me": ("RankMe", "directions that the features use; more is better", None),
    "health/alignment": ("Alignment", "squared distance of two views; lower is better", None),
    "health/uniformity": ("Uniformity", "0 if all features are the same; lower is better", None),
    "health/regions_per_image": ("Regions an image", "that are large enough to draw from", None),
    "health/no_region": ("No region", "share of images without a usable region", None),
}  # fmt: skip
MORE = {
    "fallback_fraction": ("Fell back", "share of images whose views came from anywhere", None),
    "learning_rate": ("Learning rate", "at the end of each interval", None),
    "grad_norm": ("Gradient norm", "mean over the steps since the last point", None),
    "images_per_sec": ("Images a second", "of the whole loop", None),
    "data_wait": ("Waiting for data", "share of the time", None),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a chart."""

    name: str
    colour: int
    points: list[tuple[float, float]]  # epoch, value
    dashed: bool = False


def main_charts(groups: Sequence[Group]) -> list[Markup]:
    """Loss, every result of the evaluations during training, health."""
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
    loss, *rest = MAIN.items()
    charts = [chart(groups, key, *told) for key, told in (loss, *results.items(), *rest)]
    return [c for c in charts if c]


def more_charts(groups: Sequence[Group]) -> list[Markup]:
    """Speed and the course of the optimizer."""
    return [c for c in (chart(groups, key, *told) for key, told in MORE.items()) if c]


def chart(
    groups: Sequence[Group], key: str, title: str, about: str, reference: str | None
) -> Markup | None:
    """A line for each run, coloured by group; None if there is nothing to draw."""
    lines = [
        Line(run.name, number % COLOURS, points)
        for number, group in enumerate(groups)
        for run in group.runs
        if (points := _finite(run.curve(key)))
    ]
    if not lines or max(len(line.points) for line in lines) < 2:
        return None
    if reference and (points := _finite(groups[0].first.curve(reference))):
        lines.append(Line(reference.rpartition("/")[2], -1, points, dashed=True))
    elif "dashed" in about:
        about = about.partition("; dashed")[0] if ";" in about else ""
    heading = element("strong", title)
    caption = element("figcaption", heading, f" {about}" if about else None)
    return element("figure", caption, draw(lines, title), class_="chart")


def legend(groups: Sequence[Group]) -> Markup | None:
    """Which colour is which group; None for a single run, which needs none."""
    if len(groups) < 2:
        return None
    entries = []
    for number, group in enumerate(groups):
        seeds = f" ({len(group.runs)} seeds)" if len(group.runs) > 1 else ""
        swatch = element("span", class_=f"swatch b{number % COLOURS}")
        entries.append(element("li", swatch, f"{group.name}{seeds}"))
    return element("ul", *entries, class_="legend")


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(y)]


def draw(lines: Sequence[Line], title: str) -> Markup:
    """The chart: ticks, grid, lines; the end of each line is marked."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    x_ticks, y_ticks = nice_ticks(0.0, max(xs), 5), nice_ticks(min(ys), max(ys), 4)
    x_low, x_high = 0.0, max(max(xs), 1e-9)
    y_low, y_high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        up = (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return round(LEFT + across, 1), round(HEIGHT - BOTTOM - up, 1)

    parts = [element("title", f"{title}, by epoch")]
    for y in y_ticks:
        _, at = place(x_low, y)
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
        parts.append(element("text", short(y), x=LEFT - 6, y=at + 4, text_anchor="end"))
    for x in (x for x in x_ticks if x <= x_high):
        at, _ = place(x, y_low)
        parts.append(element("text", short(x), x=at, y=HEIGHT - BOTTOM + 16, text_anchor="middle"))
    parts.append(
        element("text", "epoch", x=WIDTH - RIGHT, y=HEIGHT - 2, text_anchor="end", class_="axis")
    )
    for line in lines:
        parts.append(_draw_line(line, [place(*point) for point in thin(line.points)]))
    return element("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title)


def _draw_line(line: Line, places: Sequence[tuple[float, float]]) -> Markup:
    colour = "reference" if line.dashed else f"c{line.colour}"
    path = " ".join(f"{x},{y}" for x, y in places)
    drawn = element("polyline", element("title", line.name), points=path, class_=f"line {colour}")
    if line.dashed:
        return drawn
    x, y = places[-1]
    return join(drawn, element("circle", cx=x, cy=y, r=3, class_=f"dot b{line.colour}"))


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MAX_POINTS`: means of equally many neighbours; the first and the last are kept."""
    size = -(-len(points) // MAX_POINTS)
    if size == 1:
        return list(points)
    chunks = [points[i : i + size] for i in range(0, len(points), size)]
    means = [(sum(x) / len(x), sum(y) / len(y)) for x, y in (zip(*c, strict=True) for c in chunks)]
    return [points[0], *means[1:-1], points[-1]]


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from `low` or just below to `high` or just above."""
    if high <= low:  # from 0 to twice the value, or to 1
        low, high = sorted((0.0, 2 * low or 1.0))
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def short(value: float) -> str:
    """A number in at most six characters or so."""
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.4g}"
