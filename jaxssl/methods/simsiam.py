"""SimSiam (Chen and He, arXiv 2011.10566): Siamese networks without negatives or a second network.

    z_i = g(f(x_i)),   p_i = h(z_i)     encoder and projector; predictor             section 3
    D(p, z) = -cos(p, z)                                                               eq. (1)
    L = D(p_1, stopgrad(z_2)) / 2 + D(p_2, stopgrad(z_1)) / 2                          eq. (4)

With more than two views (`pairs.py`) L is the mean of D over the pairs. The loss alone does not
tell a collapse, which has it at -1: `embedding_std` does (section 4.1).
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxssl.losses import cosine_similarity, embedding_std
from jaxssl.methods.forward import PredictingNetwork, State, check_batch_size, forward, images
from jaxssl.methods.pairs import check_targets, pairs
from jaxssl.models.heads import MLP
from jaxssl.types import Tree, View, ViewSpec


@dataclasses.dataclass(frozen=True)
class SimSiam:
    """Hyperparameters; the defaults are the paper's for ImageNet, and lightly's.

    ContrastiveCrop on CIFAR: `hidden=(512, 512), dim=512, predictor_hidden=(128,)`.
    """

    needs_regions: ClassVar[bool] = False
    remedies: ClassVar[str] = (
        "set optim.name=sgd, lower optim.lr or batch_size, set optim.constant_lr_for=('predictor',)"
    )

    encoder: nn.Module
    hidden: tuple[int, ...] = (2048, 2048)  # widths of the hidden layers of g
    dim: int = 2048  # of z and p
    predictor_hidden: tuple[int, ...] = (512,)  # widths of the hidden layers of h
    share_batch_norm: bool = False  # of views of one size: `forward`; each its own as released

    @property
    def network(self) -> PredictingNetwork:
        return PredictingNetwork(
            self.encoder,
            projector=MLP(hidden=self.hidden, out=self.dim, final_batch_norm="fixed"),
            predictor=MLP(hidden=self.predictor_hidden, out=self.dim, final_bias=True),
        )

    def check(self, *, batch_size: int, num_examples: int, views: tuple[ViewSpec, ...]) -> None:
        """Raises UserError without two global views, or two images for batch norm in the heads."""
        check_batch_size("SimSiam", batch_size)
        check_targets("SimSiam", views)

    def init(self, key: PRNGKeyArray, views: list[View]) -> tuple[Tree, Tree]:
        """Parameters and batch statistics; of `views` only the shapes matter."""
        variables = self.network.init(key, views[0].image[:1], train=False)
        return variables["params"], State(batch_stats=variables.get("batch_stats", {}))

    def loss(
        self, params: Tree, state: Tree, views: list[View], *, key: PRNGKeyArray, t: Array
    ) -> tuple[Float[Array, ""], tuple[Tree, dict[str, Array]]]:
        """Equation (4), in [-1, 1]."""
        outputs, batch_stats = forward(
            self.network, params, state.batch_stats, images(views), self.share_batch_norm, key=key
        )
        z, p = zip(*outputs, strict=True)
        targets = jax.lax.stop_gradient(z)
        distances = [-cosine_similarity(p[i], targets[j]) for i, j in pairs(len(views))]
        loss = jnp.mean(jnp.stack(distances))
        metrics = {"embedding_std": embedding_std(jnp.stack(z))}
        return loss, (State(batch_stats=batch_stats), metrics)

    def after_step(self, params: Tree, state: Tree, *, t: Array) -> tuple[Tree, Tree]:
        """Nothing follows the optimizer."""
        return params, state

    def encoder_variables(self, params: Tree, state: Tree) -> Tree:
        """The encoder without projector and predictor."""
        return {"params": params["encoder"], "batch_stats": state.batch_stats.get("encoder", {})}
