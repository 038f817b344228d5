"""Boxes lie inside the image, whatever the regions; regions are drawn as SAMCLR says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.image.augment import RECIPES
from jaxssl.samplers import SAMPLERS, RandomCrop, RegionCrop
from jaxssl.types import ViewSpec

RECIPE = RECIPES["none"]
SPECS = tuple(
    ViewSpec(16, scale, (3 / 4, 4 / 3), rule, RECIPE.local)
    for scale, rule in [((0.2, 1.0), "torchvision"), ((0.05, 0.2), "clip")]
)


def example(hw, boxes, areas):
    """An image with room for four regions."""
    padded = np.zeros((4, 4), np.float32), np.zeros(4, np.float32)
    padded[0][: len(boxes)], padded[1][: len(areas)] = np.reshape(boxes, (-1, 4)), areas
    return {
        "hw": jnp.array(hw, jnp.int32),
        "index": jnp.array(0),
        "region_boxes": jnp.array(padded[0]),
        "region_areas": jnp.array(padded[1]),
    }


@functools.cache  # compiling is what these tests wait for
def compiled(sampler, specs):
    memory = sampler.init(1)
    return jax.jit(jax.vmap(lambda k, e: sampler.boxes(k, e, memory, specs), in_axes=(0, None)))


def draw(sampler, image, n=400, specs=SPECS):
    boxes, fallback = compiled(sampler, specs)(jax.random.split(jax.random.key(0), n), image)
    return np.asarray(boxes), np.asarray(fallback)


IMAGES = {
    "no region": example((60, 90), [], []),
    "regions": example((60, 90), [[0, 0, 60, 90], [10, 20, 30, 60]], [5000, 700]),
    "one pixel region": example((60, 90), [[59, 89, 60, 90]], [1]),
    "one pixel image": example((1, 1), [[0, 0, 1, 1]], [1]),
    "thin image": example((3, 400), [[0, 0, 3, 400]], [1200]),
}


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_boxes_are_inside_and_not_empty(name, image):
    boxes, _ = draw(SAMPLERS[name](), image)
    height, width = np.asarray(image["hw"])
    y0, x0, y1, x1 = np.moveaxis(boxes, -1, 0)
    assert boxes.shape == (400, 2, 4)
    assert (y0 >= 0).all()
    assert (x0 >= 0).all()
    assert (y1 <= height).all()
    assert (x1 <= width).all()
    assert (y1 - y0 >= 1).all()
    assert (x1 - x0 >= 1).all()


def test_random_crop_never_falls_back():
    assert not draw(RandomCrop(), IMAGES["no region"])[1].any()


WHOLE = (ViewSpec(16, (1.0, 1.0), (1.0, 1.0), "clip", RECIPE.local),) * 2


def test_region_is_uniform_over_objects_not_over_area():
    areas = [9000, 1000, 999, 0]
    boxes = [[0, 0, 95, 95], [10, 10, 42, 42], [50, 50, 80, 84], [0, 0, 0, 0]]
    image = example((200, 200), boxes, areas)
    drawn, fallback = draw(RegionCrop(min_area=1000, expand=1.0), image, 2000, WHOLE)
    assert not fallback.any()
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 1])  # all views from the same box
    big = (drawn[:, 0, 3] > 50).mean()
    assert 0.45 < big < 0.55  # 1000 pixels are enough, 999 are not
    small = drawn[drawn[:, 0, 3] <= 50]
    np.testing.assert_array_equal(np.unique(small, axis=0), [[[10, 10, 42, 42]] * 2])


def test_region_is_grown_and_cut_at_the_image():
    image = example((100, 100), [[0, 40, 20, 60]], [400])
    drawn, _ = draw(RegionCrop(min_area=1, expand=2.0), image, 1, WHOLE)
    # Twice 20 x 20 about its center is -10..30 x 30..70; a square crop of area 1 that is
    # clipped to 30 x 40 has its sides.
    y0, x0, y1, x1 = drawn[0, 0]
    assert y0 == 0
    assert y1 == 30
    assert x0 >= 30
    assert x1 <= 70


@pytest.mark.parametrize("areas", [[], [999, 500]])
def test_whole_image_when_no_region_is_usable(areas):
    image = example((64, 64), [[0, 0, 40, 25], [0, 0, 20, 25]][: len(areas)], areas)
    drawn, fallback = draw(RegionCrop(min_area=1000), image, 50, WHOLE)
    assert fallback.all()
    np.testing.assert_array_equal(drawn[0, 0], [0, 0, 64, 64])
