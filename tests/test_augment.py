"""Color operations against torchvision's, dm_pix's and the standard library's."""

import colorsys
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.image import color as color_module
from jaxssl.image.augment import (
    BLUR_RULES,
    NORMALIZE,
    RECIPES,
    Color,
    augment,
    draw_jitter,
    draw_offset,
    normalize,
)
from jaxssl.image.color import FAMILIES, PERMUTATIONS

JITTER = Color(jitter_prob=0.8, jitter=(0.4, 0.4, 0.4, 0.1))
TORCHVISION = {
    "brightness": color_module.scale_brightness,
    "contrast": color_module.gray_contrast,
    "saturation": color_module.gray_saturation,
    "hue": color_module.rotate_hue,
    "solarize": color_module.solarize,
}
DM_PIX = {
    "brightness_p02": lambda image: color_module.shift_brightness(image, 1.2),
    "contrast_13": lambda image: color_module.channel_contrast(image, 1.3),
    "saturation_08": lambda image: color_module.hsv_saturation(image, 0.8),
    "hue_p01": lambda image: color_module.rotate_hue(image, 0.1),
    "gray": color_module.grayscale,
    "solarize_05": lambda image: color_module.solarize(image, 0.5),
    "blur_s13_k224over10": lambda image: color_module.blur(
        image, color_module.gaussian_taps(1.3, 11), "constant"
    ),
}


@pytest.fixture(scope="module")
def image():
    """f32[12, 16, 3] with gray, black, white and pure colors in its first row."""
    pixels = np.random.default_rng(0).random((12, 16, 3), dtype=np.float32)
    pixels[0, :4] = np.array([0.5, 0, 1, 0.25])[:, None]
    pixels[0, 4:11] = list(itertools.product((0, 1), repeat=3))[1:]
    return jnp.array(pixels)


def test_torch_family_is_torchvision(golden):
    expected = golden("torchvision_ops")
    image = jnp.array(expected["image"])
    tested = set()
    for name in expected.files:
        operation, _, amount = name.partition("_")
        if operation in TORCHVISION:
            result = TORCHVISION[operation](image, float(amount))
            np.testing.assert_allclose(result, expected[name], atol=3e-6, err_msg=name)
            tested.add(operation)
    assert tested == set(TORCHVISION)
    np.testing.assert_allclose(color_module.grayscale(image), expected["grayscale"], atol=1e-6)
    blurred = color_module.blur(image, color_module.gaussian_taps(1.7, 6), "reflect")
    np.testing.assert_allclose(blurred, expected["blur"], atol=2e-6)


@pytest.mark.parametrize("name", DM_PIX)
def test_tf_family_is_dm_pix(golden, name):
    expected = golden("dm_pix_ops")
    result = DM_PIX[name](jnp.array(expected["image"]))
    np.testing.assert_allclose(result, np.clip(expected[name], 0, 1), atol=2e-6)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_pil_rule_is_close_to_pillow(golden, sigma):
    expected = golden("torchvision_ops")
    image = jnp.array(np.round(expected["image"] * 255) / 255)
    radius, padding = BLUR_RULES["pil"](40, sigma)
    blurred = color_module.blur(image, color_module.gaussian_taps(sigma, radius), padding)
    error = np.abs(blurred * 255 - expected[f"pil_blur_{sigma}"])
    assert error.mean() < 0.7  # of 255: Pillow's boxes are no Gaussian, and it rounds
    assert error.max() < 7


def test_posterize_and_solarize_of_bytes_are_torchvisions(golden):
    expected = golden("pets_ops")
    ramp = jnp.array(expected["ramp"]) / 255
    posterized, solarized = (
        color_module.posterize(ramp, 4),
        color_module.solarize(ramp, 191.5 / 255),
    )
    for name, result in {
        "posterize_2": color_module.posterize(ramp, 2),
        "posterize_4": posterized,
        "solarize_192": solarized,
        "solarize_posterize": color_module.posterize(solarized, 4),
        "posterize_solarize": color_module.solarize(posterized, 191.5 / 255),
    }.items():
        np.testing.assert_allclose(result * 255, expected[name], atol=1e-4, err_msg=name)


def test_posterize_rounds_to_bytes_first():
    row = jnp.array([15.4, 15.6, 16.0, 254.6]).reshape(1, 4, 1).repeat(3, axis=2) / 255
    expected = [0, 16, 16, 240]
    np.testing.assert_allclose(color_module.posterize(row, 4)[0, :, 0] * 255, expected, atol=1e-4)


def test_solarize_inverts_the_threshold_itself():
    row = jnp.array([0.2, 0.25, 0.3, 0.9]).reshape(1, 4, 1).repeat(3, axis=2)
    np.testing.assert_allclose(
        color_module.solarize(row, 0.25)[0, :, 0], [0.2, 0.75, 0.7, 0.1], 1e-6
    )


