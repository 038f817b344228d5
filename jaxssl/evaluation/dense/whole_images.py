"""Images of different shapes through a network, whole: padded to a few shapes, and as if not.

A side is padded to one of few lengths, at most an eighth longer than need be, so that few programs
are compiled. `models.padded` sees to it that padding changes nothing. Not so for a ViT, to which
padding is part of the image: its images are padded to whole patches, and programs are as many as
the shapes in patches that a data set has.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxssl.evaluation.dense.confusion import confusion_matrix
from jaxssl.evaluation.pixels import Pixels, shown_rows
from jaxssl.models.dense import Dense
from jaxssl.models.padded import cells_of, is_inside, within
from jaxssl.models.vit import ViT
from jaxssl.pretrained.encoder import Encoder, prepare
from jaxssl.progress import Progress
from jaxssl.types import Batch, Tree

CONVOLVED = 32  # pixels of which a side is a multiple: the stride of a ResNet
BATCH_PIXELS = 2**21  # of a device's images of a batch; one image may have more


@dataclasses.dataclass(frozen=True)
class Whole:
    """Images that are padded to one shape."""

    rows: list[int]  # of the part; a batch is filled up with copies of the last one
    batch: Batch  # image u8[b, h, w, 3]; hw i32[b, 2] of it; out i32[b, 2] of the truth
    truth: np.ndarray  # [b, i, j]


def padded_side(side: int, unit: int) -> int:
    """The least length for `side` pixels: 1 to 16 units, then 8 lengths to each doubling."""
    units = -(-side // unit)
    step = 2 ** max(0, (units - 1).bit_length() - 4)
    return -(-units // step) * step * unit


def padded_shape(network: nn.Module, size: tuple[int, ...]) -> tuple[int, ...]:
    """Height and width to which an image of `size` is padded for a network."""
    if isinstance(network, ViT):  # padding is part of the image to it: as little as can be
        return tuple(-(-side // network.patch) * network.patch for side in size)
    return tuple(padded_side(side, CONVOLVED) for side in size)


def whole_images(
    encoder: Encoder, pixels: Pixels, part: str, rows: Sequence[int] | np.ndarray
) -> Iterator[Whole]:
    """The images in `rows`, those that are padded to one shape after each other.

    Args:
      encoder: that they are for, or a `Dense` in its place; it has the most images at once.
      pixels: with the images.
      part: "train" or "test".
      rows: of the part.
    """
    network = encoder.network.encoder if isinstance(encoder.network, Dense) else encoder.network
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for row in map(int, rows):
        kept = tuple(pixels.part(part)["levels"][row, 0, 1:].tolist())
        fed = pixels.fed_size(kept)
        shape = padded_shape(network, fed)
        out = tuple(padded_side(side, CONVOLVED) for side in kept)
        groups.setdefault((shape, out), []).append(row)
    for (shape, out), members in sorted(groups.items()):
        each = max(1, BATCH_PIXELS // max(math.prod(shape), math.prod(out)))
        size = min(each * encoder.mesh.size, encoder.batch_size, len(members))
        for start in range(0, len(members), size):
            some = members[start : start + size]
            filled = [*some, *[some[-1]] * (size - len(some))]
            yield Whole(some, *_padded(pixels, part, filled, (shape, out)))


def _padded(
    pixels: Pixels, part: str, rows: list[int], shapes: tuple[tuple[int, ...], ...]
) -> tuple[Batch, np.ndarray]:
    images = [pixels.image(part, row) for row in rows]
    truths = [pixels.truth(part, row) for row in rows]
    batch = {
        "image": np.stack([_pad(image, shapes[0], 0) for image in images]),
        "hw": np.array([image.shape[:2] for image in images], np.int32),
        "out": np.array([truth.shape for truth in truths], np.int32),
    }
    return batch, np.stack([_pad(truth, shapes[1], pixels.void) for truth in truths])


def _pad(values: np.ndarray, shape: tuple[int, ...], fill: int) -> np.ndarray:
    padding = [(0, n - old) for n, old in zip(shape, values.shape[:2], strict=True)]
    return np.pad(values, padding + [(0, 0)] * (values.ndim - 2), constant_values=fill)


def _normalized(batch: Batch, normalization: str) -> Float[Array, "b h w 3"]:
    """The images of a batch as a network gets them, 0 where they are padded."""
    pixels = prepare(batch["image"], normalization)
    return jnp.where(is_inside(batch["hw"], pixels.shape[1:3])[..., None], pixels, 0)


def encode_grids(
    network: nn.Module, normalization: str, variables: Tree, batch: Batch
) -> tuple[Array, Array]:
    """The grids f32[b, i, j, d] of padded images, and how many cells i32[b, 2] of them count.

    Args:
      network: the encoder.
      normalization: a name in `augment.NORMALIZE`.
      variables: of the network.
      batch: as `Whole` has it.
    """
    pixels, hw = _normalized(batch, normalization), batch["hw"]
    with within(hw, pixels.shape[1:3]):
        grid = network.apply(variables, pixels, train=False).grid  # type: ignore[union-attr]
    return grid, cells_of(hw, pixels.shape[1:3], grid.shape[1:3])


def grids_of(
    encoder: Encoder, pixels: Pixels, part: str, rows: Sequence[int] | np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Each of `rows`, in some order, with the frozen features f32[h, w, d] of its image.

    Args:
      encoder: to compute features with.
      pixels: with the images.
      part: "train" or "test".
      rows: of the part.
    """
    grids = encoder.compiled(encode_grids)
    for whole in whole_images(encoder, pixels, part, rows):
        grid, cells = map(np.asarray, grids(encoder.variables, whole.batch))
        for i, row in enumerate(whole.rows):
            height, width = cells[i]
            yield row, grid[i, :height, :width]


