"""Learning rates of optimizers as functions of the step, against released code and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.optim import Lars, Sgd


def test_schedule_is_detcons(golden):
    """Base rate 0.2 at batch size 4096: peak 3.2; 1000 steps, of which 100 are warm-up."""
    expected = golden("detcon_sched")
    rate = Lars(lr=0.2, warmup_epochs=10.0).schedule(4096, 10, 100)
    rates = [float(rate(int(step))) for step in expected["steps"]]
    np.testing.assert_allclose(rates, expected["lr"], rtol=1e-6, atol=1e-6)


def test_schedule_per_epoch_is_contrastive_crops(golden):
    expected = golden("ccrop_ntxent")  # epochs count from 1 there
    rate = Sgd(lr=0.5, end_factor=0.1, scale_lr_by_batch="none").schedule(512, 97, 500)
    for epoch, value in zip(expected["cos_epochs"], expected["cos_lr"], strict=True):
        for step in (int(epoch - 1) * 97, int(epoch) * 97 - 1):  # first and last of the epoch
            assert float(rate(step)) == pytest.approx(value, rel=1e-6)


def test_schedule_per_epoch_warms_up_at_every_step():
    rate = Sgd(lr=1.0, warmup_epochs=2.0, cosine_per="epoch").schedule(256, 4, 6)
    rates = [float(rate(step)) for step in range(24)]
    np.testing.assert_allclose(rates[:8], np.arange(8) / 8, rtol=1e-6)
    for epoch in range(2, 6):
        expected = 0.5 * (1 + np.cos(np.pi * (epoch - 2) / 4))
        np.testing.assert_allclose(rates[4 * epoch : 4 * epoch + 4], expected, rtol=1e-6)


@pytest.mark.parametrize("epochs", [200, 10])
def test_schedule_drops_as_moco_v1s(epochs):
    """Times 0.1 from epoch 120 and from epoch 160 of 200, at the first step of the epoch."""
    rate = jax.jit(Sgd(lr=0.03, milestones=(0.6, 0.8)).schedule(256, 7, epochs))
    for epoch in range(epochs):
        expected = 0.03 * 0.1 ** ((epoch >= 0.6 * epochs) + (epoch >= 0.8 * epochs))
        for step in (7 * epoch, 7 * epoch + 6):
            assert float(rate(step)) == pytest.approx(expected, rel=1e-6)


def test_schedule_drops_as_detcons_on_coco():
    """After the warm-up; to another factor, and at the step nearest to the fraction."""
    schedule = Lars(lr=0.3, warmup_epochs=1.0, milestones=(0.96, 0.98), decay_factor=0.5)
    rates = [float(schedule.schedule(256, 10, 10)(step)) for step in range(100)]
    expected = np.r_[0.3 * np.arange(10) / 10, [0.3] * 86, [0.15] * 2, [0.075] * 2]
    np.testing.assert_allclose(rates, expected, rtol=1e-6, atol=1e-8)


def test_schedule_is_swavs():
    """From 0.3 to 4.8 in 10 epochs, then along a cosine to 0.0048."""
    rate = Lars(lr=0.3, warmup_start=0.3 / 4.8, end_factor=0.001).schedule(4096, 5, 100)
    expected = [0.3 + (4.8 - 0.3) * i / 50 for i in range(50)]
    expected += [0.0048 + 0.5 * (4.8 - 0.0048) * (1 + np.cos(np.pi * i / 450)) for i in range(450)]
    np.testing.assert_allclose(jax.vmap(rate)(jnp.arange(500)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("rule", "peak"), [("linear", 3.2), ("sqrt", 12.8), ("none", 0.2)])
def test_peak_learning_rate(rule, peak):
    rate = Sgd(lr=0.2, scale_lr_by_batch=rule).schedule(4096, 10, 5)
    assert float(rate(0)) == pytest.approx(peak)


def test_a_run_may_be_all_warmup():
    rate = Sgd(lr=1.0, warmup_epochs=5.0).schedule(256, 10, 5)
    assert float(rate(25)) == pytest.approx(0.5)
    assert float(rate(49)) == pytest.approx(0.98)


def test_schedule_is_traceable_and_equal():
    rate = Lars().schedule(256, 10, 20)
    traced = jax.jit(jax.vmap(rate))(jnp.arange(200))
    np.testing.assert_allclose(traced, [float(rate(i)) for i in range(200)], rtol=1e-5, atol=1e-7)


def test_warmup_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match=r"warmup_epochs is 10.0 of 5 epochs"):
        Lars().transform(256, 10, 5)
