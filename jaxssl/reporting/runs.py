"""The files of a run, and the groups of runs that differ in their seed alone."""

import collections
import dataclasses
import itertools
import json
import logging
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxssl.config.checks import flatten
from jaxssl.training.metrics import read_metrics
from jaxssl.training.results import EvalEntry, read_eval_records
from jaxssl.training.workdir import Environment, find_runs, read_config, read_environment

log = logging.getLogger("jaxssl")


@dataclasses.dataclass(frozen=True)
class Run:
    """One workdir."""

    workdir: pathlib.Path
    name: str
    config: ConfigDict
    lines: list[dict[str, Any]]  # of metrics.jsonl
    entries: list[EvalEntry]  # of eval.json
    environment: Environment

    @property
    def flat(self) -> dict[str, Any]:
        """The config by full keys."""
        return flatten(self.config)

    def curve(self, key: str) -> list[tuple[float, float]]:
        """(epoch, value) of every line that has the key."""
        return [(line["epoch"], line[key]) for line in self.lines if key in line]

    @property
    def epochs_done(self) -> float:
        return max((line["epoch"] for line in self.lines), default=0.0)

    @property
    def last_step(self) -> int:
        """The last step of which there is a line of metrics or a result."""
        return max((one["step"] for one in (*self.lines, *self.entries)), default=0)

    @property
    def newest_entries(self) -> list[EvalEntry]:
        """What was measured at the newest step in eval.json."""
        newest = max((entry["step"] for entry in self.entries), default=0)
        return [entry for entry in self.entries if entry["step"] == newest]


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed."""

    name: str
    runs: list[Run]

    @property
    def first(self) -> Run:
        return self.runs[0]


def read_run(workdir: pathlib.Path) -> Run:
    """The run of a workdir."""
    config = read_config(workdir)
    entries = read_eval_records(workdir / "eval.json")
    name = workdir.resolve().name
    return Run(workdir, name, config, read_metrics(workdir), entries, read_environment(workdir))


def read_runs(folders: Sequence[pathlib.Path]) -> list[Run]:
    """The runs in folders, each once, however often and by whichever of its names it is given."""
    found: dict[pathlib.Path, pathlib.Path] = {}
    for workdir in (run for folder in folders for run in find_runs(folder)):
        if workdir.resolve() in found:
            log.warning("%s was given before; it counts once", workdir)
        found.setdefault(workdir.resolve(), workdir)
    return [read_run(workdir) for workdir in found.values()]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Groups in the order of their first runs. The folder of caches is no difference."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        same = {k: v for k, v in run.flat.items() if k not in ("seed", "data.cache_dir", "wandb")}
        groups.setdefault(json.dumps(same, sort_keys=True), []).append(run)
    named: list[Group] = []
    for members in groups.values():
        name = _name([run.name for run in members])
        taken = {group.name for group in named}
        name = name if name not in taken else f"{name} ({members[0].workdir})"
        named.append(Group(name, members))
        seeds = collections.Counter(run.config.seed for run in members)
        for seed in (seed for seed, count in seeds.items() if count > 1):
            log.warning("%s: several runs have the seed %d and count as several seeds", name, seed)
    return named


def _name(names: Sequence[str]) -> str:
    """The common start of the names without the seed: `samclr` of samclr_0 and samclr_1."""
    if len(names) == 1:
        return names[0]
    alike = itertools.takewhile(lambda c: len(set(c)) == 1, zip(*names, strict=False))
    start = "".join(letters[0] for letters in alike).rstrip("0123456789_-. ")
    return start.removesuffix("seed").rstrip("_-. ") or names[0]


SPELLED = {"knn": "kNN", "top1": "top-1", "top5": "top-5", "miou": "mean IoU", "iou": "IoU",
           "map": "mAP", "fcn": "FCN", "lr": "learning rate"}  # fmt: skip


def spell(measure: str) -> str:
    """The name of a result in words: `knn_top1` is kNN top-1."""
    measure = measure.replace("rank_me", "RankMe").replace("few_shot", "few-shot")
    words = measure.replace("in_context", "in-context").split("_")
    text = " ".join(SPELLED.get(word, word) for word in words)
    text = re.sub(r"\bk(?=\d)", "k ", text)
    return re.sub(r"\b0\.\d+$", lambda n: f"with {100 * float(n[0]):.3g} % of the images", text)