def test_hsv_operations_are_those_of_colorsys(image):
    more = np.array(color_module.hsv_saturation(image, 1.7))
    turned = np.array(color_module.rotate_hue(image, -0.3))
    for y, x in itertools.product(range(12), range(16)):
        hue, saturation, value = colorsys.rgb_to_hsv(*image[y, x].tolist())
        stretched = colorsys.hsv_to_rgb(hue, min(1.7 * saturation, 1), value)
        np.testing.assert_allclose(more[y, x], stretched, atol=2e-6)
        rotated = colorsys.hsv_to_rgb((hue - 0.3) % 1, saturation, value)
        np.testing.assert_allclose(turned[y, x], rotated, atol=3e-6)


@pytest.mark.parametrize("family", ["torch", "tf"])
def test_jitter_runs_the_operations_in_the_given_order(image, family):
    factors, turn = jnp.array([1.3, 1.4, 0.5]), jnp.array(0.2)
    orders = jnp.arange(24)
    jittered = jax.jit(
        jax.vmap(lambda order: color_module.jitter(image, factors, turn, order, family))
    )(orders)
    operations = [(f, factors[i]) for i, f in enumerate(FAMILIES[family])]
    sequences = set()
    for order, result in zip(range(24), jittered, strict=True):
        sequence = PERMUTATIONS[order // 4].tolist()
        sequence.insert(order % 4, 3)
        sequences.add(tuple(sequence))
        expected = image
        for operation, amount in [
            [*operations, (color_module.rotate_hue, turn)][i] for i in sequence
        ]:
            expected = operation(expected, amount)
        np.testing.assert_allclose(result, expected, atol=1e-5)
    assert len(sequences) == 24
    assert np.abs(jittered[0] - jittered[23]).max() > 0.05  # the order matters here


def test_drawn_jitter():
    keys = jax.random.split(jax.random.key(0), 24000)
    factors, turn, order = jax.jit(jax.vmap(lambda key: draw_jitter(key, JITTER)))(keys)
    counts = np.bincount(order, minlength=24)
    assert len(counts) == 24
    assert ((counts - 1000) ** 2 / 1000).sum() < 50  # chi-squared, 23 degrees of freedom
    applied = np.array((factors != 1).any(axis=1))
    assert applied.mean() == pytest.approx(0.8, abs=0.01)
    np.testing.assert_array_equal(turn[~applied], 0)
    drawn = np.concatenate([factors, 1 + turn[:, None]], axis=1)[applied]
    low, high = np.array([0.6, 0.6, 0.6, 0.9]), np.array([1.4, 1.4, 1.4, 1.1])
    np.testing.assert_allclose(drawn.min(axis=0), low, atol=1e-3)
    np.testing.assert_allclose(drawn.max(axis=0), high, atol=1e-3)
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.01)
    correlation = np.corrcoef(drawn.T)
    assert np.abs(correlation - np.eye(4)).max() < 0.03
    strong = Color(jitter_prob=1.0, jitter=(2.0, 2.0, 2.0, 0.5))
    factors, _, _ = jax.jit(jax.vmap(lambda key: draw_jitter(key, strong)))(keys[:1000])
    assert 0 <= factors.min() < 0.1
    assert 2.9 < factors.max() <= 3


@pytest.mark.parametrize(
    "color",
    [
        Color(jitter_prob=0.3, jitter=(0.4, 0.4, 0.4, 0.1)),
        Color(gray_prob=0.3),
        Color(blur_prob=0.3, blur_sigma=(1.0, 2.0)),
        Color(solarize_prob=0.3),
        Color(posterize_prob=0.3),
        Color(elastic_prob=0.3),
    ],
    ids=["jitter", "gray", "blur", "solarize", "posterize", "elastic"],
)
def test_share_of_images_changed(image, color):
    square = image[:12, :12]
    keys = jax.random.split(jax.random.key(0), 1000)
    views = jax.jit(jax.vmap(lambda key: augment(key, square, color)))(keys)
    changed = np.abs(views - square[None]).max(axis=(1, 2, 3)) > 1e-5
    assert changed.mean() == pytest.approx(0.3, abs=0.05)
    if color.gray_prob:
        np.testing.assert_array_equal(views[changed][0], color_module.grayscale(square))
    if color.solarize_prob:
        np.testing.assert_array_equal(views[changed][0], color_module.solarize(square, 0.5))


def test_what_has_probability_zero_is_not_computed(image):
    square = image[:12, :12]
    trace = str(jax.make_jaxpr(lambda key: augment(key, square, Color()))(jax.random.key(0)))
    assert "random_split" in trace
    for word in ("random_bits", "dot_general", "select_n", "scan"):
        assert word not in trace
    np.testing.assert_array_equal(augment(jax.random.key(0), square, Color()), square)


