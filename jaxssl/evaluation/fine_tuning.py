"""Training a whole network, encoder and head, on labeled images: what fine-tuning tasks share.

Written for one device and run on many, as pre-training is: the batch is split over the mesh, and
batch statistics and gradients are those of the whole batch.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray

from jaxssl import sharding
from jaxssl.errors import DivergenceError
from jaxssl.image.pyramid import look_up
from jaxssl.pretrained.encoder import Encoder
from jaxssl.progress import Progress
from jaxssl.types import Batch, Leaf, Tree

# From the outputs of a network, f32, and what is true to a number.
Loss = Callable[[Array, Array], Float[Array, ""]]
# From a key and a batch to augmented images and what is true of them; equal ones hash alike.
Change = Callable[[PRNGKeyArray, Batch], tuple[Array, Array]]


@runtime_checkable
class Tuning(Hashable, Protocol):
    """The protocol of a training: a frozen dataclass, so that equal ones share a program."""

    @property
    def epochs(self) -> int:
        """The number of passes through the images."""

    def transform(self, batch_size: int, steps: int) -> optax.GradientTransformation:
        """The optimizer, for batches of so many images and epochs of so many steps."""


@flax.struct.dataclass
class TuningState:
    """Training state."""

    step: Leaf  # i32[]
    params: Tree
    batch_stats: Tree
    opt_state: Tree


def make_step(
    network: nn.Module, loss: Loss, change: Change, optimizer: optax.GradientTransformation
) -> Callable[..., Any]:
    """Returns `step(state, batch, resident, key) -> (state, loss)`, to be jitted.

    Args:
      network: encoder and head.
      loss: of outputs and truth.
      change: from a batch to augmented images and truth.
      optimizer: of all weights.
    """

    def step(
        state: TuningState, batch: Batch, resident: Batch, key: PRNGKeyArray
    ) -> tuple[TuningState, Float[Array, ""]]:
        change_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
        if resident:
            batch = batch | look_up(resident, batch["index"])
        images, truth = change(change_key, batch)

        def objective(params: Tree) -> tuple[Float[Array, ""], Tree]:
            outputs, changed = network.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout_key},
            )
            return loss(outputs.astype(jnp.float32), truth), changed.get("batch_stats", {})

        (value, stats), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TuningState(state.step + 1, params, stats, opt_state), value

    return step


def init_state(
    network: nn.Module,
    encoder_variables: Tree | None,
    optimizer: optax.GradientTransformation,
    size: int,
    seed: int,
) -> TuningState:
    """The state before the first step.

    Args:
      network: holds an encoder called `encoder`.
      encoder_variables: its weights; None: random ones, as those of the head are.
      optimizer: of all weights.
      size: side of the images, pixels.
      seed: of the random weights.
    """
    images = jnp.zeros((1, size, size, 3))
    variables = jax.jit(functools.partial(network.init, train=False))(jax.random.key(seed), images)
    params, stats = dict(variables["params"]), dict(variables.get("batch_stats", {}))
    if encoder_variables is not None:
        params["encoder"] = encoder_variables["params"]
        if given := encoder_variables.get("batch_stats", {}):
            stats["encoder"] = given
    # Copies: a step takes the memory of its state, and the encoder is still needed.
    state = TuningState(jnp.int32(0), params, stats, optimizer.init(params))
    return jax.tree.map(jnp.array, state)


@functools.cache
def _jit_step(
    network: nn.Module,
    mesh: Mesh,
    loss: Loss,
    change: Change,
    tuning: Tuning,
    batch_size: int,
    steps: int,
) -> Callable[..., Any]:
    """One program for all seeds, and for both kinds of initial weights."""
    step = make_step(network, loss, change, tuning.transform(batch_size, steps))
    return sharding.jit_step(step, mesh)


def fine_tune(
    network: nn.Module,
    encoder: Encoder,
    batches: Iterator[Batch],
    loss: Loss,
    change: Change,
    tuning: Tuning,
    *,
    steps: int,
    batch_size: int,
    size: int,
    seed: int,
    resident: Tree | None = None,
    scratch: bool = False,
    task: str,
) -> Encoder:
    """The network and its variables after training, in the place of the encoder.

    Args:
      network: an encoder like the one given, called `encoder`, with a head.
      encoder: whose weights the network starts from.
      batches: of all steps of all epochs, on the host or on the devices.
      loss: of outputs and truth.
      change: from a batch to augmented images and truth.
      tuning: the protocol.
      steps: an epoch.
      batch_size: images a step.
      size: side of the images that the network gets, pixels.
      seed: of weights and augmentation.
      resident: arrays that batches hold indices of; None: there are none.
      scratch: whether to start from random weights instead.
      task: what to show beside the progress.

    Raises:
      DivergenceError: the loss is not finite.
    """
    mesh = encoder.mesh
    step = _jit_step(network, mesh, loss, change, tuning, batch_size, steps)
    optimizer, given = tuning.transform(batch_size, steps), encoder.variables
    state = init_state(network, None if scratch else given, optimizer, size, seed)
    state, key = sharding.replicate(state, mesh), jax.random.key(seed)
    with Progress(tuning.epochs * steps, task, unit="steps", show=encoder.show) as advance:
        for number, batch in enumerate(batches, start=1):
            state, value = step(state, batch, resident or {}, key)
            advance(1)
            # Once an epoch; also keeps the host from running far ahead.
            if number % steps == 0 and not np.isfinite(value):
                raise DivergenceError(
                    f"the loss is not finite in epoch {number // steps}; try a lower learning rate"
                )
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return dataclasses.replace(encoder, network=network, variables=variables)
