"""Tables: what differs between configs, and results with their spread beside the papers'."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from jaxssl.config import KNOWN, base, defaults, flatten
from jaxssl.reporting.markup import Markup, element, join, table
from jaxssl.reporting.published import published
from jaxssl.reporting.runs import Group, Run, spell

# Of a protocol, what each run chose on its training images: it may differ between seeds.
CHOSEN = ("learning_rate", "c_chosen")
# Results that are no share of anything. The others are shown in per cent.
PLAIN = ("lr", "loss", "regions", "images", "rank_me", "std", "std_if_even", "alignment",
         "uniformity", "rmse", "abs_rel")  # fmt: skip


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
class Measure:
    """One number: of what, when and how it was found. The text of a protocol has an item a key."""

    dataset: str
    name: str  # such as knn_top1
    when: str = ""  # of those that training reported
    protocol: tuple[str, ...] = ()  # of those of eval.json
    is_main: bool = dataclasses.field(default=True, compare=False)  # of its task


Results = dict[Measure, dict[str, list[float]]]  # by name of the group, one for each run


def collect_results(groups: Sequence[Group]) -> Results:
    """All results: the last that training reported, and of eval.json those of the newest step."""
    found: Results = {}
    for group in groups:
        for run in group.runs:
            for measure, value in (_reported(run) | _evaluated(run)).items():
                found.setdefault(measure, {}).setdefault(group.name, []).append(value)
    # By data set, majority baseline first; of the same measure, before training comes first.
    when = {"untrained": 0, "": 2}

    def rank(m: Measure) -> tuple[str, bool, str, int, tuple[str, ...]]:
        return m.dataset, m.name != "majority_baseline", m.name, when.get(m.when, 1), m.protocol

    return {measure: found[measure] for measure in sorted(found, key=rank)}


def _evaluated(run: Run) -> dict[Measure, float]:
    """Of eval.json, mean over the seeds of the evaluation."""
    values: dict[Measure, dict[int, float]] = {}
    newest = max((entry["step"] for entry in run.entries), default=0)
    for entry in run.entries:
        if entry["step"] == newest:
            fixed = {k: v for k, v in entry["protocol"].items() if k not in CHOSEN}
            protocol = tuple(f"{key} {_show(value)}" for key, value in fixed.items())
            for number, (name, value) in enumerate(entry["results"].items()):
                full_name, dataset = f"{entry['task']}_{name}", str(entry["dataset"])
                measure = Measure(dataset, full_name, "", protocol, is_main=number == 0)
                values.setdefault(measure, {})[entry["seed"]] = value  # the last of a seed counts
    return {measure: statistics.fmean(seeds.values()) for measure, seeds in values.items()}


def _reported(run: Run) -> dict[Measure, float]:
    """What the first evaluation of training found, of the untrained encoder, and the last."""
    lines = [line for line in run.lines if any(key.startswith("eval/") for key in line)]
    found = {}
    for line in (lines[0], lines[-1]) if lines else ():
        done = line["epoch"] >= run.config.epochs
        when = "after training" if done else f"epoch {line['epoch']:g}"
        for key, value in line.items():
            if key.startswith("eval/") and not key.endswith("_lr"):
                _, dataset, name = key.split("/", 2)
                at = "" if name == "majority_baseline" else when if line["step"] else "untrained"
                found[Measure(dataset, name, at)] = value
    return found


def result_tables(groups: Sequence[Group]) -> list[Markup]:
    """The main results of each task, and all of them folded up. Below, where papers' are from."""
    results, cited = collect_results(groups), dict[str, int]()
    main = {measure: values for measure, values in results.items() if measure.is_main}
    if not results:
        return []
    shown = [_result_table(groups, main, cited)]
    if len(main) < len(results):
        everything = _result_table(groups, results, cited)
        shown.append(
            element("details", element("summary", f"All {len(results)} numbers"), everything)
        )
    if cited:
        shown.insert(1, element("ol", *(element("li", c) for c in cited), class_="notes"))
    return shown


def _result_table(groups: Sequence[Group], results: Results, cited: dict[str, int]) -> Markup:
    def cell(measure: Measure, group: Group) -> Markup:
        value = spread(measure.name, results[measure].get(group.name, []))
        paper = published(group.first.config, measure.dataset, measure.name)
        if paper is None or group.name not in results[measure]:
            return value
        note = element("sup", cited.setdefault(paper.source, len(cited) + 1))
        return join(value, element("span", f"paper {paper.value:.1f} %", note, class_="paper"))

    rows = [
        [m.dataset, spell(m.name), *(cell(m, group) for group in groups), _how(m, results)]
        for m in results
    ]
    head = ["data set", "result", *(group.name for group in groups), "how"]
    return table(head, rows, class_="results", names=2)


def _how(measure: Measure, results: Results) -> str:
    """When, or what sets its protocol apart from others of the same; the whole one folded up."""
    if not measure.protocol:
        return measure.when
    same = [m for m in results if (m.dataset, m.name) == (measure.dataset, measure.name)]
    others = [set(m.protocol) for m in same if m.protocol]
    apart = [item for item in measure.protocol if item not in set.intersection(*others)]
    summary = element("summary", ", ".join(apart) or "protocol")
    return element("details", summary, ", ".join(measure.protocol))


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
