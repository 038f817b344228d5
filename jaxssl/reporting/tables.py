"""Tables: differences between configs, and results with their spread beside the papers'."""

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from jaxssl.config.checks import all_keys, flatten
from jaxssl.evaluation import TASKS
from jaxssl.evaluation.protocols import preset_of
from jaxssl.evaluation.shown import percent, show
from jaxssl.reporting.published import anchors, published
from jaxssl.reporting.runs import Group, Run, spell
from jaxssl.training.results import EvalEntry

log = logging.getLogger("jaxssl")

# Of a protocol, what each run chose on its training images or drew: it may differ between seeds.
CHOSEN = {"learning_rate", "scratch_learning_rate", "c_chosen", "in_context.cells"}
# Of a protocol with several of these, what is named after none is of the first: top1, confusion.
FIRST = ("k", "clusters")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the page. A cell is text, a `Number` or a `Protocol`."""

    head: list[str]
    rows: list[list[Any]]
    style: str = ""  # class in style.css
    names: int = 1  # how many columns at the left are names


@dataclasses.dataclass(frozen=True)
class Number:
    """Mean and standard deviation over `count` runs, with their unit; none if `count` is 0."""

    text: str
    count: int
    paper: str = ""  # the number of a paper beside it
    footnote: int = 0  # its source


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The settings of an evaluation, folded up under those that tell it from others."""

    summary: str
    whole: str


def config_tables(groups: Sequence[Group]) -> tuple[Table, Table]:
    """The keys that differ between groups, or from the defaults for a single one; then all keys."""
    names = [group.name for group in groups]
    flat = [group.first.flat for group in groups]
    if len(groups) == 1:
        names, flat = ["default", *names], [flatten(all_keys(groups[0].first.config)), *flat]
    keys = list(dict.fromkeys(key for f in flat for key in f if key != "seed"))
    rows = {key: [_show(f.get(key, "-")) for f in flat] for key in keys}
    differing = [[key, *cells] for key, cells in rows.items() if len(set(cells)) > 1]
    everything = [[key, *cells[-len(groups) :]] for key, cells in rows.items()]
    return (
        Table(["key", *names], differing, "config"),
        Table(["key", *names[-len(groups) :]], everything, "config"),
    )


