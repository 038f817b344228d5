"""Tables: what differs between configs, and results with their spread beside the papers'."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from jaxssl.config import KNOWN, base, defaults, flatten
from jaxssl.reporting.markup import Markup, element, join, table
from jaxssl.reporting.papers import published
from jaxssl.reporting.runs import Group, Run, spell

# Results that are no share of anything. The others are shown in per cent.
PLAIN = ("lr", "learning_rate", "regions", "loss", "rank_me", "std", "std_if_even", "alignment",
         "uniformity", "regions_per_image", "images", "epochs", "l2")  # fmt: skip


def config_tables(groups: Sequence[Group]) -> list[Markup]:
    """What differs between the groups, or from the defaults if there is one; then everything."""
    names = [group.name for group in groups]
    flat = [group.first.flat for group in groups]
    if len(groups) == 1:
        names, flat = ["default", *names], [default_config(groups[0].first), *flat]
    keys = list(dict.fromkeys(key for f in flat for key in f if key != "seed"))
    rows = {key: [_show(f.get(key, "-")) for f in flat] for key in keys}
    differing = [[key, *cells] for key, cells in rows.items() if len(set(cells)) > 1]
    shown = table(["key", *names], differing, class_="config")
    nothing = element("p", "Nothing differs.")
    everything = table(
        ["key", *names[-len(groups) :]],
        [[key, *cells[-len(groups) :]] for key, cells in rows.items()],
        class_="config",
    )
    summary = element("summary", f"All {len(keys)} keys")
    return [shown if differing else nothing, element("details", summary, everything)]


def default_config(run: Run) -> dict[str, Any]:
    """The config that a run would have had if its file had changed nothing but names."""
    config = base()
    for section in KNOWN:
        config[section] = defaults(section, run.config[section].name)
    return flatten(config)


def _show(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclasses.dataclass(frozen=True)
class Row:
    """One number: of what, how it was found, and what each group has of it."""

    dataset: str
    measure: str  # such as knn_top1
    how: str
    values: dict[str, list[float]]  # by name of the group, one for each run


def result_rows(groups: Sequence[Group]) -> list[Row]:
    """All results: of eval.json those of the newest step, and the last that training reported."""
    found: dict[tuple[str, str, str], dict[str, list[float]]] = {}

    def add(key: tuple[str, str, str], group: Group, value: float) -> None:
        found.setdefault(key, {}).setdefault(group.name, []).append(value)

    for group in groups:
        for run in group.runs:
            for key, value in {**_evaluated(run), **_reported(run)}.items():
                add(key, group, value)
    # By data set, chance first, then the encoder before training and after it.
    ranks = {"untrained": 0, "after training": 1}
    order = sorted(found, key=lambda k: (k[0], k[1] != "chance", k[1], ranks.get(k[2], 2), k[2]))
    return [Row(*key, found[key]) for key in order]


def _evaluated(run: Run) -> dict[tuple[str, str, str], float]:
    """Of eval.json, mean over the seeds of the evaluation."""
    values: dict[tuple[str, str, str], dict[int, float]] = {}
    newest = max((entry["step"] for entry in run.entries), default=0)
    for entry in run.entries:
        if entry["step"] == newest:
            how = _describe(entry["protocol"])
            for name, value in entry["results"].items():
                key = (str(entry["dataset"]), f"{entry['task']}_{name}", how)
                values.setdefault(key, {})[entry["seed"]] = value  # the last of a seed counts
    return {key: statistics.fmean(seeds.values()) for key, seeds in values.items()}


def _reported(run: Run) -> dict[tuple[str, str, str], float]:
    """What the first evaluation of training found, of the untrained encoder, and the last."""
    lines = [line for line in run.lines if any(key.startswith("eval/") for key in line)]
    found = {}
    for line in (lines[0], lines[-1]) if lines else ():
        done = line["epoch"] >= run.config.epochs
        when = "after training" if done else f"epoch {line['epoch']:g}"
        for key, value in line.items():
            if key.startswith("eval/") and not key.endswith("_lr"):
                _, dataset, name = key.split("/", 2)
                at = "" if name == "chance" else when if line["step"] else "untrained"
                found[(dataset, name, at)] = value
    return found


def _describe(protocol: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_show(value)}" for key, value in protocol.items())


def result_table(groups: Sequence[Group]) -> Markup | None:
    """Mean and standard deviation over seeds; below, what papers report of the same."""
    cited: list[str] = []

    def cell(row: Row, group: Group) -> Markup:
        value = spread(row.measure, row.values.get(group.name, []))
        paper = published(group.first.config, row.dataset, row.measure)
        if paper is None or group.name not in row.values:
            return value
        if paper.source not in cited:
            cited.append(paper.source)
        note = element("sup", cited.index(paper.source) + 1)
        return join(value, element("span", f"paper {paper.value:.1f} %", note, class_="paper"))

    rows = [
        [row.dataset, spell(row.measure), *(cell(row, group) for group in groups), how(row.how)]
        for row in result_rows(groups)
    ]
    if not rows:
        return None
    head = ["data set", "result", *(group.name for group in groups), "how"]
    notes = element("ol", *(element("li", source) for source in cited), class_="notes")
    return join(table(head, rows, class_="results", names=2), notes if cited else None)


def how(text: str) -> str:
    """A protocol; a long one folded up."""
    if len(text) < 40:
        return text
    return element("details", element("summary", "protocol"), text)


def spread(measure: str, values: Sequence[float]) -> Markup:
    """Mean ± standard deviation, and of how many."""
    if not values:
        return element("span", "-", class_="none")
    plain = measure in PLAIN or any(measure.endswith(f"_{name}") for name in PLAIN)
    digits, factor, unit = (3, 1, "") if plain else (1, 100, " %")
    mean = statistics.fmean(values) * factor
    if len(values) == 1:
        return join(f"{mean:.{digits}f}{unit}")
    deviation = statistics.stdev(values) * factor
    return join(
        f"{mean:.{digits}f} ± {deviation:.{digits}f}{unit} ",
        element("small", f"n {len(values)}", class_="n"),
    )


def machine_table(groups: Sequence[Group]) -> Markup:
    """Versions, devices and revision, a column for each run; of runs all alike, one column."""
    runs = [run for group in groups for run in group.runs]
    flat = [{k: _show(v) for k, v in flatten(run.environment).items()} for run in runs]
    names = [run.name for run in runs]
    if all(f == flat[0] for f in flat):
        flat, names = flat[:1], ["all runs" if len(runs) > 1 else names[0]]
    keys = dict.fromkeys(key for f in flat for key in f)
    return table(["", *names], [[key, *(f.get(key, "-") for f in flat)] for key in keys])
