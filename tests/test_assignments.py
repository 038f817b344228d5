"""Losses on soft assignments: cross entropy between views, and Sinkhorn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.losses import cross_entropy, sinkhorn


def plain_sinkhorn(scores, epsilon, iterations):
    """As the paper has it: samples in columns, sums 1 / K of rows and 1 / B of columns."""
    q = np.exp(np.asarray(scores, np.float64) / epsilon).T
    q /= q.sum()
    for _ in range(iterations):
        q /= q.sum(axis=1, keepdims=True) * q.shape[0]
        q /= q.sum(axis=0, keepdims=True) * q.shape[1]
    return (q * q.shape[1]).T


def plain_cross_entropy(targets, logits):
    """-sum q log p over pairs of different views, image by image."""
    terms = []
    for i in range(len(targets)):
        for j in range(len(logits)):
            for q, x in zip(targets[i], np.asarray(logits[j], np.float64), strict=True):
                if i != j:
                    terms.append(-np.sum(q * (x - np.log(np.sum(np.exp(x))))))
    return np.mean(terms)


def test_swav_equals_lightly(golden):
    g = golden("lightly_1_4_14")
    q = jax.jit(jax.vmap(lambda s: sinkhorn(s, 0.05, 3)))(g["swav_hr"])
    np.testing.assert_allclose(q[0], g["swav_q0"], rtol=1e-4, atol=1e-7)
    scores = np.concatenate([g["swav_hr"], g["swav_lr"]])
    np.testing.assert_allclose(
        cross_entropy(q, jnp.asarray(scores / 0.1)), g["swav_loss"], rtol=1e-6
    )


@pytest.mark.parametrize(("g", "v"), [(2, 2), (2, 5), (3, 4), (1, 2)])
def test_cross_entropy_plain_loop(g, v):
    rng = np.random.default_rng(0)
    targets = rng.dirichlet(np.ones(7), (g, 3)).astype(np.float32)
    logits = (5 * rng.standard_normal((v, 3, 7))).astype(np.float32)
    value = cross_entropy(jnp.asarray(targets), jnp.asarray(logits))
    np.testing.assert_allclose(value, plain_cross_entropy(targets, logits), rtol=1e-5)


@pytest.mark.parametrize(("iterations", "epsilon"), [(1, 0.05), (3, 0.05), (10, 0.5)])
def test_sinkhorn_plain_loop(iterations, epsilon):
    scores = np.random.default_rng(0).uniform(-1, 1, (12, 5)).astype(np.float32)
    q = sinkhorn(jnp.asarray(scores), epsilon, iterations)
    expected = plain_sinkhorn(scores, epsilon, iterations)
    np.testing.assert_allclose(q, expected, rtol=1e-4, atol=1e-7)


def test_sinkhorn_uses_all_prototypes_alike():
    """Even when all samples are nearest to the same one."""
    scores = jax.random.uniform(jax.random.key(0), (12, 4)) + jnp.array([[1.0, 0, 0, 0]])
    q = sinkhorn(scores, 0.5, 20)
    np.testing.assert_allclose(q.sum(axis=0), 3, rtol=1e-4)
    np.testing.assert_allclose(q.sum(axis=1), 1, rtol=1e-5)


def test_sinkhorn_neither_overflows_nor_vanishes():
    """exp(1000) is infinite, and most samples are far from the last prototype."""
    scores = np.float32([[50, 0, -50], [40, 10, -50], [50, 20, -40], [50, 20, 1]])
    q = sinkhorn(jnp.asarray(scores), 0.05, 3)
    assert jnp.isfinite(q).all()
    np.testing.assert_allclose(q.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(q, sinkhorn(jnp.asarray(scores + 10), 0.05, 3), atol=1e-3)
