"""Arrays of a run for the pictures of its page: features and heat maps of a few images."""

import dataclasses
import functools
import logging
import math

import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxssl.data import Source, open_source
from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.loading import stack_arrays
from jaxssl.data.source import BrokenImage
from jaxssl.data.squares import SquareSpec
from jaxssl.errors import UserError
from jaxssl.evaluation.dense.whole_images import grid_of
from jaxssl.evaluation.features import check_finite
from jaxssl.evaluation.pixels import read_pixels
from jaxssl.pretrained.encoder import Encoder
from jaxssl.reporting.runs import Run
from jaxssl.samplers.contrastive_crop import heat_map
from jaxssl.sharding import make_mesh
from jaxssl.training.results import restore_encoder

log = logging.getLogger("jaxssl")
BATCH = 64  # images encoded at once
HEAT_MAP_SIDE = 256  # pixels: of a square with as many as an image that a heat map is made of
EMBEDDED = 800  # images among which neighbors are searched


def sample_indices(count: int, size: int) -> list[int]:
    """Indices of at most `size` of `count` things, at random but always the same, in order.

    Evenly spaced ones would miss classes that take turns.
    """
    order = np.random.default_rng(0).permutation(count)
    return sorted(order[:size].tolist())


def sample_readable(source: Source, size: int) -> list[int]:
    """Indices of at most `size` images as by `sample_indices`, others for those that are broken."""
    found: list[int] = []
    for index in np.random.default_rng(0).permutation(len(source))[: 10 * size].tolist():
        if len(found) == size:
            break
        try:
            source[index]
            found.append(index)
        except BrokenImage as error:
            log.warning("left out of the pictures: %s", error)
    if not found:
        raise UserError(f"{source.spec}: none of the images looked at can be read; check them")
    return sorted(found)


@dataclasses.dataclass(frozen=True)
class EmbeddedImages:
    """Images and the features of the frozen encoder for them."""

    name: str  # of the source
    images: np.ndarray  # u8[n, s, s, 3]
    labels: np.ndarray  # i32[n], -1 if none
    classes: tuple[str, ...]
    features: np.ndarray  # f32[n, d], rows of length one


class RunArrays:
    """The data and the encoder of a run, each opened when it is first needed."""

    def __init__(self, run: Run):
        self.run = run
        self.step = 0  # of the checkpoint

    @functools.cached_property
    def source(self) -> Source:
        """The training images."""
        return open_source(self.run.config.data.source, seed=self.run.config.seed)

    @functools.cached_property
    def encoder(self) -> Encoder:
        """The encoder of the newest checkpoint, whose step `step` is from now on."""
        config, mesh = self.run.config, make_mesh()
        encoder, self.step = restore_encoder(config, self.run.workdir, mesh)
        return dataclasses.replace(encoder, batch_size=BATCH)

    @functools.cached_property
    def embedded(self) -> EmbeddedImages:
        """Test images of the first data set of the evaluation, else training images."""
        config, source = self.run.config, None
        if config.eval.datasets:
            source = open_source(config.eval.datasets[0], "test")
        source = source or self.source
        spec = SquareSpec(config.eval.size or config.views.size)
        batch = stack_arrays(source, sample_readable(source, EMBEDDED), spec)
        pooled = self.encoder(batch["image"])
        check_finite(pooled, source.spec)
        features = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        return EmbeddedImages(
            source.spec, batch["image"], batch["label"], source.class_names, features
        )

    def heat_maps(self, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Training images u8[h, w, 3], each with the heat map f32[h, w] of its features.

        They keep their aspect, and have as many pixels as a square of `HEAT_MAP_SIDE`, or of a view
        if that is larger: for a small view the grid may be a single cell.
        """
        budget = max(HEAT_MAP_SIDE, self.run.config.views.size) ** 2
        indices = sample_readable(self.source, count)
        arrays = stack_arrays(self.source, indices, CanvasSpec(budget))
        pairs = []
        for row in range(len(indices)):
            kept = read_pixels(arrays, "image", row)
            height, width = kept.shape[:2]
            factor = math.sqrt(budget / (height * width))
            size = max(1, round(factor * width)), max(1, round(factor * height))
            image = np.asarray(Image.fromarray(kept).resize(size, Image.Resampling.BILINEAR))
            grid, covered = grid_of(self.encoder, image)
            check_finite(grid, self.source.spec)
            heat = np.asarray(heat_map(jnp.asarray(grid), covered))
            pairs.append((image, heat[: size[1], : size[0]]))
        return pairs


def nearest_neighbors(features: np.ndarray, queries: int, k: int) -> np.ndarray:
    """Indices i64[queries, 1 + k] of query rows, and of the k other rows most similar to each.

    `features` are f32[n, d], rows of length one. Where there are fewer rows, k is smaller.
    """
    chosen = np.array(sample_indices(len(features), queries))
    similarity = features[chosen] @ features.T
    similarity[np.arange(len(chosen)), chosen] = -np.inf
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : min(k, len(features) - 1)]
    return np.concatenate([chosen[:, None], nearest], axis=1)


def project(features: np.ndarray, how: str) -> np.ndarray:
    """Features in two dimensions f32[n, 2]: their principal components, or t-SNE."""
    if len(features) < 2:
        raise UserError("one image alone has no place on a map")
    if how == "tsne":
        try:
            from sklearn.manifold import TSNE  # an extra: imported when asked for
        except ImportError:
            raise UserError("--map tsne needs: pip install 'jaxssl[report]'") from None
        perplexity = min(30.0, (len(features) - 1) / 3)
        return np.asarray(TSNE(perplexity=perplexity, random_state=0).fit_transform(features))
    centered = features - features.mean(axis=0)
    left, singular, _ = np.linalg.svd(centered, full_matrices=False)
    found = (left * singular)[:, :2]
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))  # features of one dimension have one
