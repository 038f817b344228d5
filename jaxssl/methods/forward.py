"""Views through a network, those of one size in one pass (multi-crop: SwAV, section 3.2)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxssl.types import Tree, View


def forward(
    network: nn.Module,
    params: Tree,
    batch_stats: Tree,
    views: list[View],
    *,
    share_batch_norm: bool = True,
) -> tuple[list[Any], Tree]:
    """What the network, in training mode, makes of each view; and the batch statistics after it.

    Args:
      network: called with images f32[n, s, s, 3] and `train`; returns a tree of arrays [n, ...].
      params: its parameters.
      batch_stats: its running statistics; empty for a network without batch norm.
      views: of any sizes.
      share_batch_norm: whether the views of one size share a pass, hence a batch of BatchNorm, or
        each has its own.

    Returns:
      A tree of arrays [b, ...] for each view, in their order.
    """
    outputs: dict[int, Any] = {}
    for together in _passes(views, share_batch_norm):
        images = jnp.concatenate([views[i].image for i in together])
        out, changed = network.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
        )
        batch_stats = changed.get("batch_stats", {})
        for place, i in enumerate(together):
            rows = slice(place * len(views[i].image), (place + 1) * len(views[i].image))
            outputs[i] = jax.tree.map(lambda x, rows=rows: x[rows], out)
    return [outputs[i] for i in range(len(views))], batch_stats


class MultiCrop(nn.Module):
    """Encoder and head on views of any sizes, as DINO and SwAV combine them.

    The encoder takes the views of one size in one pass, the head all views in one. Without
    `share_batch_norm` each view goes through both alone (lightly).
    """

    encoder: nn.Module
    head: nn.Module
    share_batch_norm: bool = True

    def __call__(self, views: list[View], train: bool) -> Array:
        """A row for each image of each view, f32[v, b, d]."""
        pooled: dict[int, Array] = {}
        for together in _passes(views, self.share_batch_norm):
            images = jnp.concatenate([views[i].image for i in together])
            rows = jnp.split(self.encoder(images, train).pooled, len(together))
            pooled |= dict(zip(together, rows, strict=True))
        in_order = [pooled[i] for i in range(len(views))]
        if not self.share_batch_norm:
            return jnp.stack([self.head(x, train) for x in in_order])
        rows = self.head(jnp.concatenate(in_order), train)
        return rows.reshape(len(views), -1, rows.shape[-1])

    def forward(
        self, params: Tree, batch_stats: Tree, views: list[View]
    ) -> tuple[Float[Array, "v b d"], Tree]:
        """The rows in training mode, and the new batch statistics.

        Of `params` it reads "encoder" and "head"; methods keep other weights beside these.
        """
        params = {name: params[name] for name in ("encoder", "head")}
        rows, changed = self.apply(
            {"params": params, "batch_stats": batch_stats},
            views,
            train=True,
            mutable=["batch_stats"],
        )
        return rows, changed.get("batch_stats", {})


def _passes(views: list[View], share_batch_norm: bool) -> list[list[int]]:
    """Which views go through the network together."""
    if not share_batch_norm:
        return [[i] for i in range(len(views))]
    sizes = dict.fromkeys(v.image.shape[1] for v in views)
    return [[i for i, v in enumerate(views) if v.image.shape[1] == s] for s in sizes]
