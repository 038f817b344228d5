"""SimCLR on one small batch: its loss from its parts, what moves and what stays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.losses import contrastive
from jaxssl.methods import SimCLR
from jaxssl.types import View

SIZES = (16, 16, 8)


@pytest.fixture(scope="module")
def views():
    keys = jax.random.split(jax.random.key(0), len(SIZES))
    return [
        View(image=jax.random.normal(k, (4, s, s, 3))) for k, s in zip(keys, SIZES, strict=True)
    ]


@pytest.fixture(scope="module")
def simclr(tiny_encoder):
    return SimCLR(tiny_encoder, hidden=(8,), dim=6)


@pytest.fixture(scope="module")
def started(simclr, views):
    return jax.jit(simclr.init)(jax.random.key(1), views)


def loss_of(method, params, state, views):
    run = jax.jit(functools.partial(method.loss, key=jax.random.key(2), t=jnp.zeros(())))
    return run(params, state, views)


@pytest.mark.parametrize("share", [True, False])
def test_loss_is_ntxent_of_the_projections(simclr, started, views, share):
    method = SimCLR(simclr.encoder, hidden=(8,), dim=6, share_batch_norm=share)
    params, state = started
    loss, (new_state, metrics) = loss_of(method, params, state, views)

    batches = [views[:2], views[2:]] if share else [[v] for v in views]
    stats, rows = state.batch_stats, []
    for batch in batches:
        z, changed = method.network.apply(
            {"params": params, "batch_stats": stats},
            jnp.concatenate([v.image for v in batch]),
            train=True,
            mutable=["batch_stats"],
        )
        stats = changed["batch_stats"]
        rows.append(z)
    expected = contrastive(
        jnp.concatenate(rows), jnp.concatenate(rows), jnp.tile(jnp.arange(4), 3),
        jnp.repeat(jnp.arange(3), 4), 0.07,
    )  # fmt: skip
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert 0 < metrics["embedding_std"] < 1.5
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state, new_state)
    assert all(jax.tree.leaves(moved))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        new_state.batch_stats,
        stats,
    )


def test_order_of_images_does_not_matter(simclr, started, views):
    loss, _ = loss_of(simclr, *started, views)
    turned, _ = loss_of(simclr, *started, [View(image=v.image[::-1]) for v in views])
    np.testing.assert_allclose(loss, turned, rtol=1e-4)


def test_views_of_one_image_attract(simclr, started, views):
    """The loss is lower when the views of an image are the same than when they are exchanged."""
    same = [views[0], views[0]]
    exchanged = [views[0], View(image=jnp.roll(views[0].image, 1, axis=0))]
    assert loss_of(simclr, *started, same)[0] < loss_of(simclr, *started, exchanged)[0]


def test_encoder_variables_load_into_the_encoder(simclr, started, views):
    variables = simclr.encoder_variables(*started)
    features = simclr.encoder.apply(variables, views[0].image, train=False)
    assert features.pooled.shape == (4, features.grid.shape[-1])


def test_head_without_batch_norm_has_biases(tiny_encoder, views):
    method = SimCLR(
        tiny_encoder, hidden=(8,), dim=6, head_batch_norm=False, final_batch_norm="none"
    )
    params, state = jax.eval_shape(method.init, jax.random.key(1), views)
    assert {name: set(layer) for name, layer in params["head"].items()} == {
        "linear1": {"kernel", "bias"},
        "linear2": {"kernel", "bias"},
    }
    assert set(state.batch_stats) == {"encoder"}
