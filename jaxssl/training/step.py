"""One training step for every method, and the state it starts from."""

import dataclasses
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PRNGKeyArray
from ml_collections import ConfigDict

from jaxssl.config import build
from jaxssl.errors import UserError
from jaxssl.methods import Method, Metrics
from jaxssl.optim import LearningRate
from jaxssl.samplers import Sampler
from jaxssl.types import Batch, TrainState, Tree, View
from jaxssl.views import ViewConfig, blank_views, make_views

ENCODER = "/encoder/"  # in the path of each of an encoder's variables within a state


@dataclasses.dataclass(frozen=True)
class TrainStep:
    """A training step and the state before the first, as functions to be jitted."""

    method: Method
    sampler: Sampler
    views: ViewConfig
    optimizer: optax.GradientTransformation
    learning_rate: LearningRate  # that of the optimizer, to be reported
    total_steps: int

    def init(self, key: PRNGKeyArray, batch: Batch, num_examples: int) -> TrainState:
        """The state before the first step. Of `batch`, canvases, only the shapes matter."""
        params, method_state = self.method.init(key, blank_views(batch, self.views))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state=self.optimizer.init(params),
            method_state=method_state,
            sampler_state=self.sampler.init(num_examples),
        )

    def __call__(
        self, state: TrainState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """The state after one more step on a batch of canvases, and metrics of it, f32[] each.

        `key` is the run's: all randomness is drawn from it and the number of the step.
        """
        key_views, key_loss = jax.random.split(jax.random.fold_in(key, state.step))
        views, fallback_fraction = make_views(
            key_views, batch, state.sampler_state, self.sampler, self.views
        )
        after, metrics = self.update(state, views, key_loss)
        return after, metrics | {"fallback_fraction": fallback_fraction}

    def update(
        self, state: TrainState, views: list[View], key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """The part of a step that follows the cutting of views: loss, gradient, optimizer."""
        t = state.step / self.total_steps
        loss_fn = jax.value_and_grad(self.method.loss, has_aux=True)
        (loss, (method_state, metrics)), gradient = loss_fn(
            state.params, state.method_state, views, key=key, t=t
        )
        updates, opt_state = self.optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        params, method_state = self.method.after_step(params, method_state, t=t)
        metrics = metrics | {
            "loss": loss,
            "learning_rate": self.learning_rate(state.step),
            "grad_norm": optax.tree.norm(gradient),
        }
        after = TrainState(state.step + 1, params, opt_state, method_state, state.sampler_state)
        return after, metrics

    def encoder_variables(self, state: TrainState) -> Tree:
        """The encoder's variables, as evaluation and export load them."""
        return self.method.encoder_variables(state.params, state.method_state)


def make_train_step(config: ConfigDict, method: Method, steps_per_epoch: int) -> TrainStep:
    """The step of a run of `config.epochs` epochs of so many steps."""
    total = config.epochs * steps_per_epoch
    if total >= 2**31:  # by which the state counts them
        raise UserError(f"epochs is {config.epochs}, {total} steps: train for less than 2**31")
    optim = build("optim", config.optim)
    length = (config.batch_size, steps_per_epoch, config.epochs)
    return TrainStep(
        method=method,
        sampler=build("sampler", config.sampler),
        views=ViewConfig(**config.views.to_dict()),
        optimizer=optim.transform(*length),
        learning_rate=optim.schedule(*length),
        total_steps=total,
    )


def with_pretrained_encoder(state: TrainState, encoder: Tree) -> TrainState:
    """The state with the variables `encoder` in every encoder: in those of targets too."""
    flat = flax.traverse_util.flatten_dict(encoder, sep="/")
    values = {name.partition("/")[2]: value for name, value in flat.items()}

    def replaced(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        _, found, inside = _name(path).partition(ENCODER)
        return jax.device_put(values[inside], leaf.sharding) if found else leaf

    trees = (state.params, state.method_state)
    params, method_state = jax.tree_util.tree_map_with_path(replaced, trees)
    return dataclasses.replace(state, params=params, method_state=method_state)


def count_parameters(params: Tree) -> tuple[int, int]:
    """The number of parameters of the encoder, and of heads and prototypes."""
    sizes = [
        (ENCODER in _name(path), int(np.prod(leaf.shape)))
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]
    encoder = sum(size for in_encoder, size in sizes if in_encoder)
    return encoder, sum(size for _, size in sizes) - encoder


def _name(path: tuple[Any, ...]) -> str:
    return "/" + jax.tree_util.keystr(path, simple=True, separator="/")
