"""One training step for every method, and the state it starts from."""

import dataclasses
from collections.abc import Callable

import flax.traverse_util
import jax
import jax.numpy as jnp
import optax
from jaxtyping import PRNGKeyArray

from jaxssl.methods import Method
from jaxssl.samplers import Sampler
from jaxssl.types import Batch, TrainState, Tree
from jaxssl.views import ViewConfig, make_views


def init_state(
    key: PRNGKeyArray,
    batch: Batch,
    *,
    method: Method,
    sampler: Sampler,
    views: ViewConfig,
    optimizer: optax.GradientTransformation,
    num_examples: int,
) -> TrainState:
    """The state before the first step. Of `batch` only the shapes matter."""
    memory = sampler.init(num_examples)
    shapes, _ = jax.eval_shape(lambda k, b: make_views(k, b, memory, sampler, views), key, batch)
    blank = jax.tree.map(lambda x: jnp.zeros((1, *x.shape[1:]), x.dtype), shapes)
    params, method_state = method.init(key, blank)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        method=method_state,
        sampler=memory,
    )


def with_pretrained_encoder(state: TrainState, encoder: Tree) -> TrainState:
    """The state with the variables `encoder` in every encoder: in those of targets too."""
    flat = flax.traverse_util.flatten_dict(encoder, sep="/")
    values = {name.partition("/")[2]: value for name, value in flat.items()}

    def replaced(path: tuple, leaf: jax.Array) -> jax.Array:
        name = "/" + jax.tree_util.keystr(path, simple=True, separator="/")
        _, found, inside = name.partition("/encoder/")
        return jax.device_put(values[inside], leaf.sharding) if found else leaf

    params, method = jax.tree_util.tree_map_with_path(replaced, (state.params, state.method))
    return dataclasses.replace(state, params=params, method=method)


def make_train_step(
    *,
    method: Method,
    sampler: Sampler,
    views: ViewConfig,
    optimizer: optax.GradientTransformation,
    learning_rate: Callable,
    total_steps: int,
) -> Callable[[TrainState, Batch, Batch, PRNGKeyArray], tuple[TrainState, Tree]]:
    """Returns `step(state, batch, resident, root_key) -> (state, metrics)`, to be jitted.

    `resident` holds the arrays of the whole data set when they live on the device, and `batch` is
    then just the index of each image; otherwise `resident` is empty and `batch` holds the images.
    All randomness is drawn from `root_key` and the number of the step.
    """

    def step(
        state: TrainState, batch: Batch, resident: Batch, root_key: PRNGKeyArray
    ) -> tuple[TrainState, Tree]:
        batch = batch | {name: array[batch["index"]] for name, array in resident.items()}
        t = state.step / total_steps
        key_views, key_loss = jax.random.split(jax.random.fold_in(root_key, state.step))
        cut, fallback_fraction = make_views(key_views, batch, state.sampler, sampler, views)
        (loss, (method_state, metrics)), gradient = jax.value_and_grad(method.loss, has_aux=True)(
            state.params, state.method, cut, key=key_loss, t=t
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        params, method_state = method.after_step(params, method_state, t=t)
        metrics = metrics | {
            "loss": loss,
            "learning_rate": learning_rate(state.step),
            "grad_norm": optax.tree.norm(gradient),
            "fallback_fraction": fallback_fraction,
        }
        return TrainState(state.step + 1, params, opt_state, method_state, state.sampler), metrics

    return step
