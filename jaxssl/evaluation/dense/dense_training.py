"""Training a network that says something of every pixel: encoder and head, all of it, augmented.

Written for one device and run on many, as pre-training is: the batch is split over the mesh, and
batch statistics and gradients are those of the whole batch.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray, Shaped, UInt8

from jaxssl import sharding
from jaxssl.errors import UserError
from jaxssl.evaluation.dense_data import Pixels
from jaxssl.evaluation.features import FrozenEncoder
from jaxssl.image.augment import normalize
from jaxssl.optim import AdamW, Sgd
from jaxssl.progress import progress
from jaxssl.types import Leaf, Tree

# From what the network says f32[b, s, s, k] and the truth [b, s, s] to a number.
Loss = Callable[[Array, Array], Float[Array, ""]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train."""

    epochs: int
    batch_size: int = 16
    optimizer: str = "sgd"  # with momentum 0.9 | adam
    lr: float
    schedule: str = "drops"  # to a tenth, at each of `milestones` | cosine, to 0 | constant
    milestones: tuple[float, ...] = (0.7, 0.9)  # fractions of training
    weight_decay: float = 0.0
    scale: tuple[float, ...] = (1.0, 1.0)  # images are resized by a factor drawn from here
    crop: int = 0  # side of what is then cut out, pixels; where it is larger, the rest is void
    flip: float = 0.0  # probability
    fraction: float = 1.0  # of the training images, drawn by the seed
    scratch: bool = False  # whether to train from random weights besides, to compare with

    def __post_init__(self) -> None:
        for field, allowed in (
            ("optimizer", ("sgd", "adam")),
            ("schedule", ("drops", "cosine", "constant")),
        ):
            if (value := getattr(self, field)) not in allowed:
                raise UserError(f"unknown {field} {value!r}; choose one of {', '.join(allowed)}")
        if not (self.epochs > 0 and self.batch_size > 0 and 0 < self.fraction <= 1):
            raise UserError(f"{self}: epochs and batch_size must be > 0, fraction in (0, 1]")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise UserError(f"scale is {self.scale}; give the least and the largest factor")

    def transform(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """The optimizer."""
        options: dict[str, Any] = {
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "scale_lr_by_batch": "none",
            "cosine_per": "step",
            "milestones": self.milestones if self.schedule == "drops" else (),
            "end_factor": 1.0 if self.schedule == "constant" else 0.0,
        }
        adam = self.optimizer == "adam"
        optim = AdamW(**options, warmup_epochs=0.0) if adam else Sgd(**options)
        return optim.transform(self.batch_size, steps_per_epoch, self.epochs)


@flax.struct.dataclass
class DenseState:
    """All that lives between two steps."""

    step: Leaf  # i32[]
    params: Tree
    batch_stats: Tree
    opt_state: Tree


def augment(
    key: PRNGKeyArray,
    image: Float[Array, "s s 3"],
    truth: Shaped[Array, "s s"],
    void: int,
    recipe: Recipe,
) -> tuple[Float[Array, "c c 3"], Shaped[Array, "c c"]]:
    """The image resized by a random factor, a square cut out of it, and mirrored at random.

    Args:
      image: normalised; where the square reaches out of it, it is 0, the mean of all images.
      void: what the truth is there.
    """
    scale_key, place_key, flip_key = jax.random.split(key, 3)
    side = len(image)
    crop = recipe.crop or side
    scale = jax.random.uniform(scale_key, minval=recipe.scale[0], maxval=recipe.scale[1])
    room = crop - scale * side  # below 0: what there is to choose from; above: what is to fill
    place = jax.random.uniform(place_key, (2,)) * room
    image = jax.image.scale_and_translate(
        image, (crop, crop, 3), (0, 1), jnp.stack([scale, scale]), place, "linear"
    )
    source = jnp.floor((jnp.arange(crop)[None] + 0.5 - place[:, None]) / scale)
    inside = (source >= 0) & (source < side)
    row, column = jnp.clip(source, 0, side - 1).astype(jnp.int32)
    truth = jnp.where(
        inside[0][:, None] & inside[1][None, :], truth[row[:, None], column[None, :]], void
    ).astype(truth.dtype)
    mirrored = jax.random.bernoulli(flip_key, recipe.flip)
    return (
        jnp.where(mirrored, jnp.flip(image, axis=1), image),
        jnp.where(mirrored, jnp.flip(truth, axis=1), truth),
    )


def make_step(
    network: nn.Module,
    loss: Loss,
    recipe: Recipe,
    *,
    steps_per_epoch: int,
    normalization: str,
    void: int,
) -> Callable:
    """`step(state, batch, resident, key)` as `sharding.jit_step` takes it; nothing resides.

    A batch is image u8[b, s, s, 3] and truth [b, s, s].
    """
    optimizer = recipe.transform(steps_per_epoch)
    change = functools.partial(augment, void=void, recipe=recipe)

    def step(state: DenseState, batch: Tree, resident: Tree, key: PRNGKeyArray):
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
        pixels = normalize(batch["image"].astype(jnp.float32) / 255, normalization)
        keys = jax.random.split(augment_key, len(pixels))
        images, truth = jax.vmap(change)(keys, pixels, batch["truth"])

        def objective(params: Tree) -> tuple[Float[Array, ""], Tree]:
            y, changed = network.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout_key},
            )
            return loss(y.astype(jnp.float32), truth), changed.get("batch_stats", {})

        (value, stats), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return DenseState(state.step + 1, params, stats, opt_state), {"loss": value}

    return step


