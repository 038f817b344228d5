"""Linear probe: a linear classifier on frozen features, trained in one jitted scan.

SGD with Nesterov momentum and cosine decay, several learning rates at once. The learning rate is
chosen on a tenth of the *training* images, never on the test images; the classifier is then
trained on all of them. Features are standardised, so that one grid of learning rates serves all
encoders; a linear classifier loses nothing by that.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

LEAST_TRAINING_IMAGES = 10
LEARNING_RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


@dataclasses.dataclass(frozen=True)
class LinearProbe:
    """The protocol."""

    epochs: int = 90
    batch_size: int = 256


@functools.partial(jax.jit, static_argnames=("num_classes", "epochs", "batch_size"))
def _train(
    features: Float[Array, "n d"],
    labels: Int[Array, " n"],
    learning_rate: Float[Array, ""],
    key: Array,
    *,
    num_classes: int,
    epochs: int,
    batch_size: int,
) -> tuple[Float[Array, "d k"], Float[Array, " k"]]:
    n, d = features.shape
    steps = max(1, n // batch_size)
    optimizer = optax.sgd(
        optax.cosine_decay_schedule(1.0, epochs * steps), momentum=0.9, nesterov=True
    )

    def loss(params: tuple[Array, Array], index: Int[Array, " b"]) -> Float[Array, ""]:
        weight, bias = params
        logits = features[index] @ weight + bias[None, :]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[index]).mean()

    def step(carry, index):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, index), state)
        updates = jax.tree.map(lambda u: learning_rate * u, updates)
        return (optax.apply_updates(params, updates), state), None

    def epoch(carry, key):
        order = jax.random.permutation(key, n)[: steps * min(batch_size, n)]
        return jax.lax.scan(step, carry, order.reshape(steps, -1))

    start = (jnp.zeros((d, num_classes)), jnp.zeros(num_classes))
    (params, _), _ = jax.lax.scan(
        epoch, (start, optimizer.init(start)), jax.random.split(key, epochs)
    )
    return params


def linear_probe(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    *,
    num_classes: int,
    epochs: int = 90,
    batch_size: int = 256,
    seed: int = 0,
) -> tuple[np.ndarray, float]:
    """Scores f32[m, num_classes] for test features f32[m, d], and the learning rate chosen.

    Args:
      train: f32[n, d].
      labels: i32[n]; rows with a label below zero are left out.
    """
    labelled = labels >= 0
    train, labels = train[labelled], labels[labelled]
    if len(train) < LEAST_TRAINING_IMAGES:
        raise ValueError(
            f"a linear probe needs 10 labelled training images; there are {len(train)}"
        )
    mean, std = train.mean(axis=0), train.std(axis=0) + 1e-6
    train, test = (train - mean) / std, (test - mean) / std
    order = np.random.default_rng(seed).permutation(len(train))
    held_out, rest = order[: len(order) // 10], order[len(order) // 10 :]
    key = jax.random.key(seed)
    options = {"num_classes": num_classes, "epochs": epochs, "batch_size": batch_size}

    fit = functools.partial(_train, train[rest], labels[rest], **options)
    weights, biases = jax.vmap(lambda lr: fit(lr, key))(jnp.array(LEARNING_RATES))
    scores = np.einsum("nd,ldk->lnk", train[held_out], weights) + np.asarray(biases)[:, None]
    right = (scores.argmax(axis=2) == labels[held_out]).mean(axis=1)
    best = float(LEARNING_RATES[int(right.argmax())])
    weight, bias = _train(train, labels, jnp.float32(best), key, **options)
    return test @ np.asarray(weight) + np.asarray(bias), best
