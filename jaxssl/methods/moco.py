"""MoCo (He et al., arXiv 1911.05722) and its version 2 (Chen et al., arXiv 2003.04297).

    q = f_q(x_q),   k = f_k(x_k)        of two views of an image, scaled to length one
    L = -log  exp(q . k_+ / tau) / sum_{i=0..K} exp(q . k_i / tau)                     eq. (1)
    theta_k <- m theta_k + (1 - m) theta_q      parameters only                        eq. (2)

k_0 = k_+ is the key of the query's image, k_1 .. k_K are the queue: keys of the batches before.

The released code moves the key network before it uses it, `after_step` at the end of the step
before. That is the same: they start equal, so the released code's first move changes nothing.

There is no ShuffleBN (section 3.3): batch norm is over the batch of all devices here, which no
shuffling changes and SimCLR names as another remedy (section 2.2); with a queue, users report, not
a whole one (facebookresearch/moco, issues 46 and 133).
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

from jaxssl.errors import UserError
from jaxssl.losses import embedding_std, info_nce, unit
from jaxssl.methods.forward import Network, check_batch_size, forward, images
from jaxssl.methods.pairs import check_targets, pairs
from jaxssl.models.heads import MLP
from jaxssl.types import Leaf, Tree, View, ViewSpec


@flax.struct.dataclass
class State:
    """Training state besides the parameters of the query network."""

    batch_stats: Leaf  # of the query network
    key_params: Leaf  # of the key network
    key_batch_stats: Leaf
    queue: Leaf  # f32[K, d]: keys, scaled to length one
    pointer: Leaf  # i32[]: the row of the queue where the next keys go


@dataclasses.dataclass(frozen=True)
class MoCo:
    """Hyperparameters; the defaults are version 2's.

    | | temperature | hidden | momentum | queue_size | symmetric |
    | --- | --- | --- | --- | --- | --- |
    | version 1 | 0.07 | () | 0.999 | 65536 | no |
    | lightly 1.4.14, ImageNette | 0.1 | (2048,) | 0.99 | 4096 | yes |
    """

    needs_regions: ClassVar[bool] = False
    remedies: ClassVar[str] = (
        "lower optim.lr or raise optim.warmup_epochs, lower method.temperature, keep "
        "method.queue_size within an epoch, and look whether two views still show the same thing "
        "(views.scale)"
    )

    encoder: nn.Module
    temperature: float = 0.2
    hidden: tuple[int, ...] = (2048,)  # widths of the hidden layers of the head
    dim: int = 128  # of queries and keys
    queue_size: int = 65536  # K
    momentum: float = 0.999  # m
    # Whether both global views are query and key. All keys enter the queue after the loss; in
    # lightly those of one direction before that of the other, as negatives of their own images.
    symmetric: bool = False
    share_batch_norm: bool = False  # of views of one size: `forward`; each its own as released

    @property
    def network(self) -> Network:
        head = MLP(hidden=self.hidden, out=self.dim, batch_norm=False, bias=True, final_bias=True)
        return Network(self.encoder, head)

    @property
    def _key_views(self) -> tuple[int, ...]:
        return (0, 1) if self.symmetric else (1,)

    def check(self, *, batch_size: int, num_examples: int, views: tuple[ViewSpec, ...]) -> None:
        """Raises UserError without two global views, or if the queue does not fit."""
        check_targets("MoCo", views)
        check_batch_size("MoCo", batch_size, self.network, views)
        keys = batch_size * len(self._key_views)
        if self.queue_size < keys or self.queue_size % keys:
            raise UserError(
                f"method.queue_size is {self.queue_size}; each step makes {keys} keys, so set a "
                f"multiple: --config.method.queue_size={max(self.queue_size // keys, 1) * keys}"
            )
        epoch = num_examples // batch_size * keys
        if self.queue_size > epoch > 0:  # a batch larger than the data is refused elsewhere
            raise UserError(
                f"method.queue_size is {self.queue_size}, more than the {epoch} keys of an epoch: "
                f"images would be their own negatives; set --config.method.queue_size={epoch}"
            )

    def init(self, key: PRNGKeyArray, views: list[View]) -> tuple[Tree, Tree]:
        """Parameters and the state; of `views` only the shapes matter."""
        key_network, key_queue = jax.random.split(key)
        variables = self.network.init(key_network, views[0].image[:1], train=False)
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        return params, State(
            batch_stats=batch_stats,
            key_params=params,
            key_batch_stats=batch_stats,
            queue=unit(jax.random.normal(key_queue, (self.queue_size, self.dim))),
            pointer=jnp.zeros((), jnp.int32),
        )

    def loss(
        self, params: Tree, state: Tree, views: list[View], *, key: PRNGKeyArray, t: Array
    ) -> tuple[Float[Array, ""], tuple[Tree, dict[str, Array]]]:
        """Equation (1), the mean over all pairs of a query's view and a key's."""
        run = functools.partial(forward, self.network, share_batch_norm=self.share_batch_norm)
        key_views = self._key_views
        query_views = [i for i in range(len(views)) if self.symmetric or i not in key_views]
        queries = images([views[i] for i in query_views])
        q, batch_stats = run(params, state.batch_stats, queries, key=key)
        keyed = images([views[j] for j in key_views])
        k, key_batch_stats = run(state.key_params, state.key_batch_stats, keyed)
        k = jax.lax.stop_gradient([unit(rows) for rows in k])
        losses = [
            info_nce(q[query_views.index(i)], k[key_views.index(j)], state.queue, self.temperature)
            for i, j in pairs(len(views), key_views)
        ]
        queue, pointer = state.queue, state.pointer
        for rows in k:
            queue = jax.lax.dynamic_update_slice(queue, rows, (pointer, 0))
            pointer = (pointer + len(rows)) % self.queue_size
        new_state = state.replace(
            batch_stats=batch_stats, key_batch_stats=key_batch_stats, queue=queue, pointer=pointer
        )
        metrics = {"embedding_std": embedding_std(jnp.stack(q))}
        return jnp.mean(jnp.stack(losses)), (new_state, metrics)

    def after_step(self, params: Tree, state: Tree, *, t: Array) -> tuple[Tree, Tree]:
        """Equation (2)."""
        key_params = optax.incremental_update(params, state.key_params, 1 - self.momentum)
        return params, state.replace(key_params=key_params)

    def encoder_variables(self, params: Tree, state: Tree) -> Tree:
        """The query encoder."""
        return {"params": params["encoder"], "batch_stats": state.batch_stats.get("encoder", {})}
