"""The task `logistic`: logistic regression by full-batch L-BFGS, without a learning rate.

It minimizes C sum_i cross_entropy_i + |w|^2 / 2, as sklearn's `LogisticRegression`, on standardized
features. Of several C the best is chosen on a tenth of the training images.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from jaxssl.evaluation.classification.accuracy import score
from jaxssl.evaluation.datasets import DataSet, check_labels, choose_held_out
from jaxssl.evaluation.features import LabeledFeatures, labeled_features, standardizer
from jaxssl.evaluation.ranges import check_numbers
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.pretrained.encoder import Encoder
from jaxssl.types import Tree


@dataclasses.dataclass(frozen=True)
class Logistic:
    """The protocol."""

    c: tuple[float, ...] = (1.0,)  # inverse strengths of regularization
    iterations: int = 300  # at most
    tolerance: float = 1e-4  # ends when no derivative of the mean loss is larger

    def __post_init__(self) -> None:
        ranges = {"above 0": "c", "1 or more": "iterations", "0 or more": "tolerance"}
        check_numbers(self, ranges)


@functools.partial(jax.jit, static_argnames=("num_classes", "iterations"))
def minimize(
    features: Float[Array, "n d"],
    labels: Int[Array, " n"],
    c: Float[Array, ""],
    tolerance: Float[Array, ""],
    *,
    num_classes: int,
    iterations: int,
) -> tuple[Float[Array, "d k"], Float[Array, " k"]]:
    """Minimizes the loss at the head of this file; returns weights and biases.

    Args:
      features: to learn from.
      labels: their classes.
      c: C.
      tolerance: ends when no derivative of the mean loss is larger.
      num_classes: k.
      iterations: at most.
    """
    n, d = features.shape
    optimizer = optax.lbfgs()

    def loss(params: tuple[Array, Array]) -> Float[Array, ""]:
        weight, bias = params
        logits = jnp.matmul(features, weight, precision=jax.lax.Precision.HIGHEST) + bias[None]
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return entropy + jnp.sum(weight**2) / (2 * c * n)

    value_and_grad = optax.value_and_grad_from_state(loss)

    def is_going_on(carry: Tree) -> Array:
        _, _, largest, step = carry
        return (step < iterations) & (largest > tolerance)

    def step(carry: Tree) -> Tree:
        params, state, _, count = carry
        value, gradient = value_and_grad(params, state=state)
        updates, state = optimizer.update(
            gradient, state, params, value=value, grad=gradient, value_fn=loss
        )
        largest = jnp.maximum(*(jnp.abs(g).max() for g in gradient))
        return optax.apply_updates(params, updates), state, largest, count + 1

    start = (jnp.zeros((d, num_classes)), jnp.zeros(num_classes))
    carry = (start, optimizer.init(start), jnp.inf, 0)
    return jax.lax.while_loop(is_going_on, step, carry)[0]


def logistic_regression(
    train: LabeledFeatures,
    test: LabeledFeatures,
    protocol: Logistic,
    *,
    num_classes: int,
    seed: int = 0,
) -> tuple[np.ndarray, float]:
    """Scores f32[m, k] of the test images, and the C chosen.

    Args:
      train: features to learn from.
      test: features to classify.
      protocol: has the values of C.
      num_classes: k.
      seed: of the part of the training images by which C is chosen.
    """

    def fit(rows: np.ndarray, c: float, of: np.ndarray) -> np.ndarray:
        features = train.features[rows]
        mean, std = standardizer(features)
        weight, bias = minimize(
            (features - mean) / std,
            train.labels[rows],
            jnp.float32(c),
            jnp.float32(protocol.tolerance),
            num_classes=num_classes,
            iterations=protocol.iterations,
        )
        return (of - mean) / std @ np.asarray(weight) + np.asarray(bias)

    def accuracy(c: float, rest: np.ndarray, held_out: np.ndarray) -> float:
        scores = fit(rest, c, train.features[held_out])
        return float((scores.argmax(axis=1) == train.labels[held_out]).mean())

    chosen = choose_held_out(protocol.c, train.labels, seed, accuracy)
    return fit(np.arange(len(train.labels)), chosen, test.features), chosen


def _run(encoder: Encoder, data: DataSet, protocol: Logistic, seed: int) -> TaskResult:
    """Accuracy of logistic regression."""
    train, test = labeled_features(encoder, data)
    classes = data.labeled.classes
    scores, c = logistic_regression(train, test, protocol, num_classes=len(classes), seed=seed)
    results, details = score(scores, test.labels, classes)
    return TaskResult(results, {"c_chosen": c}, details)


def _is_seeded(protocol: Logistic) -> bool:
    """Of several C one is chosen on images that are drawn."""
    return len(protocol.c) > 1


LOGISTIC = Task(_run, Logistic(), "labels", seeded=_is_seeded, check=check_labels)
