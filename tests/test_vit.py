"""The encoder against timm's, on weights drawn by numpy and carried over."""

import functools
import re

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.make_timm_vit import SIZES, draw_images, draw_weights
from jax.sharding import Mesh

from jaxssl import sharding
from jaxssl.methods import SimCLR
from jaxssl.models import ENCODERS, variable_shapes
from jaxssl.models.vit import Block, ViT
from jaxssl.types import View

# Parameters without a head, as timm counts them
PARAMETERS = {"vit_tiny": 5524416, "vit_small": 21665664, "vit_base": 85798656}
LEAVES = {"kernel": "weight", "scale": "weight"}
small = functools.partial(ViT, dim=32, depth=2, heads=2, patch=8, image_size=32)


def shapes_of(net: ViT, size: int = 16):
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(functools.partial(net.init, train=False), jax.random.key(0), images)


def timm_name(path: tuple[str, ...]) -> str:
    """`params/blocks_0/attn/qkv/kernel` is `blocks.0.attn.qkv.weight`."""
    _, *modules, leaf = path
    name = ".".join([*modules, LEAVES.get(leaf, leaf)])
    return name.replace("blocks_", "blocks.").replace("patch_embed", "patch_embed.proj")


def axes_in_timm(array) -> tuple[int, ...]:
    """The order of the axes there: output channels come first."""
    return {2: (1, 0), 4: (3, 2, 0, 1)}.get(array.ndim, tuple(range(array.ndim)))


@functools.cache
def timm_variables():
    flat = flax.traverse_util.flatten_dict(shapes_of(small()))
    weights = draw_weights(
        {timm_name(k): tuple(v.shape[i] for i in axes_in_timm(v)) for k, v in flat.items()}
    )
    return flax.traverse_util.unflatten_dict(
        {k: weights[timm_name(k)].transpose(np.argsort(axes_in_timm(v))) for k, v in flat.items()}
    )


