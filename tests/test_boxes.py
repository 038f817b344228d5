"""Boxes against their authors' own numbers, crops against torchvision."""

import fractions

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.image.boxes import (
    MAX_EXPAND,
    box_from_uniforms,
    crop,
    flip,
    grow_box,
    random_box,
    whole_box,
)

SCALE, RATIO = (0.2, 1.0), (3 / 4, 4 / 3)
ALMOST_ONE = np.nextafter(np.float32(1), np.float32(0))


def box_from(shape, place, within, *, rule="torchvision"):
    """`box_from_uniforms` of lists, as a list."""
    arrays = (jnp.array(a, jnp.float32) for a in (shape, place, within))
    cut = jax.jit(box_from_uniforms, static_argnums=(3, 4), static_argnames="rule")
    return cut(*arrays, SCALE, RATIO, rule=rule).tolist()


def test_shapes_as_in_contrastive_crop(golden):
    draws = golden("ccrop_params")
    shape = draws["u"].reshape(-1, 10, 2).astype(np.float32)
    hw = np.stack([draws["H"], draws["W"]], axis=1).astype(np.int32)

    @jax.jit
    @jax.vmap
    def cut(shape, hw):
        return box_from_uniforms(
            shape, jnp.zeros(2), whole_box(hw), SCALE, RATIO, rule="torchvision"
        )

    boxes = np.array(cut(shape, hw))
    found = (boxes[:, :2] == 0).all(axis=1)  # else the center, of a long image
    assert 0 < (~found).sum() < len(boxes) / 2
    np.testing.assert_array_equal(boxes[:, 2:] - boxes[:, :2], draws["ijhw"][:, 2:])
    top_left = draws["ijhw"][~found, :2]  # drawn otherwise there, but not that of the center
    np.testing.assert_array_equal(boxes[~found, :2], top_left)


def test_center_when_no_try_fits():
    never = [[0.99, 0.5]] * 10
    assert box_from(never, [0.9, 0.9], [5, 10, 305, 60]) == [121, 10, 188, 60]  # 50 / (3/4) = 66.7
    assert box_from(never, [0.9, 0.9], [10, 5, 60, 305]) == [10, 121, 60, 188]
    assert box_from([[0.99, 0.99]] * 10, [0.9, 0.9], [0, 0, 50, 50]) == [0, 0, 50, 50]


def test_first_fitting_try():
    shape = [[0.99, 0.5], [0.0, 0.5], [0.05, 0.5]] + [[0.0, 0.5]] * 7
    side = round((100 * 50 * 0.2) ** 0.5)
    assert box_from(shape, [0, 0], [7, 3, 107, 53]) == [7, 3, 7 + side, 3 + side]
    end = [ALMOST_ONE, ALMOST_ONE]  # the last offset is reached, and never passed
    assert box_from(shape, end, [7, 3, 107, 53]) == [107 - side, 53 - side, 107, 53]


def test_clip_rule_cuts_the_first_try():
    shape = [[0.99, 0.5]] + [[0.0, 0.5]] * 9
    assert box_from(shape, [0.5, 0.5], [0, 0, 300, 50], rule="clip") == [89, 0, 211, 50]
    assert box_from([[0.0, 0.5]] * 10, [0.5, 0.5], [4, 5, 5, 6], rule="clip") == [4, 5, 5, 6]


@pytest.mark.parametrize("rule", ["torchvision", "clip"])
def test_random_boxes_are_inside_and_spread(rule):
    within = jnp.array([11, 7, 51, 57], jnp.float32)
    keys = jax.random.split(jax.random.key(0), 4000)
    boxes = np.array(
        jax.jit(jax.vmap(lambda k: random_box(k, within, (0.1, 0.5), rule=rule)))(keys)
    )
    assert (boxes == np.round(boxes)).all()
    assert (boxes[:, :2] >= [11, 7]).all()
    assert (boxes[:, 2:] <= [51, 57]).all()
    height, width = (boxes[:, 2:] - boxes[:, :2]).T
    area = height * width / 2000
    assert area.min() == pytest.approx(0.1, abs=0.02)
    assert area.max() == pytest.approx(0.5, abs=0.03)
    assert area.mean() == pytest.approx(0.3, abs=0.01)
    assert np.log(width / height).mean() == pytest.approx(0, abs=0.02)
    spare = 40 - height
    offset = boxes[:, 0] - 11
    assert (offset / spare).mean() == pytest.approx(0.5, abs=0.02)
    assert (offset == 0).any()
    assert (offset == spare).any()


@pytest.mark.parametrize(("expand", "columns"), [(2.0, slice(6, 10)), (1.3, slice(10, 14))])
def test_grow_box_as_in_s3same(golden, expand, columns):
    cases = golden("s3same_scale_bbox")["cases"].astype(np.int32)

    def corners(x, y, w, h):
        return np.stack([y, x, y + h, x + w], axis=1).astype(np.float32)

    before, after = corners(*cases[:, 2:6].T), corners(*cases[:, columns].T)
    grown = jax.vmap(lambda box, hw: grow_box(box, expand, hw))(before, cases[:, :2])
    np.testing.assert_array_equal(grown, after)


