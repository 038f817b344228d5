"""Tasks: measurements of an encoder on a data set. `TASKS` has all of them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxssl.evaluation.datasets import DataSet
from jaxssl.pretrained.encoder import Encoder


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """The numbers that a task measured."""

    results: dict[str, float]  # the numbers by name, the main one first
    # What was decided on the way and defines the numbers too, such as the learning rate chosen.
    protocol: dict[str, Any] = dataclasses.field(default_factory=dict)
    # What only a report shows: classes, per_class, confusion.
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    # image u8[n, s, s, 3], truth u8[n, s, s], predicted u8[n, s, s] of a few images
    predictions: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Task:
    """A function, the protocol that it follows by default, and what it needs."""

    run: Callable[[Encoder, DataSet, Any, int], TaskResult]  # encoder, data, protocol, seed
    protocol: Any  # a frozen dataclass; all of it is saved beside the results
    needs: str  # of a data set: one of `DataSet.offers`
    # Whether another seed may give another number; or of which protocols that is so.
    seeded: bool | Callable[[Any], bool] = True
    # Raises before anything compiles; by default all that offers what the task needs will do.
    check: Callable[[DataSet, Any], None] = lambda data, protocol: None
    presets: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # protocols by name

    @property
    def is_seeded(self) -> bool:
        """Whether another seed may give another number by this protocol."""
        return self.seeded(self.protocol) if callable(self.seeded) else self.seeded

    def changed(self, **fields: Any) -> "Task":
        """The task with some fields of its protocol changed."""
        return dataclasses.replace(self, protocol=dataclasses.replace(self.protocol, **fields))
