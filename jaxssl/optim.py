"""Optimizers with their learning rate schedule: frozen dataclasses of what one may choose.

The learning rate rises linearly over the warm-up and then falls along half a cosine:

    peak(lr) * linear_warmup(t) * cosine(t)            peak: `scale_lr_by_batch`
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import optax
from jaxtyping import Array, Float, Int

from jaxssl.schedules import cosine, linear_warmup
from jaxssl.types import Tree

LearningRate = Callable[[Int[Array, ""] | int], Float[Array, ""]]  # of the step

# Peak learning rate from `lr` and the batch size. "sqrt" has no 256: lr 0.075 in SimCLR, B.1.
PEAKS: dict[str, Callable[[float, int], float]] = {
    "linear": lambda lr, batch_size: lr * batch_size / 256,
    "sqrt": lambda lr, batch_size: lr * math.sqrt(batch_size),
    "none": lambda lr, batch_size: lr,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """What all optimizers share: the options, the schedule, decay and clipping."""

    lr: float
    weight_decay: float
    exclude_bias_and_norm: bool  # from weight decay, and from the trust ratio of LARS
    scale_lr_by_batch: str = "linear"  # lr x batch size / 256 | sqrt: lr x its root | none
    warmup_epochs: float = 0.0
    cosine_per: str = "step"  # the cosine falls at each step, or at the end of each "epoch"
    end_factor: float = 0.0  # the cosine ends at this part of the peak
    clip_norm: float = 0.0  # largest norm of the whole gradient; 0: any

    def __post_init__(self) -> None:
        if self.scale_lr_by_batch not in PEAKS:
            raise ValueError(
                f"unknown optim.scale_lr_by_batch {self.scale_lr_by_batch!r}; "
                f"choose one of {', '.join(PEAKS)}"
            )
        if self.cosine_per not in ("step", "epoch"):
            raise ValueError(f"unknown optim.cosine_per {self.cosine_per!r}; choose step or epoch")
        for field, value in dataclasses.asdict(self).items():
            if isinstance(value, float) and not value >= 0:
                raise ValueError(f"optim.{field} is {value}; it must be 0 or more")

    def schedule(self, batch_size: int, steps_per_epoch: int, epochs: int) -> LearningRate:
        """The learning rate as a function of the step, counted from 0."""
        if self.warmup_epochs > epochs:
            raise ValueError(
                f"optim.warmup_epochs is {self.warmup_epochs} of {epochs} epochs: "
                "train longer or set --config.optim.warmup_epochs"
            )
        peak = PEAKS[self.scale_lr_by_batch](self.lr, batch_size)
        warmup = self.warmup_epochs / epochs
        rest = max(1 - warmup, 1e-9)  # a run may be all warm-up

        def learning_rate(step: Int[Array, ""] | int) -> Float[Array, ""]:
            t = step / (steps_per_epoch * epochs)
            # The warm-up rises at every step all the same: the first epoch would else stand still.
            falls_at = t if self.cosine_per == "step" else (step // steps_per_epoch) / epochs
            fall = cosine((falls_at - warmup) / rest, 1.0, self.end_factor)
            return peak * linear_warmup(t, warmup) * fall

        return learning_rate

    def clip(self) -> optax.GradientTransformation:
        """Shortens the gradient of all parameters together to `clip_norm`."""
        return optax.clip_by_global_norm(self.clip_norm) if self.clip_norm else optax.identity()

    def decayed(self, params: Tree) -> Tree:
        """bool per parameter: all, or all but biases and what scales a norm, known by one axis."""
        return jax.tree.map(lambda p: not self.exclude_bias_and_norm or p.ndim > 1, params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sgd(Common):
    """Momentum, as torch has it: decay joins the gradient before the momentum, lr comes after.

    Defaults: SAMCLR's code, which decays every parameter and moves the cosine once an epoch.
    """

    lr: float = 0.06
    weight_decay: float = 5e-4
    exclude_bias_and_norm: bool = False
    cosine_per: str = "epoch"
    momentum: float = 0.9
    nesterov: bool = False

    def transform(
        self, batch_size: int, steps_per_epoch: int, epochs: int
    ) -> optax.GradientTransformation:
        """Gradients to updates."""
        return optax.chain(
            self.clip(),
            optax.add_decayed_weights(self.weight_decay, self.decayed),
            optax.trace(self.momentum, self.nesterov),
            optax.scale_by_learning_rate(self.schedule(batch_size, steps_per_epoch, epochs)),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lars(Common):
    """LARS (You et al., arXiv 1708.03888): each layer's step is in proportion to its weights.

    Defaults: DetCon_B, 1000 epochs. Released codes differ in what the momentum sums: DetCon and
    BYOL sum directions and multiply by the learning rate of now; SimCLR (and `optax.lars`) sum
    steps, each with the learning rate of its time.
    """

    lr: float = 0.2
    weight_decay: float = 1.5e-6
    exclude_bias_and_norm: bool = True
    warmup_epochs: float = 10.0
    momentum: float = 0.9
    trust_coefficient: float = 0.001
    lr_in_momentum: bool = False  # True: SimCLR

    def transform(
        self, batch_size: int, steps_per_epoch: int, epochs: int
    ) -> optax.GradientTransformation:
        """Gradients to updates."""
        trust_ratio = optax.scale_by_trust_ratio(trust_coefficient=self.trust_coefficient)
        momentum = optax.trace(self.momentum)
        rate = optax.scale_by_learning_rate(self.schedule(batch_size, steps_per_epoch, epochs))
        return optax.chain(
            self.clip(),
            optax.add_decayed_weights(self.weight_decay, self.decayed),
            optax.masked(trust_ratio, self.decayed),
            *((rate, momentum) if self.lr_in_momentum else (momentum, rate)),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Common):
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

    def transform(
        self, batch_size: int, steps_per_epoch: int, epochs: int
    ) -> optax.GradientTransformation:
        """Gradients to updates."""
        return optax.chain(
            self.clip(),
            optax.scale_by_adam(self.b1, self.b2, self.eps),
            optax.add_decayed_weights(self.weight_decay, self.decayed),
            optax.scale_by_learning_rate(self.schedule(batch_size, steps_per_epoch, epochs)),
        )


OPTIMIZERS: dict[str, type[Sgd] | type[Lars] | type[AdamW]] = {
    "sgd": Sgd,
    "lars": Lars,
    "adamw": AdamW,
}
