"""What everything passes around: trees of arrays, and configs as they are saved."""

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

import flax.struct
import jax
from jaxtyping import PyTree

if TYPE_CHECKING:
    Leaf: TypeAlias = jax.Array
else:
    Leaf = Any  # fields of trees also hold tracers, shapes and shardings: no type to be checked
Tree: TypeAlias = PyTree  # of arrays
Batch: TypeAlias = dict[str, Any]  # what the data pipeline yields: arrays whose axis 0 is the image


@dataclasses.dataclass(frozen=True)
class ViewSpec:
    """The kind of a view. It holds no array, so two views of one spec share a computation."""

    size: int  # side, pixels
    scale: tuple[float, float]  # smallest and largest area, as a fraction of what it is cut from
    ratio: tuple[float, float]  # smallest and largest width / height
    crop_rule: str  # what to do with a box that does not fit: `boxes.random_box`
    color: Any  # `augment.Color`
    is_global: bool = True


@flax.struct.dataclass
class View:
    """One view of each image of a batch, as the network sees it."""

    image: Leaf  # f32[b, s, s, 3], normalized
    planes: Tree = None  # u32[b, l, l, P]: bit r of a point says that region r covers it


@flax.struct.dataclass
class Features:
    """Features of a batch of views."""

    grid: Leaf  # f32[b, h, w, d]
    pooled: Leaf  # f32[b, d]: mean of the grid, or a ViT's class token


@flax.struct.dataclass
class TrainState:
    """Training state: with it, the seed and the config, a run continues."""

    step: Leaf  # i32[]
    params: Tree  # what the gradient moves
    opt_state: Tree
    method_state: Tree  # what else a method keeps: batch statistics, target network, queue, center
    sampler_state: Tree  # what a sampler keeps: () or one entry per image of the data set


class Named(TypedDict):
    """A section that is one class out of several."""

    name: str


class SavedConfig(TypedDict):
    """The keys that the saved config of a run has, whichever version wrote it."""

    encoder: Named
    method: Named
    sampler: Named
    optim: Named
