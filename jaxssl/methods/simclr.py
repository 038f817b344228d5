"""SimCLR (Chen et al., arXiv 2002.05709), with any number of views.

    h_i = f(x_i)        encoder                                                    section 2.1
    z_i = g(h_i)        projection head
    l_ij = -log  exp(sim(z_i, z_j) / tau) / sum_{k != i} exp(sim(z_i, z_k) / tau)      eq. (1)
    L    = mean of l_ij over all pairs of views i, j of one image

SAMCLR (arXiv 2310.14736) is this method on views cut by `samplers/region_crop.py`.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxssl.errors import UserError
from jaxssl.losses import contrastive, embedding_std
from jaxssl.methods.forward import (
    Network,
    State,
    check_batch_size,
    forward,
    images,
    stack_views,
)
from jaxssl.models.heads import MLP
from jaxssl.types import Tree, View, ViewSpec


@dataclasses.dataclass(frozen=True)
class SimCLR:
    """Hyperparameters; the defaults are those of SAMCLR's paper and code."""

    needs_regions: ClassVar[bool] = False
    remedies: ClassVar[str] = (
        "lower optim.lr or raise optim.warmup_epochs, lower method.temperature, raise batch_size, "
        "and look whether two views still show the same thing (views.scale)"
    )

    encoder: nn.Module
    temperature: float = 0.07
    hidden: tuple[int, ...] = (512,)  # widths of the hidden layers of g
    dim: int = 128  # of z
    head_batch_norm: bool = True  # after the hidden layers; without it, layers have biases
    final_batch_norm: str = "affine"  # `heads.MLP`
    # Of views of one size (SimCLR, s3same), or each has its own (lightly): `forward`.
    share_batch_norm: bool = True
    # In s3same's multi-view loss the other views of an image do not compete with the positive one.
    positives_in_denominator: bool = True
    loss_scale: float = 1.0  # 2: google-research/simclr, which sums the losses of its two views

    @property
    def network(self) -> Network:
        head = MLP(
            hidden=self.hidden,
            out=self.dim,
            bias=not self.head_batch_norm,
            final_bias=not self.head_batch_norm,
            batch_norm=self.head_batch_norm,
            final_batch_norm=self.final_batch_norm,
        )
        return Network(self.encoder, head)

    def check(self, *, batch_size: int, num_examples: int, views: tuple[ViewSpec, ...]) -> None:
        """Raises UserError unless there are two views, and two images, to compare."""
        check_batch_size("SimCLR", batch_size)
        if len(views) < 2:
            raise UserError("SimCLR compares views of an image: views.num_global + num_local >= 2")

    def init(self, key: PRNGKeyArray, views: list[View]) -> tuple[Tree, Tree]:
        """Parameters and batch statistics; of `views` only the shapes matter."""
        variables = self.network.init(key, views[0].image[:1], train=False)
        return variables["params"], State(batch_stats=variables.get("batch_stats", {}))

    def loss(
        self, params: Tree, state: Tree, views: list[View], *, key: PRNGKeyArray, t: Array
    ) -> tuple[Float[Array, ""], tuple[Tree, dict[str, Array]]]:
        """Equation (1) over all views of the global batch, times `loss_scale`."""
        projections, batch_stats = forward(
            self.network, params, state.batch_stats, images(views), self.share_batch_norm, key=key
        )
        z = stack_views(projections)  # f32[b v, d]
        batch = len(views[0].image)
        # Constants: computed, they would be split over the devices, and gathered in every step.
        image = jnp.asarray(np.repeat(np.arange(batch), len(views)))
        view = jnp.asarray(np.tile(np.arange(len(views)), batch))
        loss = contrastive(
            z,
            z,
            image,
            view,
            self.temperature,
            positives_in_denominator=self.positives_in_denominator,
        )
        state = State(batch_stats=batch_stats)
        return self.loss_scale * loss, (state, {"embedding_std": embedding_std(z)})

    def after_step(self, params: Tree, state: Tree, *, t: Array) -> tuple[Tree, Tree]:
        """Nothing follows the optimizer."""
        return params, state

    def encoder_variables(self, params: Tree, state: Tree) -> Tree:
        """The encoder without its head."""
        return {"params": params["encoder"], "batch_stats": state.batch_stats.get("encoder", {})}
