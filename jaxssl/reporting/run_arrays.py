"""What an encoder sees: its features of a few images, for pictures. The arrays behind the page."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.config import build
from jaxssl.data import Source, open_source
from jaxssl.data.canvas import CanvasSpec, load_canvas
from jaxssl.errors import UserError
from jaxssl.evaluation.features import FrozenEncoder
from jaxssl.reporting.runs import Run
from jaxssl.samplers.contrastive_crop import heat_map
from jaxssl.sharding import make_mesh
from jaxssl.training.results import restore_encoder
from jaxssl.types import Batch
from jaxssl.views import ViewConfig, choose_boxes, make_views

BATCH = 64  # images encoded at once
CELL = 32  # pixels: a side that is a multiple of it suits every encoder
EMBEDDED = 800  # images among which neighbours are looked for


def choose(count: int, wanted: int) -> list[int]:
    """Indices of at most `wanted` of `count` things, at random but always the same, in order.

    Evenly spaced ones would miss classes that take turns.
    """
    order = np.random.default_rng(0).permutation(count)
    return sorted(order[:wanted].tolist())


def load(source: Source, indices: list[int], spec: CanvasSpec) -> Batch:
    """Canvases of some images, stacked, with the `index` of each."""
    loaded = [load_canvas(source, i, spec) for i in indices]
    stacked = {name: np.stack([canvas[name] for canvas in loaded]) for name in spec.arrays()}
    return stacked | {"index": np.arange(len(indices), dtype=np.int32)}


@dataclasses.dataclass(frozen=True)
class Cut:
    """Views of some images, as training would cut them."""

    indices: list[int]  # of the images in the source
    hw: np.ndarray  # i32[n, 2]
    boxes: np.ndarray  # f32[n, v, 4]: y0 x0 y1 x1, pixels of the original image
    views: list[np.ndarray]  # u8[n, s, s, 3] each


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Images and what the encoder makes of them."""

    name: str  # of the source
    images: np.ndarray  # u8[n, s, s, 3]
    labels: np.ndarray  # i32[n], -1 if none
    classes: tuple[str, ...]
    features: np.ndarray  # f32[n, d], rows of length one


class RunArrays:
    """A run with what is opened to look at it, each when it is first asked for.

    Raises UserError or OSError, one line, where data or checkpoint are not there.
    """

    def __init__(self, run: Run):
        self.run = run
        self.step = 0  # of the checkpoint

    @functools.cached_property
    def source(self) -> Source:
        """What was trained on."""
        return open_source(self.run.config.data.source, seed=self.run.config.seed)

    @functools.cached_property
    def encoder(self) -> FrozenEncoder:
        """Of the newest checkpoint; sets `step`."""
        config, mesh = self.run.config, make_mesh()
        network, variables, self.step = restore_encoder(config, self.run.workdir, mesh)
        normalization = config.views.normalize
        return FrozenEncoder(network, variables, normalization, mesh, BATCH, show=False)

    @functools.cached_property
    def embedded(self) -> Embedded:
        """Test images of the first data set of the evaluation, else training images."""
        config, source = self.run.config, None
        if config.eval.datasets:
            source = open_source(config.eval.datasets[0], "test")
        source = source or self.source
        spec = CanvasSpec(size=config.eval.size or config.views.size, fit="center")
        batch = load(source, choose(len(source), EMBEDDED), spec)
        pooled = self.encoder.pooled(batch["image"])
        features = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        return Embedded(source.spec, batch["image"], batch["label"], source.class_names, features)

    def cut_views(self, wanted: int) -> Cut:
        """Views of `wanted` training images, as of the first step, before they are normalised."""
        config = self.run.config
        sampler = build("sampler", config.sampler)
        views = ViewConfig(**config.views.to_dict() | {"normalize": "none"})
        objects = config.data.max_objects if sampler.needs_regions else 0
        indices = choose(len(self.source), wanted)
        batch = load(self.source, indices, CanvasSpec(config.data.canvas, objects))
        key, memory = jax.random.key(config.seed), sampler.init(len(indices))
        boxes, *_ = choose_boxes(key, batch, memory, sampler, views.specs())
        made, _ = jax.jit(lambda b: make_views(key, b, memory, sampler, views))(batch)
        pixels = [np.asarray(view.image) for view in made]
        as_bytes = [np.clip(np.rint(255 * p), 0, 255).astype(np.uint8) for p in pixels]
        return Cut(indices, batch["hw"], np.asarray(boxes), as_bytes)

    def heat_maps(self, wanted: int) -> tuple[np.ndarray, np.ndarray]:
        """Training images u8[n, s, s, 3] as squares, and their heat maps f32[n, s, s].

        As large as they are kept: of a small view an encoder may make a single cell.
        """
        config = self.run.config
        side = max(config.data.canvas // CELL * CELL, config.views.size)
        batch = load(self.source, choose(len(self.source), wanted), CanvasSpec(side))
        grid = jnp.asarray(self.encoder.grid(batch["image"]))
        maps = jax.vmap(lambda g: heat_map(g, side))(grid)
        return batch["image"], np.asarray(maps)


def neighbours(features: np.ndarray, wanted: int, k: int) -> np.ndarray:
    """For `wanted` rows of length one, their own index and those of the k nearest others."""
    queries = np.array(choose(len(features), wanted))
    similarity = features[queries] @ features.T
    similarity[np.arange(len(queries)), queries] = -np.inf
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : min(k, len(features) - 1)]
    return np.concatenate([queries[:, None], nearest], axis=1)


def project(features: np.ndarray, how: str) -> np.ndarray:
    """Features in two dimensions f32[n, 2]: their principal components, or t-SNE."""
    if how == "tsne":
        try:
            from sklearn.manifold import TSNE  # an extra: imported when asked for
        except ImportError:
            raise UserError("--map tsne needs: pip install 'jaxssl[report]'") from None
        perplexity = min(30.0, (len(features) - 1) / 3)
        return np.asarray(TSNE(perplexity=perplexity, random_state=0).fit_transform(features))
    centred = features - features.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    return (left * singular)[:, :2]