def init_state(
    network: nn.Module, encoder_variables: Tree | None, recipe: Recipe, size: int, seed: int
) -> DenseState:
    """Random weights, but for those of the encoder where they are given."""
    images = jnp.zeros((1, recipe.crop or size, recipe.crop or size, 3))
    variables = jax.jit(functools.partial(network.init, train=False))(jax.random.key(seed), images)
    params, stats = dict(variables["params"]), dict(variables.get("batch_stats", {}))
    if encoder_variables is not None:
        params["encoder"] = encoder_variables["params"]
        if given := encoder_variables.get("batch_stats", {}):
            stats["encoder"] = given
    opt_state = recipe.transform(1).init(params)
    # Copies: a step takes the memory of its state, and the encoder is still needed.
    return jax.tree.map(jnp.array, DenseState(jnp.int32(0), params, stats, opt_state))


@functools.cache
def _compile(network: nn.Module, mesh: Mesh, **options) -> Callable:
    """One program for all seeds, and for both kinds of initial weights."""
    return sharding.jit_step(make_step(network, **options), mesh)


def train_network(
    network: nn.Module,
    encoder: FrozenEncoder,
    data: Pixels,
    recipe: Recipe,
    loss: Loss,
    *,
    seed: int,
    scratch: bool = False,
) -> Tree:
    """The variables of the network after training, the encoder's from its own or `scratch`.

    Raises:
      UserError: the loss is not finite; or the batch does not divide over the devices.
    """
    sharding.check_batch_size(recipe.batch_size, encoder.mesh)
    rng = np.random.default_rng(seed)
    count = max(1, round(recipe.fraction * len(data.train["image"])))
    chosen = rng.permutation(len(data.train["image"]))[:count]
    steps = max(1, count // recipe.batch_size)
    step = _compile(
        network,
        encoder.mesh,
        loss=loss,
        recipe=recipe,
        steps_per_epoch=steps,
        normalization=encoder.normalization,
        void=0 if data.class_of is None else 255,
    )
    size = data.train["image"].shape[1]
    given = None if scratch else encoder.variables
    state = init_state(network, given, recipe, size, seed)
    state = sharding.replicate(state, encoder.mesh)
    key = jax.random.key(seed)
    with progress(recipe.epochs * steps, f"training on {data.name}", show=encoder.show) as advance:
        for epoch in range(recipe.epochs):
            order = np.resize(rng.permutation(chosen), (steps, recipe.batch_size))
            for rows in order:
                batch = {"image": data.train["image"][rows], "truth": data.truth("train", rows)}
                state, metrics = step(state, batch, {}, key)
                advance(1)
            if not np.isfinite(metrics["loss"]):
                raise UserError(f"the loss is not finite in epoch {epoch + 1}; try a lower lr")
    return {"params": state.params, "batch_stats": state.batch_stats}


@functools.cache
def _compile_outputs(network: nn.Module, mesh: Mesh, normalization: str, classes: bool) -> Callable:
    def outputs(variables: Tree, images: UInt8[Array, "b s s 3"]) -> Array:
        pixels = normalize(images.astype(jnp.float32) / 255, normalization)
        y: Array = network.apply(variables, pixels, train=False)  # type: ignore[assignment]
        return y.argmax(axis=-1).astype(jnp.uint8) if classes else y[..., 0]

    return sharding.jit_over_rows(outputs, mesh)


def outputs_for(
    network: nn.Module, variables: Tree, data: Pixels, encoder: FrozenEncoder, batch_size: int
) -> np.ndarray:
    """What a network says of the test images: classes u8[n, s, s] or numbers f32[n, s, s]."""
    is_class = data.class_of is not None
    run = _compile_outputs(network, encoder.mesh, encoder.normalization, is_class)
    images = data.test["image"]
    batches = (images[i : i + batch_size] for i in range(0, len(images), batch_size))
    said = []
    for batch in batches:  # filled up, so that there is one program
        filled = np.pad(batch, [(0, batch_size - len(batch))] + [(0, 0)] * 3)
        said.append(np.asarray(run(variables, filled))[: len(batch)])
    return np.concatenate(said)


def fine_tune(
    network: nn.Module,
    encoder: FrozenEncoder,
    data: Pixels,
    recipe: Recipe,
    loss: Loss,
    *,
    seed: int,
) -> dict[str, np.ndarray]:
    """What the network says of the test images after training, under "".

    If the recipe says so, also what it says after training from random weights, under "scratch_".
    """
    outputs = {}
    for prefix in ("", "scratch_") if recipe.scratch else ("",):
        variables = train_network(
            network, encoder, data, recipe, loss, seed=seed, scratch=bool(prefix)
        )
        outputs[prefix] = outputs_for(network, variables, data, encoder, recipe.batch_size)
    return outputs
