"""Between epochs: a sampler that wants to looks at every image with the encoder of the moment."""

import dataclasses
import logging
from collections.abc import Callable

import jax
from flax import linen as nn
from jax.sharding import Mesh

from jaxssl import distributed, sharding
from jaxssl.data.pipeline import Pipeline
from jaxssl.image.augment import RECIPES, normalize
from jaxssl.image.boxes import crop, whole_box
from jaxssl.progress import progress
from jaxssl.samplers import RefreshingSampler, Sampler
from jaxssl.types import Batch, Features, TrainState, Tree
from jaxssl.views import ViewConfig

log = logging.getLogger("jaxssl")


def make_encode_fn(encoder: nn.Module, sampler: RefreshingSampler, views: ViewConfig) -> Callable:
    """Returns `look(memory, variables, batch, resident) -> memory`, to be jitted.

    The images are whole, of the size of a view, without augmentation; BatchNorm is frozen.
    """
    interpolation = RECIPES[views.recipe].interpolation

    def look(memory: Tree, variables: Tree, batch: Batch, resident: Batch) -> Tree:
        batch = batch | {name: array[batch["index"]] for name, array in resident.items()}
        images = jax.vmap(lambda im, hw: crop(im, whole_box(hw), hw, views.size, interpolation))(
            batch["image"], batch["hw"]
        )
        pixels = normalize(images, views.normalize)
        features: Features = encoder.apply(variables, pixels, train=False)  # type: ignore[assignment]
        return sampler.refresh(memory, batch["index"], features.grid, views.size)

    return look


class Refresh:
    """Renews the memory of a sampler that asks for it; of others it is never due."""

    def __init__(
        self,
        sampler: Sampler,
        views: ViewConfig,
        mesh: Mesh,
        *,
        epochs: int,
        pipeline: Pipeline,
        resident: Batch,
        encoder: nn.Module,
        encoder_of: Callable[[TrainState], Tree],
    ):
        self._mesh, self._pipeline, self._resident = mesh, pipeline, resident
        self._encoder_of = encoder_of
        self._sampler = sampler if isinstance(sampler, RefreshingSampler) else None
        if self._sampler:
            self._look = sharding.jit_refresh(make_encode_fn(encoder, self._sampler, views), mesh)
            if not any(map(self._sampler.refresh_due, range(epochs))):
                log.warning(
                    "within %d epochs the sampler never looks at the images: lower "
                    "sampler.warmup_epochs and sampler.interval_epochs",
                    epochs,
                )

    def is_due(self, step: int) -> bool:
        """Whether to renew the memory after this step, before the next."""
        epoch, step_in_epoch = divmod(step, self._pipeline.steps_per_epoch)
        return self._sampler is not None and not step_in_epoch and self._sampler.refresh_due(epoch)

    def __call__(self, state: TrainState, stopped: Callable[[], bool]) -> TrainState:
        """The state with a new memory; once `stopped()` is true anywhere, the state as it was.

        A function of the state: from the checkpoint before it, it gives the same again.
        """
        memory, variables = state.sampler, self._encoder_of(state)
        steps = self._pipeline.sweep_steps
        show = distributed.is_first()
        with progress(steps, "looking at all images", unit="batches", show=show) as advance:
            for batch in sharding.prefetch(self._pipeline.sweep(), self._mesh):
                if distributed.any_process(stopped()):
                    return state
                memory = self._look(memory, variables, batch, self._resident)
                jax.block_until_ready(memory)  # else the batches pile up on the device
                advance(1)
        return dataclasses.replace(state, sampler=memory)
