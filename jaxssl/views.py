"""sampler x crop x flip x color: a batch of canvases becomes a list of views, on the device."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray

from jaxssl.errors import UserError, check_choice, check_range
from jaxssl.image import pyramid
from jaxssl.image.augment import NORMALIZE, RECIPES, Color, augment, normalize
from jaxssl.image.boxes import crop, flip, whole_box
from jaxssl.samplers import Sampler
from jaxssl.types import Batch, Leaf, Tree, View, ViewSpec

CUT = ("image", "levels", "region_planes", "planes_hw")  # the arrays that views are cut from
# So many pixels of views at a time, and all they are made of, stay in the cache of a CPU core or in
# the fast memory of a TPU.
FAST_PIXELS = {"cpu": 2 * 128**2, "tpu": 32 * 128**2}
POINT = 4  # pixels of a view to a point of its region planes: 8 points to a cell of a ResNet


@dataclasses.dataclass(frozen=True)
class ViewConfig:
    """The views of an image. Scales are fractions of the area that a view is cut from."""

    num_global: int = 2
    size: int = 128
    scale: tuple[float, float] = (0.08, 1.0)
    num_local: int = 0
    local_size: int = 64
    local_scale: tuple[float, float] = (0.05, 0.4)
    recipe: str = "s3same"  # a name in `augment.RECIPES`
    normalize: str = "imagenet"  # a name in `augment.NORMALIZE`
    # Whether views keep what the recipe has of each.
    flip: bool = True
    color: bool = True  # jitter and gray
    blur: bool = True

    def __post_init__(self) -> None:
        for field, table in (("recipe", RECIPES), ("normalize", NORMALIZE)):
            check_choice(f"views.{field}", getattr(self, field), table)
        for field in ("scale", "local_scale"):
            scale = getattr(self, field)
            if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
                raise UserError(
                    f"views.{field} is {scale}; give two fractions 0 < low <= high <= 1"
                )
        check_range("views.num_global", self.num_global, "1 or more")
        check_range("views.num_local", self.num_local, "0 or more")
        if self.num_local and self.local_size > self.size:
            raise UserError(
                f"views.local_size is {self.local_size}, more than views.size, {self.size}: set "
                f"--config.views.local_size={self.size // 2}"
            )

    def specs(self) -> tuple[ViewSpec, ...]:
        """One entry for each view: the global ones, then the local ones."""
        recipe = RECIPES[self.recipe]
        last = len(recipe.views) - 1
        colors = [recipe.views[min(i, last)] for i in range(self.num_global)]
        kinds = [(self.size, self.scale, c, True) for c in colors]
        kinds += [(self.local_size, self.local_scale, recipe.local, False)] * self.num_local
        return tuple(
            ViewSpec(size, scale, recipe.ratio, recipe.crop_rule, self._keep(color), is_global)
            for size, scale, color, is_global in kinds
        )

    def _keep(self, color: Color) -> Color:
        """The changes of a recipe, without those that are switched off."""
        if not self.color:
            color = dataclasses.replace(color, jitter_prob=0.0, gray_prob=0.0)
        return color if self.blur else dataclasses.replace(color, blur_prob=0.0)

    def flip_prob(self) -> float:
        """The probability that an image and its regions are flipped."""
        return RECIPES[self.recipe].flip_prob if self.flip else 0.0


def crop_view(
    key: PRNGKeyArray, canvas: Batch, box: Float[Array, "4"], spec: ViewSpec, views: ViewConfig
) -> View:
    """One view of one image: crop, flip, color, normalize. Its regions are cut and flip alike.

    Args:
      key: used once.
      canvas: of the image: `image`, `levels`, `hw`, and, if there are regions, `region_planes`.
      box: y0 x0 y1 x1, in pixels of the original image.
      spec: of the view.
      views: has the recipe and the normalization.
    """
    recipe, hw = RECIPES[views.recipe], canvas["hw"]
    key_flip, key_color = jax.random.split(key)
    if spec.color.before_crop is None:
        pixels = pyramid.crop(canvas, box, spec.size, recipe.interpolation)
    else:
        key_color, key_whole = jax.random.split(key_color)
        whole = pyramid.crop(canvas, whole_box(hw), spec.size, recipe.interpolation)
        whole = augment(key_whole, whole, spec.color.before_crop)
        pixels = crop(whole, box, hw, spec.size, recipe.interpolation)
    pixels = flip(key_flip, pixels, views.flip_prob(), spec.color.flip_axis)
    pixels = augment(key_color, pixels, spec.color)
    planes = None
    if "region_planes" in canvas:
        points = max(1, spec.size // POINT)
        shape = canvas["planes_hw"]
        planes = pyramid.crop_nearest(canvas["region_planes"], shape, box, hw, points)
        planes = flip(key_flip, planes, views.flip_prob(), spec.color.flip_axis)
    return View(image=normalize(pixels, views.normalize), planes=planes)


def blank_views(batch: Batch, views: ViewConfig) -> list[View]:
    """A black view of each spec, as if `make_views` had cut it from a batch of one image."""
    canvas, attach = pyramid.detach({k: batch[k] for k in (*CUT, "hw") if k in batch})
    one = jax.tree.map(lambda x: x[0], canvas)

    def blank(spec: ViewSpec) -> View:
        def cut(image: Batch) -> View:
            return crop_view(jax.random.key(0), attach(image), whole_box(image["hw"]), spec, views)

        return jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), jax.eval_shape(cut, one))

    kinds = {spec: blank(spec) for spec in set(views.specs())}
    return [kinds[spec] for spec in views.specs()]


def whole_images(
    batch: Batch, views: ViewConfig, interpolation: str
) -> Float[Array, "b {views.size} {views.size} 3"]:
    """Each image of a batch of canvases, whole, of the size of a view, normalized, unchanged."""
    own, attach = pyramid.detach({k: batch[k] for k in ("image", "levels", "hw")})

    def whole(image: Batch) -> Array:
        return pyramid.crop(attach(image), whole_box(image["hw"]), views.size, interpolation)

    return normalize(jax.vmap(whole)(own), views.normalize)


def choose_boxes(
    key: PRNGKeyArray, batch: Batch, memory: Tree, sampler: Sampler, specs: tuple[ViewSpec, ...]
) -> tuple[Float[Array, "b v 4"], Bool[Array, " b"], Key[Array, " b"]]:
    """Draws the box of each view of each image.

    Args:
      key: used once.
      batch: of b canvases, with the `index` of each image in the data set.
      memory: of the sampler.
      sampler: says where.
      specs: of the v views.

    Returns:
      Boxes in pixels of the original images; whether the sampler fell back; a key for the rest.
    """
    example = {k: v for k, v in batch.items() if k not in (*CUT, "label")}
    keys = jax.vmap(jax.random.split)(jax.random.split(key, len(batch["hw"])))  # [b, 2]
    boxes, fallback = jax.vmap(lambda k, e: sampler.boxes(k, e, memory, specs))(keys[:, 0], example)
    return boxes, fallback, keys[:, 1]


@jax.named_scope("views")  # the name of these operations in a profile
def make_views(
    key: PRNGKeyArray, batch: Batch, memory: Tree, sampler: Sampler, views: ViewConfig
) -> tuple[list[View], Float[Array, ""]]:
    """The views of a batch, and the share of images in which the sampler fell back.

    Views of one spec go through one computation: half the code to compile for two views.

    Args:
      key: used once.
      batch: of b canvases, with the `index` of each image in the data set.
      memory: of the sampler.
      sampler: says where views are cut.
      views: how many of which kind, and their augmentation.

    Returns:
      A `View` of all images for each spec, the global ones first; f32[].
    """
    specs = views.specs()
    boxes, fallback, keys = choose_boxes(key, batch, memory, sampler, specs)
    view_keys = jax.vmap(lambda k: jax.random.split(k, len(specs)))(keys)  # [b, v]

    canvas, attach = pyramid.detach({k: batch[k] for k in (*CUT, "hw") if k in batch})
    done: dict[int, View] = {}
    for spec in dict.fromkeys(specs):
        which = [i for i, s in enumerate(specs) if s == spec]
        index = jnp.array(which)

        def views_of(image: Tree, spec: ViewSpec = spec) -> View:
            keys, canvas, boxes = image
            cut = functools.partial(crop_view, spec=spec, views=views)
            return jax.vmap(cut, in_axes=(0, None, 0))(keys, attach(canvas), boxes)

        images = (view_keys[:, index], canvas, boxes[:, index])
        cuts = _of_each_image(views_of, images, len(which) * spec.size**2)
        for j, i in enumerate(which):
            done[i] = jax.tree.map(lambda x, j=j: x[:, j], cuts)
    return [done[i] for i in range(len(specs))], fallback.mean(dtype=jnp.float32)


def _of_each_image(function: Callable[[Tree], Tree], images: Tree, pixels: int) -> Tree:
    """`function` of each of the images that trees of arrays hold; `pixels` are those it makes."""
    at_once = jax.vmap(function)
    mesh = jax.sharding.get_abstract_mesh()
    devices = 1 if mesh.empty else mesh.size
    # Not `platform_dependent`, which would trace the views once for each platform there is.
    platform = jax.default_backend() if mesh.empty else mesh.abstract_device.platform
    if platform not in FAST_PIXELS:
        return at_once(images)
    number = len(jax.tree.leaves(images)[0]) // devices  # of each device
    few = max(1, min(number, FAST_PIXELS[platform] // pixels))
    few = next(n for n in range(few, 0, -1) if number % n == 0)

    # A part has as many images of each device, which goes through its own.
    def split(x: Leaf) -> Leaf:
        x = x.reshape(devices, -1, few, *x.shape[1:]).swapaxes(0, 1)
        return x.reshape(-1, devices * few, *x.shape[3:])

    def join(x: Array) -> Array:
        x = x.reshape(-1, devices, few, *x.shape[2:]).swapaxes(0, 1)
        return x.reshape(-1, *x.shape[3:])

    return jax.tree.map(join, jax.lax.map(at_once, jax.tree.map(split, images)))
