"""Runs tasks: chosen by name, paired with the data sets that have what they need, and run."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from ml_collections import ConfigDict

from jaxssl.config import base
from jaxssl.errors import UserError, check_choice, check_range
from jaxssl.evaluation import TASKS
from jaxssl.evaluation.datasets import DataSet, open_configured
from jaxssl.evaluation.features import adapt_batch_norm
from jaxssl.evaluation.protocols import change, with_presets
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.own_parts import import_part
from jaxssl.pretrained.encoder import Encoder
from jaxssl.renamed import TASKS as RENAMED

log = logging.getLogger("jaxssl")

# What offers what tasks need; images are always there.
_GIVES = {
    "labels": "a folder with a folder for each of two classes or more, or a table: "
    "folder:PATH?labels=FILE.csv",
    "label maps": "a folder with images/train and labels/train in it, or records or a tfds: source "
    "with label maps",
    "regions": "records",
    "labeled regions": "records of images with label maps, such as of a folder with images/train "
    "and labels/train in it",
    "depth": "a tfds: source with depth maps, such as tfds:nyu_depth_v2",
}

Named: TypeAlias = str | os.PathLike[str]

# The name of each task to run, the task, what to run it on.
Pairs = Sequence[tuple[str, Task, DataSet]]


@dataclasses.dataclass(frozen=True)
class EvalRecord:
    """One task on one data set with one seed."""

    task: str
    dataset: str
    seed: int
    result: TaskResult
    protocol: dict[str, Any]  # all that defines the numbers

    def as_metrics(self) -> dict[str, float]:
        """The main result and the majority baseline, as a line of `metrics.jsonl` has them."""
        name, value = next(iter(self.result.results.items()))
        key = name if self.task == "segmentation" else f"{self.task}_{name}"
        metrics = {f"eval/{self.dataset}/{key}": value}
        if (baseline := self.result.results.get("majority_baseline")) is not None:
            metrics[f"eval/{self.dataset}/majority_baseline"] = baseline
        return metrics


def choose_tasks(names: Sequence[str]) -> dict[str, Task]:
    """The tasks of these names, or an error that lists those there are."""
    for name in names:
        if ":" in name and name not in TASKS:
            part = import_part("--tasks", name, "Task", lambda part: isinstance(part, Task))
            check_choice(f"what {name} needs", part.needs, ("images", *_GIVES))
            TASKS[name] = part
    if renamed := [name for name in names if name in RENAMED]:
        raise UserError(f"task {renamed[0]!r} is now: --tasks {RENAMED[renamed[0]]}")
    if unknown := [name for name in names if name not in TASKS]:
        raise UserError(
            f"unknown task {unknown[0]!r}; choose from {', '.join(TASKS)}, or MODULE:TASK of "
            "your own"
        )
    return {name: TASKS[name] for name in names}


def with_config(tasks: Mapping[str, Task], config: Any) -> dict[str, Task]:
    """The tasks with what the section `eval` of a run's config says of their protocols."""
    settings: dict[str, dict[str, Any]] = {
        "knn": {"k": (config.knn_k,), "temperature": config.knn_temperature},
        "linear": {"epochs": config.linear_epochs},
        "in_context": {"memory": config.in_context} if config.in_context else {},
    }
    return {name: task.changed(**settings.get(name, {})) for name, task in tasks.items()}


def also_from_scratch(tasks: Mapping[str, Task]) -> dict[str, Task]:
    """The tasks, from random weights as well where they can be; `UserError` if none can."""
    scratch = {}
    for name, task in tasks.items():
        if hasattr(task.protocol, "scratch"):
            with contextlib.suppress(UserError):  # of a protocol that leaves the encoder as it is
                scratch[name] = task.changed(scratch=True)
    if not scratch:
        able = ", ".join(name for name, t in TASKS.items() if hasattr(t.protocol, "scratch"))
        raise UserError(f"--from-scratch is for {able}; none of them is among the tasks")
    if left_out := [name for name in tasks if name not in scratch]:
        log.warning(
            "--from-scratch changes nothing of %s: no encoder is trained there; "
            "--compare random evaluates random weights",
            ", ".join(left_out),
        )
    return {**tasks, **scratch}


