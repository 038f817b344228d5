"""Do regions find regions of their class? The quality of features where images show many things.

A region is described by the mean of the frozen feature grid over it, its class is what most of its
pixels are labeled. Every region of a known class is a query; it ranks the regions of all *other*
images by cosine, so that a common image helps nobody.

    AP(q) = 1 / |R| sum_{r in R} (relevant regions ranked up to r) / (rank of r)
    mAP   = mean AP over queries,  recall@1 = share of queries whose first region is relevant

R are the regions of the query's class. Queries whose class no other image shows are left out.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from jaxssl.data.label_maps import VOID
from jaxssl.data.loading import make_arrays, pick, warn_broken
from jaxssl.data.source import BrokenImage
from jaxssl.errors import UserError
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.dense.grid_cells import labeled_grids
from jaxssl.evaluation.pixels import Pixels, label_values, own_shape, with_classes
from jaxssl.evaluation.ranges import check_numbers
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.image.region_pooling import overlap
from jaxssl.losses import unit
from jaxssl.pretrained.encoder import Encoder, make_space

MIN_POINTS = 4  # of the lattice of planes: smaller regions say little
CHUNK_ENTRIES = 2**24  # similarities held at once
STRIDE = 2  # pixels a point of the planes


@functools.partial(jax.jit, static_argnames="chunk")
def _ranked(
    features: Float[Array, "n d"], classes: Int[Array, " n"], image: Int[Array, " n"], *, chunk: int
) -> tuple[Float[Array, "c q"], Float[Array, "c q"]]:
    """Average precision and whether the first is relevant, of each query; NaN without any."""
    bank = unit(features)

    def ranked(query: tuple[Array, ...]) -> tuple[Array, Array]:
        row, its_class, its_image = query
        similarity = jnp.matmul(row, bank.T, precision=jax.lax.Precision.HIGHEST)
        left_out = (its_image[:, None] == image[None, :]) | (image < 0)[None, :]
        similarity = jnp.where(left_out, -jnp.inf, similarity)
        order = jnp.argsort(-similarity, axis=1, stable=True)
        elsewhere = jnp.take_along_axis(similarity, order, axis=1) > -jnp.inf
        relevant = (classes[order] == its_class[:, None]) & elsewhere
        hits = jnp.cumsum(relevant, axis=1)
        precision = hits / jnp.arange(1, len(classes) + 1)[None, :]
        count = relevant.sum(axis=1)
        average = jnp.where(relevant, precision, 0.0).sum(axis=1) / count
        return average, jnp.where(count > 0, relevant[:, 0], jnp.nan)

    chunks = jax.tree.map(lambda x: x.reshape(-1, chunk, *x.shape[1:]), (bank, classes, image))
    return jax.lax.map(ranked, chunks)


def retrieval(features: np.ndarray, classes: np.ndarray, image: np.ndarray) -> dict[str, float]:
    """`map` and `recall_at_1` in [0, 1], and about what a random order would have for both.

    Args:
      features: f32[n, d], of regions.
      classes: i32[n]; regions of a class below zero are left out.
      image: i32[n], of the region.

    Raises:
      UserError: no class is seen in two images.
    """
    known = classes >= 0
    features, classes, image = features[known], classes[known], image[known]
    count, relevant = len(features), _relevant_share(classes, image)
    asked = relevant > 0
    if not asked.any():
        raise UserError(
            f"retrieval needs a class that regions of two images have; of {count} regions with a "
            "class there is none: give more images, or regions that more labeled pixels cover"
        )
    chunk = max(1, min(count, CHUNK_ENTRIES // max(count, 1)))
    missing = -count % chunk
    # Rows that fill up the last chunk are of image -1, which is left out.
    fill = [np.pad(x, (0, missing), constant_values=-1) for x in (classes, image)]
    features = np.pad(features, ((0, missing), (0, 0)))
    average, first = (
        np.asarray(x).reshape(-1)[:count] for x in _ranked(features, *fill, chunk=chunk)
    )
    return {
        "map": float(average[asked].mean()),
        "recall_at_1": float(first[asked].mean()),
        "baseline_map": float(relevant[asked].mean()),
        "regions": float(asked.sum()),
    }


def _relevant_share(classes: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The share of the regions of other images that is of a region's class: f64[n]."""
    names, c = np.unique(classes, return_inverse=True)
    images, i = np.unique(image, return_inverse=True)
    table = np.zeros((len(images), len(names)))
    np.add.at(table, (i, c), 1)
    others = len(classes) - table.sum(axis=1)[i]
    return (table.sum(axis=0)[c] - table[i, c]) / np.maximum(others, 1)


