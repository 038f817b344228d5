"""The first layers of a ResNet against XLA's own: values and gradients, ties among them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.models import stem

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), "SAME"])
@pytest.mark.parametrize("side", [(8, 8), (7, 10), (1, 3)])
def test_max_pool_and_where_its_gradient_goes(padding, side):
    x = jnp.asarray(RNG.integers(0, 3, (2, *side, 4)), jnp.float32)  # of three values: many ties

    def windows(x):
        return nn.max_pool(x, (3, 3), strides=(2, 2), padding=padding)

    out, back = jax.vjp(windows, x)
    ours, our_back = jax.vjp(functools.partial(stem.max_pool, padding=padding), x)
    np.testing.assert_array_equal(ours, out)
    g = jnp.asarray(RNG.integers(1, 100, out.shape), jnp.float32)  # whole: sums are exact
    np.testing.assert_array_equal(our_back(g)[0], back(g)[0])


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [((16, 12), 7, 2, "SAME"), ((9, 13), 7, 2, ((3, 3), (3, 3))), ((8, 8), 3, 1, "SAME")],
)
def test_gradient_of_the_weights(monkeypatch, side, kernel, stride, padding):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(stem, "PIXELS_IN_CACHE", 100)  # some images at a time, not all
    images = jnp.asarray(RNG.normal(size=(6, *side, 3)), jnp.float32)
    weights = jnp.asarray(RNG.normal(size=(kernel, kernel, 3, 5)), jnp.float32)

    def gradients(**options):
        conv = nn.Conv(
            5, (kernel, kernel), strides=stride, padding=padding, use_bias=False, **options
        )
        run = lambda w, x: conv.apply({"params": {"kernel": w}}, x)  # noqa: E731
        out, back = jax.vjp(run, weights, images)
        return out, back(jnp.cos(out))

    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-4),
        gradients(conv_general_dilated=stem.convolve),
        gradients(),
    )
