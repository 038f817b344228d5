"""Between epochs: recomputes the sampler's state with the current encoder, if it asks for that."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from jaxssl import distributed, sharding
from jaxssl.image.augment import RECIPES
from jaxssl.image.pyramid import look_up
from jaxssl.progress import Progress
from jaxssl.samplers import RefreshingSampler
from jaxssl.training.trainer import Trainer
from jaxssl.types import Batch, Features, TrainState, Tree
from jaxssl.views import ViewConfig, whole_images

log = logging.getLogger("jaxssl")


def make_refresh_fn(
    encoder: nn.Module, sampler: RefreshingSampler, views: ViewConfig
) -> Callable[..., Any]:
    """Returns `encode(memory, variables, batch, resident) -> memory`, to be jitted.

    The images are whole, of the size of a view, without augmentation; BatchNorm is frozen.
    """
    interpolation = RECIPES[views.recipe].interpolation

    def encode(memory: Tree, variables: Tree, batch: Batch, resident: Batch) -> Tree:
        batch = batch | look_up(resident, batch["index"])
        images = whole_images(batch, views, interpolation)
        features: Features = encoder.apply(variables, images, train=False)  # type: ignore[assignment]
        return sampler.refresh(memory, batch["index"], features.grid, views.size)

    return encode


class Refresh:
    """Renews the state of a sampler that asks for it; of others it is never due."""

    def __init__(self, trainer: Trainer, epochs: int):
        """Warns if within `epochs` epochs a sampler that asks for it never gets it."""
        step = trainer.step
        self._trainer = trainer
        self._sampler = step.sampler if isinstance(step.sampler, RefreshingSampler) else None
        if self._sampler:
            encode = make_refresh_fn(step.method.encoder, self._sampler, step.views)
            self._encode = sharding.jit_refresh(encode, trainer.mesh)
            if not any(map(self._sampler.refresh_due, range(epochs))):
                log.warning(
                    "within %d epochs the sampler is never refreshed: lower "
                    "sampler.warmup_epochs and sampler.interval_epochs",
                    epochs,
                )

    def is_due(self, step: int) -> bool:
        """Whether to renew the sampler's state between this step and the next."""
        epoch, step_in_epoch = divmod(step, self._trainer.pipeline.steps_per_epoch)
        return self._sampler is not None and not step_in_epoch and self._sampler.refresh_due(epoch)

    def __call__(self, state: TrainState, stopped: Callable[[], bool]) -> TrainState:
        """The state, the sampler's renewed; once `stopped()` is true anywhere, as it was.

        A function of the state: from the checkpoint before it, it gives the same again.
        """
        trainer, memory = self._trainer, state.sampler_state
        variables, steps = trainer.step.encoder_variables(state), trainer.pipeline.sweep_steps
        show = distributed.is_first()
        with Progress(steps, "refreshing the sampler", unit="batches", show=show) as advance:
            for batch in trainer.sweep():
                if distributed.any_process(stopped()):
                    return state
                memory = self._encode(memory, variables, batch, trainer.resident)
                jax.block_until_ready(memory)  # else the batches pile up on the device
                advance(1)
        return dataclasses.replace(state, sampler_state=memory)
