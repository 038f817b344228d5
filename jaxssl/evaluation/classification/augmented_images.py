"""Training images in batches, cut and flipped at random on the device, as a supervised run does.

Crops are cut from the image at its own shape and in full detail, as for pre-training.
"""

from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray

from jaxssl.data.batch_order import Order
from jaxssl.evaluation.canvas_batches import CanvasBatches
from jaxssl.evaluation.datasets import DataSet, labeled_rows
from jaxssl.image import pyramid
from jaxssl.image.augment import normalize
from jaxssl.image.boxes import flip, random_box, whole_box
from jaxssl.types import Batch

SCALE = (0.08, 1.0)  # of the area of the image: torchvision's RandomResizedCrop


class TrainingImages:
    """The labeled images of a training part, in batches."""

    def __init__(self, data: DataSet, mesh: Mesh):
        spec, arrays = data.canvases
        self._labeled, _ = labeled_rows(arrays)
        self._canvases, self.size = CanvasBatches(spec, arrays, mesh), data.size
        self.resident = self._canvases.resident

    def batches(
        self, rows: np.ndarray, batch_size: int, seed: int, steps: range
    ) -> Iterator[Batch]:
        """Shuffled batches, on the devices.

        Args:
          rows: which of the labeled images, counted without the others.
          batch_size: images a batch.
          seed: of their order.
          steps: numbers of the batches, from 0.
        """
        order = Order(len(rows), batch_size, seed)
        return self._canvases.of(self._labeled[rows[order.indices(step)]] for step in steps)


def random_views(
    key: PRNGKeyArray, batch: Batch, size: int, normalization: str
) -> Float[Array, "b s s 3"]:
    """A random crop of each image, flipped or not; nothing happens to its colors.

    Args:
      key: used once.
      batch: of canvases.
      size: side of the crops, pixels.
      normalization: a name in `augment.NORMALIZE`.
    """
    images, attach = pyramid.detach({name: batch[name] for name in ("image", "levels", "hw")})

    def cut(key: PRNGKeyArray, image: Batch) -> Array:
        key_box, key_flip = jax.random.split(key)
        box = random_box(key_box, whole_box(image["hw"]), SCALE)
        return flip(key_flip, pyramid.crop(attach(image), box, size, "bilinear"), 0.5)

    keys = jax.random.split(key, len(batch["hw"]))
    return normalize(jax.vmap(cut)(keys, images), normalization)
