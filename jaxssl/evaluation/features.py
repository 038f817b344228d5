"""Images to features, in batches of one shape."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from jaxssl import sharding
from jaxssl.augment import normalize
from jaxssl.data.progress import progress
from jaxssl.evaluation.datasets import DataSet
from jaxssl.types import Features, Tree


class LabelledFeatures(NamedTuple):
    """Pooled features of the labelled images of a part of a data set."""

    features: np.ndarray  # f32[n, d]
    labels: np.ndarray  # i32[n], 0 or more


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
          ValueError: they are not finite.
        """
        if data.name not in self._known:
            self._known.clear()
            self._known[data.name] = tuple(
                self._part(part, data.name) for part in (data.labelled.train, data.labelled.test)
            )
        return self._known[data.name]

    def _part(self, part: dict[str, np.ndarray], name: str) -> LabelledFeatures:
        labels = np.asarray(part["label"])
        rows = np.flatnonzero(labels >= 0)
        features = self.pooled(part["image"], rows)
        if not np.isfinite(features).all():
            raise ValueError(f"features of {name} are not finite; did training diverge?")
        return LabelledFeatures(features, labels[rows])


@functools.cache
def compile_encode(network: nn.Module, normalization: str, mesh: Mesh, kind: str) -> Callable:
    """`encode(variables, images)`, jitted once for all variables; `kind` is "pooled" or "grid"."""

    def encode(variables: Tree, images: UInt8[Array, "b s s 3"]) -> Float[Array, "b ..."]:
        pixels = normalize(images.astype(jnp.float32) / 255, normalization)
        features: Features = network.apply(variables, pixels, train=False)  # type: ignore[assignment]
        return features.pooled if kind == "pooled" else features.grid

    return sharding.compile_rows(encode, mesh)


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
    features: list[np.ndarray | jax.Array] = []
    with progress(len(rows), "features", show=show) as advance:
        for start in range(0, len(rows), batch_size):
            batch = np.asarray(images[rows[start : start + batch_size]])
            missing = batch_size - len(batch)
            features.append(encode(np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0)))))
            if len(features) > 1:
                features[-2] = np.asarray(features[-2])
            advance(len(batch))
    return np.concatenate([np.asarray(f) for f in features])[: len(rows)]
