"""Fine-tuning of dense networks: what augmentation does, a step on one device and on eight."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import sharding
from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.label_maps import VOID
from jaxssl.data.source import Example
from jaxssl.evaluation.dense.fcn import FCN, Fcn, cross_entropy, dilated
from jaxssl.evaluation.dense.pixel_recipe import CropRecipe, RandomCrops
from jaxssl.evaluation.fine_tuning import init_state, make_step
from jaxssl.evaluation.pixels import Pixels
from jaxssl.models.dense import Dense, FcnHead
from jaxssl.models.resnet import ResNet
from jaxssl.models.vit import ViT

KEY = jax.random.key(0)
PLAIN = CropRecipe(epochs=2, batch_size=8, lr=0.1)


HEIGHT, WIDTH = 10, 15


def coordinates():
    """A canvas whose reds and greens say where its pixels are, and whose labels say so too."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([10 * y, 10 * x, np.full_like(x, 255)], axis=-1).astype(np.uint8)
    spec = CanvasSpec(HEIGHT * WIDTH, (8, 1024), maps=("semantic",))
    made = spec.make(Example("", image, semantic=x + WIDTH * y), (HEIGHT, WIDTH))
    return {name: jnp.asarray(values) for name, values in made.items()}


CLASSES = bytes(range(256))


@functools.partial(jax.jit, static_argnames=("recipe", "size", "shorter"))
def cut(key, canvas, recipe, size, shorter=0):
    return RandomCrops(recipe, "none", size, shorter, CLASSES).cut(key, canvas)


def test_a_crop_as_large_as_a_square_image_is_the_image():
    rng = np.random.default_rng(0)
    images, maps = rng.integers(0, 256, (12, 12, 3), np.uint8), rng.integers(0, 9, (12, 12))
    spec = CanvasSpec(144, (8, 1024), maps=("semantic",))
    canvas = spec.make(Example("", images, semantic=maps), (12, 12))
    image, truth = cut(KEY, {k: jnp.asarray(v) for k, v in canvas.items()}, PLAIN, 12)
    np.testing.assert_allclose(image, images / 255, atol=1e-5)
    np.testing.assert_array_equal(truth, maps)


@pytest.mark.parametrize(
    ("scale", "crop", "flip", "shorter"),
    [(2.0, 12, 0.0, 0), (1.0, 8, 1.0, 0), (0.5, 12, 1.0, 0), (0.7, 20, 0.0, 0), (0.5, 9, 0.0, 20)],
)
def test_image_and_truth_go_the_same_way(scale, crop, flip, shorter):
    recipe = dataclasses.replace(PLAIN, scale=(scale, scale), flip=flip)
    factor = scale * (shorter / HEIGHT if shorter else 1)
    places = set()
    for seed in range(8):
        image, truth = map(
            np.asarray, cut(jax.random.key(seed), coordinates(), recipe, crop, shorter)
        )
        assert (image.shape, truth.shape) == ((crop, crop, 3), (crop, crop))
        there = truth != VOID
        covered = min(crop, HEIGHT * factor) * min(crop, WIDTH * factor)
        assert abs(there.sum() - covered) <= 2 * crop + 1
        assert not image[~there].any()  # the mean of all images
        y, x = truth // WIDTH, truth % WIDTH
        image = image * 25.5
        # Pixels are the nearest ones, so at most half a pixel away; at borders of the crop those
        # that it cuts count in part.
        uncut = slice(math.ceil(factor), -math.ceil(factor))
        for color, place in ((0, y), (1, x)):
            off = np.abs(image[..., color] - place)[uncut, uncut][there[uncut, uncut]].max()
            assert off <= 0.5 + max(0, 0.5 / factor - 0.5) + 0.01
        along = np.diff(image[..., 1], axis=1)[there[:, 1:] & there[:, :-1]]
        assert (along < 1e-3).all() if flip else (along > -1e-3).all()
        places.add(truth.tobytes())
    assert len(places) > 3


def batch(n=8, side=16):
    """Images and labels, of which every fourth is none, as canvases."""
    rng = np.random.default_rng(0)
    spec = CanvasSpec(side * side, (8, 1024), maps=("semantic",))
    made = [
        spec.make(
            Example(
                "",
                rng.integers(0, 256, (side, side, 3), np.uint8),
                semantic=rng.choice(np.array([0, 1, 2, VOID]), (side, side)),
            ),
            (side, side),
        )
        for _ in range(n)
    ]
    return {name: np.stack([canvas[name] for canvas in made]) for name in spec.arrays()}


@pytest.fixture(scope="module")
def network(tiny_encoder):
    return Dense(tiny_encoder, FcnHead(3, convs=1, channels=8, dilation=1, dropout=0.5))


