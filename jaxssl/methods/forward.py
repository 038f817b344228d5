"""Views through a network, those of one size in one pass (multi-crop: SwAV, section 3.2)."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from jaxssl.errors import UserError
from jaxssl.models import batch_norm, variable_shapes
from jaxssl.types import Leaf, Tree, View, ViewSpec


@flax.struct.dataclass
class State:
    """Training state besides the parameters, for a method that has a single network."""

    batch_stats: Leaf  # of the whole network


def forward(
    network: nn.Module,
    params: Tree,
    batch_stats: Tree,
    inputs: Sequence[Any],
    share_batch_norm: bool = True,
    *,
    key: PRNGKeyArray | None = None,
    reduce: Callable[[Any, list[int]], Any] = lambda out, views: out,
) -> tuple[list[Any], Tree]:
    """The outputs of a network in training mode for each view, and the batch statistics after it.

    Args:
      network: called with arrays f32[n, ...] and `train`; returns a tree of arrays [n, ...].
      params: its parameters.
      batch_stats: its running statistics; empty for a network without batch norm.
      inputs: for each view its images f32[b, s, s, 3], or what an earlier network made of them.
      share_batch_norm: whether the views of one size share a batch of BatchNorm, or each has its
        own.
      key: for what the network draws, such as which branches a ViT leaves out. None: it draws
        nothing, as networks that only give targets do.
      reduce: makes less of what a pass gives, [b v, ...], and the numbers of its v views. Done
        before the views are told apart, it spares copies of large arrays and of their gradients.

    Returns:
      A tree of arrays [b, ...] for each view, in their order.
    """
    outputs: dict[int, Any] = {}
    for together in _passes(inputs):
        drawn = {} if key is None else {"drop_path": jax.random.fold_in(key, together[0])}
        one_batch = share_batch_norm or len(together) == 1
        with contextlib.nullcontext() if one_batch else batch_norm.of_each_view(len(together)):
            out, changed = network.apply(
                {"params": params, "batch_stats": batch_stats},
                stack_views([inputs[i] for i in together]),
                train=True,
                mutable=["batch_stats"],
                rngs=drawn,
            )
        batch_stats = changed.get("batch_stats", {})
        out = reduce(out, together)
        for place, i in enumerate(together):
            rows = slice(place, None, len(together))
            outputs[i] = jax.tree.map(lambda x, rows=rows: x[rows], out)
    return [outputs[i] for i in range(len(inputs))], batch_stats


def stack_views(views: Sequence[Any]) -> Array:
    """Arrays [b, ...] of v views as one [b v, ...], the views of an image next to one another.

    So every device keeps the rows of its images. One view after the other instead, they would all
    change places: the batch is split over the devices.
    """
    return jnp.stack(views, axis=1).reshape(-1, *views[0].shape[1:])


def images(views: Sequence[View]) -> list[Any]:
    """The images f32[b, s, s, 3] of each view."""
    return [view.image for view in views]


class Network(nn.Module):
    """g(f(x)): images f32[b, s, s, 3] to f32[b, d]."""

    encoder: nn.Module
    head: nn.Module

    def __call__(self, images: Array, train: bool) -> Array:
        return self.head(self.encoder(images, train).pooled, train)


class PredictingNetwork(nn.Module):
    """Images f32[b, s, s, 3] to z f32[b, d], or to z and a prediction p of the other view's z."""

    encoder: nn.Module
    projector: nn.Module
    predictor: nn.Module | None = None

    def __call__(self, images: Array, train: bool) -> Array | tuple[Array, Array]:
        z = self.projector(self.encoder(images, train).pooled, train)
        return z if self.predictor is None else (z, self.predictor(z, train))


def forward_head_once(
    network: Network,
    params: Tree,
    batch_stats: Tree,
    views: list[View],
    share_batch_norm: bool,
    *,
    key: PRNGKeyArray | None = None,
) -> tuple[Array, Tree]:
    """`forward`, but of all views in one pass of the head, as DINO and SwAV do; f32[v, b, d].

    Args:
      network: encoder and head.
      params: of both, by name; may hold more.
      batch_stats: of both, by name.
      views: with the images of each.
      share_batch_norm: without it each view has its own batch of BatchNorm in both.
      key: for what the encoder draws; None: nothing.
    """
    share = share_batch_norm
    stats = {name: batch_stats.get(name, {}) for name in ("encoder", "head")}
    features, stats["encoder"] = forward(
        network.encoder, params["encoder"], stats["encoder"], images(views), share, key=key
    )
    pooled = [f.pooled for f in features]
    rows, stats["head"] = forward(network.head, params["head"], stats["head"], pooled, share)
    return jnp.stack(rows), {name: s for name, s in stats.items() if s}


def check_batch_size(
    method: str,
    batch_size: int,
    network: nn.Module | None = None,
    views: Sequence[ViewSpec] = (),
) -> None:
    """Raises UserError for one image a step where the images of a batch are compared.

    Args:
      method: its name.
      batch_size: images a step.
      network: if only batch norm compares them: the network, which may have none.
      views: that it sees.
    """
    if batch_size == 1 and (
        network is None or variable_shapes(network, views[0].size)["batch_stats"]
    ):
        raise UserError(
            f"{method} compares the images of a batch, by its loss or by batch norm, and learns "
            "nothing from one: set --config.batch_size=2 or more"
        )


def freeze(params: Tree, frozen: Array) -> Tree:
    """The parameters, through which no gradient flows while `frozen` bool[] holds."""
    return jax.tree.map(lambda w: jnp.where(frozen, jax.lax.stop_gradient(w), w), params)


def _passes(inputs: Sequence[Any]) -> list[list[int]]:
    """The numbers of the inputs that go through the network together."""
    shapes = dict.fromkeys(x.shape for x in inputs)
    return [[i for i, x in enumerate(inputs) if x.shape == s] for s in shapes]
