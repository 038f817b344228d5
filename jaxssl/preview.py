"""Views to look at, cut by the code that cuts them in training."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxssl.config import base, build, build_method, defaults
from jaxssl.config.file import load_config
from jaxssl.data import Source, open_source
from jaxssl.data.loading import stack_arrays
from jaxssl.training.images import canvas_for
from jaxssl.types import Batch
from jaxssl.views import ViewConfig, choose_boxes, make_views


@dataclasses.dataclass(frozen=True)
class CutViews:
    """Views of b images, and where they were cut."""

    hw: np.ndarray  # i32[b, 2]: height and width of the original images
    boxes: np.ndarray  # f32[b, v, 4]: y0 x0 y1 x1, pixels of the original images
    views: list[np.ndarray]  # v times f32[b, s, s, 3]: augmented, colors in [0, 1]


def cut_views(
    config: ConfigDict, source: Source, indices: Sequence[int], *, seed: int = 0
) -> CutViews:
    """Random views of some images of a source, as in the first epoch, before normalization.

    A sampler that looks at images between epochs has not done so yet.

    Args:
      config: of a run, as `load_config` returns it; its `data.source` is not used.
      source: holds the images.
      indices: of the b images.
      seed: another one gives other views.
    """
    method, _ = build_method(config)
    sampler = build("sampler", config.sampler)
    views = ViewConfig(**config.views.to_dict() | {"normalize": "none"})
    spec = canvas_for(config, source, sampler, method)
    batch = stack_arrays(source, indices, spec) | {"index": np.array(indices, np.int32)}

    @jax.jit
    def cut(batch: Batch) -> tuple[jax.Array, list[jax.Array]]:
        key, memory = jax.random.key(seed), sampler.init(len(source))
        boxes, *_ = choose_boxes(key, batch, memory, sampler, views.specs())
        made, _ = make_views(key, batch, memory, sampler, views)
        return boxes, [jnp.clip(view.image, 0, 1) for view in made]

    boxes, images = cut(batch)
    return CutViews(batch["hw"], np.asarray(boxes), [np.asarray(image) for image in images])


def draw_views(
    config: ConfigDict, indices: Sequence[int] = range(4), *, seed: int = 0
) -> list[np.ndarray]:
    """Random views of some images of `config.data.source`: one f32[b, s, s, 3] for each view.

    Cut and colored as in the first epoch, colors in [0, 1].
    """
    source = open_source(config.data.source, seed=config.seed)
    return cut_views(config, source, indices, seed=seed).views


def preview_config(
    where: str = "", *, sampler: str = "", min_area: int | None = None
) -> ConfigDict:
    """The config that a preview draws views by: of a config file, or `path:variant`.

    "": the defaults of jaxssl, but with the sampler `region_crop`. `sampler` names another
    sampler, with its defaults; `min_area` is an option of it, if it has one.
    """
    config = load_config(where) if where else base()
    sampler = sampler or ("" if where else "region_crop")
    if sampler and sampler != config.sampler.name:
        config.sampler = defaults("sampler", sampler)
    if min_area is not None and "min_area" in config.sampler:
        config.sampler.min_area = min_area
    return config


def describe_views(config: ConfigDict) -> str:
    """A line that says how the global views of a config are cut."""
    views, (low, high) = config.views, config.views.scale
    options = [f"{key} {value}" for key, value in config.sampler.items() if key != "name"]
    return (
        f"{views.size} px, area {low:g} to {high:g} of image or region, recipe "
        f"{views.recipe}; {', '.join([f'sampler {config.sampler.name}', *options])}"
    )
