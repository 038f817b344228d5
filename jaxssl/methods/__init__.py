"""Self-supervised methods: each one file under its paper's equations. None sees a sampler.

To add one: a file here with a frozen dataclass of hyperparameters and the functions below, and
its name in `METHODS`.
"""

from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from jaxssl.methods.byol import BYOL
from jaxssl.methods.detcon_b import DetConB
from jaxssl.methods.detcon_s import DetConS
from jaxssl.methods.dino import DINO
from jaxssl.methods.moco import MoCo
from jaxssl.methods.simclr import SimCLR
from jaxssl.methods.simsiam import SimSiam
from jaxssl.methods.swav import SwAV
from jaxssl.types import Tree, View, ViewSpec

Metrics = dict[str, Any]  # name -> f32[]


@runtime_checkable
class Method(Protocol):
    """Two constants, a check and four pure functions. `t` is the progress, in [0, 1]."""

    needs_regions: bool  # whether it reads `View.planes`: the regions of every view
    # What to change if its features collapse, as its authors and users say, and our own runs: the
    # end of a warning.
    remedies: str

    @property
    def encoder(self) -> nn.Module:
        """The encoder to be trained, without its variables."""

    def check(self, *, batch_size: int, num_examples: int, views: tuple[ViewSpec, ...]) -> None:
        """Raises UserError if the method cannot be trained so; called before anything compiles.

        Args:
          batch_size: images a step, over all devices.
          num_examples: images of the data set.
          views: what each view is to be: the global ones, then the local ones.
        """

    def init(self, key: PRNGKeyArray, views: list[View]) -> tuple[Tree, Tree]:
        """Parameters that the gradient moves, and the rest of the method's training state."""

    def loss(
        self, params: Tree, state: Tree, views: list[View], *, key: PRNGKeyArray, t: Array
    ) -> tuple[Float[Array, ""], tuple[Tree, Metrics]]:
        """The loss of a batch of views.

        Args:
          params: what the gradient moves, as `init` returns it.
          state: everything else, as `init` or the step before returned it.
          views: of the same b images, f32[b, s, s, 3] each: the global ones, then the local ones.
          key: for whatever is drawn; used once.
          t: progress of training, f32[], in [0, 1].

        Returns:
          The loss, f32[]; the new state, and what to log, f32[] by name: `embedding_std` at least.
        """

    def after_step(self, params: Tree, state: Tree, *, t: Array) -> tuple[Tree, Tree]:
        """Parameters and state after the optimizer: moving averages, renormalized prototypes."""

    def encoder_variables(self, params: Tree, state: Tree) -> Tree:
        """The encoder's variables, as evaluation and export load them."""


METHODS = {
    "simclr": SimCLR,
    "moco": MoCo,
    "byol": BYOL,
    "simsiam": SimSiam,
    "dino": DINO,
    "swav": SwAV,
    "detcon_s": DetConS,
    "detcon_b": DetConB,
}
