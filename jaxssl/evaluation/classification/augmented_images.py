"""Training images in batches, cut and flipped at random on the device, as a supervised run does.

The images are canvases of 8/7 of the size that the network sees (256 for 224), onto which the whole
image is squashed. They lie on the devices if they fit, else a batch is gathered on the host.
"""

import functools
from collections.abc import Callable, Iterator

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray

from jaxssl import sharding
from jaxssl.data.batch_order import Order
from jaxssl.evaluation.classification.linear_probe import Epoch, Probes, Schedule, update
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.features import FrozenEncoder
from jaxssl.image.augment import normalize
from jaxssl.image.boxes import crop, flip, random_box, whole_box
from jaxssl.types import Batch, Tree

SCALE = (0.08, 1.0)  # of the area of the image: torchvision's RandomResizedCrop
DEVICE_SHARE = 0.3  # of the device's memory that images may take


class TrainingImages:
    """The labelled images of a training part, in batches."""

    def __init__(self, data: DataSet, mesh: Mesh):
        self._arrays = {k: data.canvases[k] for k in ("image", "hw", "label")}
        self._labelled = np.flatnonzero(self._arrays["label"] >= 0)
        self._mesh, self.size = mesh, data.size
        fits = self._arrays["image"].nbytes <= DEVICE_SHARE * sharding.memory_per_device()
        self.resident = sharding.replicate(self._arrays, mesh) if fits else {}

    def batches(
        self, rows: np.ndarray, batch_size: int, seed: int, steps: range
    ) -> Iterator[Batch]:
        """Shuffled batches, on the devices; `rows` counts the labelled images alone."""
        order = Order(len(rows), batch_size, seed)

        def gather(step: int) -> Batch:
            index = self._labelled[rows[order.indices(step)]].astype(np.int32)
            if self.resident:
                return {"index": index}
            return {name: array.take(index, axis=0) for name, array in self._arrays.items()}

        return sharding.prefetch(map(gather, steps), self._mesh)


def look_up(batch: Batch, resident: Batch) -> Batch:
    """The images of a batch that may be indices into resident arrays."""
    return batch | {name: array[batch["index"]] for name, array in resident.items()}


def random_views(
    key: PRNGKeyArray, batch: Batch, size: int, normalization: str
) -> Float[Array, "b s s 3"]:
    """A random crop of each image, flipped or not; nothing happens to its colours."""

    def cut(key: PRNGKeyArray, image: Array, hw: Array) -> Float[Array, "s s 3"]:
        key_box, key_flip = jax.random.split(key)
        box = random_box(key_box, whole_box(hw), SCALE)
        return flip(key_flip, crop(image, box, hw, size, "bilinear"), 0.5)

    keys = jax.random.split(key, len(batch["hw"]))
    return normalize(jax.vmap(cut)(keys, batch["image"], batch["hw"]), normalization)


def epoch_of_images(encoder: FrozenEncoder, images: TrainingImages, seed: int) -> Epoch:
    """Epochs of a linear probe on features of augmented images; the encoder stays as it is."""
    root = jax.random.key(seed)

    def epoch(probes: Probes, schedule: Schedule, rows: np.ndarray, number: int) -> Probes:
        step = compile_probe_step(
            encoder.network, encoder.normalization, encoder.mesh, images.size, schedule
        )
        steps = range(number * schedule.steps, (number + 1) * schedule.steps)
        batches = images.batches(rows, schedule.batch_size, seed, steps)
        for i, batch in zip(steps, batches, strict=True):
            key = jax.random.fold_in(root, i)
            probes, _ = step(probes, batch, (images.resident, encoder.variables), key)
        return probes

    return epoch


@functools.cache
def compile_probe_step(
    network: nn.Module, normalization: str, mesh: Mesh, size: int, schedule: Schedule
) -> Callable[[Probes, Batch, Tree, PRNGKeyArray], tuple[Probes, Tree]]:
    """`step(probes, batch, (resident, variables), key)`, on all devices."""

    def step(probes: Probes, batch: Batch, same: Tree, key: PRNGKeyArray) -> tuple[Probes, Tree]:
        resident, variables = same
        batch = look_up(batch, resident)
        views = random_views(key, batch, size, normalization)
        features = network.apply(variables, views, train=False).pooled  # type: ignore[union-attr]
        return update(probes, schedule, features, batch["label"]), ()

    return sharding.jit_step(step, mesh)