def take_step(network, devices):
    mesh = jax.make_mesh(
        (devices,), ("data",), devices=jax.devices()[:devices],
        axis_types=(jax.sharding.AxisType.Auto,),
    )  # fmt: skip
    recipe = dataclasses.replace(PLAIN, scale=(0.5, 2.0), flip=0.5)
    optimizer = recipe.transform(recipe.batch_size, steps=1)
    change = RandomCrops(recipe, "imagenet", 16, 0, CLASSES)
    step = make_step(network, cross_entropy, change, optimizer)
    state = init_state(network, None, optimizer, 16, 0)
    before = jax.tree.map(np.asarray, state)
    compiled = sharding.jit_step(step, mesh)
    state, loss = compiled(sharding.replicate(state, mesh), batch(), {}, KEY)
    return before, jax.tree.map(np.asarray, state), float(loss)


def test_a_step_moves_all_and_is_the_same_on_one_device_and_on_eight(network):
    before, one, loss_of_one = take_step(network, 1)
    _, eight, loss_of_eight = take_step(network, 8)
    assert np.isfinite(loss_of_one)
    assert loss_of_eight == pytest.approx(loss_of_one, rel=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), eight, one)
    for name in ("encoder", "head"):
        for old, new in zip(*map(jax.tree.leaves, (before.params, one.params)), strict=True):
            assert not np.array_equal(old, new)
        for old, new in zip(
            *map(jax.tree.leaves, (before.batch_stats, one.batch_stats)), strict=True
        ):
            assert not np.array_equal(old, new)
        assert name in one.params
    assert one.step == 1


def test_the_encoders_weights_are_taken_over_and_not_given_away(network, tiny_encoder):
    variables = tiny_encoder.init(jax.random.key(7), jnp.zeros((1, 16, 16, 3)), train=False)
    optimizer = PLAIN.transform(16, steps=1)
    state = init_state(network, variables, optimizer, 16, 0)
    for kind in ("params", "batch_stats"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(state, kind)["encoder"], variables[kind]
        )
    scratch = init_state(network, None, optimizer, 16, 0)
    jax.tree.map(np.testing.assert_array_equal, state.params["head"], scratch.params["head"])
    jax.tree.map(lambda x: x.delete(), state)
    jax.tree.map(np.asarray, variables)  # still there


def test_cross_entropy_is_the_mean_over_pixels_that_have_a_class():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 4, 4, 3)).astype(np.float32)
    truth = rng.choice(np.array([0, 1, 2, VOID], np.uint8), (2, 4, 4))
    expected = [
        np.log(np.exp(logits[i]).sum()) - logits[i][truth[i]]
        for i in np.ndindex(truth.shape)
        if truth[i] != VOID
    ]
    assert float(cross_entropy(jnp.asarray(logits), jnp.asarray(truth))) == pytest.approx(
        np.mean(expected), rel=1e-5
    )
    assert float(cross_entropy(jnp.asarray(logits), jnp.full((2, 4, 4), VOID, jnp.uint8))) == 0


def test_presets_and_grids(tiny_encoder):
    assert (Fcn().epochs, FCN.presets["cityscapes"].epochs) == (45, 160)
    assert [FCN.presets[name].crop for name in ("pascal", "cityscapes")] == [513, 769]
    assert dilated(ResNet(18), 1).dilated_stages == 1
    assert dilated(tiny_encoder, 1) is tiny_encoder


@pytest.mark.parametrize(
    ("network", "crop", "side", "expected"),
    [
        (ResNet(18), 513, 75, 513),
        (ResNet(18), 0, 75, 75),
        (ViT(8, 1, 1, patch=16), 513, 75, 512),
        (ViT(8, 1, 1, patch=14), 512, 75, 504),
        (ViT(8, 1, 1, patch=16), 0, 75, 64),
        (ViT(8, 1, 1, patch=16), 0, 9, 16),
    ],
)
def test_crops_are_whole_patches(network, crop, side, expected):
    spec = CanvasSpec(9, (8, 1024), maps=("semantic",))
    levels = np.array([[[0, side, 100], [0, 40, 50]]])
    pixels = Pixels("", spec, "semantic", train={"levels": levels}, test={})
    assert dataclasses.replace(PLAIN, crop=crop).crop_side(pixels, network) == expected


def test_learning_rates():
    recipe = dataclasses.replace(PLAIN, epochs=10, lr=1.0, milestones=(0.5,))
    for schedule, expected in (("drops", 0.1), ("constant", 1.0)):
        optimizer = dataclasses.replace(recipe, schedule=schedule).transform(16, 1)
        params = jnp.zeros(2)
        state = optimizer.init(params)
        for step in range(10):
            gradient = jnp.float32(step == 9) * jnp.ones(2)
            updates, state = optimizer.update(gradient, state, params)
        np.testing.assert_allclose(updates, -expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "lamb"}, "choose one of sgd, adam"),
        ({"schedule": "step"}, "choose one of drops"),
        ({"fraction": 0.0}, "fraction is 0.0; it must be in"),
        ({"scale": (2.0, 1.0)}, "least and the largest"),
        ({"crop": 1025}, "give 8 to 1024 pixels"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PLAIN, **options)
