"""sampler x crop x flip x colour: a batch of canvases becomes a list of views, on the device."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray

from jaxssl.errors import UserError
from jaxssl.image.augment import NORMALIZE, RECIPES, augment, normalize
from jaxssl.image.boxes import crop, crop_nearest, flip
from jaxssl.samplers import Sampler
from jaxssl.types import Batch, Tree, View, ViewSpec

POINT = 4  # pixels of a view to a point of its region planes: 8 points to a cell of a ResNet


@dataclasses.dataclass(frozen=True)
class ViewConfig:
    """How many views of which kind. Scales are fractions of the area a view is cut from."""

    num_global: int = 2
    size: int = 128
    scale: tuple[float, float] = (0.08, 1.0)
    num_local: int = 0
    local_size: int = 64
    local_scale: tuple[float, float] = (0.05, 0.4)
    recipe: str = "s3same"  # a name in `augment.RECIPES`
    normalize: str = "imagenet"  # a name in `augment.NORMALIZE`

    def __post_init__(self):
        for field, table in (("recipe", RECIPES), ("normalize", NORMALIZE)):
            if getattr(self, field) not in table:
                raise UserError(
                    f"views.{field} is {getattr(self, field)!r}; choose one of {', '.join(table)}"
                )
        for field in ("scale", "local_scale"):
            scale = getattr(self, field)
            if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
                raise UserError(
                    f"views.{field} is {scale}; give two fractions 0 < low <= high <= 1"
                )
        if self.num_global < 1 or self.num_local < 0:
            raise UserError("views.num_global must be 1 or more and views.num_local 0 or more")

    def specs(self) -> tuple[ViewSpec, ...]:
        """One entry for each view: the global ones, then the local ones."""
        recipe = RECIPES[self.recipe]
        last = len(recipe.views) - 1
        colors = [recipe.views[min(i, last)] for i in range(self.num_global)]
        kinds = [(self.size, self.scale, c) for c in colors]
        kinds += [(self.local_size, self.local_scale, recipe.local)] * self.num_local
        return tuple(
            ViewSpec(size, scale, recipe.ratio, recipe.crop_rule, color)
            for size, scale, color in kinds
        )


def crop_view(
    key: PRNGKeyArray, canvas: Batch, box: Float[Array, "4"], spec: ViewSpec, views: ViewConfig
) -> View:
    """One view of one image, a canvas of bytes: crop, flip, colour, normalise.

    Its regions are cut and flip alike.
    """
    recipe, image, hw = RECIPES[views.recipe], canvas["image"], canvas["hw"]
    key_flip, key_color = jax.random.split(key)
    if spec.color.before_crop is not None:
        key_color, key_canvas = jax.random.split(key_color)
        image = augment(key_canvas, image.astype(jnp.float32) / 255, spec.color.before_crop)
    pixels = crop(image, box, hw, spec.size, recipe.interpolation)
    pixels = flip(key_flip, pixels, recipe.flip_prob, spec.color.flip_axis)
    pixels = augment(key_color, pixels, spec.color)
    planes = None
    if "region_planes" in canvas:
        points = spec.size // POINT
        planes = crop_nearest(canvas["region_planes"], box, hw, points)
        planes = flip(key_flip, planes, recipe.flip_prob, spec.color.flip_axis)
    return View(image=normalize(pixels, views.normalize), planes=planes)


def choose_boxes(
    key: PRNGKeyArray, batch: Batch, memory: Tree, sampler: Sampler, specs: tuple[ViewSpec, ...]
) -> tuple[Float[Array, "b v 4"], Bool[Array, " b"], Key[Array, " b"]]:
    """Where the views of each image are cut, whether the sampler fell back, a key for the rest."""
    example = {k: v for k, v in batch.items() if k not in ("image", "label")}
    keys = jax.vmap(jax.random.split)(jax.random.split(key, len(batch["image"])))  # [b, 2]
    boxes, fallback = jax.vmap(lambda k, e: sampler.boxes(k, e, memory, specs))(keys[:, 0], example)
    return boxes, fallback, keys[:, 1]


@jax.named_scope("views")  # the name of these operations in a profile
def make_views(
    key: PRNGKeyArray, batch: Batch, memory: Tree, sampler: Sampler, views: ViewConfig
) -> tuple[list[View], Float[Array, ""]]:
    """The views of a batch, and the share of images in which the sampler fell back.

    Views of one spec go through one computation: half the code to compile for two views.
    """
    specs = views.specs()
    boxes, fallback, keys = choose_boxes(key, batch, memory, sampler, specs)
    view_keys = jax.vmap(lambda k: jax.random.split(k, len(specs)))(keys)  # [b, v]

    canvas = {k: batch[k] for k in ("image", "hw", "region_planes") if k in batch}
    done: dict[int, View] = {}
    for spec in dict.fromkeys(specs):
        which = [i for i, s in enumerate(specs) if s == spec]
        cut = jax.vmap(  # over images, then over the views of this spec
            jax.vmap(lambda k, c, box, spec=spec: crop_view(k, c, box, spec, views),
                     in_axes=(0, None, 0))
        )  # fmt: skip
        index = jnp.array(which)
        cuts = cut(view_keys[:, index], canvas, boxes[:, index])
        for j, i in enumerate(which):
            done[i] = jax.tree.map(lambda x, j=j: x[:, j], cuts)
    return [done[i] for i in range(len(specs))], fallback.mean(dtype=jnp.float32)
