"""Each view from its own random box of the whole image: what SimCLR and later methods do."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxssl.image.boxes import random_box, whole_box
from jaxssl.types import Batch, Tree, ViewSpec


def boxes_within(
    key: PRNGKeyArray, within: Float[Array, "4"], specs: tuple[ViewSpec, ...]
) -> Float[Array, "v 4"]:
    """One random box for each view, inside the box `within`."""
    keys = jax.random.split(key, len(specs))
    return jnp.stack(
        [
            random_box(k, within, s.scale, s.ratio, rule=s.crop_rule)
            for k, s in zip(keys, specs, strict=True)
        ]
    )


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """Draws an area, an aspect ratio and a place for every view on its own."""

    needs_regions: ClassVar[bool] = False

    def init(self, num_examples: int) -> Tree:
        """No memory."""
        return ()

    def boxes(
        self, key: PRNGKeyArray, example: Batch, memory: Tree, specs: tuple[ViewSpec, ...]
    ) -> tuple[Float[Array, "v 4"], Bool[Array, ""]]:
        """A box for each view; never falls back."""
        return boxes_within(key, whole_box(example["hw"]), specs), jnp.zeros((), bool)
