"""How networks are trained on images with a class or a depth for every pixel, and asked."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from jaxssl import sharding
from jaxssl.errors import UserError
from jaxssl.evaluation.fine_tuning import Loss, fine_tune, predict
from jaxssl.evaluation.pixels import Pixels
from jaxssl.image.augment import normalize
from jaxssl.optim import AdamW, Sgd
from jaxssl.pretrained.encoder import Encoder
from jaxssl.types import Batch


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

    def transform(self, batch_size: int, steps: int) -> optax.GradientTransformation:
        """The optimizer, for batches of so many images and epochs of so many steps."""
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
        return optim.transform(batch_size, steps, self.epochs)


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


@dataclasses.dataclass(frozen=True)
class AugmentedMaps:
    """A batch of image u8[b, s, s, 3] and truth [b, s, s], augmented by the recipe."""

    recipe: Recipe
    normalization: str
    void: int

    def __call__(self, key: PRNGKeyArray, batch: Batch) -> tuple[Array, Array]:
        """Normalized images and truth."""
        pixels = normalize(batch["image"].astype(jnp.float32) / 255, self.normalization)
        keys = jax.random.split(key, len(pixels))
        change = jax.vmap(lambda k, image, truth: augment(k, image, truth, self.void, self.recipe))
        return change(keys, pixels, batch["truth"])


def predict_pixels(
    network: nn.Module, encoder: Encoder, data: Pixels, recipe: Recipe, loss: Loss, *, seed: int
) -> dict[str, np.ndarray]:
    """Predictions for the test images after training on the others, under "".

    Args:
      network: an encoder like the one given, with a head.
      encoder: whose weights the network starts from.
      data: images, and what is true of each of their pixels.
      recipe: if it says so, the network is trained from random weights as well: "scratch_".
      loss: of outputs and truth.
      seed: of weights, of the images drawn and of their augmentation.

    Returns:
      Classes u8[n, s, s] or numbers f32[n, s, s].

    Raises:
      UserError: the loss is not finite; or the batch does not divide over the devices.
    """
    sharding.check_batch_size(recipe.batch_size, encoder.mesh)
    images, size = data.train["image"], data.train["image"].shape[1]
    void = 0 if data.class_of is None else 255
    change = AugmentedMaps(recipe, encoder.normalization, void)
    outputs = {}
    for prefix in ("", "scratch_") if recipe.scratch else ("",):
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(len(images))[: max(1, round(recipe.fraction * len(images)))]
        steps = max(1, len(chosen) // recipe.batch_size)
        rows = [
            np.resize(rng.permutation(chosen), (steps, recipe.batch_size))
            for _ in range(recipe.epochs)
        ]
        variables = fine_tune(
            network,
            encoder,
            ({"image": images[r], "truth": data.truth("train", r)} for r in np.concatenate(rows)),
            loss,
            change,
            recipe,
            steps=steps,
            batch_size=recipe.batch_size,
            size=recipe.crop or size,
            seed=seed,
            scratch=bool(prefix),
            task=f"training on {data.name}",
        )
        kind = "number" if data.class_of is None else "class"
        outputs[prefix] = predict(network, variables, encoder, data.test["image"], kind=kind)
    return outputs