def test_order_of_the_steps(image):
    square = image[:12, :12]
    color = Color(gray_prob=1.0, blur_prob=1.0, blur_sigma=(1.5, 1.5 + 1e-6), solarize_prob=1.0)
    blurred = color_module.blur(
        color_module.grayscale(square), color_module.gaussian_taps(1.5, 5), "edge"
    )
    view = augment(jax.random.key(0), square, color)
    np.testing.assert_allclose(view, color_module.solarize(blurred, 0.5), atol=1e-5)


@pytest.mark.parametrize("last", [False, True])
def test_order_of_posterize_and_solarize(image, last):
    color = Color(
        posterize_prob=1.0, solarize_prob=1.0, solarize_threshold=0.7, posterize_last=last
    )
    negative, coarse = (
        lambda x: color_module.solarize(x, 0.7),
        lambda x: color_module.posterize(x, 4),
    )
    expected = coarse(negative(image)) if last else negative(coarse(image))
    square = expected[:12, :12]
    np.testing.assert_allclose(augment(jax.random.key(0), image[:12, :12], color), square, 1e-6)


def test_drawn_offsets_are_smooth_noise_of_the_expected_size():
    draw = jax.jit(jax.vmap(lambda key: draw_offset(key, Color(elastic_prob=1.0), 64)))
    offset = np.array(draw(jax.random.split(jax.random.key(0), 200)))
    # 25 pixels x the deviation of uniform noise x that of a Gaussian blur, 1 / (2 sqrt(pi) sigma)
    middle = offset[:, 20:-20, 20:-20]
    expected = 25 * 3**-0.5 / (2 * np.pi**0.5 * 5)
    assert middle.std() == pytest.approx(expected, rel=0.05)
    neighbors = np.corrcoef(middle[:, 1:].ravel(), middle[:, :-1].ravel())[0, 1]
    assert neighbors == pytest.approx(np.exp(-1 / (4 * 5**2)), abs=0.005)
    assert np.abs(np.corrcoef(middle.reshape(-1, 2).T)[0, 1]) < 0.1


def test_offsets_are_blurred_as_in_torchvision(golden):
    expected = golden("pets_ops")
    noise = jnp.array(expected["noise"]).transpose(1, 2, 0)
    smooth = color_module.blur(noise, color_module.gaussian_taps(3.0, 12), "reflect")
    np.testing.assert_allclose(smooth, expected["smooth"].transpose(1, 2, 0), atol=1e-6)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_trace(name):
    recipe = RECIPES[name]
    pixels = jax.ShapeDtypeStruct((24, 24, 3), jnp.float32)
    for color in {*recipe.views, recipe.local}:
        view = jax.eval_shape(lambda key, x, c=color: augment(key, x, c), jax.random.key(0), pixels)
        assert view.shape == (24, 24, 3)


@pytest.mark.parametrize("name", ["s3same", "byol", "simclr"])
def test_recipes_stay_in_range_and_follow_the_key(name):
    square = jnp.array(np.random.default_rng(0).random((24, 24, 3)), jnp.float32)
    color = RECIPES[name].views[-1]
    keys = jax.random.split(jax.random.key(1), 64)
    make = jax.jit(jax.vmap(lambda key: augment(key, square, color)))
    views = make(keys)
    assert views.min() >= 0
    assert views.max() <= 1
    assert np.isfinite(views).all()
    assert len(np.unique(views.mean(axis=(1, 2, 3)))) > 32
    np.testing.assert_array_equal(views[::-1], make(keys[::-1]))


def test_recipes_of_the_pets_paper():
    names = ["", "_et", "_rp", "_rs", "_et_rp", "_et_rs", "_rp_rs", "_et_rp_rs"]
    for name in names:
        first, second = RECIPES[f"pets{name}"].views
        assert (second.jitter_prob, second.flip_axis, first.flip_axis) == (1.0, 0, 1)
        before = first.before_crop or Color()  # alone, ET and RP come before the crop
        assert max(first.elastic_prob, before.elastic_prob) == float("et" in name)
        assert max(first.posterize_prob, before.posterize_prob) == 0.5 * ("rp" in name)
        assert first.solarize_prob == 0.5 * ("rs" in name)
        assert (first.before_crop is not None) == (name in ("_et", "_rp"))
        assert first.posterize_last == (name == "_rp_rs")


def test_recipes_of_two_views_differ_in_blur_and_solarize():
    first, second = RECIPES["byol"].views
    assert (first.blur_prob, first.solarize_prob) == (1.0, 0.0)
    assert (second.blur_prob, second.solarize_prob) == (0.1, 0.2)
    assert RECIPES["dino"].local.blur_prob == 0.5


@pytest.mark.parametrize("stats", NORMALIZE)
def test_normalize(stats, image):
    mean, deviation = np.array(NORMALIZE[stats])
    expected = (np.array(image) - mean) / deviation
    np.testing.assert_allclose(normalize(image, stats), expected, atol=1e-5)
    batch = normalize(jnp.stack([image, image]), stats)
    np.testing.assert_allclose(batch[1], expected, atol=1e-5)