def _show(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_show, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclasses.dataclass(frozen=True)
class Measure:
    """The identity of a result: its data set, name, time and protocol."""

    dataset: str
    name: str  # such as knn_top1
    when: str = ""  # of those that training reported, and of an earlier step than the group's
    setting: str = ""  # of its protocol, what is always said
    protocol: tuple[str, ...] = ()  # of those of eval.json: an item for each key
    is_main: bool = dataclasses.field(default=True, compare=False)  # of its task
    told: frozenset[str] = dataclasses.field(default=frozenset(), compare=False)  # by the setting


Results = dict[Measure, dict[str, list[float]]]  # by name of the group, one for each run


def collect_results(groups: Sequence[Group]) -> Results:
    """The last results that training reported, and those of the newest step in eval.json.

    Those of an earlier step than the last of a run, or of its group, have rows of their own.
    """
    found: Results = {}
    for group in groups:
        last = max(run.last_step for run in group.runs)
        for run in group.runs:
            for measure, value in (_reported(run) | _evaluated(run, last)).items():
                found.setdefault(measure, {}).setdefault(group.name, []).append(value)
    # By data set, majority baseline first; of the same measure, before training comes first.
    when = {"untrained": 0, "": 2}

    def rank(m: Measure) -> tuple[Any, ...]:
        is_baseline, time = m.name == "majority_baseline", when.get(m.when, 1)
        return m.dataset, not is_baseline, m.name, time, m.setting, m.protocol

    return {measure: found[measure] for measure in sorted(found, key=rank)}


def _evaluated(run: Run, last: int) -> dict[Measure, float]:
    """Results in eval.json, means over the seeds of the evaluation; `last` step of the group."""
    values: dict[Measure, dict[int, float]] = {}
    for entry in run.newest_entries:
        when = time_of(entry, last)
        for number, (name, value) in enumerate(entry["results"].items()):
            measure = measure_of(entry, f"{entry['task']}_{name}", when, is_main=number == 0)
            values.setdefault(measure, {})[entry["seed"]] = value  # the last of a seed counts
    if older := len(run.entries) - len(run.newest_entries):
        log.info(
            "%s: %d of %d results are left out of the tables, for they are of steps before %d",
            *(run.workdir / "eval.json", older, len(run.entries), run.newest_entries[0]["step"]),
        )
    return {measure: sum(seeds.values()) / len(seeds) for measure, seeds in values.items()}


def time_of(entry: EvalEntry, last: int) -> str:
    """What is said of the step of an entry of eval.json: nothing if it is the `last` one."""
    return "" if entry["step"] == last else f"step {entry['step']}"


def measure_of(entry: EvalEntry, name: str, when: str = "", *, is_main: bool = True) -> Measure:
    """The identity of what an entry of eval.json has under a name."""
    protocol, task = entry.get("protocol", {}), TASKS.get(entry["task"])
    chosen = {key: protocol[key] for key in FIRST if key in protocol}
    firsts = {k: v[0] if isinstance(v, list) and v else v for k, v in chosen.items()}
    setting, told = [f"{key} {value}" for key, value in firsts.items()], {*firsts}
    if task and (preset := preset_of(task, protocol)):
        setting.append(f"preset {preset}")
        told |= {field.name for field in dataclasses.fields(task.presets[preset])}
    items = tuple(
        f"{key} {_show(value)}"
        for key, value in protocol.items()
        if CHOSEN.isdisjoint((key, f"{entry['task']}.{key}"))
    )
    dataset = str(entry["dataset"])
    return Measure(dataset, name, when, ", ".join(setting), items, is_main, frozenset(told))


def _reported(run: Run) -> dict[Measure, float]:
    """Results of the first evaluation in training, of the untrained encoder, and of the last."""
    lines = [line for line in run.lines if any(key.startswith("eval/") for key in line)]
    other_k = any(", eval.knn_k: " in change for change in run.environment.get("changes", []))
    k = "changed under way" if other_k else run.config.eval.knn_k
    found = {}
    for line in (lines[0], lines[-1]) if lines else ():
        done = line["epoch"] >= run.config.epochs
        when = "after training" if done else f"epoch {line['epoch']:g}"
        for key, value in line.items():
            if key.startswith("eval/") and not key.endswith("_lr"):
                _, dataset, name = key.split("/", 2)
                name = "segmentation_miou" if name == "miou" else name
                at = "" if name == "majority_baseline" else when if line["step"] else "untrained"
                setting = f"eval.knn_k {k}" if name.startswith("knn_") else ""
                found[Measure(dataset, name, at, setting)] = value
    return found


def result_tables(groups: Sequence[Group]) -> dict[str, Any]:
    """The main results of each task, all results, sources of papers' numbers, and anchors."""
    results, sources = collect_results(groups), dict[str, int]()
    main = {measure: values for measure, values in results.items() if measure.is_main}
    shown, everything = (_result_table(groups, r, sources) for r in (main, results))
    beside = [line for m in main if not m.when for line in anchors(m.dataset, m.name)]
    lines = list(dict.fromkeys(beside))
    return {"main": shown, "everything": everything, "sources": list(sources), "anchors": lines}


def _result_table(groups: Sequence[Group], results: Results, sources: dict[str, int]) -> Table:
    def cell(measure: Measure, group: Group) -> Number:
        number = summarize(measure.name, results[measure].get(group.name, []))
        paper = published(group.first.config, measure.dataset, measure.name)
        if paper is None or not number.count or measure.when == "untrained":
            return number
        footnote = sources.setdefault(paper.source, len(sources) + 1)
        return dataclasses.replace(number, paper=percent(paper.value / 100), footnote=footnote)

    rows, above = [], None
    for m in results:
        how = how_measured(m, results)
        text = "as above" if isinstance(how, Protocol) and how == above else how
        rows.append([m.dataset, spell(m.name), *(cell(m, group) for group in groups), text])
        above = how
    head = ["data set", "result", *(group.name for group in groups), "how"]
    return Table(head, rows, "results", names=2)


def how_measured(measure: Measure, measures: Iterable[Measure]) -> str | Protocol:
    """The time of a result, its k or preset, and how its protocol differs from others' of it."""
    told = [text for text in (measure.when, measure.setting) if text]
    if not measure.protocol:
        return ", ".join(told)
    same = [m for m in measures if (m.dataset, m.name) == (measure.dataset, measure.name)]
    others = [set(m.protocol) for m in same if m.protocol]
    apart = [item for item in measure.protocol if item not in set.intersection(*others)]
    told += [item for item in apart if item.partition(" ")[0] not in measure.told]
    return Protocol(", ".join(told) or "protocol", ", ".join(measure.protocol))


def summarize(measure: str, values: Sequence[float]) -> Number:
    """Mean ± standard deviation of the values of several runs, none if there are no values."""
    return Number(show(measure, *values) if values else "", len(values))


def machine_table(groups: Sequence[Group]) -> Table:
    """Versions, devices and revision, a column for each run; of runs all alike, one column."""
    runs = [run for group in groups for run in group.runs]
    flat = [{k: _show(v) for k, v in flatten(run.environment).items()} for run in runs]
    names = [run.name for run in runs]
    if all(f == flat[0] for f in flat):
        flat, names = flat[:1], ["all runs" if len(runs) > 1 else names[0]]
    keys = dict.fromkeys(key for f in flat for key in f)
    return Table(["", *names], [[key, *(f.get(key, "-") for f in flat)] for key in keys])
