"""BYOL (Grill et al., arXiv 2006.07733): predict what a slowly moving network sees in another view.

    z_i  = g(f(x_i)),   p_i = q(z_i)    online: encoder, projector, predictor      section 3.1
    z'_j = g'(f'(x_j))                  target: encoder, projector
    L_ij = |p_i / |p_i| - z'_j / |z'_j||^2 = 2 - 2 cos(p_i, z'_j)                      eq. (2)
    L    = L_12 + L_21
    m    = 1 - (1 - m_0) (cos(pi t) + 1) / 2    the paper's tau                    section 3.2
    target <- m target + (1 - m) online         parameters only                        eq. (1)

The target runs in training mode on batch statistics of its own, as in the released code. With
more than two views (`pairs.py`) L is twice the mean of L_ij over the pairs: for two, the sum.
"""

import dataclasses
import functools
from typing import ClassVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxssl.losses import cosine_similarity, embedding_std
from jaxssl.methods.forward import PredictingNetwork, check_batch_size, forward, images
from jaxssl.methods.pairs import check_targets, pairs
from jaxssl.models.heads import MLP
from jaxssl.schedules import cosine
from jaxssl.types import Leaf, Tree, View, ViewSpec


@flax.struct.dataclass
class State:
    """Training state besides the parameters of the online network."""

    batch_stats: Leaf  # of the online network
    target_params: Leaf  # of encoder and projector
    target_batch_stats: Leaf


@dataclasses.dataclass(frozen=True)
class BYOL:
    """Hyperparameters; the defaults are those of the released code for 1000 epochs.

    | | momentum | momentum_end | hidden | dim | final_bias | copy_target | loss_scale |
    | --- | --- | --- | --- | --- | --- | --- | --- |
    | BYOL, 100 and 300 epochs | 0.99 | 1 | (4096,) | 256 | no | no | 1 |
    | lightly 1.4.14, ImageNette | 0.99 | 0.99 | (4096,) | 256 | yes | yes | 0.25 |
    | ContrastiveCrop | 0.996 | 0.996 | (512,) | 128 | yes | no | 1 |
    """

    needs_regions: ClassVar[bool] = False
    remedies: ClassVar[str] = (
        "set optim.name=sgd or lars, raise method.momentum towards 1, lower optim.lr, train for "
        "more and smaller batches"
    )

    encoder: nn.Module
    hidden: tuple[int, ...] = (4096,)  # widths of the hidden layers of g and of q
    dim: int = 256  # of z and p
    final_bias: bool = False  # of g and q
    momentum: float = 0.996  # m_0
    momentum_end: float = 1.0  # m at t = 1
    # Whether the target starts as a copy of the online network, or from a draw of its own.
    copy_target: bool = False
    # Times the loss, which matters to optimizers other than LARS and Adam. 0.25: the gradient of
    # lightly's loss, the mean of -cos over both directions.
    loss_scale: float = 1.0
    share_batch_norm: bool = False  # of views of one size: `forward`; each its own as released

    @property
    def target(self) -> PredictingNetwork:
        return PredictingNetwork(self.encoder, self._head)

    @property
    def online(self) -> PredictingNetwork:
        return PredictingNetwork(self.encoder, self._head, self._head)

    @property
    def _head(self) -> MLP:
        return MLP(hidden=self.hidden, out=self.dim, bias=True, final_bias=self.final_bias)

    def check(self, *, batch_size: int, num_examples: int, views: tuple[ViewSpec, ...]) -> None:
        """Raises UserError without two global views, or two images for batch norm in the heads."""
        check_batch_size("BYOL", batch_size)
        check_targets("BYOL", views)

    def init(self, key: PRNGKeyArray, views: list[View]) -> tuple[Tree, Tree]:
        """Parameters, and the state; of `views` only the shapes matter."""
        key_online, key_target = jax.random.split(key)
        image = views[0].image[:1]
        online = self.online.init(key_online, image, train=False)
        target = self.target.init(key_target, image, train=False)
        target_params = target["params"]
        if self.copy_target:
            target_params = {name: online["params"][name] for name in target_params}
        return online["params"], State(
            batch_stats=online.get("batch_stats", {}),
            target_params=target_params,
            target_batch_stats=target.get("batch_stats", {}),
        )

    def loss(
        self, params: Tree, state: Tree, views: list[View], *, key: PRNGKeyArray, t: Array
    ) -> tuple[Float[Array, ""], tuple[Tree, dict[str, Array]]]:
        """Equation (2), both ways; in [0, 8] with `loss_scale` 1."""
        run = functools.partial(forward, share_batch_norm=self.share_batch_norm)
        outputs, batch_stats = run(self.online, params, state.batch_stats, images(views), key=key)
        targets, target_batch_stats = run(
            self.target, state.target_params, state.target_batch_stats, images(views[:2])
        )
        z, p = zip(*outputs, strict=True)
        targets = jax.lax.stop_gradient(targets)
        distances = [2 - 2 * cosine_similarity(p[i], targets[j]) for i, j in pairs(len(views))]
        loss = self.loss_scale * 2 * jnp.mean(jnp.stack(distances))
        new_state = state.replace(batch_stats=batch_stats, target_batch_stats=target_batch_stats)
        return loss, (new_state, {"embedding_std": embedding_std(jnp.stack(z))})

    def after_step(self, params: Tree, state: Tree, *, t: Array) -> tuple[Tree, Tree]:
        """Equation (1)."""
        online = {name: params[name] for name in state.target_params}
        one_minus_m = cosine(t, 1 - self.momentum, 1 - self.momentum_end)
        target = optax.incremental_update(online, state.target_params, one_minus_m)
        return params, state.replace(target_params=target)

    def encoder_variables(self, params: Tree, state: Tree) -> Tree:
        """The online encoder."""
        return {"params": params["encoder"], "batch_stats": state.batch_stats.get("encoder", {})}
