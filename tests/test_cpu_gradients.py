"""Convolution and max-pooling against XLA's own: values and gradients, ties among them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.models import cpu_gradients

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), "SAME"])
@pytest.mark.parametrize("side", [(8, 8), (7, 10), (1, 3)])
def test_max_pool_and_where_its_gradient_goes(padding, side):
    x = jnp.asarray(RNG.integers(0, 3, (2, *side, 4)), jnp.float32)  # of three values: many ties

    def windows(x):
        return nn.max_pool(x, (3, 3), strides=(2, 2), padding=padding)

    out, back = jax.vjp(windows, x)
    ours, our_back = jax.vjp(functools.partial(cpu_gradients.max_pool, padding=padding), x)
    np.testing.assert_array_equal(ours, out)
    g = jnp.asarray(RNG.integers(1, 100, out.shape), jnp.float32)  # whole: sums are exact
    np.testing.assert_array_equal(our_back(g)[0], back(g)[0])


@pytest.mark.parametrize(
    ("side", "kernel", "options"),
    [
        ((16, 12), 7, {"strides": 2, "padding": "SAME"}),
        ((9, 13), 7, {"strides": 2, "padding": 3}),
        ((8, 8), 3, {"strides": 1, "padding": 1}),
        ((9, 8), 3, {"strides": 1, "padding": "SAME", "kernel_dilation": 2}),
        ((9, 8), 1, {"strides": 2, "padding": 0}),
    ],
)
def test_gradient_of_the_weights(monkeypatch, side, kernel, options):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(cpu_gradients, "BYTES_IN_CACHE", 20_000)  # some images at a time, not all
    x = jnp.asarray(RNG.normal(size=(6, *side, 3)), jnp.float32)
    weights = jnp.asarray(RNG.normal(size=(kernel, kernel, 3, 5)), jnp.float32)

    def gradients(convolution):
        conv = nn.Conv(
            5,
            (kernel, kernel),
            use_bias=False,
            conv_general_dilated=convolution,
            **options,
        )
        out, back = jax.vjp(lambda w, x: conv.apply({"params": {"kernel": w}}, x), weights, x)
        return out, back(jnp.cos(out))

    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-4),
        gradients(cpu_gradients.convolve),
        gradients(None),
    )
