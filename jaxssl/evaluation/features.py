"""Images to features, in batches of one shape."""

import collections
import dataclasses
import functools
import math
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from jaxssl import sharding
from jaxssl.errors import UserError
from jaxssl.evaluation.datasets import DataSet
from jaxssl.image.augment import normalize
from jaxssl.progress import progress
from jaxssl.types import Features, Tree

IN_MEMORY = 2**30  # bytes that features may take


class LabelledFeatures(NamedTuple):
    """Pooled features of the labelled images of a part of a data set."""

    features: np.ndarray  # f32[n, d]
    labels: np.ndarray  # i32[n], 0 or more

    def at(self, rows: np.ndarray) -> "LabelledFeatures":
        """Those in these rows."""
        return LabelledFeatures(self.features[rows], self.labels[rows])


@dataclasses.dataclass(frozen=True)
class FrozenEncoder:
    """An encoder with its variables, on all devices; its BatchNorm is frozen too."""

    network: nn.Module
    variables: Tree
    normalization: str  # a name in `augment.NORMALIZE`
    mesh: Mesh
    batch_size: int = 256  # images at once
    show: bool = True  # whether to show how far long work is
    _known: dict = dataclasses.field(default_factory=dict, repr=False)

    def pooled(self, images: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Features f32[n, d] of images u8[n, s, s, 3], or of those in `rows`."""
        encode = compile_encode(self.network, self.normalization, self.mesh, "pooled")
        return extract(
            functools.partial(encode, self.variables),
            images,
            self.batch_size,
            rows=rows,
            show=self.show,
        )

    def grid(self, images: np.ndarray) -> np.ndarray:
        """Features f32[n, h, w, d] of images u8[n, s, s, 3]."""
        encode = compile_encode(self.network, self.normalization, self.mesh, "grid")
        return extract(functools.partial(encode, self.variables), images, self.batch_size)

    def features(self, data: DataSet) -> tuple[LabelledFeatures, LabelledFeatures]:
        """Of the training and the test part; kept until those of another data set are asked for.

        Raises:
          UserError: they are not finite.
        """
        if data.name not in self._known:
            self._known.clear()
            self._known[data.name] = tuple(
                self._part(part, data.name) for part in (data.labelled.train, data.labelled.test)
            )
        return self._known[data.name]

    def adapted(self, data: DataSet) -> "FrozenEncoder":
        """With the statistics of BatchNorm moved to those of the data set's training images.

        A pass over them in training mode, shuffled, in batches of `batch_size` filled up with the
        first ones. lightly 1.4.14, and SAMCLR with it, do so by oversight before kNN and linear
        probe (lightly issue 1440); there the features of training images are those of that pass.
        """
        labels = np.asarray(data.labelled.train["label"])
        rows = np.random.default_rng(0).permutation(np.flatnonzero(labels >= 0))
        batch_size = -(-self.batch_size // self.mesh.size) * self.mesh.size
        rows = np.resize(rows, -(-len(rows) // batch_size) * batch_size)
        move, variables = compile_adapt(self.network, self.normalization, self.mesh), self.variables
        with progress(len(rows), "BatchNorm", show=self.show) as advance:
            for start in range(0, len(rows), batch_size):
                images = data.labelled.train["image"][rows[start : start + batch_size]]
                variables = variables | move(variables, images)
                advance(batch_size)
        return dataclasses.replace(self, variables=variables, _known={})

    def _part(self, part: dict[str, np.ndarray], name: str) -> LabelledFeatures:
        labels = np.asarray(part["label"])
        rows = np.flatnonzero(labels >= 0)
        features = self.pooled(part["image"], rows)
        if not np.isfinite(features).all():
            raise UserError(f"features of {name} are not finite; did training diverge?")
        return LabelledFeatures(features, labels[rows])


@functools.cache
def compile_encode(network: nn.Module, normalization: str, mesh: Mesh, kind: str) -> Callable:
    """`encode(variables, images)`, jitted once for all variables; `kind` is "pooled" or "grid"."""

    def encode(variables: Tree, images: UInt8[Array, "b s s 3"]) -> Float[Array, "b ..."]:
        pixels = normalize(images.astype(jnp.float32) / 255, normalization)
        features: Features = network.apply(variables, pixels, train=False)  # type: ignore[assignment]
        return features.pooled if kind == "pooled" else features.grid

    return sharding.jit_over_rows(encode, mesh)


@functools.cache
def compile_adapt(network: nn.Module, normalization: str, mesh: Mesh) -> Callable:
    """`move(variables, images)`: the collection `batch_stats` after a pass in training mode."""

    def move(variables: Tree, images: UInt8[Array, "b s s 3"]) -> Tree:
        pixels = normalize(images.astype(jnp.float32) / 255, normalization)
        return network.apply(variables, pixels, train=True, mutable=["batch_stats"])[1]

    return sharding.jit_over_rows(move, mesh)


def extract(
    encode: Callable,
    images: np.ndarray,
    batch_size: int,
    *,
    rows: np.ndarray | None = None,
    show: bool = False,
) -> np.ndarray:
    """Features f32[n, ...] of images u8[n, s, s, 3]. The last batch is filled up with blanks.

    Batches are handed over one ahead of the one awaited, so that device and host overlap.
    """
    rows = np.arange(len(images)) if rows is None else rows
    waiting: collections.deque[tuple[int, jax.Array]] = collections.deque()
    features: list[np.ndarray] = []

    def store(start: int, batch: jax.Array) -> None:
        if not features:
            features.append(_space((len(rows), *batch.shape[1:])))
        some = features[0][start : start + batch_size]
        some[:] = np.asarray(batch)[: len(some)]

    with progress(len(rows), "features", show=show) as advance:
        for start in range(0, len(rows), batch_size):
            batch = np.asarray(images[rows[start : start + batch_size]])
            missing = batch_size - len(batch)
            filled = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0)))
            waiting.append((start, encode(filled)))
            if len(waiting) > 1:
                store(*waiting.popleft())
            advance(len(batch))
        store(*waiting.popleft())
    return features[0]


def _space(shape: tuple[int, ...]) -> np.ndarray:
    """An array to fill: a large one lies in a file without a name, for the system to page."""
    if math.prod(shape) * 4 <= IN_MEMORY:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as file:
        return np.asarray(np.memmap(file, np.float32, "w+", shape=shape))
