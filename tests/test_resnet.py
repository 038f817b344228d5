"""The encoder against torchvision's, on weights drawn by numpy and carried over."""

import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.make_torchvision import TRACKED, draw_images, draw_weights

from jaxssl.models import ENCODERS
from jaxssl.models.resnet import BLOCKS, ResNet

# torchvision's number of parameters without the classifier. It has no 200: that is 152 with
# 16 more blocks of 280064 in the second stage
PARAMETERS = {18: 11176512, 34: 21284672, 50: 23508032, 101: 42500160, 152: 58143808, 200: 62624832}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
LEAVES |= {"mean": "running_mean", "var": "running_var"}


def torchvision_name(path: tuple[str, ...]) -> str:
    """`params/layer1_0/downsample_conv/kernel` is `layer1.0.downsample.0.weight`."""
    _, *modules, leaf = path
    name = ".".join([*modules, LEAVES[leaf]])
    name = name.replace("downsample_conv", "downsample.0").replace("downsample_bn", "downsample.1")
    return name.replace("_", ".", 1) if name.startswith("layer") else name


def shapes_of(net: ResNet):
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(functools.partial(net.init, train=False), jax.random.key(0), images)


@functools.cache
def with_torchvision_weights(depth: int):
    """The encoder and the weights of `draw_weights` as its variables."""
    net = ENCODERS[f"resnet{depth}"]()
    flat = flax.traverse_util.flatten_dict(shapes_of(net))
    in_torch = {
        torchvision_name(k): tuple(v.shape[i] for i in (3, 2, 0, 1)) if v.ndim == 4 else v.shape
        for k, v in flat.items()
    }
    weights = draw_weights(in_torch)
    variables = {}
    for path in flat:
        w = weights[torchvision_name(path)]
        variables[path] = w.transpose(2, 3, 1, 0) if w.ndim == 4 else w
    return net, flax.traverse_util.unflatten_dict(variables)


@pytest.mark.parametrize(
    ("depth", "case", "size"),
    [(18, "18", (64, 64)), (18, "18/oblong", (96, 80)), (50, "50", (64, 64))],
)
def test_features_are_torchvisions(golden, depth, case, size):
    net, variables = with_torchvision_weights(depth)
    features = jax.jit(net.apply, static_argnames="train")(
        variables, jnp.asarray(draw_images(*size)), train=False
    )
    expected = golden("torchvision")
    np.testing.assert_allclose(features.grid, expected[f"{case}/grid"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(features.pooled, expected[f"{case}/pooled"], rtol=0, atol=1e-4)


def test_training_mode_is_torchvisions(golden):
    net, variables = with_torchvision_weights(18)
    train = jax.jit(functools.partial(net.apply, train=True, mutable=["batch_stats"]))
    features, changed = train(variables, jnp.asarray(draw_images(96, 80)))
    expected = golden("torchvision")
    np.testing.assert_allclose(features.grid, expected["18/train/grid"], rtol=0, atol=1e-4)
    before = flax.traverse_util.flatten_dict(variables["batch_stats"])
    after = flax.traverse_util.flatten_dict(changed["batch_stats"])
    samples = dict(zip(TRACKED, (2 * 48 * 40, 2 * 12 * 10, 2 * 3 * 3), strict=True))
    compared = 0
    for path, value in after.items():
        name = torchvision_name(("batch_stats", *path))
        if (n := samples.get(name.rpartition(".")[0])) is None:
            continue
        if path[-1] == "var":  # torch keeps the unbiased variance, Flax that of the batch
            value = 0.9 * before[path] + (value - 0.9 * before[path]) * n / (n - 1)
        np.testing.assert_allclose(value, expected[f"18/train/{name}"], rtol=1e-5, atol=1e-5)
        compared += 1
    assert compared == 2 * len(TRACKED)


@pytest.mark.parametrize("depth", BLOCKS)
def test_number_of_parameters_is_torchvisions(depth):
    params = shapes_of(ENCODERS[f"resnet{depth}"]())["params"]
    assert sum(p.size for p in jax.tree.leaves(params)) == PARAMETERS[depth]


def test_width_scales_the_channels_of_every_layer():
    one, half = shapes_of(ResNet(depth=50)), shapes_of(ResNet(depth=50, width=0.5))
    channels = jax.tree.map(lambda a, b: a.shape[-1] == 2 * b.shape[-1], one, half)
    assert all(jax.tree.leaves(channels))


@pytest.mark.parametrize(
    ("stem", "size", "grid"), [("imagenet", 64, 2), ("imagenet", 33, 2), ("cifar", 32, 4)]
)
def test_grid_of_each_stem(stem, size, grid):
    net = ResNet(width=0.125, stem=stem)
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    features, variables = jax.eval_shape(
        functools.partial(net.init_with_output, train=False), jax.random.key(0), images
    )
    assert features.grid.shape == (2, grid, grid, 64)
    assert features.pooled.shape == (2, 64)
    assert variables["params"]["conv1"]["kernel"].shape[0] == {"imagenet": 7, "cifar": 3}[stem]


@pytest.fixture
def small(monkeypatch):
    """Makes a ResNet of two bottlenecks: what all depths share shows there, compiled quickly."""
    monkeypatch.setitem(BLOCKS, 50, (1, 1, 0, 0))
    return functools.partial(ResNet, depth=50, stem="cifar", width=0.25)


IMAGES = np.random.default_rng(0).standard_normal((4, 8, 8, 3), np.float32)


def initial(net: ResNet, *paths: str):
    """Initial parameters by their path. The rest is not drawn: that would take long to compile."""

    @jax.jit
    def pick(key):
        params = net.init(key, jnp.asarray(IMAGES), train=False)["params"]
        flat = flax.traverse_util.flatten_dict(params, sep="/")
        return [flat[path] for path in paths]

    return pick(jax.random.key(0))


def some_variables(net: ResNet):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: rng.uniform(0.1, 0.3, s.shape).astype(s.dtype), shapes_of(net))


def test_zero_init_silences_the_blocks(small):
    for block in ("layer1_0", "layer2_0"):
        paths = [f"{block}/{norm}/scale" for norm in ("bn1", "bn2", "bn3", "downsample_bn")]
        for zero_init, expected in ((False, [1, 1, 1, 1]), (True, [1, 1, 0, 1])):
            scales = initial(small(zero_init=zero_init), *paths)
            assert [set(np.asarray(scale)) for scale in scales] == [{value} for value in expected]


def test_convolutions_start_with_variance_two_over_fan_out(small):
    (kernel,) = initial(small(width=1.0), "layer1_0/conv3/kernel")  # 1x1, 64 to 256 channels
    assert float(kernel.std()) == pytest.approx((2 / 256) ** 0.5, rel=0.02)


# How many convolutions of two bottlenecks are computed again: all, or those that make them wide.
@pytest.mark.parametrize(("option", "number"), [("remat", 8), ("remat_expansions", 4)])
def test_remat_recomputes_and_changes_no_value(small, option, number):
    variables = some_variables(small())

    def loss(params, net):
        features, _ = net.apply(
            variables | {"params": params}, jnp.asarray(IMAGES), train=True, mutable=["batch_stats"]
        )
        return jnp.mean(features.pooled**2)

    gradient = jax.grad(loss)
    plain_gradient = functools.partial(gradient, net=small())
    plain = jax.jit(plain_gradient)(variables["params"])
    again = functools.partial(gradient, net=small(**{option: True}))
    remat = jax.jit(again)(variables["params"])
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, plain, remat)  # also: same names
    traces = (jax.make_jaxpr(f)(variables["params"]) for f in (again, plain_gradient))
    convolutions = [str(trace).count("conv_general_dilated[") for trace in traces]
    assert convolutions[0] - convolutions[1] == number