@pytest.mark.parametrize("case", SIZES)
def test_features_are_timms(golden, case):
    images = jnp.asarray(draw_images(*SIZES[case]))
    features = jax.jit(functools.partial(small().apply, train=False))(timm_variables(), images)
    expected = golden("timm_vit")[case]  # the class token, then the patches
    patches = expected[:, 1:].reshape(2, SIZES[case][0] // 8, SIZES[case][1] // 8, 32)
    np.testing.assert_allclose(features.pooled, expected[:, 0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(features.grid, patches, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters_is_timms(name):
    params = shapes_of(ENCODERS[name]())["params"]
    assert sum(p.size for p in jax.tree.leaves(params)) == PARAMETERS[name]


@pytest.mark.parametrize(("patch", "grid"), [(16, 6), (8, 12)])
def test_grid_has_one_cell_for_each_patch(patch, grid):
    images = jax.ShapeDtypeStruct((2, 96, 96, 3), jnp.float32)
    features, _ = jax.eval_shape(
        functools.partial(ENCODERS["vit_tiny"](patch=patch).init_with_output, train=False),
        jax.random.key(0),
        images,
    )
    assert features.grid.shape == (2, grid, grid, 192)
    assert features.pooled.shape == (2, 192)


def test_parameters_do_not_depend_on_the_images_seen_first():
    assert shapes_of(small(), 16) == shapes_of(small(), 48)
    assert shapes_of(small())["params"]["pos_embed"].shape == (1, 1 + 16, 32)


def test_pooled_is_the_mean_of_the_grid_if_asked():
    images = jnp.asarray(draw_images(32, 32))
    features = jax.jit(small(pool="mean").apply, static_argnames="train")(
        timm_variables(), images, train=False
    )
    np.testing.assert_allclose(features.pooled, features.grid.mean(axis=(1, 2)), atol=1e-6)


def test_initial_values_are_dinos():
    params = jax.jit(functools.partial(small().init, train=False))(
        jax.random.key(0), jnp.zeros((1, 32, 32, 3))
    )["params"]
    block = params["blocks_0"]
    normal = (block["attn"]["qkv"], block["attn"]["proj"], block["mlp"]["fc1"], block["mlp"]["fc2"])
    for values in (params["pos_embed"], *(layer["kernel"] for layer in normal)):
        # One cut at two deviations would have 0.0176.
        assert float(values.std()) == pytest.approx(0.02, rel=0.06)
    assert float(params["patch_embed"]["kernel"].max()) == pytest.approx(192**-0.5, rel=0.01)
    assert not any(layer["bias"].any() for layer in normal)


def gradient(net: ViT):
    images = jnp.asarray(draw_images(16, 16))

    def loss(params):
        features = net.apply({"params": params}, images, train=True)
        return jnp.mean(features.pooled**3) + jnp.mean(features.grid**3)

    return jax.grad(loss)


def test_remat_recomputes_and_changes_no_value():
    params = timm_variables()["params"]
    plain, remat = jax.jit(gradient(small()))(params), jax.jit(gradient(small(remat=True)))(params)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, plain, remat)  # also: same names
    assert "remat" in str(jax.make_jaxpr(gradient(small(remat=True)))(params))


def test_bfloat16_keeps_parameters_softmax_and_features_in_float32():
    images, rough_net = jnp.asarray(draw_images(32, 32)), small(dtype=jnp.dtype("bfloat16"))

    def apply(net, variables):
        return net.apply(variables, images, train=False)

    compiled = jax.jit(apply, static_argnums=0)
    exact, rough = (compiled(net, timm_variables()) for net in (small(), rough_net))
    for leaf in jax.tree.leaves((shapes_of(rough_net), rough)):
        assert leaf.dtype == jnp.float32
    assert 0 < jnp.abs(rough.pooled - exact.pooled).max() < 0.05 * jnp.abs(exact.pooled).max()
    trace = str(jax.make_jaxpr(functools.partial(apply, rough_net))(timm_variables()))
    assert re.findall(r":(\w+)\[\S+\] = exp ", trace) == ["f32", "f32"]  # the softmax of each block


def test_a_dropped_branch_is_left_out_and_a_kept_one_grows():
    """Each image has one of the four sums that two branches make, and any of them turns up."""
    rate, x = 0.25, jax.random.normal(jax.random.key(0), (200, 3, 8))
    block = Block(heads=2, dtype=jnp.float32, drop=rate)
    variables = block.init(jax.random.key(1), x)

    def without(branch, x):
        zeros = jax.tree.map(jnp.zeros_like, variables["params"][branch])
        return block.apply({"params": variables["params"] | {branch: zeros}}, x)

    drawn = block.apply(variables, x, rngs={"drop_path": jax.random.key(2)})
    seen = []
    for keep_attention in (0, 1):
        inside = x + keep_attention * (without("mlp", x) - x) / (1 - rate)
        mlp = without("attn", inside) - inside
        for keep_mlp in (0, 1):
            expected = inside + keep_mlp * mlp / (1 - rate)
            seen.append(jnp.isclose(drawn, expected, atol=1e-5).all(axis=(1, 2)))
    shares = np.mean(seen, axis=1)
    np.testing.assert_allclose(shares.sum(), 1)
    np.testing.assert_allclose(shares, [1 / 16, 3 / 16, 3 / 16, 9 / 16], atol=0.1)


def test_stochastic_depth_rises_from_none_and_is_drawn_where_a_key_is_given():
    images = jnp.asarray(draw_images(32, 32))
    net, key = small(drop_path=0.9), {"drop_path": jax.random.key(0)}
    variables = jax.tree.map(jnp.asarray, timm_variables())
    apply = functools.partial(net.apply, variables, images, train=True)
    still = small().apply(variables, images, train=True)
    np.testing.assert_array_equal(apply().pooled, still.pooled)
    assert (apply(rngs=key).pooled != still.pooled).any()
    shallow = functools.partial(small, depth=1)  # the first block is never left out
    variables = shallow().init(jax.random.key(0), images, train=False)
    np.testing.assert_array_equal(
        shallow(drop_path=0.9).apply(variables, images, train=True, rngs=key).pooled,
        shallow().apply(variables, images, train=True).pooled,
    )


def test_eight_devices_drop_what_one_drops():
    images = jnp.tile(jnp.asarray(draw_images(16, 16))[:1], (16, 1, 1, 1))

    def pooled(images):
        net = small(drop_path=0.5)
        return net.apply(
            jax.tree.map(jnp.asarray, timm_variables()),
            images,
            train=True,
            rngs={"drop_path": jax.random.key(0)},
        ).pooled

    one, eight = (Mesh(np.array(jax.devices()[:n]), ("data",)) for n in (1, 8))
    results = [
        jax.jit(pooled, in_shardings=sharding.split(mesh), out_shardings=sharding.split(mesh))(
            images
        )
        for mesh in (one, eight)
    ]
    np.testing.assert_allclose(*map(np.asarray, results), rtol=1e-5, atol=1e-5)
    assert len(np.unique(np.asarray(results[0])[:, 0].round(4))) == 4  # of one image, repeated


@pytest.mark.parametrize("encoder", ["tiny", "vit"])
def test_variable_shapes_are_those_of_what_a_method_saves(encoder, tiny_encoder):
    net = {"tiny": tiny_encoder, "vit": small()}[encoder]
    method = SimCLR(net, hidden=(8,), dim=6)
    views = [View(image=jnp.zeros((1, size, size, 3))) for size in (32, 16)]
    saved = jax.eval_shape(
        lambda key: method.encoder_variables(*method.init(key, views)), jax.random.key(0)
    )
    assert saved == variable_shapes(net, 24)


@pytest.mark.parametrize("size", [(0, 8), (8, 12), (12, 8)])
def test_images_that_do_not_divide_are_refused(size):
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} pixels .* patches of 8"):
        small().init(jax.random.key(0), jnp.zeros((1, *size, 3)), train=False)


@pytest.mark.parametrize(
    "wrong", [{"pool": "max"}, {"patch": 0}, {"patch": 5}, {"image_size": 4}, {"drop_path": 1.0}]
)
def test_unknown_options_are_named(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        small(**wrong)
