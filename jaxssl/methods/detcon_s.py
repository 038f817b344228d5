"""DetCon_S (Hénaff et al., arXiv 2103.10957): DetCon with SimCLR's network. The loss: `detcon.py`.

    v_m = g(f(x)_m),   v'_m = g(f(x')_m)          one network, gradients through both views

Its code was not released. Options that the paper takes from SimCLR are those of SimCLR's paper.
"""

import dataclasses

from jaxtyping import Array, Float, PRNGKeyArray

from jaxssl.methods.detcon import DetCon, report
from jaxssl.methods.forward import State
from jaxssl.types import Tree, View


@dataclasses.dataclass(frozen=True)
class DetConS(DetCon):
    """Hyperparameters: those of `DetCon`."""

    def init(self, key: PRNGKeyArray, views: list[View]) -> tuple[Tree, Tree]:
        """Parameters and batch statistics; of `views` only the shapes matter."""
        params, batch_stats = self.start(key, views)
        return params, State(batch_stats=batch_stats)

    def loss(
        self, params: Tree, state: Tree, views: list[View], *, key: PRNGKeyArray, t: Array
    ) -> tuple[Float[Array, ""], tuple[Tree, dict[str, Array]]]:
        """Equation (3) over all views of the global batch."""
        latents, batch_stats = self.project(params, state.batch_stats, views, key, network_key=key)
        loss = self.contrast(latents.z, latents)
        return loss, (State(batch_stats=batch_stats), report(latents))

    def after_step(self, params: Tree, state: Tree, *, t: Array) -> tuple[Tree, Tree]:
        """Nothing follows the optimizer."""
        return params, state

    def encoder_variables(self, params: Tree, state: Tree) -> Tree:
        """The encoder without its head."""
        return {"params": params["encoder"], "batch_stats": state.batch_stats["encoder"]}
