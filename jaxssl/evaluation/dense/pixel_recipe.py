"""Training of networks on images with a class or a depth for every pixel."""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.label_maps import VOID
from jaxssl.errors import UserError, check_choice
from jaxssl.evaluation.canvas_batches import CanvasBatches
from jaxssl.evaluation.datasets import whole_batch
from jaxssl.evaluation.fine_tuning import Change, Loss, fine_tune
from jaxssl.evaluation.pixels import CROPS, Pixels
from jaxssl.evaluation.ranges import check_numbers
from jaxssl.image import pyramid
from jaxssl.image.augment import normalize
from jaxssl.image.boxes import flip, random_box, whole_box
from jaxssl.models.vit import ViT
from jaxssl.optim import AdamW, Sgd
from jaxssl.pretrained.encoder import Encoder
from jaxssl.types import Batch, Tree

USUAL_CROP = 512  # pixels, at most, if none is given

log = logging.getLogger("jaxssl")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The recipe of a training."""

    epochs: int
    batch_size: int = 16  # at most: see `whole_batch`
    optimizer: str = "sgd"  # with momentum 0.9 | adam
    lr: float
    schedule: str = "drops"  # to a tenth, at each of `milestones` | cosine, to 0 | constant
    milestones: tuple[float, ...] = (0.7, 0.9)  # fractions of training
    weight_decay: float = 0.0
    warmup: float = 0.0  # the part of training over which the rate rises
    fraction: float = 1.0  # of the training images, drawn by the seed
    scratch: bool = False  # whether to train from random weights besides, to compare with

    def __post_init__(self) -> None:
        for field, allowed in (
            ("optimizer", ("sgd", "adam")),
            ("schedule", ("drops", "cosine", "constant")),
        ):
            check_choice(field, getattr(self, field), allowed)
        ranges = {"1 or more": "epochs batch_size", "above 0": "lr", "0 or more": "weight_decay"}
        check_numbers(self, ranges | {"from 0 to 1": "milestones warmup", "in (0, 1]": "fraction"})

    def images_of(self, count: int) -> int:
        """How many of `count` training images are used."""
        return max(1, round(self.fraction * count))

    def batches_of(self, count: int, devices: int) -> tuple[int, int]:
        """The images of a batch and the batches of an epoch, of `count` training images."""
        used = self.images_of(count)
        batch_size = whole_batch(self.batch_size, used, devices)
        return batch_size, used // batch_size

    def transform(self, batch_size: int, steps: int) -> optax.GradientTransformation:
        """The optimizer, for batches of so many images and epochs of so many steps."""
        options: dict[str, Any] = {
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "scale_lr_by_batch": "none",
            "cosine_per": "step",
            "milestones": self.milestones if self.schedule == "drops" else (),
            "end_factor": 1.0 if self.schedule == "constant" else 0.0,
            "warmup_epochs": self.warmup * self.epochs,
        }
        optim = AdamW(**options) if self.optimizer == "adam" else Sgd(**options)
        return optim.transform(batch_size, steps, self.epochs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CropRecipe(Recipe):
    """The recipe of a training on crops of images that keep their shape."""

    scale: tuple[float, ...] = (1.0, 1.0)  # images are resized by a factor drawn from here
    area: tuple[float, ...] = ()  # or this part of an image is squashed to a square (torchvision)
    crop: int = 0  # side of what is cut out, pixels; where the image ends, void. 0: see `crop_side`
    flip: float = 0.0  # probability

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, {"from 0 to 1": "flip", "above 0": "scale"})
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise UserError(f"scale is {self.scale}; give the least and the largest factor")
        if self.area and not (len(self.area) == 2 and 0 < self.area[0] <= self.area[1] <= 1):
            raise UserError(f"area is {self.area}; give the least and the largest part, or ()")
        if self.crop and not CROPS[0] <= self.crop <= CROPS[1]:
            raise UserError(f"crop is {self.crop}; give {CROPS[0]} to {CROPS[1]} pixels, or 0")

    def crop_side(self, pixels: Pixels, encoder: nn.Module) -> int:
        """The side of crops: if not given, that of most images' shorter side, at most 512.

        It is rounded down to whole patches of a ViT: 512 pixels where a paper has 513 for a ResNet.
        """
        sides = pixels.train["levels"][:, 0, 1:].min(axis=1)
        usual = pixels.shorter or int(np.median(sides))
        side = self.crop or int(np.clip(usual, CROPS[0], USUAL_CROP))
        patch = encoder.patch if isinstance(encoder, ViT) else 1
        return max(side // patch, 1) * patch

    def decided(self, pixels: Pixels, encoder: Encoder) -> dict[str, int]:
        """What the images and the devices decide of the protocol, to be saved with it."""
        batch_size, _ = self.batches_of(len(pixels.train["hw"]), encoder.mesh.size)
        return {"crop": self.crop_side(pixels, encoder.network), "batch_size": batch_size}


@dataclasses.dataclass(frozen=True)
class RandomCrops:
    """Crops of a batch of canvases and their maps, as a recipe says."""

    recipe: CropRecipe
    normalization: str
    size: int  # side of the crops
    shorter: int  # to which the shorter side of an image is resized first; 0: it is not
    class_of: bytes = b""  # the class of each label value; b"": the map has depths
    points: int = 0  # side of the truth; 0: that of the crops

    def __call__(self, key: PRNGKeyArray, batch: Batch) -> tuple[Array, Array]:
        """Normalized images f32[b, c, c, 3] and truth [b, p, p]."""
        kind = "semantic" if self.class_of else "depth"
        own, attach = pyramid.detach({n: batch[n] for n in ("image", "levels", "hw", kind)})

        def cut(key: PRNGKeyArray, image: Batch) -> tuple[Array, Array]:
            return self.cut(key, attach(image))

        return jax.vmap(cut)(jax.random.split(key, len(batch["hw"])), own)

    def cut(self, key: PRNGKeyArray, canvas: Batch) -> tuple[Array, Array]:
        """A crop of one image and its truth, mirrored or not."""
        box_key, flip_key = jax.random.split(key)
        box = self.box(box_key, canvas)
        image = pyramid.crop(canvas, box, self.size, "bilinear", beyond=True)
        shape = canvas["levels"][0, 1:]
        values = canvas["semantic" if self.class_of else "depth"]
        side = self.points or self.size
        truth = pyramid.crop_nearest(values, shape, box, canvas["hw"], side)
        if self.class_of:
            truth = jnp.asarray(np.frombuffer(self.class_of, np.uint8))[truth]

        def inside(side: int) -> Bool[Array, "s s"]:
            step = (box[2:] - box[:2]) / side
            center = box[:2, None] + step[:, None] * (jnp.arange(side) + 0.5)[None]
            is_in = (center >= 0) & (center < canvas["hw"][:, None])
            return is_in[0][:, None] & is_in[1][None]

        image = normalize(image, self.normalization)
        image = jnp.where(inside(self.size)[..., None], image, 0)
        truth = jnp.where(inside(side), truth, VOID if self.class_of else 0).astype(truth.dtype)
        prob = self.recipe.flip
        return flip(flip_key, image, prob), flip(flip_key, truth, prob)

    def box(self, key: PRNGKeyArray, canvas: Batch) -> Float[Array, "4"]:
        """The box to cut out of an image, in its original pixels; it may reach out of the image.

        It lies anywhere in the resized image, or that anywhere in it, along each side.
        """
        if self.recipe.area:
            least, most = self.recipe.area
            return random_box(key, whole_box(canvas["hw"]), (least, most))
        scale_key, place_key = jax.random.split(key)
        kept = canvas["levels"][0, 1:].astype(jnp.float32)
        low, high = self.recipe.scale
        factor = jax.random.uniform(scale_key, minval=low, maxval=high)
        factor = factor * (self.shorter / kept.min() if self.shorter else 1.0)
        room = factor * kept - self.size
        start = jax.random.uniform(place_key, (2,)) * room / factor
        box = jnp.concatenate([start, start + self.size / factor])
        return box * jnp.tile(canvas["hw"] / kept, 2)


def train_on_pixels(
    network: nn.Module,
    encoder: Encoder,
    recipe: Recipe,
    loss: Loss,
    change: Change,
    batches: Callable[[np.ndarray], Iterator[Batch]],
    *,
    count: int,
    size: int,
    seed: int,
    resident: Tree | None = None,
) -> dict[str, Encoder]:
    """A network after training, under ""; from random weights under "scratch_".

    Args:
      network: an encoder like the one given, with a head.
      encoder: whose weights the network starts from.
      recipe: if it says so, the network is trained from random weights as well.
      loss: of outputs and truth.
      change: from a batch to normalized images and truth.
      batches: of images for rows i64[steps, b].
      count: of training images.
      size: side of what the network gets, pixels.
      seed: of weights, of the images drawn and of their augmentation.
      resident: arrays that batches hold indices of; None: there are none.

    Raises:
      UserError: the loss is not finite; or there are fewer images than devices.
    """
    batch_size, steps = recipe.batches_of(count, encoder.mesh.size)
    trained = {}
    for prefix in ("", "scratch_") if recipe.scratch else ("",):
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(count)[: recipe.images_of(count)]
        rows = [
            np.resize(rng.permutation(chosen), (steps, batch_size)) for _ in range(recipe.epochs)
        ]
        trained[prefix] = fine_tune(
            network,
            encoder,
            batches(np.concatenate(rows)),
            loss,
            change,
            recipe,
            steps=steps,
            batch_size=batch_size,
            size=size,
            seed=seed,
            resident=resident,
            scratch=bool(prefix),
            task="training",
        )
    return trained


def train_on_crops(
    network: nn.Module,
    encoder: Encoder,
    pixels: Pixels,
    recipe: CropRecipe,
    loss: Loss,
    *,
    seed: int,
    points: int = 0,
) -> dict[str, Encoder]:
    """`train_on_pixels` on random crops of images that keep their shape.

    Args:
      network: an encoder like the one given, with a head.
      encoder: whose weights the network starts from.
      pixels: images as canvases, and what is true of each of their pixels.
      recipe: how to crop and to train.
      loss: of outputs and truth.
      seed: of all that is random.
      points: side of the truth; 0: that of the crops.
    """
    assert isinstance(pixels.spec, CanvasSpec)
    size = recipe.crop_side(pixels, encoder.network)
    if size != (recipe.crop or size):
        log.warning("crops have %d pixels a side, not %d: whole patches", size, recipe.crop)
    class_of = b"" if pixels.class_of is None else pixels.class_of.tobytes()
    change = RandomCrops(recipe, encoder.normalization, size, pixels.shorter, class_of, points)
    canvases = CanvasBatches(pixels.spec, pixels.train, encoder.mesh)
    return train_on_pixels(
        network,
        encoder,
        recipe,
        loss,
        change,
        canvases.of,
        count=len(pixels.train["hw"]),
        size=size,
        seed=seed,
        resident=canvases.resident,
    )