def region_classes(planes: Sequence[np.ndarray], semantic: Sequence[np.ndarray]) -> np.ndarray:
    """The class of most labeled pixels of each region: i32[n, 32 p]; -1 without any, or if tiny.

    Args:
      planes: u32[i, j, p] of each image.
      semantic: u8[h, w] of each image, labels 0 to 254.
    """
    found = np.full((len(planes), 32 * planes[0].shape[2]), -1, np.int32)
    for n, (points, labels) in enumerate(zip(planes, semantic, strict=True)):
        labels = pick(labels, points.shape[:2])
        for p, bit in np.ndindex(points.shape[2], 32):
            covered = labels[(points[:, :, p] >> np.uint32(bit)) & 1 > 0]
            counts = np.bincount(covered, minlength=VOID + 1)[:VOID]
            if len(covered) >= MIN_POINTS and counts.any():
                found[n, 32 * p + bit] = counts.argmax()
    return found


def pool_regions(
    grid: Float[np.ndarray, "h w d"], planes: UInt32[np.ndarray, "i j p"]
) -> Float[np.ndarray, "m d"]:
    """Mean features of the regions of one image, cells weighted by the share that each covers.

    `region_pooling.pool` on the host: images come in many shapes, and each would be a program.
    """
    rows, columns = map(overlap, grid.shape[:2], planes.shape[:2])
    octets = np.ascontiguousarray(planes, "<u4").view(np.uint8)
    bits = np.unpackbits(octets, axis=2, bitorder="little").astype(np.float32)
    covered = np.tensordot(columns, np.tensordot(rows, bits, 1), (1, 1))  # [w, h, m]
    area = covered.sum(axis=(0, 1))
    return np.tensordot(covered / np.where(area > 0, area, 1), grid, ((1, 0), (0, 1)))


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """The protocol: the largest 32 regions of test images, whole and at their own shape."""

    images: int = 500

    def __post_init__(self) -> None:
        check_numbers(self, {"2 or more": "images"})


def _run(encoder: Encoder, data: DataSet, protocol: Retrieval, seed: int) -> TaskResult:
    """`retrieval` over the regions of test images."""
    pixels = load_regions(data, protocol.images)
    count = len(pixels.test["hw"])
    planes = [read_planes(pixels.test, row) for row in range(count)]
    classes = region_classes(planes, [pixels.truth("test", row) for row in range(count)])
    features: list[np.ndarray] = [np.empty(0)] * count
    for row, grid, _ in labeled_grids(encoder, pixels, "test", np.arange(count)):
        features[row] = pool_regions(grid, planes[row])[classes[row] >= 0]
    image, region = np.nonzero(classes >= 0)
    results = retrieval(np.concatenate(features), classes[image, region], image)
    return TaskResult(results, pixels.protocol)


def read_planes(arrays: dict[str, np.ndarray], row: int) -> np.ndarray:
    """The region planes u32[i, j, p] of one canvas."""
    height, width = arrays["planes_hw"][row]
    return arrays["region_planes"][row, : height * width].reshape(height, width, -1)


def load_regions(data: DataSet, images: int) -> Pixels:
    """Canvases of some test images with `region_planes` and `semantic`.

    Images that cannot be read, or have no label map, are named and left out: in a store the next
    one would take their place, and find itself.
    """
    order = np.random.default_rng(0).permutation(len(data.test))[:images]
    spec = own_shape((data.test,), "semantic")
    spec = dataclasses.replace(spec, planes=1, stride=STRIDE)
    shapes = spec.arrays().items()
    space = {name: make_space((len(order), *shape), dtype) for name, (shape, dtype) in shapes}
    count = 0
    for index in order:
        try:
            for name, values in make_arrays(data.test, int(index), spec).items():
                space[name][count] = values
        except BrokenImage as error:
            warn_broken(str(error))
        else:
            count += 1
    if not count:
        raise UserError(f"{data.test.spec}: none of {len(order)} images has a label map")
    canvases = {name: values[:count] for name, values in space.items()}
    pixels = Pixels(data.name, spec, "semantic", {}, canvases, data.shorter)
    return with_classes(pixels, data.test, label_values(canvases), data.void)


RETRIEVAL = Task(_run, Retrieval(), "labeled regions", seeded=False)
