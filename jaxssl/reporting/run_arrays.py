"""Arrays of a run for the pictures of its page: features and heat maps of a few images."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.data import Source, open_source
from jaxssl.data.loading import stack_arrays
from jaxssl.data.squares import SquareSpec
from jaxssl.errors import UserError
from jaxssl.pretrained.encoder import Encoder
from jaxssl.reporting.runs import Run
from jaxssl.samplers.contrastive_crop import heat_map
from jaxssl.sharding import make_mesh
from jaxssl.training.results import restore_encoder

BATCH = 64  # images encoded at once
HEAT_MAP_SIDE = 256  # pixels: a multiple of 32, which suits every encoder
EMBEDDED = 800  # images among which neighbors are searched


def sample_indices(count: int, size: int) -> list[int]:
    """Indices of at most `size` of `count` things, at random but always the same, in order.

    Evenly spaced ones would miss classes that take turns.
    """
    order = np.random.default_rng(0).permutation(count)
    return sorted(order[:size].tolist())


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
        batch = stack_arrays(source, sample_indices(len(source), EMBEDDED), spec)
        pooled = self.encoder(batch["image"])
        features = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        return EmbeddedImages(
            source.spec, batch["image"], batch["label"], source.class_names, features
        )

    def heat_maps(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Square training images u8[n, s, s, 3] and the heat maps f32[n, s, s] of their features.

        At least `HEAT_MAP_SIDE` a side: for a small view the grid may be a single cell.
        """
        config = self.run.config
        side = max(HEAT_MAP_SIDE, config.views.size)
        indices = sample_indices(len(self.source), count)
        batch = stack_arrays(self.source, indices, SquareSpec(side, "squash"))
        grid = jnp.asarray(self.encoder.grid(batch["image"]))
        maps = jax.vmap(lambda g: heat_map(g, side))(grid)
        return batch["image"], np.asarray(maps)


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
    if how == "tsne":
        try:
            from sklearn.manifold import TSNE  # an extra: imported when asked for
        except ImportError:
            raise UserError("--map tsne needs: pip install 'jaxssl[report]'") from None
        perplexity = min(30.0, (len(features) - 1) / 3)
        return np.asarray(TSNE(perplexity=perplexity, random_state=0).fit_transform(features))
    centered = features - features.mean(axis=0)
    left, singular, _ = np.linalg.svd(centered, full_matrices=False)
    return (left * singular)[:, :2]
