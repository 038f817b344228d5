"""Signs of a collapse, and of images without regions, measured at each evaluation."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from jaxssl import sharding
from jaxssl.data.loading import stack_arrays
from jaxssl.evaluation.collapse import advise, health, regions_used
from jaxssl.samplers import Sampler
from jaxssl.training.trainer import Trainer
from jaxssl.types import Batch, Features, TrainState, Tree
from jaxssl.views import ViewConfig, make_views, whole_images

log = logging.getLogger("jaxssl")
CHUNK = 64  # images at once


class HealthMonitor:
    """Measures on the same few training images each time, without labels; warns of a collapse."""

    def __init__(self, config: ConfigDict, trainer: Trainer):
        """`config.eval.health` is the number of images; 0: none, and nothing is measured.

        Nothing is of a single training image, either: the measures compare images.
        """
        self._trainer, self._pipeline = trainer, trainer.pipeline
        self._method, self._sampler = trainer.step.method, trainer.step.sampler
        views = dataclasses.replace(trainer.step.views, num_global=2, num_local=0)
        self._encode = sharding.jit_over_rows(
            make_features_fn(self._method.encoder, self._sampler, views),
            trainer.mesh,
            fast_compile=True,
        )
        wanted = min(config.eval.health, self._pipeline.num_examples)
        wanted -= wanted % CHUNK if wanted > CHUNK else 0  # chunks of one size, compiled once
        if wanted == 1:
            log.warning("signs of a collapse are not measured: there is one training image")
            wanted = 0
        order = np.random.default_rng(0).permutation(self._pipeline.num_examples)
        images = np.sort(order[:wanted])
        self._chunks = [images[i : i + CHUNK] for i in range(0, wanted, CHUNK)]

    def __call__(self, step: int, state: TrainState) -> dict[str, float]:
        """Measures by key, `health/...`; of an untrained encoder nothing is expected yet."""
        if not self._chunks:
            return {}
        variables, found, used = self._trainer.step.encoder_variables(state), [], []
        for index in self._chunks:
            canvases = self._canvases(index)
            found.append(jax.device_get(self._encode(variables, canvases)))
            used.append(regions_used(canvases, self._sampler))
        features = [np.concatenate(parts) for parts in zip(*found, strict=True)]
        values = jax.device_get(health(*jax.device_put(features)))
        measures = {name: float(value) for name, value in values.items()}
        if (regions := np.concatenate(used)).size:
            measures |= {
                "regions_per_image": float(regions.mean()),
                "no_region": float(np.mean(regions == 0)),
            }
        max_rank, trained = min(features[0].shape), step > 0
        remedies = self._method.remedies
        for advice in advise(measures, remedies, max_rank=max_rank, trained=trained):
            log.warning("step %d: %s", step, advice)
        return {f"health/{name}": value for name, value in measures.items()}

    def _canvases(self, index: np.ndarray) -> Batch:
        arrays, spec = self._pipeline.arrays, self._pipeline.spec
        if arrays is not None:
            return {name: array.take(index, axis=0) for name, array in arrays.items()}
        return stack_arrays(self._pipeline.source, index, spec)


def make_features_fn(encoder: nn.Module, sampler: Sampler, views: ViewConfig) -> Callable[..., Any]:
    """Returns `encode(variables, canvases)`, to be jitted: features of images and of two views.

    The image is whole, of the size of a view, without augmentation. The views are those that an
    image gets in the first epoch, always the same ones; BatchNorm is frozen.
    """

    def encode(variables: Tree, canvases: Batch) -> tuple[jax.Array, ...]:
        number = len(canvases["image"])
        batch = canvases | {"index": jnp.arange(number)}
        cut, _ = make_views(jax.random.key(0), batch, sampler.init(number), sampler, views)
        images = [whole_images(batch, views, "bilinear"), *(view.image for view in cut)]
        features: list[Features] = [encoder.apply(variables, x, train=False) for x in images]  # type: ignore[misc]
        return tuple(f.pooled.astype(jnp.float32) for f in features)

    return encode
