"""DetCon's two variants on one small batch, and SimCLR as a special case."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_detcon_loss import plain_loop

from jaxssl.methods import DetConB, DetConS, SimCLR
from jaxssl.models.vit import ViT
from jaxssl.training.checkpoint import Checkpoints
from jaxssl.types import Features, View
from jaxssl.views import ViewConfig

B, R = 8, 5
# A high temperature: what rounding leaves must not grow.
OPTIONS = {"hidden": (8,), "dim": 6, "num_regions": R, "temperature": 0.5}


def make_views(count=2, regions=3, seed=0):
    """Views f32[8, 16, 16, 3] with overlapping regions; the last image has none."""
    rng = np.random.default_rng(seed)
    planes = rng.integers(0, 2**regions, (count, B, 4, 4, 1)).astype(np.uint32)
    planes[:, -1] = 0
    images = rng.normal(size=(count, B, 16, 16, 3)).astype(np.float32)
    return [View(jnp.asarray(i), jnp.asarray(p)) for i, p in zip(images, planes, strict=True)]


@pytest.fixture(scope="module", params=[DetConS, DetConB])
def method(request, tiny_encoder):
    return request.param(tiny_encoder, **OPTIONS)


@pytest.fixture(scope="module")
def detcon_s(tiny_encoder):
    return DetConS(tiny_encoder, **OPTIONS)


@functools.cache
def start(method):
    """Parameters and state. The random bits of "rbg" are those that compile fast."""
    return jax.jit(method.init)(jax.random.key(1, impl="rbg"), make_views())


def arguments(t=0.25):
    return {"key": jax.random.key(2), "t": jnp.asarray(t)}


@functools.partial(jax.jit, static_argnums=0)
def loss_of(method, params, state, views):
    return method.loss(params, state, views, **arguments())


@functools.partial(jax.jit, static_argnums=0)
def with_gradient(method, params, state, views):
    return jax.value_and_grad(method.loss, has_aux=True)(params, state, views, **arguments())


def test_one_view_compares_the_cells_of_a_region(detcon_s):
    method = dataclasses.replace(detcon_s, pooling="cell")
    params, state = start(detcon_s)
    views = make_views(count=1)

    @jax.jit
    def run(params, state):
        latents, _ = method.project(params, state.batch_stats, views, arguments()["key"])
        train = {"train": True, "mutable": ["batch_stats"]}
        variables = method.encoder_variables(params, state)
        grid = method.encoder.apply(variables, views[0].image, **train)[0].grid
        cells = grid.reshape(B, 16, -1)
        features = jnp.take_along_axis(cells, latents.view[0][..., None], axis=1)
        head = {"params": params["projector"], "batch_stats": state.batch_stats["projector"]}
        z, _ = method.head.apply(head, features, **train)
        return latents, z, method.loss(params, state, views, **arguments())[0]

    latents, expected_z, loss = jax.tree.map(np.asarray, run(params, state))
    planes = np.asarray(views[0].planes).reshape(B, 16)
    for image, r in np.ndindex(B, R):
        region, cell = latents.region[0, image, r], latents.view[0, image, r]
        assert (region == 32) == (image == B - 1)
        assert region == 32 or planes[image, cell] >> region & 1
    np.testing.assert_allclose(latents.z[0], expected_z, atol=1e-5)
    expected = plain_loop(
        latents.z, latents.z, latents.region, latents.view, temperature=0.5, local=True, compared=B
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("copies", [1, 4])
def test_one_region_is_twice_simclr(detcon_s, copies):
    """And copies of it change nothing but a constant and the scale (table 4, row a)."""
    views = make_views()
    whole = dataclasses.replace(detcon_s, whole_view=True, num_regions=copies)
    params, state = start(detcon_s)
    loss, _ = loss_of(whole, params, state, views)

    options = {"hidden": (8,), "dim": 6, "final_batch_norm": "none", "loss_scale": 2.0}
    simclr = SimCLR(detcon_s.encoder, 0.5, **options)
    head = params["projector"]
    head = head | {"linear1": {"kernel": head["linear1"]["kernel"]}}  # BatchNorm undoes a bias
    same = {"encoder": params["encoder"], "head": head}
    stats = {"encoder": state.batch_stats["encoder"], "head": state.batch_stats["projector"]}
    expected, _ = loss_of(simclr, same, state.replace(batch_stats=stats), views)
    np.testing.assert_allclose(loss, (expected + 2 * np.log(copies)) / copies, rtol=1e-5)


def test_images_without_regions_have_the_whole_view(detcon_s):
    views = make_views()
    bare = [v.replace(planes=jnp.zeros_like(v.planes)) for v in views]
    whole = dataclasses.replace(detcon_s, whole_view=True)
    a, (_, metrics) = loss_of(detcon_s, *start(detcon_s), bare)
    b, _ = loss_of(whole, *start(detcon_s), views)
    np.testing.assert_allclose(a, b, rtol=1e-6)
    np.testing.assert_allclose(metrics["regions_per_view"], 1, rtol=1e-5)


def test_hard_pooling_leaves_the_outer_of_nested_regions(detcon_s):
    views = make_views()
    hard = dataclasses.replace(detcon_s, pooling="hard")
    nested, outer = (
        [v.replace(planes=jnp.full_like(v.planes, bits)) for v in views] for bits in (0b11, 0b01)
    )
    a, (_, metrics) = loss_of(hard, *start(detcon_s), nested)
    b, _ = loss_of(hard, *start(detcon_s), outer)
    np.testing.assert_allclose(a, b, rtol=1e-6)
    np.testing.assert_allclose(metrics["regions_per_view"], 1, rtol=1e-5)


def test_what_moves_and_what_does_not(method):
    params, state = start(method)
    (loss, (new, metrics)), gradient = with_gradient(method, params, state, make_views())
    assert np.isfinite(loss)
    assert 1 < metrics["regions_per_view"] <= 3
    assert all(np.any(g != 0) for g in jax.tree.leaves(gradient))
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), state, new)
    assert all(jax.tree.leaves(moved.batch_stats))
    if isinstance(method, DetConB):
        assert all(jax.tree.leaves(moved.target_batch_stats))
        assert not any(jax.tree.leaves(moved.target_params))
        # No copy at the start: the released code draws them apart.
        copies = jax.tree.map(np.array_equal, state.target_params["projector"], params["projector"])
        assert not copies["linear1"]["kernel"]


def test_no_gradient_reaches_the_target(tiny_encoder):
    method = DetConB(tiny_encoder, **OPTIONS)
    params, state = start(method)

    def loss(target):
        return method.loss(
            params, state.replace(target_params=target), make_views(), **arguments()
        )[0]

    gradient = jax.jit(jax.grad(loss))(state.target_params)
    assert not any(np.any(g) for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_target_follows_the_parameters(tiny_encoder, t):
    method = DetConB(tiny_encoder, **OPTIONS)
    params, state = start(method)
    same, after = method.after_step(params, state, t=jnp.asarray(t))
    assert same is params
    assert after.target_batch_stats is state.target_batch_stats
    tau = 1 - (1 - 0.996) * (np.cos(np.pi * t) + 1) / 2
    for name in ("encoder", "projector"):
        jax.tree.map(
            lambda new, old, theta: np.testing.assert_allclose(
                new, tau * old + (1 - tau) * theta, atol=1e-6
            ),
            after.target_params[name], state.target_params[name], params[name],
        )  # fmt: skip


class PlainEncoder(nn.Module):
    """No batch norm, as a ViT has none; its class token is no mean of the grid."""

    @nn.compact
    def __call__(self, images, train):
        grid = nn.Conv(6, (4, 4), strides=4)(images)
        return Features(grid=grid, pooled=self.param("token", nn.zeros, (6,))[None])


@pytest.mark.parametrize("variant", [DetConS, DetConB])
def test_encoder_without_batch_norm(variant, tmp_path):
    method = variant(PlainEncoder(), **OPTIONS)
    views = make_views()
    shapes = jax.eval_shape(method.init, jax.random.key(0), views)
    _, (state, _) = jax.eval_shape(lambda p, s: method.loss(p, s, views, **arguments()), *shapes)
    assert jax.tree.structure(state) == jax.tree.structure(shapes[1])
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, zeros, method.encoder_variables(*zeros))
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore("encoder", method.encoder_variables(*shapes))
        assert checkpoints.restore("state", shapes) is not None
    assert restored["batch_stats"] == {}


@pytest.mark.parametrize(
    ("options", "views", "message"),
    [
        ({}, ViewConfig(num_global=1), "set method.pooling=cell, or views.num_global=2"),
        ({"images_compared": 3}, ViewConfig(), "images_compared 3 does not divide batch_size 8"),
        ({}, ViewConfig(size=4), "of a view of 4 pixels the encoder makes one cell"),
        ({}, ViewConfig(num_local=1, local_size=4), "of a view of 4 pixels"),
    ],
)
def test_what_cannot_be_compared(method, options, views, message):
    with pytest.raises(ValueError, match=message):
        type(method)(method.encoder, **options).check(
            batch_size=8, num_examples=80, views=views.specs()
        )


def test_what_can_be_compared(tiny_encoder):
    cells = DetConS(tiny_encoder, pooling="cell", images_compared=4)
    cells.check(batch_size=8, num_examples=80, views=ViewConfig(num_global=1).specs())
    whole = DetConS(tiny_encoder, whole_view=True)
    whole.check(batch_size=8, num_examples=80, views=ViewConfig(size=4).specs())


@pytest.mark.parametrize(
    ("pool", "said"), [("cls", "set --config.encoder.pool=mean"), ("mean", "")]
)
def test_a_class_token_that_no_loss_trains_is_said(pool, said, caplog):
    encoder = ViT(dim=8, depth=1, heads=2, patch=4, image_size=16, pool=pool)
    DetConS(encoder).check(batch_size=8, num_examples=80, views=ViewConfig(size=16).specs())
    assert said in caplog.text
    assert bool(caplog.text) == bool(said)


def test_mistakes(tiny_encoder):
    with pytest.raises(ValueError, match="choose one of soft, hard, cell"):
        DetConS(tiny_encoder, pooling="mean")
    with pytest.raises(ValueError, match="num_regions is 0; it must be 1 or more"):
        DetConS(tiny_encoder, num_regions=0)
