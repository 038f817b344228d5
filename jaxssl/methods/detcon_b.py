"""DetCon_B (Hénaff et al., arXiv 2103.10957): DetCon with BYOL's target.

The loss is in `detcon.py`.

    v_m  = q(g(f(x)_m))                           predictor q on the online network theta
    v'_m = g_xi(f_xi(x')_m)                       target network, without gradient
    xi  <- tau_xi xi + (1 - tau_xi) theta         its moving average, after each step

where tau_xi rises from `momentum` to 1 along half a cosine (BYOL, arXiv 2006.07733, section 3.1).
As in google-deepmind/detcon the target does not start as a copy, follows the parameters only and
has batch statistics of its own; the regions of a view are the same for both networks.
"""

import dataclasses
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxssl.methods.detcon import DetCon, report
from jaxssl.methods.forward import forward
from jaxssl.schedules import cosine
from jaxssl.types import Leaf, Tree, View


@flax.struct.dataclass
class State:
    """Training state besides the parameters theta."""

    batch_stats: Leaf  # of encoder, projector and predictor
    target_params: Leaf  # xi, of encoder and projector
    target_batch_stats: Leaf


@dataclasses.dataclass(frozen=True)
class DetConB(DetCon):
    """Hyperparameters: those of `DetCon`, and of the target."""

    remedies: ClassVar[str] = (
        "raise method.momentum towards 1, lower optim.lr, and look at the regions (python -m "
        "mask_tools.inspect)"
    )

    hidden: tuple[int, ...] = (4096,)  # of g and of q
    dim: int = 256
    share_batch_norm: bool = False
    momentum: float = 0.996  # tau_xi at the start

    def init(self, key: PRNGKeyArray, views: list[View]) -> tuple[Tree, Tree]:
        """Parameters, target and batch statistics; of `views` only the shapes matter."""
        key_online, key_predictor, key_target = jax.random.split(key, 3)
        params, batch_stats = self.start(key_online, views)
        predictor = self.head.init(key_predictor, jnp.zeros((1, 1, self.dim)), train=False)
        params["predictor"] = predictor["params"]
        batch_stats["predictor"] = predictor.get("batch_stats", {})
        return params, State(batch_stats, *self.start(key_target, views))

    def loss(
        self, params: Tree, state: Tree, views: list[View], *, key: PRNGKeyArray, t: Array
    ) -> tuple[Float[Array, ""], tuple[Tree, dict[str, Array]]]:
        """Equation (3) over all views of the global batch."""
        online, batch_stats = self.project(params, state.batch_stats, views, key, network_key=key)
        predictions, batch_stats["predictor"] = forward(
            self.head,
            params["predictor"],
            state.batch_stats["predictor"],
            list(online.z),
            self.share_batch_norm,
        )
        # The same key, hence the same regions.
        target, target_batch_stats = self.project(
            state.target_params, state.target_batch_stats, views, key
        )
        loss = self.contrast(jnp.stack(predictions), jax.lax.stop_gradient(target))
        state = State(batch_stats, state.target_params, target_batch_stats)
        return loss, (state, report(online))

    def after_step(self, params: Tree, state: Tree, *, t: Array) -> tuple[Tree, Tree]:
        """The target follows the parameters."""
        theta = {name: params[name] for name in state.target_params}
        step = 1 - cosine(t, self.momentum, 1.0)
        xi = optax.incremental_update(theta, state.target_params, step)
        return params, state.replace(target_params=xi)

    def encoder_variables(self, params: Tree, state: Tree) -> Tree:
        """The online encoder without its heads."""
        return {"params": params["encoder"], "batch_stats": state.batch_stats["encoder"]}
