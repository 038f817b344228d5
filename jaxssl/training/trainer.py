"""A training step on all devices, with the images it learns from."""

import functools
from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import Mesh
from jax.stages import Wrapped

from jaxssl import sharding
from jaxssl.data.pipeline import Pipeline, example_batch
from jaxssl.image.pyramid import look_up
from jaxssl.methods import Metrics
from jaxssl.training.step import TrainStep
from jaxssl.types import Batch, TrainState, Tree


def jit_train_step(step: TrainStep, mesh: Mesh) -> Wrapped:
    """`run(state, batch, resident, key)`, for all devices; the state is donated.

    `resident` holds the arrays of the whole data set when they live on the devices, and `batch` is
    then just the index of each image; else it is empty and `batch` holds the images.
    """

    def run(state: TrainState, batch: Batch, resident: Batch, key: jax.Array) -> Tree:
        return step(state, batch | look_up(resident, batch["index"]), key)

    return sharding.jit_step(run, mesh)


class Trainer:
    """A step jitted for all devices, and its batches: `trainer(state, batch)` is one more step."""

    def __init__(self, step: TrainStep, pipeline: Pipeline, mesh: Mesh, seed: int):
        """`seed` is that of the weights and of all randomness of the steps."""
        self.step, self.pipeline, self.mesh = step, pipeline, mesh
        # The arrays of the whole data set, if they are to live on the devices; else {}.
        self.resident = sharding.make_resident(
            pipeline.resident, mesh, split_pages=pipeline.split_pages
        )
        draw_keys = sharding.jit_init(lambda: tuple(jax.random.split(jax.random.key(seed))), mesh)
        self._key_init, self._key_steps = draw_keys()
        self._jitted = jit_train_step(step, mesh)
        example = example_batch(pipeline.spec, pipeline.order.batch_size)
        init = functools.partial(step.init, batch=example, num_examples=pipeline.num_examples)
        self._init = sharding.jit_init(init, mesh)

    def init(self) -> TrainState:
        """The state before the first step."""
        state: TrainState = self._init(self._key_init)
        return state

    def compile(self, state: TrainState, batch: Batch) -> None:
        """Compiles the step, which the first call would do else."""
        self._jitted.lower(state, batch, self.resident, self._key_steps).compile()

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """The state after a step, and metrics of it. The state before is no more."""
        result: tuple[TrainState, Metrics] = self._jitted(
            state, batch, self.resident, self._key_steps
        )
        return result

    def batches(self, start: int) -> Iterator[Batch]:
        """Endless batches from a step on, on the devices."""
        return self._on_devices(self.pipeline.batches(start))

    def sweep(self) -> Iterator[Batch]:
        """Batches, on the devices, of every image in its order."""
        return self._on_devices(self.pipeline.sweep())

    def _on_devices(self, batches: Iterator[dict[str, np.ndarray]]) -> Iterator[Batch]:
        return sharding.prefetch(
            (sharding.in_device_layout(b, self.mesh) for b in batches), self.mesh
        )
