"""Optimizers with their learning rate schedule: frozen dataclasses of what one may choose.

The learning rate rises linearly over the warm-up and then falls along half a cosine, or in drops:

    peak(lr) * linear_warmup(t) * (cosine(t) or step_decay(t))            peak: `scale_lr_by_batch`
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxssl.errors import UserError, check_choice, check_range
from jaxssl.schedules import cosine, linear_warmup, step_decay
from jaxssl.types import Tree

Transformation = optax.GradientTransformation  # of gradients to updates
LearningRate = Callable[[Int[Array, ""] | int], Float[Array, ""]]  # of the step

# Peak learning rate from `lr` and the batch size. "sqrt" has no 256: lr 0.075 in SimCLR, B.1.
PEAKS: dict[str, Callable[[float, int], float]] = {
    "linear": lambda lr, batch_size: lr * batch_size / 256,
    "sqrt": lambda lr, batch_size: lr * math.sqrt(batch_size),
    "none": lambda lr, batch_size: lr,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The options that all optimizers share, and their schedule, decay and clipping."""

    lr: float
    weight_decay: float
    exclude_bias_and_norm: bool  # from weight decay, and from the trust ratio of LARS
    scale_lr_by_batch: str = "linear"  # lr x batch size / 256 | sqrt: lr x its root | none
    warmup_epochs: float = 0.0
    warmup_start: float = 0.0  # the warm-up starts at this part of the peak (SwAV: 0.3 / 4.8)
    cosine_per: str = "step"  # the cosine falls at each step, or at the end of each "epoch"
    end_factor: float = 0.0  # the cosine ends at this part of the peak
    # Fractions of training at which the rate falls by `decay_factor`, instead of the cosine. MoCo
    # v1: (0.6, 0.8), epochs 120 and 160 of 200; DetCon on COCO: (0.96, 0.98).
    milestones: tuple[float, ...] = ()
    decay_factor: float = 0.1
    # Top-level names in the parameters whose rate is the peak throughout; SimSiam's ("predictor",)
    constant_lr_for: tuple[str, ...] = ()
    weight_decay_end: float = 0.0  # the decay moves there along a cosine (DINO: 0.4); 0: it stays
    clip_each: float = 0.0  # largest norm of the gradient of each parameter (DINO: 3); 0: any
    clip_norm: float = 0.0  # largest norm of the whole gradient, after that; 0: any

    def __post_init__(self) -> None:
        check_choice("optim.scale_lr_by_batch", self.scale_lr_by_batch, PEAKS)
        check_choice("optim.cosine_per", self.cosine_per, ("step", "epoch"))
        for field, value in dataclasses.asdict(self).items():
            if isinstance(value, float):
                fades = field in ("momentum", "b1", "b2")  # at 1 old gradients would never fade
                check_range(f"optim.{field}", value, "in [0, 1)" if fades else "0 or more")
        if not all(0 < at < 1 for at in self.milestones):
            raise UserError(
                f"optim.milestones is {self.milestones}; give fractions of training in (0, 1)"
            )

    def peak(self, batch_size: int) -> float:
        """The learning rate after the warm-up."""
        return PEAKS[self.scale_lr_by_batch](self.lr, batch_size)

    def schedule(self, batch_size: int, steps_per_epoch: int, epochs: int) -> LearningRate:
        """The learning rate as a function of the step, counted from 0."""
        if self.warmup_epochs > epochs:
            raise UserError(
                f"optim.warmup_epochs is {self.warmup_epochs} of {epochs} epochs: "
                "train longer or set --config.optim.warmup_epochs"
            )
        warmup, total = self.warmup_epochs / epochs, steps_per_epoch * epochs
        rest = max(1 - warmup, 1e-9)  # a run may be all warm-up

        def learning_rate(step: Int[Array, ""] | int) -> Float[Array, ""]:
            t = step / total
            if self.milestones:  # half a step later, so that rounding cannot move a drop
                fall = step_decay((step + 0.5) / total, self.milestones, self.decay_factor)
            else:
                # The warm-up rises at every step all the same, or the first epoch would stand still
                falls_at = t if self.cosine_per == "step" else (step // steps_per_epoch) / epochs
                fall = cosine((falls_at - warmup) / rest, 1.0, self.end_factor)
            return self.peak(batch_size) * linear_warmup(t, warmup, self.warmup_start) * fall

        return learning_rate

    def scale_by_rate(self, batch_size: int, steps_per_epoch: int, epochs: int) -> Transformation:
        """Times the learning rate of the step, or the peak for `constant_lr_for`; sign turned."""
        scheduled = optax.scale_by_learning_rate(self.schedule(batch_size, steps_per_epoch, epochs))
        if not self.constant_lr_for:
            return scheduled

        def label(params: Tree) -> Tree:
            if missing := set(self.constant_lr_for) - set(params):
                raise UserError(
                    f"optim.constant_lr_for names {', '.join(sorted(missing))}, which the method "
                    f"has not; choose among {', '.join(sorted(params))}"
                )
            return {k: "peak" if k in self.constant_lr_for else "scheduled" for k in params}

        peak = optax.scale_by_learning_rate(self.peak(batch_size))
        return optax.partition({"scheduled": scheduled, "peak": peak}, label)

    def add_decay(self, steps_per_epoch: int, epochs: int) -> Transformation:
        """Plus the weights times the decay of the step, where they are decayed."""
        if not self.weight_decay_end:
            return optax.add_decayed_weights(self.weight_decay, self.decayed)
        total = steps_per_epoch * epochs
        return optax.add_decayed_weights(
            lambda step: cosine(step / total, self.weight_decay, self.weight_decay_end),
            self.decayed,
        )

    def clip(self) -> Transformation:
        """Shortens the gradient of each parameter, then that of all together."""

        def shorten(gradient: Array) -> Array:
            norm = jnp.linalg.norm(gradient.ravel())
            return gradient * (self.clip_each / jnp.maximum(norm, self.clip_each))

        each = optax.stateless(lambda gradients, _: jax.tree.map(shorten, gradients))
        return optax.chain(
            each if self.clip_each else optax.identity(),
            optax.clip_by_global_norm(self.clip_norm) if self.clip_norm else optax.identity(),
        )

    def decayed(self, params: Tree) -> Tree:
        """bool per parameter: all, or all but biases and what scales a norm, known by one axis."""
        return jax.tree.map(lambda p: not self.exclude_bias_and_norm or p.ndim > 1, params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sgd(OptimizerConfig):
    """Momentum, as torch has it: decay joins the gradient before the momentum, lr comes after.

    Defaults: SAMCLR's code, which decays every parameter and moves the cosine once an epoch.
    """

    lr: float = 0.06
    weight_decay: float = 5e-4
    exclude_bias_and_norm: bool = False
    cosine_per: str = "epoch"
    momentum: float = 0.9
    nesterov: bool = False

    def transform(self, batch_size: int, steps_per_epoch: int, epochs: int) -> Transformation:
        return optax.chain(
            self.clip(),
            self.add_decay(steps_per_epoch, epochs),
            optax.trace(self.momentum, self.nesterov),
            self.scale_by_rate(batch_size, steps_per_epoch, epochs),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lars(OptimizerConfig):
    """LARS (You et al., arXiv 1708.03888): each layer's step is in proportion to its weights.

    Defaults: DetCon_B, 1000 epochs. Released codes differ in what the momentum sums: DetCon and
    BYOL sum directions and multiply by the learning rate of now; SimCLR (and `optax.lars`) sum
    steps, each with the learning rate of its time.

    SwAV's LARC is this with `weight_decay=1e-6, exclude_bias_and_norm=False`: it divides by
    |g| + decay |w| where this has |g + decay w|, which with so small a decay is the same.
    """

    lr: float = 0.2
    weight_decay: float = 1.5e-6
    exclude_bias_and_norm: bool = True
    warmup_epochs: float = 10.0
    momentum: float = 0.9
    trust_coefficient: float = 0.001
    lr_in_momentum: bool = False  # True: SimCLR

    def transform(self, batch_size: int, steps_per_epoch: int, epochs: int) -> Transformation:
        trust_ratio = optax.scale_by_trust_ratio(trust_coefficient=self.trust_coefficient)
        momentum = optax.trace(self.momentum)
        rate = self.scale_by_rate(batch_size, steps_per_epoch, epochs)
        return optax.chain(
            self.clip(),
            self.add_decay(steps_per_epoch, epochs),
            optax.masked(trust_ratio, self.decayed),
            *((rate, momentum) if self.lr_in_momentum else (momentum, rate)),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(OptimizerConfig):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101).

    Defaults: DINO's for ViT, with the weight decay it starts from.
    """

    lr: float = 5e-4
    weight_decay: float = 0.04
    exclude_bias_and_norm: bool = True
    warmup_epochs: float = 10.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def transform(self, batch_size: int, steps_per_epoch: int, epochs: int) -> Transformation:
        return optax.chain(
            self.clip(),
            scale_by_adam(self.b1, self.b2, self.eps),
            self.add_decay(steps_per_epoch, epochs),
            self.scale_by_rate(batch_size, steps_per_epoch, epochs),
        )


def scale_by_adam(b1: float, b2: float, eps: float) -> Transformation:
    """Adam's direction, each parameter's steps being counted from its first gradient that is not 0.

    As in torch, where a layer that is frozen at first has no gradient and takes no step. With one
    count for all, as in `optax.scale_by_adam`, it would at first move up to 6 times as far.
    """

    def init(params: Tree) -> optax.ScaleByAdamState:
        none = jax.tree.map(lambda _: jnp.zeros((), jnp.int32), params)
        return optax.ScaleByAdamState(none, *(jax.tree.map(jnp.zeros_like, params),) * 2)

    def update(
        gradients: Tree, state: optax.ScaleByAdamState, params: Tree | None = None
    ) -> tuple[Tree, optax.ScaleByAdamState]:
        count = jax.tree.map(lambda n, g: n + ((n > 0) | (g != 0).any()), state.count, gradients)
        mu = optax.tree.update_moment(gradients, state.mu, b1, 1)
        nu = optax.tree.update_moment(gradients, state.nu, b2, 2)

        def direction(m: Array, v: Array, n: Array) -> Array:
            steps = jnp.maximum(n, 1)
            return m / (1 - b1**steps) / (jnp.sqrt(v / (1 - b2**steps)) + eps)

        return jax.tree.map(direction, mu, nu, count), optax.ScaleByAdamState(count, mu, nu)

    return Transformation(init, update)


OPTIMIZERS: dict[str, type[Sgd] | type[Lars] | type[AdamW]] = {
    "sgd": Sgd,
    "lars": Lars,
    "adamw": AdamW,
}
