"""DINO and SwAV over some steps: on one device and eight, saved and restored."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from jaxssl import sharding
from jaxssl.methods import DINO, SwAV
from jaxssl.training.checkpoint import Checkpoints
from jaxssl.types import View

BATCH_SIZE, STEPS = 16, 4
OPTIONS = {
    DINO: {"hidden": (8,), "bottleneck": 6, "num_outputs": 7, "freeze_last_layer": 0.3},
    SwAV: {"hidden": (8,), "dim": 6, "num_prototypes": 7, "queue_size": 32, "queue_start": 0.5},
}


class Setting:
    """Steps of a method on the first n devices, from a state of random numbers."""

    def __init__(self, method, num_devices):
        mesh = Mesh(np.array(jax.devices()[:num_devices]), ("data",))
        self._same, rows = sharding.replicated(mesh), sharding.split(mesh)
        rng = np.random.default_rng(0)
        shapes = ((BATCH_SIZE, s, s, 3) for s in (16, 16, 8, 8))
        self._views = [View(image=rng.normal(size=s).astype(np.float32)) for s in shapes]
        self._shapes = jax.eval_shape(method.init, jax.random.key(0), self._views)

        def step(state, views):
            t, (params, inner) = state
            (loss, (inner, metrics)), gradient = jax.value_and_grad(method.loss, has_aux=True)(
                params, inner, views, key=jax.random.key(0), t=t
            )
            params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
            return (t + 1 / STEPS, method.after_step(params, inner, t=t)), (loss, metrics)

        self._step = jax.jit(step, in_shardings=(self._same, rows), out_shardings=self._same)

    def start(self, t=0.0):
        rng = np.random.default_rng(1)
        state = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), self._shapes)
        return jax.device_put((np.float32(t), state), self._same)

    def steps(self, state, n):
        for _ in range(n):
            state, metrics = self._step(state, self._views)
        return state, metrics


@pytest.fixture(scope="module", params=OPTIONS, ids=lambda m: m.__name__)
def method(request, tiny_encoder):
    return request.param(tiny_encoder, **OPTIONS[request.param])


@pytest.fixture(scope="module")
def eight(method):
    return Setting(method, 8)


def test_eight_devices_equal_one(method, eight):
    """The loss, the state, and the gradient by which all parameters moved, when none is frozen."""
    results = [setting.steps(setting.start(0.5), 1) for setting in (Setting(method, 1), eight)]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        *jax.device_get(results),
    )


def test_restored_run_continues_bit_for_bit(eight, tmp_path):
    """Over the step from which the queue is used and the last layer moves."""
    undisturbed, (loss, metrics) = eight.steps(eight.start(), STEPS)
    half, _ = eight.steps(eight.start(), STEPS // 2)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(STEPS // 2, half, half)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore("state", eight.start())
    resumed, _ = eight.steps(restored, STEPS // 2)
    jax.tree.map(np.testing.assert_array_equal, *jax.device_get((undisturbed, resumed)))

    same = jax.tree.map(np.array_equal, *jax.device_get((eight.start(), resumed)))
    names = {jax.tree_util.keystr(k) for k, v in jax.tree.leaves_with_path(same) if v}
    assert names <= {"[1][0]['head']['linear1']['bias']"}  # before batch norm in SwAV
    assert np.isfinite(loss)
    assert 0 < metrics["embedding_std"] < 1.5
