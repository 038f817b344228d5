"""The task `in_context`: segmentation by retrieval of labeled cells (arXiv 2306.01667, section 4).

Nothing is trained. A memory holds the features of cells of the grids of training images and the
share y_i of each class in them. A cell q of a test image gets the mean of the shares of the k
most similar cells of the memory,

    sum_i w_i y_i,   w_i = exp(s_i / T) / sum_j exp(s_j / T),   s_i = cos(q, k_i)

which is resized bilinearly to the image; the largest names the class of a pixel. Images keep their
shape and numbers are over original pixels, as in the task `segmentation`.

The paper's memory has features of augmented crops as well, and its released code
(github.com/vpariza/open-hummingbird-eval) draws them by the classes in them and counts pixels of
no class as class 0. Here cells are drawn evenly, and pixels of no class count nowhere.

Features of the memory lie in a file without a name, for the system to page: of 10 million cells
and 384 dimensions 15 GB. Those of `QUERY_BYTES` of test cells are compared with all of them at a
time, exactly, on all devices; see `evaluation.neighbors`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import IO, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from jaxssl import sharding
from jaxssl.errors import UserError
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.dense.confusion import scores, summarize
from jaxssl.evaluation.dense.grid_cells import labeled_cells
from jaxssl.evaluation.dense.whole_images import MapScores, Whole, encode_grids, whole_images
from jaxssl.evaluation.neighbors import Neighbors, nearest
from jaxssl.evaluation.pixels import Pixels
from jaxssl.evaluation.ranges import check_numbers
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.files import temporary_file
from jaxssl.models.padded import is_inside, resize_within
from jaxssl.pretrained.encoder import Encoder
from jaxssl.progress import Progress
from jaxssl.types import Batch

QUERY_BYTES = 2**28  # of features of test cells that are compared with the memory at once


@dataclasses.dataclass(frozen=True)
class InContext:
    """The protocol."""

    k: int = 30
    temperature: float = 0.02
    memory: int = 10_240_000  # cells, at most, with all training images; an equal part of each
    fractions: tuple[float, ...] = (1.0,)  # of the training images; the first is the main one

    def __post_init__(self) -> None:
        ranges = {"1 or more": "k memory", "above 0": "temperature", "in (0, 1]": "fractions"}
        check_numbers(self, ranges)


class Memory(NamedTuple):
    """Labeled cells of training images."""

    features: np.ndarray  # f32[n, d]
    shares: np.ndarray  # f32[n, k], of the classes
    rows: np.ndarray  # i64[n]: the cells, ordered by image as these were given
    ends: np.ndarray  # i64[images]: how many of `rows` are of the images up to this one


def remember(
    encoder: Encoder, pixels: Pixels, images: np.ndarray, protocol: InContext, seed: int
) -> Memory:
    """The memory of these training images. A cell without any labeled pixel is left out.

    Args:
      encoder: to compute features with.
      pixels: with the images.
      images: i64[n], rows of the training part.
      protocol: how many cells at most.
      seed: of those drawn, where there are more.

    Raises:
      UserError: features are not finite, or no pixel has a class.
    """
    counts: dict[int, int] = {}
    with (
        temporary_file() as features,
        temporary_file() as shares,
        Progress(len(images), "memory", show=encoder.show) as advance,
    ):
        limit = protocol.memory
        for row, cells in labeled_cells(encoder, pixels, images, seed, limit):
            known = cells.shares.any(axis=1)
            features.write(cells.features[known].astype(np.float32).tobytes())
            shares.write(cells.shares[known].tobytes())
            counts[row], width = int(known.sum()), cells.features.shape[1]
            advance(1)
        if not sum(counts.values()):
            raise UserError(f"no pixel of the training images of {pixels.name} has a class")
        arrays = _mapped(features, width), _mapped(shares, len(pixels.classes))
    starts = dict(zip(counts, np.cumsum([0, *counts.values()]), strict=False))
    spans = [starts[row] + np.arange(counts[row]) for row in images.tolist()]
    return Memory(*arrays, np.concatenate(spans), np.cumsum([len(span) for span in spans]))


def _mapped(file: IO[bytes], width: int) -> np.ndarray:
    """The rows f32[n, width] that were written to a file; they outlast it."""
    file.flush()
    return np.memmap(file, np.float32, "r").reshape(-1, width)


class Asked(NamedTuple):
    """Test images of one padded shape and their features."""

    whole: Whole
    grid: np.ndarray  # f32[b, i, j, d]
    cells: np.ndarray  # i32[b, 2]: rows and columns of the grid that count

    @property
    def is_in(self) -> np.ndarray:
        """bool[b, i, j]: which cells count."""
        return np.asarray(is_inside(self.cells, self.grid.shape[1:3]))


def ask(encoder: Encoder, pixels: Pixels) -> Iterator[list[Asked]]:
    """The test images, as many at a time as have `QUERY_BYTES` of features, or one batch."""
    grids = encoder.compiled(encode_grids)
    group: list[Asked] = []
    for whole in whole_images(encoder, pixels, "test", range(len(pixels.test["hw"]))):
        grid, cells = map(np.asarray, grids(encoder.variables, whole.batch))
        asked = Asked(whole, grid.astype(np.float32), cells)
        if group and sum(one.grid.nbytes for one in (*group, asked)) > QUERY_BYTES:
            yield group
            group = []
        group.append(asked)
    yield group


def mean_shares(found: Neighbors, memory: Memory, temperature: float) -> Float[np.ndarray, "m k"]:
    """The shares of the classes in the neighbors of each query, weighted by similarity.

    Args:
      found: places among the memory's `rows`.
      memory: where they are.
      temperature: T.
    """
    weight = np.exp((found.similarity - found.similarity[:, :1]) / temperature)
    weight /= weight.sum(axis=1, keepdims=True)
    shares = memory.shares[memory.rows[found.place]]  # [m, k, classes]
    return np.matmul(weight[:, None], shares)[:, 0]


@functools.cache
def compile_maps(mesh: Mesh, shape: tuple[int, int]) -> Callable[..., Array]:
    """`maps((), batch)`: classes u8[b, i, j] by shares f32[b, h, w, k] in the first `cells`."""

    def maps(_: tuple[()], batch: Batch) -> UInt8[Array, "b i j"]:
        full = resize_within(batch["shares"], batch["cells"], batch["out"], shape)
        return full.argmax(axis=-1).astype(jnp.uint8)

    return sharding.jit_over_rows(maps, mesh)


def segment(
    asked: Asked, shares: Float[np.ndarray, "m k"], mesh: Mesh
) -> UInt8[np.ndarray, "b h w"]:
    """The class of each pixel of some images, by the shares of the classes in their cells."""
    grid = np.zeros((*asked.grid.shape[:3], shares.shape[1]), np.float32)
    grid[asked.is_in] = shares
    batch = {"shares": grid, "cells": asked.cells, "out": asked.whole.batch["out"]}
    shape = asked.whole.truth.shape[1:]
    return np.asarray(compile_maps(mesh, shape)((), batch))


def _count(
    encoder: Encoder,
    group: Sequence[Asked],
    memory: Memory,
    protocol: InContext,
    maps: dict[int, MapScores],
) -> None:
    """Adds predictions for a group of images to `maps`, by the number of cells in the memory."""
    queries = np.concatenate([asked.grid[asked.is_in] for asked in group])
    bounds = np.cumsum([asked.is_in.sum() for asked in group])[:-1]
    stops, gather = sorted(maps), sharding.jit_gather(encoder.mesh)
    bank, rows, k = memory.features, memory.rows, protocol.k
    found = nearest(bank, queries, k, encoder.mesh, rows=rows, stops=stops)
    for stop, neighbors in zip(stops, found, strict=True):
        of_each = (np.split(np.asarray(x)[: len(queries)], bounds) for x in gather(neighbors))
        for asked, *some in zip(group, *of_each, strict=True):
            shares = mean_shares(Neighbors(*some), memory, protocol.temperature)
            images, truth = asked.whole.rows, asked.whole.truth
            predicted = segment(asked, shares, encoder.mesh)
            maps[stop].add(images, truth[: len(images)], predicted[: len(images)])


def _run(encoder: Encoder, data: DataSet, protocol: InContext, seed: int) -> TaskResult:
    """Mean IoU over the pixels of the test images; miou_0.125 is that with an eighth of labels."""
    pixels = data.label_maps
    images = np.random.default_rng(seed).permutation(len(pixels.train["hw"]))
    memory = remember(encoder, pixels, images, protocol, seed)
    stop_of = {
        fraction: int(memory.ends[max(1, round(fraction * len(images))) - 1])
        for fraction in protocol.fractions
    }
    if (fewest := min(stop_of.values())) < protocol.k:
        raise UserError(
            f"in_context needs k <= {fewest}, the labeled cells in its memory; k is {protocol.k}"
        )
    maps = {stop: MapScores(pixels) for stop in stop_of.values()}
    with Progress(len(pixels.test["hw"]), "testing", show=encoder.show) as advance:
        for group in ask(encoder, pixels):
            _count(encoder, group, memory, protocol, maps)
            advance(sum(len(asked.whole.rows) for asked in group))
    first, *others = protocol.fractions
    results, details = summarize(maps[stop_of[first]].confusion, pixels.classes)
    for fraction in others:
        of_fraction = scores(maps[stop_of[fraction]].confusion)
        results[f"miou_{fraction:.3g}"] = of_fraction["miou"]
    chosen = {"training_images": len(images), "cells": [stop_of[f] for f in protocol.fractions]}
    shown = maps[stop_of[first]].shown()
    return TaskResult(results, pixels.protocol | chosen, details, shown)


# The fractions of which the released code has lists of images.
IN_CONTEXT = Task(
    _run,
    InContext(),
    "label maps",
    presets={"hummingbird": InContext(fractions=(1.0, 1 / 8, 1 / 64, 1 / 128))},
)
