"""Views through a network, those of one size in one pass (multi-crop: SwAV, section 3.2)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from jaxssl.types import Tree, View


def forward(
    network: nn.Module,
    params: Tree,
    batch_stats: Tree,
    views: list[View],
    *,
    share_batch_norm: bool = True,
    key: PRNGKeyArray | None = None,
) -> tuple[list[Any], Tree]:
    """What the network, in training mode, makes of each view; and the batch statistics after it.

    Args:
      network: called with images f32[n, s, s, 3] and `train`; returns a tree of arrays [n, ...].
      params: its parameters.
      batch_stats: its running statistics; empty for a network without batch norm.
      views: of any sizes.
      share_batch_norm: whether the views of one size share a pass, hence a batch of BatchNorm, or
        each has its own.
      key: for what the network draws, such as which branches a ViT leaves out. None: it draws
        nothing, as networks that only give targets do.

    Returns:
      A tree of arrays [b, ...] for each view, in their order.
    """
    images = [v.image for v in views]
    return forward_arrays(
        network, params, batch_stats, images, share_batch_norm=share_batch_norm, key=key
    )


def forward_arrays(
    network: nn.Module,
    params: Tree,
    batch_stats: Tree,
    arrays: list[Any],
    *,
    share_batch_norm: bool = True,
    key: PRNGKeyArray | None = None,
) -> tuple[list[Any], Tree]:
    """`forward`, of any array [b, ...] for each view: what an earlier network made of it, say."""
    outputs: dict[int, Any] = {}
    for together in _passes(arrays, share_batch_norm):
        drawn = {} if key is None else {"drop_path": jax.random.fold_in(key, together[0])}
        out, changed = network.apply(
            {"params": params, "batch_stats": batch_stats},
            jnp.concatenate([arrays[i] for i in together]),
            train=True,
            mutable=["batch_stats"],
            rngs=drawn,
        )
        batch_stats = changed.get("batch_stats", {})
        for place, i in enumerate(together):
            rows = slice(place * len(arrays[i]), (place + 1) * len(arrays[i]))
            outputs[i] = jax.tree.map(lambda x, rows=rows: x[rows], out)
    return [outputs[i] for i in range(len(arrays))], batch_stats


class Network(nn.Module):
    """g(f(x)): images f32[b, s, s, 3] to f32[b, d]."""

    encoder: nn.Module
    head: nn.Module

    def __call__(self, images: Array, train: bool) -> Array:
        return self.head(self.encoder(images, train).pooled, train)


def forward_head_once(
    network: Network,
    params: Tree,
    batch_stats: Tree,
    views: list[View],
    *,
    share_batch_norm: bool,
    key: PRNGKeyArray | None = None,
) -> tuple[Array, Tree]:
    """`forward`, but of all views in one pass of the head, as DINO and SwAV do; f32[v, b, d].

    Without `share_batch_norm` each view has its own pass of both. `params` may hold more than
    those of the network.
    """
    stats = {name: batch_stats.get(name, {}) for name in ("encoder", "head")}
    features, stats["encoder"] = forward(
        network.encoder,
        params["encoder"],
        stats["encoder"],
        views,
        share_batch_norm=share_batch_norm,
        key=key,
    )
    rows, stats["head"] = forward_arrays(
        network.head,
        params["head"],
        stats["head"],
        [f.pooled for f in features],
        share_batch_norm=share_batch_norm,
    )
    return jnp.stack(rows), {name: s for name, s in stats.items() if s}


def freeze(params: Tree, frozen: Array) -> Tree:
    """The parameters, through which no gradient flows while `frozen` bool[] holds."""
    return jax.tree.map(lambda w: jnp.where(frozen, jax.lax.stop_gradient(w), w), params)


def _passes(arrays: list[Any], share_batch_norm: bool) -> list[list[int]]:
    """Which of the arrays go through the network together."""
    if not share_batch_norm:
        return [[i] for i in range(len(arrays))]
    shapes = dict.fromkeys(a.shape for a in arrays)
    return [[i for i, a in enumerate(arrays) if a.shape == s] for s in shapes]
