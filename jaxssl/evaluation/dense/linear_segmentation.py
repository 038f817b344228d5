"""Linear probe of the grid: a 1x1 convolution on frozen features names the class of each pixel.

It is trained on cells: with logits repeated over the pixels of a cell, the mean of their cross
entropies is that of the cell with the shares of the classes in it. So the label maps shrink to
histograms, and a step costs one small matrix product. For testing, logits are resized bilinearly.
The learning rate is chosen by the mean IoU on a tenth of the *training* images.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt8

from jaxssl.errors import UserError
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.dense.confusion import VOID, confusion_matrix, score_maps, scores
from jaxssl.evaluation.features import FrozenEncoder
from jaxssl.evaluation.task import TaskResult

LEARNING_RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
MIN_TRAINING_IMAGES = 10
TEST_BATCH = 16  # images whose logits are resized at once


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """The protocol."""

    steps: int = 1000
    batch_size: int = 1024  # cells
    images: int = 2000  # to train on, at most: their grids are held in memory

    def __post_init__(self) -> None:
        for field, value in dataclasses.asdict(self).items():
            if value < 1:
                raise UserError(f"segmentation.{field} is {value}; it must be 1 or more")


def class_shares(
    truth: UInt8[np.ndarray, "n s s"], grid: tuple[int, int], classes: int
) -> Float[np.ndarray, "n h w k"]:
    """The share of each class in each cell of a grid; void pixels have a share that is left out.

    A pixel belongs to the cell in which its centre lies.
    """
    (n, side, _), (h, w) = truth.shape, grid
    row, column = (((np.arange(side) + 0.5) * cells / side).astype(int) for cells in grid)
    cell = row[:, None] * w + column[None, :]
    where = cell[None] * (VOID + 1) + truth
    each = [np.bincount(image.ravel(), minlength=h * w * (VOID + 1)) for image in where]
    counts = np.stack(each).reshape(n, h, w, VOID + 1)[..., :classes]
    pixels = np.bincount(cell.ravel(), minlength=h * w).reshape(h, w)
    return (counts / np.maximum(pixels, 1)[None, :, :, None]).astype(np.float32)


@functools.partial(jax.jit, static_argnames=("steps", "batch_size"))
def _train(
    cells: Float[Array, "n d"],
    shares: Float[Array, "n k"],
    learning_rate: Float[Array, ""],
    key: Array,
    *,
    steps: int,
    batch_size: int,
) -> tuple[Float[Array, "d k"], Float[Array, " k"]]:
    """SGD with Nesterov momentum and cosine decay from zero weights."""
    optimizer = optax.sgd(optax.cosine_decay_schedule(1.0, steps), momentum=0.9, nesterov=True)

    def loss(params: tuple[Array, Array], rows: Array) -> Float[Array, ""]:
        weight, bias = params
        log_p = jax.nn.log_softmax(cells[rows] @ weight + bias[None, :])
        return -jnp.sum(shares[rows] * log_p) / jnp.maximum(jnp.sum(shares[rows]), 1)

    def step(carry, key):
        params, state = carry
        rows = jax.random.randint(key, (batch_size,), 0, len(cells))
        updates, state = optimizer.update(jax.grad(loss)(params, rows), state)
        updates = jax.tree.map(lambda u: learning_rate * u, updates)
        return (optax.apply_updates(params, updates), state), None

    start = (jnp.zeros((cells.shape[1], shares.shape[1])), jnp.zeros(shares.shape[1]))
    (params, _), _ = jax.lax.scan(
        step, (start, optimizer.init(start)), jax.random.split(key, steps)
    )
    return params


@functools.partial(jax.jit, static_argnames="side")
def _predict(
    grid: Float[Array, "b h w d"], weight: Float[Array, "d k"], bias: Float[Array, " k"], side: int
) -> UInt8[Array, "b {side} {side}"]:
    logits = grid @ weight + bias[None, None, None, :]
    full = jax.image.resize(logits, (len(grid), side, side, len(bias)), "bilinear")
    return full.argmax(axis=-1).astype(jnp.uint8)


def predict(
    grids: Float[np.ndarray, "n h w d"], weight: Array, bias: Array, side: int
) -> UInt8[np.ndarray, "n s s"]:
    """The class of each pixel of images of `side` pixels."""
    batches = (grids[i : i + TEST_BATCH] for i in range(0, len(grids), TEST_BATCH))
    return np.concatenate([np.asarray(_predict(batch, weight, bias, side)) for batch in batches])


def grid_probe(
    train: Float[np.ndarray, "n h w d"],
    truth: UInt8[np.ndarray, "n s s"],
    test: Float[np.ndarray, "m h w d"],
    protocol: Segmentation,
    *,
    classes: int,
    seed: int = 0,
) -> tuple[UInt8[np.ndarray, "m s s"], float]:
    """The class of each pixel of the test images, and the learning rate that was chosen.

    Raises:
      UserError: fewer than ten training images.
    """
    if len(train) < MIN_TRAINING_IMAGES:
        raise UserError(f"the probe of the grid needs 10 training images; there are {len(train)}")
    # Standardised, so that one list of learning rates serves all encoders.
    mean, deviation = train.mean(axis=(0, 1, 2)), train.std(axis=(0, 1, 2)) + 1e-6
    train, test = (
        (x - mean[None, None, None]) / deviation[None, None, None] for x in (train, test)
    )
    shares = class_shares(truth, train.shape[1:3], classes)
    order = np.random.default_rng(seed).permutation(len(train))
    held_out, rest = order[: len(order) // 10], order[len(order) // 10 :]
    key, side = jax.random.key(seed), truth.shape[1]

    def fit(rows: np.ndarray, rate: Array) -> tuple[Array, Array]:
        cells = train[rows].reshape(-1, train.shape[-1]), shares[rows].reshape(-1, classes)
        steps = {"steps": protocol.steps, "batch_size": protocol.batch_size}
        return _train(*cells, rate, key, **steps)

    weights, biases = jax.vmap(functools.partial(fit, rest))(jnp.array(LEARNING_RATES))
    found = []
    for weight, bias in zip(weights, biases, strict=True):
        predicted = predict(train[held_out], weight, bias, side)
        found.append(scores(np.asarray(confusion_matrix(truth[held_out], predicted, classes))))
    best = LEARNING_RATES[int(np.argmax([score["miou"] for score in found]))]
    return predict(test, *fit(order, jnp.float32(best)), side), best


def run_segmentation(
    encoder: FrozenEncoder, data: DataSet, protocol: Segmentation, seed: int
) -> TaskResult:
    """Mean IoU of the linear probe of the grid."""
    pixels = data.label_maps
    images = len(pixels.train["image"])
    rows = np.sort(np.random.default_rng(seed).permutation(images)[: protocol.images])
    train, test = encoder.grid(pixels.train["image"][rows]), encoder.grid(pixels.test["image"])
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise UserError(f"features of {data.name} are not finite; did training diverge?")
    predicted, rate = grid_probe(
        train,
        pixels.truth("train", rows),
        test,
        protocol,
        classes=len(pixels.classes),
        seed=seed,
    )
    results, details = score_maps(pixels.truth("test", slice(None)), predicted, pixels.classes)
    said = {"learning_rate": rate, "training_images": len(rows), "grid": list(test.shape[1:3])}
    return TaskResult(results, pixels.protocol | said, details, pixels.shown(predicted))
