"""Everything that can be asked of an encoder, and asking it."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxssl.errors import UserError
from jaxssl.evaluation.classification import tasks
from jaxssl.evaluation.classification.finetune import FineTune
from jaxssl.evaluation.classification.knn import Knn
from jaxssl.evaluation.classification.linear_protocols import LinearProbe
from jaxssl.evaluation.classification.logistic import Logistic
from jaxssl.evaluation.collapse import Health, check_health, run_health
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.dense.depth import Depth, run_depth
from jaxssl.evaluation.dense.fcn import CITYSCAPES, Fcn, run_fcn
from jaxssl.evaluation.dense.linear_segmentation import Segmentation, run_segmentation
from jaxssl.evaluation.dense.pets import Pets, check_pets, run_pets
from jaxssl.evaluation.features import FrozenEncoder
from jaxssl.evaluation.region_retrieval import Retrieval, run_retrieval
from jaxssl.evaluation.task import Task, TaskResult

# What each computes, its default protocol, what it needs of a data set.
TASKS: dict[str, Task] = {
    "knn": Task(tasks.run_knn, Knn(), "labels", seeded=False, check=tasks.check_knn),
    "linear": Task(tasks.run_linear, LinearProbe(), "labels", check=tasks.check_labels),
    "logistic": Task(
        *(tasks.run_logistic, Logistic(), "labels"),
        seeded=False,
        check=tasks.check_labels,
    ),
    "few_shot": Task(
        *(tasks.run_few_shot, tasks.FewShot(), "labels"),
        check=tasks.check_labels,
    ),
    "finetune": Task(tasks.run_finetune, FineTune(), "labels", check=tasks.check_labels),
    "segmentation": Task(run_segmentation, Segmentation(), "label maps"),
    "fcn": Task(run_fcn, Fcn(), "label maps"),
    "fcn_cityscapes": Task(run_fcn, CITYSCAPES, "label maps"),
    "pets": Task(run_pets, Pets(), "label maps", check=check_pets),
    "depth": Task(run_depth, Depth(), "depth"),
    "retrieval": Task(run_retrieval, Retrieval(), "labelled regions", seeded=False),
    "health": Task(run_health, Health(), "images", check=check_health),
}


@dataclasses.dataclass(frozen=True)
class EvalRecord:
    """One task on one data set with one seed."""

    task: str
    dataset: str
    seed: int
    findings: TaskResult
    protocol: dict[str, Any]  # all that defines the numbers

    def as_metrics(self) -> dict[str, float]:
        """The main result as a line of `metrics.jsonl` has it, and what chance would give."""
        name, value = next(iter(self.findings.results.items()))
        key = name if self.task == "segmentation" else f"{self.task}_{name}"
        metrics = {f"eval/{self.dataset}/{key}": value}
        if "majority_baseline" in self.findings.results:
            metrics[f"eval/{self.dataset}/majority_baseline"] = self.findings.results[
                "majority_baseline"
            ]
        return metrics


def choose_tasks(names: Sequence[str]) -> dict[str, Task]:
    """The tasks of these names, or an error that lists those there are."""
    if unknown := [name for name in names if name not in TASKS]:
        raise UserError(f"unknown task {unknown[0]!r}; choose from {', '.join(TASKS)}")
    return {name: TASKS[name] for name in names}


def with_config(tasks: Mapping[str, Task], config: Any) -> dict[str, Task]:
    """The tasks with what the section `eval` of a run's config says of their protocols."""
    said = {
        "knn": {"k": (config.knn_k,), "temperature": config.knn_temperature},
        "linear": {"epochs": config.linear_epochs},
    }
    return {
        name: dataclasses.replace(
            task, protocol=dataclasses.replace(task.protocol, **said.get(name, {}))
        )
        for name, task in tasks.items()
    }


def also_from_scratch(tasks: Mapping[str, Task]) -> dict[str, Task]:
    """The tasks, from random weights as well where they can be; `UserError` if none can."""
    changed = dict(tasks)
    for name, task in tasks.items():
        if hasattr(task.protocol, "scratch"):
            protocol = dataclasses.replace(task.protocol, scratch=True)
            changed[name] = dataclasses.replace(task, protocol=protocol)
    if changed == tasks:
        able = ", ".join(name for name, t in TASKS.items() if hasattr(t.protocol, "scratch"))
        raise UserError(f"--from-scratch is for {able}; none of them is among the tasks")
    return changed


def match(
    tasks: Mapping[str, Task], datasets: Sequence[DataSet]
) -> list[tuple[str, Task, DataSet]]:
    """Which tasks to run on which data sets: wherever there is what they need.

    Raises:
      UserError: a task fits no data set, a data set no task, or a task finds fault with one.
    """
    pairs = [(n, t, data) for data in datasets for n, t in tasks.items() if t.needs in data.offers]
    for name, task in tasks.items():
        if name not in {n for n, _, _ in pairs}:
            raise UserError(
                f"task {name} needs {task.needs} and none of the data sets has them: "
                f"{', '.join(data.spec for data in datasets)}"
            )
    for data in datasets:
        if data not in [d for _, _, d in pairs]:
            needs = ", ".join(f"{name} ({task.needs})" for name, task in tasks.items())
            raise UserError(
                f"{data.spec} has {', '.join(sorted(data.offers))}; no task can use it: {needs}"
            )
    for _, task, data in pairs:
        task.check(data, task.protocol)
    return pairs


def evaluate(
    encoder: FrozenEncoder,
    pairs: Sequence[tuple[str, Task, DataSet]],
    seeds: Sequence[int] = (0,),
    *,
    bn_adapt: bool = False,
) -> Iterator[EvalRecord]:
    """Runs tasks on data sets, once for each seed where the seed matters.

    Args:
      bn_adapt: whether the statistics of BatchNorm are first moved to those of each data set, which
        must have labels.
    """
    frozen, of = encoder, None
    for name, task, data in pairs:
        if bn_adapt and of is not data:
            encoder, of = frozen.adapted(data), data
        for seed in seeds if task.seeded else seeds[:1]:
            findings = task.run(encoder, data, task.protocol, seed)
            protocol = dataclasses.asdict(task.protocol) | findings.protocol
            common = {
                "source": data.spec,
                "size": data.size,
                "normalize": encoder.normalization,
                "bn_adapt": bn_adapt,
            }
            yield EvalRecord(name, data.name, seed, findings, common | protocol)
