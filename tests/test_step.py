"""The step on one device and on eight, and what it draws its randomness from."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import canvas_batch, collectives
from jax.sharding import Mesh

from jaxssl import sharding
from jaxssl.methods import SimCLR
from jaxssl.optim import Sgd
from jaxssl.samplers import RegionCrop
from jaxssl.training.step import TrainStep
from jaxssl.training.trainer import jit_train_step
from jaxssl.views import ViewConfig, make_views

BATCH_SIZE, STEPS = 16, 10


def make_batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH_SIZE, 24, 24, 3)).astype(np.uint8)
    return canvas_batch(images, hw=np.full((BATCH_SIZE, 2), 48)) | {
        "index": np.arange(BATCH_SIZE, dtype=np.int32),
        "label": np.zeros(BATCH_SIZE, np.int32),
        "region_boxes": np.tile(np.float32([4, 8, 40, 44]), (BATCH_SIZE, 1, 1)),
        "region_areas": np.full((BATCH_SIZE, 1), 800, np.float32),
    }


class Setting:
    """Everything for a step on the first n devices."""

    def __init__(self, encoder, num_devices):
        self.mesh = Mesh(np.array(jax.devices()[:num_devices]), ("data",))
        self.method = SimCLR(encoder, hidden=(8,), dim=6, temperature=0.5)
        self.sampler, self.views = RegionCrop(min_area=1), ViewConfig(size=16)
        # A small step: what rounding leaves must not grow between two steps.
        optim = Sgd(lr=0.01, scale_lr_by_batch="none")
        step = TrainStep(
            method=self.method,
            sampler=self.sampler,
            views=self.views,
            optimizer=optim.transform(BATCH_SIZE, STEPS, 1),
            learning_rate=optim.schedule(BATCH_SIZE, STEPS, 1),
            total_steps=STEPS,
        )
        init = functools.partial(step.init, num_examples=BATCH_SIZE)
        self.init = sharding.jit_init(init, self.mesh)
        self.step = jit_train_step(step, self.mesh)
        self.key = jax.random.key(7)

    def put(self, tree):
        return next(sharding.prefetch(iter([tree]), self.mesh))


@pytest.fixture(scope="module")
def one(tiny_encoder):
    return Setting(tiny_encoder, 1)


@pytest.fixture(scope="module")
def eight(tiny_encoder):
    return Setting(tiny_encoder, 8)


def loss_and_gradient(setting):
    batch = make_batch()
    state = setting.init(jax.random.key(0), batch)

    def loss(params, batch):
        views, _ = make_views(setting.key, batch, (), setting.sampler, setting.views)
        return setting.method.loss(
            params, state.method_state, views, key=setting.key, t=jnp.zeros(())
        )

    same, rows = sharding.replicated(setting.mesh), sharding.split(setting.mesh)
    return jax.jit(
        jax.value_and_grad(loss, has_aux=True), in_shardings=(same, rows), out_shardings=same
    )(state.params, batch)


def test_eight_devices_equal_one(one, eight):
    (loss1, (state1, _)), gradient1 = loss_and_gradient(one)
    (loss8, (state8, _)), gradient8 = loss_and_gradient(eight)
    np.testing.assert_allclose(loss1, loss8, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient1, gradient8)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state1, state8)


def test_batch_is_split_and_state_is_everywhere(eight):
    batch = eight.put(make_batch())
    assert batch["image"].addressable_shards[0].data.shape[0] == BATCH_SIZE // 8
    state, _ = eight.step(eight.init(jax.random.key(0), make_batch()), batch, {}, eight.key)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state))


def test_images_stay_where_they_are(eight):
    """From the canvases on: devices send each other sums, and z of the negatives."""
    state = jax.eval_shape(eight.init, jax.random.key(0), make_batch())
    text = eight.step.lower(state, make_batch(), {}, eight.key).compile().as_text()
    sent = collectives(text)
    assert sent.pop("all-reduce") > 0
    assert sent == {"all-gather": 1}


def test_what_moves_and_what_is_reported(one):
    batch = make_batch()
    before = jax.device_get(one.init(jax.random.key(0), batch))
    state = one.init(jax.random.key(0), batch)
    state, metrics = one.step(state, one.put(batch), {}, one.key)
    state, metrics = one.step(state, one.put(batch), {}, one.key)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before.params, state.params)
    assert all(jax.tree.leaves(moved))
    assert int(state.step) == 2
    assert {"loss", "learning_rate", "grad_norm", "embedding_std", "fallback_fraction"} <= set(
        metrics
    )
    assert all(np.isfinite(v) for v in metrics.values())
    assert metrics["fallback_fraction"] == 0


def test_resident_data_give_the_same_step(one):
    batch, data = make_batch(), make_batch()
    index = np.random.default_rng(1).permutation(BATCH_SIZE).astype(np.int32)
    shuffled = {k: v[index] for k, v in data.items() if k != "index"} | {"index": index}
    resident = sharding.replicate({k: v for k, v in data.items() if k != "index"}, one.mesh)
    results = [
        one.step(one.init(jax.random.key(0), batch), one.put(b), r, one.key)
        for b, r in ((shuffled, {}), ({"index": index}, resident))
    ]
    jax.tree.map(np.testing.assert_array_equal, *jax.device_get(results))


def test_randomness_is_a_function_of_key_and_step(one):
    batch = make_batch()

    def first_loss(step, key):
        state = one.init(jax.random.key(0), batch).replace(step=jnp.int32(step))
        return float(one.step(state, one.put(batch), {}, key)[1]["loss"])

    assert first_loss(0, one.key) == first_loss(0, one.key)
    assert first_loss(0, one.key) != first_loss(1, one.key)
    assert first_loss(0, one.key) != first_loss(0, jax.random.key(8))


def test_batch_that_does_not_divide_over_the_devices(eight):
    with pytest.raises(
        ValueError, match="batch_size 12 does not divide over 8 devices; take 8 or 16"
    ):
        sharding.check_batch_size(12, eight.mesh)
    with pytest.raises(ValueError, match="take 8,"):
        sharding.check_batch_size(3, eight.mesh)