def grid_of(encoder: Encoder, image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """The frozen features f32[i, j, d] of one image u8[h, w, 3] of any shape.

    Besides, the height and width that its cells cover, in pixels; the last ones may reach beyond.
    """
    hw = image.shape[:2]
    padded = _pad(image, padded_shape(encoder.network, hw), 0)
    batch = {"image": padded[None], "hw": np.array([hw], np.int32)}
    run = encoder.compiled(encode_grids)
    (grid,), (cells,) = map(np.asarray, run(encoder.variables, batch))
    height, width = (int(n) for n in cells)
    covered = height * padded.shape[0] // grid.shape[0], width * padded.shape[1] // grid.shape[1]
    return grid[:height, :width], covered


def _outputs(
    network: nn.Module,
    normalization: str,
    shape: tuple[int, int],
    is_class: bool,
    variables: Tree,
    batch: Batch,
) -> Array:
    pixels = _normalized(batch, normalization)
    y: Array = network.apply(  # type: ignore[assignment]
        variables, pixels, train=False, hw=batch["hw"], out=batch["out"], shape=shape
    )
    return y.argmax(axis=-1).astype(jnp.uint8) if is_class else y[..., 0]


def predict_whole(
    tuned: Encoder, pixels: Pixels
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Some rows of the test images, their truth [b, h, w], padded with void, and the outputs.

    Args:
      tuned: in the place of an encoder, a `Dense` made of one and a head.
      pixels: with the images.

    Yields:
      For each pixel of the images as they are kept its class u8[b, h, w] or its number f32.
    """
    count, is_class = len(pixels.test["hw"]), bool(pixels.classes)
    with Progress(count, "testing", show=tuned.show) as advance:
        for whole in whole_images(tuned, pixels, "test", range(count)):
            run, used = tuned.compiled(_outputs, whole.truth.shape[1:], is_class), len(whole.rows)
            predicted = np.asarray(run(tuned.variables, whole.batch))
            yield whole.rows, whole.truth[:used], predicted[:used]
            advance(used)


class MapScores:
    """Counts what predicted label maps are, image after image, and keeps a few to look at."""

    def __init__(self, pixels: Pixels):
        self._pixels = pixels
        self.confusion = np.zeros((len(pixels.classes),) * 2, np.int64)
        self._wanted = set(shown_rows(len(pixels.test["hw"])))
        self._kept: dict[int, np.ndarray] = {}

    def add(self, rows: list[int], truth: np.ndarray, predicted: np.ndarray) -> None:
        """Counts predictions for test images, padded with void."""
        self.confusion += confusion_matrix(truth, predicted, len(self.confusion))
        for i, row in enumerate(rows):
            if row in self._wanted:
                height, width = self._pixels.test["levels"][row, 0, 1:]
                self._kept[row] = predicted[i, :height, :width]

    def shown(self) -> dict[str, np.ndarray]:
        """Images, truth and predictions, to look at."""
        return self._pixels.shown(self._kept)
