"""Hooks of the training loop: measurements, and the schedule on which they are due."""

import dataclasses
from typing import Protocol, runtime_checkable

from ml_collections import ConfigDict

from jaxssl.types import TrainState


@runtime_checkable
class Measurement(Protocol):
    """A hook that reads the state; its numbers go into one line of metrics with those of others."""

    def is_due(self, step: int) -> bool:
        """Whether to measure after `step` steps."""
        ...

    def __call__(self, step: int, state: TrainState) -> dict[str, float]:
        """Numbers by key, such as `eval/objects/knn_top1`; {} if there are none this time."""
        ...


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Before the first step, after the last, and every so often between."""

    every: int  # steps; 0: never between
    total: int  # steps of the run

    def is_due(self, step: int) -> bool:
        """Whether it is time after `step` steps."""
        return step in (0, self.total) or (self.every > 0 and step % self.every == 0)


def evaluation_schedule(config: ConfigDict, steps_per_epoch: int) -> Schedule:
    """When the section `eval` wants a run to be measured."""
    return Schedule(config.eval.every * steps_per_epoch, config.epochs * steps_per_epoch)