def test_bfloat16_keeps_parameters_statistics_and_features_in_float32(small):
    net, variables = small(dtype=jnp.dtype("bfloat16")), some_variables(small())
    train = functools.partial(net.apply, train=True, mutable=["batch_stats"])
    features, changed = jax.eval_shape(train, variables, jnp.asarray(IMAGES))
    for leaf in jax.tree.leaves((shapes_of(net), features, changed)):
        assert leaf.dtype == jnp.float32
    apply = jax.jit(
        lambda net: net.apply(variables, jnp.asarray(IMAGES), train=False).pooled, static_argnums=0
    )
    exact, rough = apply(small()), apply(net)
    assert 0 < jnp.abs(rough - exact).max() < 0.02 * jnp.abs(exact).max()


def test_images_without_pixels_are_refused(small):
    with pytest.raises(ValueError, match="0 x 8 pixels"):
        small().init(jax.random.key(0), jnp.zeros((1, 0, 8, 3)), train=False)


@pytest.mark.parametrize(
    "wrong", [{"depth": 19}, {"stem": "vit"}, {"width": 0.0}, {"padding": "no"}]
)
def test_unknown_options_are_named(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        ResNet(**wrong)


@pytest.mark.parametrize("depth", [18, 50])
def test_dilated_stages_say_the_same_at_more_places(depth, monkeypatch):
    monkeypatch.setitem(BLOCKS, depth, (1, 1, 2, 2))
    images = jax.random.normal(jax.random.key(0), (1, 64, 64, 3))
    network = ResNet(depth, width=1 / 16)
    variables = jax.jit(functools.partial(network.init, train=False))(jax.random.key(1), images)

    def grid(stages):
        dilated = network.clone(dilated_stages=stages)
        return jax.jit(lambda x: dilated.apply(variables, x, train=False).grid)(images)

    coarse, fine = grid(0), grid(2)
    assert fine.shape[1:3] == (8, 8)
    np.testing.assert_allclose(fine[:, ::4, ::4], coarse, atol=1e-4)


def test_dilated_stages_are_at_most_those_that_halve():
    with pytest.raises(ValueError, match="dilated_stages is 4; it must be from 0 to 3"):
        ResNet(18, dilated_stages=4)
