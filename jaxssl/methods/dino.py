"""DINO (Caron et al., arXiv 2104.14294), with any number of global and local views.

    P_s(x) = softmax(g_s(x) / tau_s)              student, of every view               eq. (1)
    P_t(x) = softmax((g_t(x) - c) / tau_t)        teacher, of the global views only
    L      = mean of H(P_t(x), P_s(x')) over global x and any other view x' of the image   eq. (3)
    c     <- m c + (1 - m) mean of g_t(x)         center: over the whole batch         eq. (4)
    theta_t <- lambda theta_t + (1 - lambda) theta_s    after each step, lambda to 1 along a cosine

g is encoder, MLP, scaling to length one and a weight-normed linear layer. Only parameters are
averaged: the teacher has batch statistics of its own.
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
from jaxssl.losses import cross_entropy, embedding_std, unit
from jaxssl.methods.forward import Network, check_batch_size, forward_head_once, freeze
from jaxssl.methods.pairs import check_multi_crop
from jaxssl.models.heads import MLP, gelu, torch_uniform, weight_normed_scores
from jaxssl.schedules import cosine, linear_warmup
from jaxssl.types import Leaf, Tree, View, ViewSpec


@flax.struct.dataclass
class State:
    """Training state besides the parameters theta_s of the student."""

    batch_stats: Leaf  # of the student
    teacher_params: Leaf  # theta_t
    teacher_batch_stats: Leaf
    center: Leaf  # c f32[k]


@dataclasses.dataclass(frozen=True)
class DINO:
    """Hyperparameters; the defaults are those of facebookresearch/dino, the head is lightly's.

    The former has 65536 outputs and no batch norm in the head, for ImageNet and batches of 1024.
    With small data and batches the loss then stays at log(num_outputs). Against that, and in runs
    of few steps: `momentum` down to 0.9, both teacher temperatures 0.02.
    """

    needs_regions: ClassVar[bool] = False
    remedies: ClassVar[str] = (
        "lower method.teacher_temperature (0.02), lower method.num_outputs, set "
        "method.head_batch_norm=True, move method.momentum within 0.9 to 0.9995"
    )

    encoder: nn.Module
    hidden: tuple[int, ...] = (2048, 2048)  # widths of the hidden layers of the MLP
    bottleneck: int = 256  # its output
    num_outputs: int = 2048  # k
    head_batch_norm: bool = True
    fixed_norm: bool = True  # of the last layer's rows: 1, or learned
    student_temperature: float = 0.1  # tau_s
    teacher_temperature_start: float = 0.04  # tau_t rises from here
    teacher_temperature: float = 0.04  # to here
    teacher_warmup: float = 0.0  # in this fraction of training
    center_momentum: float = 0.9  # m
    momentum: float = 0.996  # lambda at first
    momentum_end: float = 1.0
    freeze_last_layer: float = 0.01  # fraction of training in which the last layer stays
    share_batch_norm: bool = True  # `forward_head_once`
    needs_local: bool = False  # whether to refuse to train without local views
    evaluate_student: bool = False  # as lightly 1.4.14 does; the paper evaluates the teacher

    @property
    def network(self) -> Network:
        head = MLP(
            hidden=self.hidden,
            out=self.bottleneck,
            bias=not self.head_batch_norm,
            final_bias=True,
            batch_norm=self.head_batch_norm,
            activation=gelu,
            normal_std=0.02,
        )
        return Network(self.encoder, head)

    def check(self, *, batch_size: int, num_examples: int, views: tuple[ViewSpec, ...]) -> None:
        """Raises UserError if the views cannot be compared."""
        check_multi_crop("DINO", views)
        if self.needs_local and all(view.is_global for view in views):
            raise UserError(
                "method.needs_local asks for views smaller than the global ones, and there are "
                f"none: set --config.views.num_local=6 --config.views.local_size="
                f"{views[0].size // 2}, or --config.method.needs_local=False"
            )
        check_batch_size("DINO", batch_size, self.network, views)

    def init(self, key: PRNGKeyArray, views: list[View]) -> tuple[Tree, Tree]:
        """The student, and a teacher that is a copy of it."""
        key_network, key_last = jax.random.split(key)
        variables = self.network.init(key_network, views[0].image[:1], train=False)
        init = torch_uniform(fan_in=self.bottleneck)
        last = {"v": init(key_last, (self.num_outputs, self.bottleneck))}
        if not self.fixed_norm:
            last["g"] = jnp.ones((self.num_outputs, 1))  # two axes: decayed, as in its code
        params = variables["params"] | {"last_layer": last}
        batch_stats = variables.get("batch_stats", {})
        return params, State(batch_stats, params, batch_stats, jnp.zeros(self.num_outputs))

    def loss(
        self, params: Tree, state: Tree, views: list[View], *, key: PRNGKeyArray, t: Array
    ) -> tuple[Float[Array, ""], tuple[Tree, dict[str, Array]]]:
        """Equation (3) with the old center, and the new one."""
        views = sorted(views, key=lambda view: -view.image.shape[1])
        num_global = sum(view.image.shape == views[0].image.shape for view in views)
        teacher = state.teacher_params
        run = functools.partial(
            forward_head_once, self.network, share_batch_norm=self.share_batch_norm
        )
        x, batch_stats = run(params, state.batch_stats, views, key=key)
        x_t, teacher_batch_stats = run(teacher, state.teacher_batch_stats, views[:num_global])
        last = freeze(params["last_layer"], t < self.freeze_last_layer)
        g_s = weight_normed_scores(unit(x), last)
        g_t = jax.lax.stop_gradient(weight_normed_scores(unit(x_t), teacher["last_layer"]))
        loss, center = self.compare(g_s, g_t, state.center, t)
        metrics = {"embedding_std": embedding_std(x)}
        return loss, (State(batch_stats, teacher, teacher_batch_stats, center), metrics)

    def compare(
        self,
        g_s: Float[Array, "v b k"],
        g_t: Float[Array, "g b k"],
        center: Float[Array, " k"],
        t: Float[Array, ""],
    ) -> tuple[Float[Array, ""], Float[Array, " k"]]:
        """Equation (3), and equation (4).

        Args:
          g_s: outputs of the student for all views, the global ones first.
          g_t: outputs of the teacher for the global views.
          center: c.
          t: progress of training, in [0, 1].
        """
        low, high = self.teacher_temperature_start, self.teacher_temperature
        tau_t = low + (high - low) * linear_warmup(t, self.teacher_warmup)
        p_t = jax.nn.softmax((g_t - center[None, None, :]) / tau_t)
        loss = cross_entropy(p_t, g_s / self.student_temperature)
        mean = g_t.mean(axis=(0, 1))
        return loss, optax.incremental_update(mean, center, 1 - self.center_momentum)

    def after_step(self, params: Tree, state: Tree, *, t: Array) -> tuple[Tree, Tree]:
        """The teacher follows the student."""
        momentum = cosine(t, self.momentum, self.momentum_end)
        teacher = optax.incremental_update(params, state.teacher_params, 1 - momentum)
        return params, state.replace(teacher_params=teacher)

    def encoder_variables(self, params: Tree, state: Tree) -> Tree:
        """The teacher's encoder, or the student's with `evaluate_student`."""
        batch_stats = state.batch_stats
        if not self.evaluate_student:
            params, batch_stats = state.teacher_params, state.teacher_batch_stats
        return {"params": params["encoder"], "batch_stats": batch_stats.get("encoder", {})}
