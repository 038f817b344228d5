"""Linear classifiers on frozen features, trained by SGD, one for each learning rate, at once.

The linear probe trains them on pooled features and labels, linear segmentation on the cells of the
grid and the shares of the classes in them. SGD has momentum 0.9 and no weight decay.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxssl.config import LINEAR_EPOCHS
from jaxssl.evaluation.features import standardizer
from jaxssl.evaluation.ranges import check_numbers
from jaxssl.optim import Sgd
from jaxssl.types import Leaf, Tree


@dataclasses.dataclass(frozen=True)
class LinearProbe:
    """The protocol; the default is ours, for pooled features.

    Features are standardized, so that one grid of learning rates serves all encoders, and made
    once, of unchanged images. A linear classifier loses nothing by the former.
    """

    epochs: int = LINEAR_EPOCHS
    batch_size: int = 256  # at most: see `whole_batch`
    lr: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    scale_lr_by_batch: bool = False  # learning rate x batch size / 256
    nesterov: bool = True
    end_factor: float = 0.0  # the learning rate falls along a cosine to this part of the first
    milestones: tuple[float, ...] = ()  # or to a tenth at these fractions of training
    init_std: float = 0.0  # of the first weights; biases start at 0
    standardize: bool = True  # features, by mean and deviation of those of the training images
    augment: bool = False  # training images, in each epoch anew: random resized crop and flip
    best_on_test: bool = False  # report the best epoch too, as the paper did

    def __post_init__(self) -> None:
        ranges = {"1 or more": "epochs batch_size", "above 0": "lr", "0 or more": "init_std"}
        check_numbers(self, ranges | {"from 0 to 1": "end_factor milestones"})

    def sgd(self) -> Sgd:
        """The optimizer at learning rate 1."""
        return Sgd(
            lr=1.0,
            weight_decay=0.0,
            scale_lr_by_batch="linear" if self.scale_lr_by_batch else "none",
            cosine_per="step",
            end_factor=self.end_factor,
            milestones=self.milestones,
            nesterov=self.nesterov,
        )


class Probes(NamedTuple):
    """Classifiers under training, one for each learning rate. Scores: (x - mean) / std @ w + b."""

    weight: Leaf  # f32[l, d, k]
    bias: Leaf  # f32[l, k]
    opt_state: Tree  # [l, ...]
    rates: Leaf  # f32[l]
    mean: Leaf  # f32[d]
    std: Leaf  # f32[d]


class Schedule(NamedTuple):
    """A protocol on so many training images."""

    protocol: LinearProbe
    batch_size: int
    steps: int  # an epoch; what remains is left out

    def optimizer(self) -> optax.GradientTransformation:
        """The optimizer at learning rate 1."""
        return self.protocol.sgd().transform(self.batch_size, self.steps, self.protocol.epochs)


def init_probes(
    key: PRNGKeyArray,
    schedule: Schedule,
    rates: tuple[float, ...],
    features: np.ndarray,
    rows: np.ndarray,
    *,
    num_classes: int,
) -> Probes:
    """Classifiers before the first step. They start alike.

    Args:
      key: of the first weights.
      schedule: of their training.
      rates: the learning rate of each.
      features: f32[n, d].
      rows: of the features that will be trained on, by which they are standardized.
      num_classes: how many scores a classifier has.
    """
    protocol, shape = schedule.protocol, (features.shape[1], num_classes)
    first = protocol.init_std * jax.random.normal(key, shape)
    weight, bias = jnp.tile(first[None], (len(rates), 1, 1)), jnp.zeros((len(rates), num_classes))
    mean, std = jnp.zeros(shape[0]), jnp.ones(shape[0])
    if protocol.standardize:
        mean, std = map(jnp.asarray, standardizer(features[rows]))
    opt_state = jax.vmap(schedule.optimizer().init)((weight, bias))
    return Probes(weight, bias, opt_state, jnp.array(rates), mean, std)


def cross_entropy(
    logits: Float[Array, "b k"], y: Int[Array, " b"] | Float[Array, "b k"]
) -> Float[Array, ""]:
    """Mean over rows of labels; of shares of the classes, over what has a class."""
    if y.ndim == 1:
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    return -jnp.sum(y * jax.nn.log_softmax(logits)) / jnp.maximum(jnp.sum(y), 1)


def update(
    probes: Probes,
    schedule: Schedule,
    x: Float[Array, "b d"],
    y: Int[Array, " b"] | Float[Array, "b k"],
) -> Probes:
    """The classifiers after one step of each on the same batch.

    Args:
      probes: the classifiers.
      schedule: of their training.
      x: features.
      y: labels, or shares of the classes.
    """
    x = (x - probes.mean[None]) / probes.std[None]
    optimizer = schedule.optimizer()

    def loss(params: tuple[Array, Array]) -> Float[Array, ""]:
        return cross_entropy(x @ params[0] + params[1][None], y)

    def one(params: tuple[Array, Array], opt_state: Tree, rate: Array) -> Any:
        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return jax.tree.map(lambda p, u: p + rate * u, params, updates), opt_state

    (weight, bias), opt_state = jax.vmap(one)(
        (probes.weight, probes.bias), probes.opt_state, probes.rates
    )
    return probes._replace(weight=weight, bias=bias, opt_state=opt_state)


@jax.jit
def predict(probes: Probes, x: Float[Array, "n d"]) -> Float[Array, "l n k"]:
    """The scores by each classifier."""
    x = (x - probes.mean[None]) / probes.std[None]
    return jnp.einsum("nd,ldk->lnk", x, probes.weight) + probes.bias[:, None]


@functools.partial(jax.jit, static_argnames="schedule")
def scan_updates(
    probes: Probes,
    features: Float[Array, "n d"],
    targets: Int[Array, " n"] | Float[Array, "n k"],
    order: Int[Array, "s b"],
    *,
    schedule: Schedule,
) -> Probes:
    """The classifiers after some steps.

    Args:
      probes: the classifiers.
      features: of all rows.
      targets: labels, or shares of the classes, of all rows.
      order: the rows of each step.
      schedule: of their training.
    """

    def step(probes: Probes, index: Int[Array, " b"]) -> tuple[Probes, None]:
        return update(probes, schedule, features[index], targets[index]), None

    return jax.lax.scan(step, probes, order)[0]
