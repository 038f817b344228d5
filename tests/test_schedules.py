"""Schedules against the released code of BYOL / DetCon and ContrastiveCrop."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.schedules import cosine, linear_warmup, step_decay


def test_cosine_is_detcons_moving_average_rate(golden):
    expected = golden("detcon_sched")  # from 0.996 to 1 in 1000 steps
    tau = cosine(jnp.asarray(expected["steps"]) / 1000, 0.996, 1.0)
    np.testing.assert_allclose(tau, expected["tau"], rtol=1e-6)


def test_cosine_is_contrastive_crops_learning_rate(golden):
    expected = golden("ccrop_ntxent")  # epochs count from 1 there, of 500
    rate = cosine(jnp.asarray(expected["cos_epochs"] - 1) / 500, 0.5, 0.05)
    np.testing.assert_allclose(rate, expected["cos_lr"], rtol=1e-6)


@pytest.mark.parametrize(
    ("t", "value"), [(-0.5, 2.0), (0.0, 2.0), (0.5, 1.5), (1.0, 1.0), (3.0, 1.0)]
)
def test_cosine_is_level_outside(t, value):
    assert float(cosine(t, 2.0, 1.0)) == pytest.approx(value)


@pytest.mark.parametrize(("t", "value"), [(0.0, 0.0), (0.1, 0.25), (0.4, 1.0), (0.9, 1.0)])
def test_warmup_is_a_ramp(t, value):
    assert float(linear_warmup(t, 0.4)) == pytest.approx(value)


@pytest.mark.parametrize(("t", "value"), [(0.0, 0.5), (0.1, 0.625), (0.4, 1.0), (0.9, 1.0)])
def test_warmup_from_a_start(t, value):
    assert float(linear_warmup(t, 0.4, 0.5)) == pytest.approx(value)


def test_drops_are_stairs():
    values = step_decay(jnp.array([0.0, 0.59, 0.6, 0.79, 0.8, 1.0]), (0.6, 0.8), 0.1)
    np.testing.assert_allclose(values, [1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)


def test_no_warmup_is_one_from_the_start():
    assert float(linear_warmup(0.0, 0.0)) == 1