def test_grow_box_of_large_images_and_factors_does_not_overflow():
    hw, box = jnp.array([100_000, 100_000]), jnp.array([40_000.0, 0, 60_000, 100_000])
    for expand in (19.999, float(MAX_EXPAND)):
        assert grow_box(box, expand, hw).tolist() == [0, 0, 100_000, 100_000]


def test_grow_box_is_exact_in_tenths():
    side = np.arange(10, 5000, 10)
    boxes = np.stack([0 * side + 9000, 0 * side + 9000, 9000 + side, 9000 + side], axis=1)
    hw = jnp.array([20000, 20000])
    grown = jax.vmap(lambda box: grow_box(box, 1.3, hw))(boxes.astype(np.float32))
    np.testing.assert_array_equal(grown[:, 0], 9000 - (side // 10 * 3) // 2)


@pytest.mark.parametrize("expand", ["0.1", "0.5", "0.7", "1", "1.004", "1.25", "1.3", "2"])
def test_grow_box_is_that_of_a_plain_loop(expand):
    side = np.append(np.arange(1, 40), 1000)
    boxes = np.stack([0 * side + 3, 0 * side + 2000, 3 + side, 2000 + side], axis=1)
    hw = np.array([1020, 4000])
    expected = []
    for box in boxes.tolist():
        length = box[2] - box[0]
        margin = int((max(int(length * fractions.Fraction(expand)), 1) - length) / 2)
        low = [max(0, place - margin) for place in box[:2]]
        expected.append(low + [min(e + margin, m) for e, m in zip(box[2:], hw, strict=True)])
    grow = jax.jit(jax.vmap(lambda box: grow_box(box, float(expand), jnp.array(hw))))
    grown = np.array(grow(boxes.astype(np.float32)))
    np.testing.assert_array_equal(grown, expected)
    assert (grown[:, :2] < grown[:, 2:]).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crop_equals_torchvision(golden, interpolation):
    expected = golden("torchvision_ops")
    image, hw = jnp.array(expected["image"]), jnp.array([40, 56])
    cut = jax.jit(crop, static_argnums=(3, 4))
    for index, (*box, size) in enumerate(expected["crops"].tolist()):
        view = cut(image, jnp.array(box, jnp.float32), hw, size, interpolation)
        np.testing.assert_allclose(view, expected[f"crop_{interpolation}_{index}"], atol=2e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crop_of_bytes(interpolation):
    canvas = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    image, hw = jnp.array(canvas), jnp.array([24, 24])
    box = jnp.array([5, 6, 20, 12], jnp.float32)
    cut = jax.jit(lambda image, box, hw: crop(image, box, hw, 24, interpolation))
    # the whole is the image
    np.testing.assert_allclose(cut(image, whole_box(hw), hw), canvas / 255, atol=1e-6)
    # pixels outside the box have no part in it
    other = np.full_like(canvas, 255)
    other[5:20, 6:12] = canvas[5:20, 6:12]
    np.testing.assert_array_equal(cut(image, box, hw), cut(jnp.array(other), box, hw))
    # a box of one pixel has one color, and so has a box inside a pixel of a squashed canvas
    for one, size in [([3, 4, 4, 5], [24, 24]), ([31, 82, 34, 98], [240, 480])]:
        view = cut(image, jnp.array(one, jnp.float32), jnp.array(size))
        np.testing.assert_allclose(view, np.tile(canvas[3, 4] / 255, (24, 24, 1)), atol=1e-6)


def test_box_is_in_pixels_of_the_original():
    canvas = jnp.array(np.random.default_rng(0).random((40, 56, 3)), jnp.float32)
    original = crop(
        canvas, jnp.array([16, 3, 48, 20], jnp.float32), jnp.array([80, 28]), 16, "bilinear"
    )
    same = crop(canvas, jnp.array([8, 6, 24, 40], jnp.float32), jnp.array([40, 56]), 16, "bilinear")
    np.testing.assert_allclose(original, same, atol=1e-6)


def test_flip_mirrors_image_and_planes_alike():
    image = jnp.array(np.random.default_rng(0).random((4, 6, 3)), jnp.float32)
    planes = jnp.arange(24, dtype=jnp.uint32).reshape(4, 6, 1)
    keys = jax.random.split(jax.random.key(0), 200)
    flipped_image = jax.vmap(lambda k: flip(k, image, 0.5))(keys)
    flipped_planes = jax.vmap(lambda k: flip(k, planes, 0.5))(keys)
    mirrored = np.array(flipped_planes[:, 0, 0, 0] == 5)
    assert 70 < mirrored.sum() < 130
    for i in range(20):
        expected = image[:, ::-1] if mirrored[i] else image
        np.testing.assert_array_equal(flipped_image[i], expected)


def test_unknown_names_are_refused():
    box, image = jnp.array([0.0, 0, 4, 4]), jnp.zeros((4, 4, 3))
    with pytest.raises(ValueError, match="crop rule is 'tf'; choose one of torchvision, clip"):
        random_box(jax.random.key(0), box, SCALE, rule="tf")
    with pytest.raises(ValueError, match="interpolation is 'area'; choose one of bilinear"):
        crop(image, box, jnp.array([4, 4]), 4, "area")
