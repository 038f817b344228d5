"""Everything that can be asked of an encoder, and asking it."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxssl.evaluation import classification
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.features import FrozenEncoder
from jaxssl.evaluation.knn import Knn
from jaxssl.evaluation.linear import LinearProbe
from jaxssl.evaluation.task import Findings, Task

# One line a task: what it computes, its default protocol, what it needs of a data set.
TASKS: dict[str, Task] = {
    "knn": Task(
        classification.run_knn, Knn(), "labels", seeded=False, check=classification.check_knn
    ),
    "linear": Task(classification.run_linear, LinearProbe(), "labels"),
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One task on one data set with one seed."""

    task: str
    dataset: str
    seed: int
    findings: Findings
    protocol: dict[str, Any]  # all that defines the numbers

    def as_metrics(self) -> dict[str, float]:
        """The main result as a line of `metrics.jsonl` has it, and what chance would give."""
        name, value = next(iter(self.findings.results.items()))
        metrics = {f"eval/{self.dataset}/{self.task}_{name}": value}
        if "chance" in self.findings.results:
            metrics[f"eval/{self.dataset}/chance"] = self.findings.results["chance"]
        return metrics


def choose_tasks(names: Sequence[str]) -> dict[str, Task]:
    """The tasks of these names, or an error that lists those there are."""
    if unknown := [name for name in names if name not in TASKS]:
        raise ValueError(f"unknown task {unknown[0]!r}; choose from {', '.join(TASKS)}")
    return {name: TASKS[name] for name in names}


def with_config(tasks: Mapping[str, Task], config: Any) -> dict[str, Task]:
    """The tasks with what the section `eval` of a run's config says of their protocols."""
    said = {
        "knn": {"k": config.knn_k, "temperature": config.knn_temperature},
        "linear": {"epochs": config.linear_epochs},
    }
    return {
        name: dataclasses.replace(
            task, protocol=dataclasses.replace(task.protocol, **said.get(name, {}))
        )
        for name, task in tasks.items()
    }


def match(
    tasks: Mapping[str, Task], datasets: Sequence[DataSet]
) -> list[tuple[str, Task, DataSet]]:
    """Which tasks to run on which data sets: wherever there is what they need.

    Raises:
      ValueError: a task fits no data set, a data set no task, or a task finds fault with one.
    """
    pairs = [(n, t, data) for data in datasets for n, t in tasks.items() if t.needs in data.offers]
    for name, task in tasks.items():
        if name not in {n for n, _, _ in pairs}:
            raise ValueError(
                f"task {name} needs {task.needs} and none of the data sets has them: "
                f"{', '.join(data.spec for data in datasets)}"
            )
    for data in datasets:
        if data not in [d for _, _, d in pairs]:
            needs = ", ".join(f"{name} ({task.needs})" for name, task in tasks.items())
            raise ValueError(
                f"{data.spec} has {', '.join(sorted(data.offers))}; no task can use it: {needs}"
            )
    for _, task, data in pairs:
        task.check(data, task.protocol)
    return pairs


def evaluate(
    encoder: FrozenEncoder, pairs: Sequence[tuple[str, Task, DataSet]], seeds: Sequence[int] = (0,)
) -> Iterator[Entry]:
    """Runs tasks on data sets, once for each seed where the seed matters."""
    for name, task, data in pairs:
        for seed in seeds if task.seeded else seeds[:1]:
            findings = task.run(encoder, data, task.protocol, seed)
            protocol = dataclasses.asdict(task.protocol) | findings.protocol
            common = {"source": data.spec, "size": data.size, "normalize": encoder.normalization}
            yield Entry(name, data.name, seed, findings, common | protocol)
