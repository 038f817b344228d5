"""Fine-tuning: the whole network, with a linear classifier on it, trained on labelled images.

SGD with Nesterov momentum and cosine decay, random resized crops and flips; BatchNorm is trained
too. Defaults: SimCLR (arXiv 2002.05709), appendix B.5.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, PRNGKeyArray

from jaxssl import sharding
from jaxssl.errors import UserError
from jaxssl.evaluation.classification.augmented_images import TrainingImages, look_up, random_views
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.features import FrozenEncoder
from jaxssl.evaluation.subsets import hold_out, stratified, whole_batch
from jaxssl.optim import Sgd
from jaxssl.progress import progress
from jaxssl.types import Batch, Leaf, Tree


@dataclasses.dataclass(frozen=True)
class FineTune:
    """The protocol."""

    epochs: int = 30
    batch_size: int = 256
    learning_rates: tuple[float, ...] = (0.05,)  # of 256 images; several: chosen on a tenth
    weight_decay: float = 0.0
    fraction: float = 1.0  # of the training images of each class

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size) < 1:
            raise UserError("finetune.epochs and finetune.batch_size must be 1 or more")
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise UserError(f"finetune.learning_rates is {self.learning_rates}; give some above 0")


@struct.dataclass
class State:
    """What a step changes."""

    params: Tree  # encoder, weight f32[d, k], bias f32[k]
    batch_stats: Tree
    opt_state: Tree
    learning_rate: Leaf  # f32[]: at the start


def make_step(
    encoder: FrozenEncoder, size: int, optimizer: optax.GradientTransformation
) -> Callable[[State, Batch, Batch, PRNGKeyArray], tuple[State, Float[Array, ""]]]:
    """Returns `step(state, batch, resident, key) -> (state, loss)`, to be jitted."""

    def step(
        state: State, batch: Batch, resident: Batch, key: PRNGKeyArray
    ) -> tuple[State, Float[Array, ""]]:
        batch = look_up(batch, resident)
        views = random_views(key, batch, size, encoder.normalization)

        def loss(params: Tree) -> Any:
            variables = {"params": params["encoder"], "batch_stats": state.batch_stats}
            features, changed = encoder.network.apply(
                variables, views, train=True, mutable=["batch_stats"]
            )
            logits = features.pooled @ params["weight"] + params["bias"][None]
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
            return losses.mean(), changed.get("batch_stats", {})

        (value, batch_stats), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        updates = jax.tree.map(lambda u: state.learning_rate * u, updates)
        params = optax.apply_updates(state.params, updates)
        return State(params, batch_stats, opt_state, state.learning_rate), value

    return step


class Trainer:
    """Fine-tunes the same encoder on the same data, at any rate and on any of the images."""

    def __init__(self, encoder: FrozenEncoder, data: DataSet, protocol: FineTune, seed: int):
        self._encoder, self._protocol, self._seed = encoder, protocol, seed
        self._images = TrainingImages(data, encoder.mesh)
        self._num_classes = len(data.labelled.classes)

    def train(self, rows: np.ndarray, rate: float) -> State:
        """The state after the last epoch on the labelled training images in `rows`."""
        mesh, protocol = self._encoder.mesh, self._protocol
        batch_size = whole_batch(protocol.batch_size, len(rows), mesh.size)
        steps = len(rows) // batch_size
        sgd = Sgd(
            lr=1.0,
            weight_decay=protocol.weight_decay,
            exclude_bias_and_norm=True,
            cosine_per="step",
            nesterov=True,
        )
        optimizer = sgd.transform(batch_size, steps, protocol.epochs)
        step = sharding.jit_step(make_step(self._encoder, self._images.size, optimizer), mesh)
        state = sharding.replicate(self._start(optimizer, rate), mesh)
        root, resident = jax.random.key(self._seed), self._images.resident
        total = range(steps * protocol.epochs)
        batches = self._images.batches(rows, batch_size, self._seed, total)
        with progress(
            len(total), f"fine-tuning at {rate}", unit="steps", show=self._encoder.show
        ) as advance:
            for i, batch in zip(total, batches, strict=True):
                state, loss = step(state, batch, resident, jax.random.fold_in(root, i))
                if i % steps == 0:  # keeps the host from running far ahead
                    jax.block_until_ready(loss)
                advance(1)
        return state

    def _start(self, optimizer: optax.GradientTransformation, rate: float) -> State:
        """Copies, for a step is given its state for good."""
        variables = jax.tree.map(jnp.copy, self._encoder.variables)
        shape = jax.eval_shape(
            lambda: self._encoder.network.apply(
                variables, jnp.zeros((1, self._images.size, self._images.size, 3)), train=False
            )
        )
        d = shape.pooled.shape[1]  # type: ignore[union-attr]
        params = {
            "encoder": variables["params"],
            "weight": jnp.zeros((d, self._num_classes)),
            "bias": jnp.zeros(self._num_classes),
        }
        batch_stats = variables.get("batch_stats", {})
        return State(params, batch_stats, optimizer.init(params), jnp.float32(rate))

    def scores(self, state: State, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """f32[n, k] of the images in `rows`."""
        tuned = dataclasses.replace(
            self._encoder,
            variables={"params": state.params["encoder"], "batch_stats": state.batch_stats},
        )
        weight, bias = np.asarray(state.params["weight"]), np.asarray(state.params["bias"])
        return tuned.pooled(images, rows) @ weight + bias


def fine_tune(
    encoder: FrozenEncoder, data: DataSet, protocol: FineTune, seed: int
) -> tuple[np.ndarray, float]:
    """Scores f32[m, k] of the labelled test images, and the learning rate chosen."""
    train, test = data.labelled.train, data.labelled.test
    labelled = np.flatnonzero(np.asarray(train["label"]) >= 0)
    labels = np.asarray(train["label"])[labelled]
    trainer = Trainer(encoder, data, protocol, seed)
    chosen = stratified(labels, protocol.fraction, seed)
    rate = protocol.learning_rates[0]
    if len(protocol.learning_rates) > 1:
        rest, held_out = (chosen[rows] for rows in hold_out(labels[chosen], seed))
        right = []
        for candidate in protocol.learning_rates:
            state = trainer.train(rest, candidate)
            scores = trainer.scores(state, train["image"], labelled[held_out])
            right.append(np.mean(scores.argmax(axis=1) == labels[held_out]))
        rate = protocol.learning_rates[int(np.argmax(right))]
    state = trainer.train(chosen, rate)
    rows = np.flatnonzero(np.asarray(test["label"]) >= 0)
    return trainer.scores(state, test["image"], rows), rate
