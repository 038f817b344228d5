"""Linear probe: linear classifiers on frozen features, one for each learning rate, at once."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxssl.data.batch_order import Order
from jaxssl.evaluation.classification.linear_protocols import LinearProbe
from jaxssl.evaluation.features import LabelledFeatures
from jaxssl.evaluation.subsets import hold_out, whole_batch
from jaxssl.progress import progress
from jaxssl.types import Leaf, Tree


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
        """At learning rate 1."""
        return self.protocol.sgd().transform(self.batch_size, self.steps, self.protocol.epochs)


# Trains through one epoch, counted from 0, of the training images in `rows`.
Epoch = Callable[[Probes, Schedule, np.ndarray, int], Probes]


def init_probes(
    key: PRNGKeyArray,
    schedule: Schedule,
    rates: tuple[float, ...],
    features: np.ndarray,
    rows: np.ndarray,
    *,
    num_classes: int,
) -> Probes:
    """Classifiers before the first step on the features in `rows`. They start alike."""
    protocol, shape = schedule.protocol, (features.shape[1], num_classes)
    first = protocol.init_std * jax.random.normal(key, shape)
    weight, bias = jnp.tile(first[None], (len(rates), 1, 1)), jnp.zeros((len(rates), num_classes))
    mean, std = jnp.zeros(shape[0]), jnp.ones(shape[0])
    if protocol.standardize:
        learned = features[rows]
        mean, std = jnp.asarray(learned.mean(axis=0)), jnp.asarray(learned.std(axis=0) + 1e-6)
    opt_state = jax.vmap(schedule.optimizer().init)((weight, bias))
    return Probes(weight, bias, opt_state, jnp.array(rates), mean, std)


def update(
    probes: Probes, schedule: Schedule, x: Float[Array, "b d"], y: Int[Array, " b"]
) -> Probes:
    """One step of each on the same batch."""
    x = (x - probes.mean[None]) / probes.std[None]
    optimizer = schedule.optimizer()

    def loss(params: tuple[Array, Array]) -> Float[Array, ""]:
        logits = x @ params[0] + params[1][None]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def one(params: tuple[Array, Array], opt_state: Tree, rate: Array) -> Any:
        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return jax.tree.map(lambda p, u: p + rate * u, params, updates), opt_state

    (weight, bias), opt_state = jax.vmap(one)(
        (probes.weight, probes.bias), probes.opt_state, probes.rates
    )
    return probes._replace(weight=weight, bias=bias, opt_state=opt_state)


@jax.jit
def predict(probes: Probes, x: Float[Array, "n d"]) -> Float[Array, "l n k"]:
    """Scores by each."""
    x = (x - probes.mean[None]) / probes.std[None]
    return jnp.einsum("nd,ldk->lnk", x, probes.weight) + probes.bias[:, None]


@functools.partial(jax.jit, static_argnames="schedule")
def _scan(
    probes: Probes,
    features: Float[Array, "n d"],
    labels: Int[Array, " n"],
    order: Int[Array, "s b"],
    *,
    schedule: Schedule,
) -> Probes:
    def step(probes: Probes, index: Int[Array, " b"]) -> tuple[Probes, None]:
        return update(probes, schedule, features[index], labels[index]), None

    return jax.lax.scan(step, probes, order)[0]


def epoch_of_features(train: LabelledFeatures, seed: int) -> Epoch:
    """Epochs on features made once."""
    features, labels = jnp.asarray(train.features), jnp.asarray(train.labels)

    def epoch(probes: Probes, schedule: Schedule, rows: np.ndarray, number: int) -> Probes:
        order = Order(len(rows), schedule.batch_size, seed)
        first = number * schedule.steps
        index = np.stack([rows[order.indices(first + i)] for i in range(schedule.steps)])
        return _scan(probes, features, labels, jnp.asarray(index), schedule=schedule)

    return epoch


class Trained(NamedTuple):
    """A linear classifier and how it came about."""

    scores: np.ndarray  # f32[m, k] of the test images, after the last epoch
    learning_rate: float
    best_on_test: float  # top-1 on the test images after the best epoch; 0 if not asked for


def linear_probe(
    train: LabelledFeatures,
    test: LabelledFeatures,
    protocol: LinearProbe,
    *,
    num_classes: int,
    epoch: Epoch | None = None,
    devices: int = 1,
    seed: int = 0,
    show: bool = False,
) -> Trained:
    """Trains on all training images with the best of the learning rates.

    Args:
      train: features of the unchanged images; unless `epoch` is given they are trained on.
      epoch: how to train through an epoch.
      devices: over which batches must divide.
    """
    epoch = epoch or epoch_of_features(train, seed)

    def fit(rates: tuple[float, ...], rows: np.ndarray, task: str) -> tuple[Probes, float]:
        batch_size = whole_batch(protocol.batch_size, len(rows), devices)
        schedule = Schedule(protocol, batch_size, len(rows) // batch_size)
        key, best = jax.random.key(seed), 0.0
        probes = init_probes(key, schedule, rates, train.features, rows, num_classes=num_classes)
        with progress(protocol.epochs, task, unit="epochs", show=show) as advance:
            for number in range(protocol.epochs):
                probes = epoch(probes, schedule, rows, number)
                if protocol.best_on_test:
                    best = max(best, float(_accuracy(probes, test)[0]))
                advance(1)
        return probes, best

    rate = protocol.learning_rates[0]
    if len(protocol.learning_rates) > 1:
        rest, held_out = hold_out(train.labels, seed)
        probes, _ = fit(protocol.learning_rates, rest, "choosing the learning rate")
        rate = protocol.learning_rates[int(_accuracy(probes, train.at(held_out)).argmax())]
    probes, best = fit((rate,), np.arange(len(train.labels)), "linear probe")
    return Trained(np.asarray(predict(probes, test.features)[0]), rate, best)


def _accuracy(probes: Probes, test: LabelledFeatures) -> np.ndarray:
    """Top-1 of each, f32[l]."""
    right = np.asarray(predict(probes, test.features)).argmax(axis=2) == test.labels[None]
    return right.mean(axis=1)