def match(tasks: Mapping[str, Task], datasets: Sequence[DataSet]) -> Pairs:
    """Pairs tasks with the data sets that have what they need.

    Raises:
      UserError: a task fits no data set, a data set no task, or a task refuses one.
    """
    pairs = [(n, t, data) for data in datasets for n, t in tasks.items() if t.needs in data.offers]
    for name, task in tasks.items():
        if name not in {n for n, _, _ in pairs}:
            raise UserError(
                f"task {name} needs {task.needs} and none of the data sets has any: "
                f"{', '.join(data.spec for data in datasets)}; give {_GIVES[task.needs]}"
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


def plan(
    config: ConfigDict,
    tasks: Sequence[str],
    presets: Sequence[str] = (),
    settings: Sequence[str] = (),
    *,
    from_scratch: bool = False,
) -> Pairs:
    """The tasks to run, each with a data set, opened.

    Args:
      config: of a run; of its section `eval` protocols, data sets and size of images.
      tasks: names in `TASKS`.
      presets: protocols of papers: `linear=simclr`.
      settings: changes of protocols: `knn.k=20,200`.
      from_scratch: whether what is fine-tuned starts from random weights as well.
    """
    chosen = with_config(choose_tasks(tasks), config.eval)
    chosen = change(with_presets(chosen, presets), settings)
    if from_scratch:
        chosen = also_from_scratch(chosen)
    return match(chosen, open_configured(config))


def run_tasks(
    encoder: Encoder, pairs: Pairs, seeds: Sequence[int] = (0,), *, bn_adapt: bool = False
) -> Iterator[EvalRecord]:
    """Runs tasks on data sets, once for each seed where the seed matters.

    Args:
      encoder: to evaluate.
      pairs: as `match` returns them.
      seeds: of what a task draws.
      bn_adapt: whether the statistics of BatchNorm are first moved to those of each data set.
    """
    given, adapted_to = encoder, None
    for name, task, data in pairs:
        if bn_adapt and adapted_to is not data:
            encoder, adapted_to = adapt_batch_norm(given, data), data
        for seed in seeds if task.is_seeded else seeds[:1]:
            result = task.run(encoder, data, task.protocol, seed)
            common = {
                "source": data.spec,
                "size": data.size,
                "normalize": encoder.normalization,
                "dtype": np.dtype(getattr(encoder.network, "dtype", np.float32)).name,
                "bn_adapt": bn_adapt,
            }
            protocol = common | dataclasses.asdict(task.protocol) | result.protocol
            yield EvalRecord(name, data.name, seed, result, protocol)


def evaluate_encoder(
    encoder: Encoder,
    datasets: Named | Sequence[Named],
    tasks: Named | Sequence[Named] = ("knn",),
    *,
    presets: Named | Sequence[Named] = (),
    settings: Named | Sequence[Named] = (),
    seeds: int = 1,
    size: int = 0,
    ignore_labels: tuple[int, ...] = (),
    bn_adapt: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> list[EvalRecord]:
    """Evaluates an encoder, as `python -m jaxssl.evaluate` does.

        encoder = jaxssl.load_encoder("encoder.safetensors")
        for record in jaxssl.evaluate_encoder(encoder, ["folder:photos"], ["knn", "linear"]):
            print(record.task, record.dataset, record.result.results)

    (It is not called `evaluate`, for that is the module of the command.)

    Args:
      encoder: of `load_encoder`.
      datasets: sources, a training and a test part each.
      tasks: names in `TASKS`.
      presets: protocols of papers: `linear=simclr`.
      settings: changes of protocols: `knn.k=20,200`.
      seeds: how many, from 0.
      size: side of the images, pixels, or the shorter one where a task takes them whole; 0: the
        encoder's, or where they are whole their own.
      ignore_labels: label values of pixels that are no class, besides 255; (): those that the
        export of records was told.
      bn_adapt: whether BatchNorm's statistics are first moved to those of each data set.
      cache_dir: where decoded images are kept; None: in the cache folder.

    Raises:
      UserError: a data set is unavailable or fits no task, or no such task, preset or setting.
    """
    check_range("size", size, "0 or more")
    check_range("seeds", seeds, "1 or more")
    config = base()
    config.views.size, config.data.cache_dir = encoder.size, os.fspath(cache_dir or "")
    datasets, tasks, presets, settings = map(_several, (datasets, tasks, presets, settings))
    for what, names in (("data sets", datasets), ("tasks", tasks)):
        if not names:
            raise UserError(f"there are no {what}; give one or more")
    config.eval.update(datasets=datasets, size=size, ignore_labels=tuple(map(int, ignore_labels)))
    pairs = plan(config, tasks, presets, settings)
    return list(run_tasks(encoder, pairs, range(seeds), bn_adapt=bn_adapt))


def _several(given: Named | Sequence[Named]) -> tuple[str, ...]:
    """A single name is one of several."""
    names = [given] if isinstance(given, str | os.PathLike) else given
    return tuple(os.fspath(name) for name in names)
