"""ContrastiveCrop and its kin: the authors' own numbers, and where centers fall."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.config import build, defaults
from jaxssl.image.augment import RECIPES
from jaxssl.image.boxes import centered_box
from jaxssl.samplers import ContrastiveCrop, RandomCrop, RegionCCrop, SimCCrop, contrastive_crop
from jaxssl.samplers.contrastive_crop import Memory
from jaxssl.types import ViewSpec

RATIO, COLOR = (3 / 4, 4 / 3), RECIPES["none"].local
PLAIN = ViewSpec(16, (0.2, 1.0), RATIO, "torchvision", COLOR)
CLIPPED = ViewSpec(16, (0.05, 0.2), RATIO, "clip", COLOR)
SMALL = ViewSpec(16, (0.01, 0.01), (1.0, 1.0), "torchvision", COLOR)
SPECS = (PLAIN, CLIPPED, SMALL, SMALL)
WHOLE = [0, 0, 1, 1]

heat_map_box = jax.jit(
    contrastive_crop.heat_map_box, static_argnums=(1, 2), static_argnames="exact"
)


def test_crops_are_the_released_ones(golden):
    draws = golden("ccrop_params")
    shape = draws["u"].reshape(-1, 10, 2).astype(np.float32)
    hw = np.stack([draws["H"], draws["W"]], axis=1).astype(np.int32)
    centers = (draws["box"] * np.tile(hw, 2)).astype(np.float32)

    @jax.jit
    @jax.vmap
    def cut(shape, place, centers, hw):
        return centered_box(shape, place, centers, hw, (0.2, 1.0), ratio=RATIO, rule="torchvision")

    boxes = np.array(cut(shape, draws["beta"].astype(np.float32), centers, hw))
    sides = boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_array_equal(np.hstack([boxes[:, :2], sides]), draws["ijhw"])


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.3, 0.5])
def test_boxes_of_heat_maps_are_the_released_ones(golden, threshold):
    expected = golden("ccrop_boxes")
    grid = jnp.array(expected["feat"].transpose(0, 2, 3, 1))
    released, exact = (
        np.array(jax.vmap(lambda g, e=e: heat_map_box(g, 32, threshold, exact=e))(grid))
        for e in (False, True)
    )
    np.testing.assert_array_equal(released, expected[f"boxes_t{threshold}"])
    np.testing.assert_array_equal(exact, released + np.array([0, 0, 1, 1]) / 32)


def heat(*rows):
    """Features f32[h, w, 1] of a heat map."""
    return jnp.array(rows, jnp.float32)[..., None]


@pytest.mark.parametrize(
    ("grid", "threshold"),
    [
        (heat([0, 0], [0, 0]), 0.1),
        (heat([3, 3], [3, 3]), 0.0),
        (heat([np.nan, 1], [0, 1]), 0.1),
        (heat([0, 0, 0], [0, 1, 0], [0, 0, 0]), 0.95),  # between pixels: none reaches the peak
    ],
    ids=["dead", "constant", "nan", "nothing above"],
)
def test_without_a_peak_the_whole_image_is_the_box(grid, threshold):
    np.testing.assert_array_equal(heat_map_box(grid, 12, threshold, exact=False), WHOLE)


def test_a_box_has_the_place_of_the_peak():
    grid = jnp.zeros((4, 8, 2)).at[1, 6].set(1.0)
    box = np.array(heat_map_box(grid, 32, 0.5, exact=True))
    np.testing.assert_allclose((box[:2] + box[2:]) / 2, [1.5 / 4, 6.5 / 8])
    assert (box[2:] - box[:2] < [1 / 4 + 1e-6, 1 / 8 + 1e-6]).all()


@functools.cache  # compiling is what these tests wait for
def compiled(sampler, specs):
    return jax.jit(jax.vmap(lambda k, e, m: sampler.boxes(k, e, m, specs), in_axes=(0, None, None)))


def draw(sampler, memory, *, hw, specs=SPECS, **regions):
    """4000 times the boxes f32[v, 4] of image 1, and whether the sampler fell back."""
    example = {"hw": jnp.array(hw), "index": jnp.array(1)} | regions
    keys = jax.random.split(jax.random.key(0), 4000)
    boxes, fallback = compiled(sampler, specs)(keys, example, memory)
    return np.array(boxes), np.array(fallback)


def centers(boxes):
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def memory_of(*boxes, in_use=True):
    return Memory(box=jnp.array(boxes, jnp.float32), in_use=jnp.array(in_use))


def test_during_the_warm_up_crops_are_plain():
    memory = memory_of(WHOLE, [0, 0, 0.1, 0.1], in_use=False)
    boxes, fallback = draw(ContrastiveCrop(), memory, hw=(40, 60))
    plain, _ = draw(RandomCrop(), (), hw=(40, 60))
    for quantile in (0.1, 0.5, 0.9):
        a, b = (np.quantile(x, quantile, axis=0) for x in (boxes, plain))
        np.testing.assert_allclose(a, b, atol=2)
    assert not fallback.any()


def test_the_warm_up_may_be_left_out():
    assert ContrastiveCrop(warmup_epochs=0).init(2).in_use
    assert not ContrastiveCrop(warmup_epochs=1).init(2).in_use


def test_centers_are_in_the_box_and_near_its_ends():
    memory = memory_of(WHOLE, [0.25, 0.5, 0.75, 0.75], WHOLE)
    boxes, fallback = draw(ContrastiveCrop(), memory, hw=(400, 800))
    assert not fallback.any()
    place = (centers(boxes)[:, 2:] - [100, 400]) / [200, 200]
    assert place.min() >= -0.005
    assert place.max() <= 1.005
    # Of Beta(0.1, 0.1) the mean is 1/2, the variance 1 / (4 (2 alpha + 1)).
    np.testing.assert_allclose(place.mean(axis=0), 0.5, atol=0.03)
    np.testing.assert_allclose(place.var(axis=0), 1 / 4.8, atol=0.02)
    correlation = np.corrcoef(place.reshape(-1, 4).T)  # of rows and columns of the two views
    assert np.abs(correlation - np.eye(4)).max() < 0.06


def test_alpha_one_is_uniform():
    memory = memory_of(WHOLE, [0.25, 0.25, 0.75, 0.75])
    boxes, _ = draw(ContrastiveCrop(alpha=1.0), memory, hw=(800, 800), specs=(SMALL,))
    place = (centers(boxes[:, 0]) - 200) / 400
    for quantile in (0.1, 0.5, 0.9):
        np.testing.assert_allclose(np.quantile(place, quantile, axis=0), quantile, atol=0.03)


@pytest.mark.parametrize(
    "box",
    [WHOLE, [0, 0, 0, 0], [0.97, 0.97, 0.97, 0.97], [1, 1, 1, 1], [0.2, 0.9, 0.21, 0.96875]],
)
@pytest.mark.parametrize("hw", [(40, 60), (1, 1), (3, 400)])
def test_crops_stay_in_the_image_whatever_the_box(box, hw):
    boxes, fallback = draw(ContrastiveCrop(), memory_of(WHOLE, box, WHOLE), hw=hw)
    assert (boxes[..., :2] >= 0).all()
    assert (boxes[..., 2:] <= hw).all()
    assert (boxes[..., 2:] - boxes[..., :2] >= 1).all()
    assert (boxes == np.round(boxes)).all()
    assert fallback.all() == (box == WHOLE)


def test_refresh_writes_the_boxes_of_its_images_only():
    sampler = ContrastiveCrop(threshold=0.5, exact=True)
    grid = jnp.stack([jnp.zeros((4, 4, 3)).at[i, i].set(1.0) for i in range(2)])
    before = memory_of(*[[0.1, 0.1, 0.2, 0.2]] * 4, in_use=False)
    after = jax.jit(sampler.refresh, static_argnums=3)(before, jnp.array([2, 0]), grid, 16)
    assert after.in_use
    np.testing.assert_array_equal(after.box[jnp.array([1, 3])], before.box[:2])
    for image, peak in ((2, grid[0]), (0, grid[1])):
        np.testing.assert_array_equal(after.box[image], heat_map_box(peak, 16, 0.5, exact=True))


@pytest.mark.parametrize(
    ("options", "epochs", "due"),
    [
        ({}, 500, [100, 200, 300, 400]),
        ({"warmup_epochs": 20, "interval_epochs": 20}, 100, [20, 40, 60, 80]),
        ({"warmup_epochs": 0, "interval_epochs": 2}, 7, [2, 4, 6]),
        ({"warmup_epochs": 3, "interval_epochs": 2}, 8, [3, 5, 7]),
        ({"warmup_epochs": 100}, 100, []),
    ],
)
def test_when_boxes_are_found(options, epochs, due):
    sampler = ContrastiveCrop(**options)
    assert [e for e in range(epochs) if sampler.refresh_due(e)] == due


def test_fixed_box_is_that_of_every_image():
    boxes, _ = draw(SimCCrop(), (), hw=(400, 800), specs=(SMALL,))
    center = centers(boxes[:, 0])
    np.testing.assert_allclose(center.min(axis=0), [100, 200], atol=2)
    np.testing.assert_allclose(center.max(axis=0), [300, 600], atol=2)


def test_centers_in_one_region():
    boxes = jnp.array([[100, 100, 140, 120], [300, 500, 320, 620]], jnp.float32)
    sampler, specs = RegionCCrop(min_area=1000, expand=1.0), (SMALL, SMALL)
    whole = [28, 28], [372, 772]  # half a crop less than the image
    for areas, (low, high) in (([800, 2000], ([300, 500], [320, 620])), ([800, 0], whole)):
        areas = jnp.array(areas, jnp.float32)
        drawn, fallback = draw(
            sampler, (), hw=(400, 800), specs=specs, region_boxes=boxes, region_areas=areas
        )
        assert fallback.all() == (low == whole[0])
        np.testing.assert_allclose(centers(drawn).min(axis=(0, 1)), low, atol=2)
        np.testing.assert_allclose(centers(drawn).max(axis=(0, 1)), high, atol=2)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("contrastive_crop", {"alpha": 0.0}, "sampler.alpha is 0.0; it must be above 0"),
        ("sim_ccrop", {"alpha": -1.0}, "sampler.alpha is -1.0"),
        ("region_ccrop", {"alpha": float("nan")}, "sampler.alpha is nan"),
        ("region_ccrop", {"expand": 0.0}, "sampler.expand is 0.0"),
        (
            "region_crop",
            {"expand": 1000.0},
            "sampler.expand is 1000.0; give a factor above 0, up to 20",
        ),
        ("sim_ccrop", {"alpha": float("inf")}, "sampler.alpha is inf"),
        ("contrastive_crop", {"threshold": 1.0}, "sampler.threshold is 1.0"),
        ("contrastive_crop", {"threshold": -0.1}, "sampler.threshold is -0.1"),
        ("contrastive_crop", {"warmup_epochs": -1}, "sampler.warmup_epochs is -1"),
        ("contrastive_crop", {"interval_epochs": 0}, "sampler.interval_epochs"),
        ("sim_ccrop", {"box": (0.5, 0.5, 0.2, 0.7)}, "sampler.box is (0.5, 0.5, 0.2, 0.7)"),
        ("sim_ccrop", {"box": (0.5, 0.5, 0.7, 1.1)}, "sampler.box is (0.5, 0.5, 0.7, 1.1)"),
    ],
)
def test_mistakes(name, options, message):
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        build("sampler", defaults("sampler", name, **options))
    assert message in str(error.value)
