"""The images of each batch: a function of seed and step alone.

So a run that is resumed at any step needs no saved state of its input. Grain's own shuffle is not
used because seed 0 has there in its second epoch the order that seed 1 has in its first.
"""

import dataclasses
import functools

import numpy as np

from jaxssl.errors import UserError


@dataclasses.dataclass(frozen=True)
class Order:
    """Epochs of whole batches, each epoch shuffled anew; its remainder is left out.

    Not shuffled, the images come in their order, round and round, and none is left out.
    """

    num_examples: int
    batch_size: int
    seed: int
    shuffle: bool = True
    share: tuple[int, int] = (0, 1)  # of every batch part i of n equal ones: one for each process

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= self.num_examples:
            raise UserError(
                f"batch_size is {self.batch_size} and there are {self.num_examples} images: "
                f"set --config.batch_size={self.num_examples} or less, or give more images"
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.num_examples // self.batch_size

    @property
    def rows(self) -> int:
        """Images in the share of a batch."""
        return self.batch_size // self.share[1]

    def indices(self, step: int) -> np.ndarray:
        """The images of the share of a batch, i32[rows]."""
        first = self.share[0] * self.rows
        if not self.shuffle:
            start = step * self.batch_size + first
            return np.arange(start, start + self.rows, dtype=np.int32) % self.num_examples
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        start = step_in_epoch * self.batch_size + first
        order = _epoch(self.num_examples, self.seed, epoch)
        return order[start : start + self.rows]


# Two epochs, for batches are made ahead across the end of one.
@functools.lru_cache(maxsize=2)
def _epoch(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    order = np.arange(num_examples, dtype=np.int32)
    return np.random.default_rng([seed, epoch]).permutation(order)
