"""Depth: the reverse Huber loss and the measures against plain loops, and the decoder's shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.evaluation.dense.depth import MIN_DEPTH, depth_metrics, depth_sums, reverse_huber
from jaxssl.models.dense import DepthHead


def random_depths():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 5, (2, 6, 6)).astype(np.float32)
    predicted = (truth * np.exp(rng.normal(size=truth.shape) * 0.3)).astype(np.float32)
    truth[rng.random(truth.shape) < 0.2] = 0
    predicted[0, 0, 0] = -1.0
    truth[0, 0, 0] = 2.0
    return truth, predicted


def test_reverse_huber_equals_a_plain_loop():
    truth, predicted = random_depths()
    errors = [abs(p - t) for p, t in zip(predicted.ravel(), truth.ravel(), strict=True) if t > 0]
    c = max(errors) / 5
    expected = np.mean([e if e <= c else (e * e + c * c) / (2 * c) for e in errors])
    found = reverse_huber(jnp.asarray(predicted)[..., None], jnp.asarray(truth))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_pixels_of_unknown_depth_do_not_count():
    truth, predicted = random_depths()
    other = np.where(truth > 0, predicted, 77).astype(np.float32)
    np.testing.assert_array_equal(depth_sums(truth, predicted), depth_sums(truth, other))
    gradient = jax.grad(reverse_huber)(jnp.asarray(predicted)[..., None], jnp.asarray(truth))
    np.testing.assert_array_equal(np.asarray(gradient)[..., 0] != 0, truth > 0)
    with pytest.raises(ValueError, match="depth above 0"):
        depth_metrics(depth_sums(np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)))


def test_measures_equal_a_plain_loop():
    truth, predicted = random_depths()
    found = depth_metrics(depth_sums(truth, predicted))
    pairs = [
        (float(t), max(float(p), MIN_DEPTH))
        for t, p in zip(truth.ravel(), predicted.ravel(), strict=True)
        if t > 0
    ]
    for i in (1, 2, 3):
        right = [max(t / p, p / t) < 1.25**i for t, p in pairs]
        assert found[f"delta{i}"] == pytest.approx(np.mean(right))
    assert 0 < found["delta1"] < found["delta2"] < 1
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean([(t - p) ** 2 for t, p in pairs])))
    assert found["abs_rel"] == pytest.approx(np.mean([abs(t - p) / t for t, p in pairs]))


def test_channels_of_the_decoder_are_those_of_the_paper():
    grid = jax.ShapeDtypeStruct((1, 8, 10, 2048), jnp.float32)
    shapes = jax.eval_shape(lambda x: DepthHead().init(jax.random.key(0), x, train=False), grid)
    convs = {k: v for k, v in shapes["params"].items() if k.startswith("UpProjection")}
    widths = [convs[f"UpProjection_{i}"]["Conv_0"]["kernel"].shape[-1] for i in range(4)]
    assert widths == [512, 256, 128, 64]
    out = jax.eval_shape(lambda v, x: DepthHead().apply(v, x, train=False), shapes, grid)
    assert out.shape == (1, 128, 160, 1)
