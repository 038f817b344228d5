"""SwAV (Caron et al., arXiv 2006.09882), with any number of views.

    z_i = g(f(x_i)) / |g(f(x_i))|                 encoder and projection head
    p_i = softmax(C z_i / tau)                    over K prototypes, the unit rows of C    eq. (2)
    q_i = Diag(u) exp(C z_i / epsilon) Diag(v)    codes: every prototype is used alike     eq. (5)
    L   = mean of -q_i . log p_j over i in {1, 2}, the first global views, and j != i      eq. (6)

With a queue, the codes of a small batch are computed together with those of the projections of
earlier batches, which are then dropped (section 4.1): one queue for each of the two views.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxssl.errors import UserError
from jaxssl.losses import cross_entropy, embedding_std, sinkhorn, unit
from jaxssl.methods.forward import Network, check_batch_size, forward_head_once, freeze
from jaxssl.methods.pairs import check_multi_crop
from jaxssl.models.heads import MLP, scores, torch_uniform
from jaxssl.types import Leaf, Tree, View, ViewSpec


@flax.struct.dataclass
class State:
    """Training state besides the parameters."""

    batch_stats: Leaf  # of encoder and head
    queue: Tree  # projections, newest first: f32[2, q, d], zeros at first; () if there is none


@dataclasses.dataclass(frozen=True)
class SwAV:
    """Hyperparameters; the defaults are those of facebookresearch/swav without a queue.

    Where the loss stays at log(num_prototypes): sharper codes (`epsilon` 0.03); fewer prototypes
    (30 on CIFAR-10), which stay frozen for longer; a queue (3840 from `queue_start` 0.075 there,
    with batches of 256).
    """

    needs_regions: ClassVar[bool] = False
    remedies: ClassVar[str] = (
        "lower method.epsilon (0.03), lower method.num_prototypes, raise method.freeze_prototypes, "
        "lower optim.lr"
    )

    encoder: nn.Module
    hidden: tuple[int, ...] = (2048,)  # widths of the hidden layers of g
    dim: int = 128  # of z
    num_prototypes: int = 3000  # K
    prototype_bias: bool = False  # whether p_i has one besides C z_i, as in lightly 1.4.14
    temperature: float = 0.1  # tau
    epsilon: float = 0.05
    iterations: int = 3  # of Sinkhorn
    freeze_prototypes: float = 0.01  # fraction of training in which the prototypes stay
    queue_size: int = 0  # projections of each view, a multiple of the batch; 0: no queue
    queue_start: float = 0.0  # fraction of training from which the queue is used
    share_batch_norm: bool = True  # `forward_head_once`

    @property
    def network(self) -> Network:
        head = MLP(hidden=self.hidden, out=self.dim, bias=True, final_bias=True)
        return Network(self.encoder, head)

    def check(self, *, batch_size: int, num_examples: int, views: tuple[ViewSpec, ...]) -> None:
        """Raises UserError if views or images cannot be compared or the queue does not fit."""
        check_batch_size("SwAV", batch_size)
        check_multi_crop("SwAV", views)
        if self.queue_size < 0 or self.queue_size % batch_size:
            near = max(round(self.queue_size / batch_size), 1) * batch_size
            raise UserError(
                f"method.queue_size is {self.queue_size} and holds no whole number of batches of "
                f"{batch_size}; take 0 or {near}, for example"
            )
        if self.queue_size > num_examples:
            raise UserError(
                f"method.queue_size is {self.queue_size} of {num_examples} images: images would "
                f"meet themselves; take {num_examples // batch_size * batch_size} or less"
            )

    def init(self, key: PRNGKeyArray, views: list[View]) -> tuple[Tree, Tree]:
        """Parameters with prototypes spread over the sphere, and an empty queue."""
        key_network, key_prototypes = jax.random.split(key)
        variables = self.network.init(key_network, views[0].image[:1], train=False)
        prototypes = jax.random.normal(key_prototypes, (self.num_prototypes, self.dim))
        params = variables["params"] | {"prototypes": unit(prototypes)}
        if self.prototype_bias:
            init, key_bias = torch_uniform(self.dim), jax.random.fold_in(key_prototypes, 1)
            params["prototype_bias"] = init(key_bias, (self.num_prototypes,))
        queue = jnp.zeros((2, self.queue_size, self.dim)) if self.queue_size else ()
        return params, State(variables.get("batch_stats", {}), queue)

    def loss(
        self, params: Tree, state: Tree, views: list[View], *, key: PRNGKeyArray, t: Array
    ) -> tuple[Float[Array, ""], tuple[Tree, dict[str, Array]]]:
        """Equation (6), and the queue with this batch in front."""
        views = sorted(views, key=lambda view: -view.image.shape[1])
        projections, batch_stats = forward_head_once(
            self.network, params, state.batch_stats, views, self.share_batch_norm, key=key
        )
        z, c = unit(projections), params["prototypes"]  # f32[v, b, d], f32[K, d]
        c = freeze(c, t < self.freeze_prototypes)
        q = self.codes(*jax.lax.stop_gradient((z[:2], c)), state.queue, t)
        logits = scores(z, c)
        if self.prototype_bias:  # Sinkhorn divides it out of the codes
            logits += params["prototype_bias"][None, None, :]
        loss = cross_entropy(q, logits / self.temperature)
        queue = state.queue
        if self.queue_size:
            newest = jax.lax.stop_gradient(z[:2])
            queue = jnp.roll(queue, z.shape[1], axis=1)
            queue = jax.lax.dynamic_update_slice_in_dim(queue, newest, 0, axis=1)
        metrics = {"embedding_std": embedding_std(z)}
        return loss, (State(batch_stats, queue), metrics)

    def codes(
        self, z: Float[Array, "2 b d"], c: Float[Array, "k d"], queue: Tree, t: Float[Array, ""]
    ) -> Float[Array, "2 b k"]:
        """Equation (5) for each of two views, together with the queue once it is full.

        Args:
          z: unit projections.
          c: unit prototypes.
          queue: earlier projections of both views, f32[2, q, d]; () without a queue.
          t: progress of training, in [0, 1].
        """

        def assign(z: Array) -> Array:
            return jax.vmap(lambda s: sinkhorn(s, self.epsilon, self.iterations))(scores(z, c))

        if not self.queue_size:
            return assign(z)
        b = z.shape[1]

        def together() -> Array:  # each row of the batch, and behind it those of the queue
            rows = jnp.concatenate([z[:, None], self._steps(queue, b)], axis=1)
            return rows.swapaxes(1, 2).reshape(2, -1, self.dim)

        full = jnp.any(queue[0, -1] != 0)
        return jax.lax.cond(
            full & (t >= self.queue_start),
            lambda: assign(together())[:, :: 1 + self.queue_size // b],
            lambda: assign(z),
        )

    def _steps(self, queue: Float[Array, "2 q d"], b: int) -> Float[Array, "2 s b d"]:
        """The queue, batch by batch."""
        return queue.reshape(2, -1, b, self.dim)

    def after_step(self, params: Tree, state: Tree, *, t: Array) -> tuple[Tree, Tree]:
        """The prototypes return to the sphere."""
        return params | {"prototypes": unit(params["prototypes"])}, state

    def encoder_variables(self, params: Tree, state: Tree) -> Tree:
        """The encoder without its head."""
        return {"params": params["encoder"], "batch_stats": state.batch_stats.get("encoder", {})}
