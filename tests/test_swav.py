"""SwAV on one small batch: its loss from a plain loop, its queue, what moves and what stays."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.methods import SwAV
from jaxssl.methods.forward import forward_head_once
from jaxssl.types import View
from jaxssl.views import ViewConfig

B, D, K = 4, 6, 5
SMALL = {"hidden": (8,), "dim": D, "num_prototypes": K}


@pytest.fixture(scope="module")
def views():
    rng = np.random.default_rng(0)
    return [View(image=rng.normal(size=(B, s, s, 3)).astype(np.float32)) for s in (16, 16, 16, 8)]


@pytest.fixture(scope="module")
def method(tiny_encoder):
    return SwAV(tiny_encoder, **SMALL, queue_size=2 * B, queue_start=0.5, freeze_prototypes=0.25)


@pytest.fixture(scope="module")
def started(method, views):
    """Random numbers of the right shapes, unit prototypes and an empty queue."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(method.init, jax.random.key(0), views)
    params, state = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    params["prototypes"] /= np.linalg.norm(params["prototypes"], axis=1, keepdims=True)
    return params, state.replace(queue=np.zeros_like(state.queue))


@pytest.fixture(scope="module")
def run(method):
    """Loss, state, metrics and gradient."""
    loss = functools.partial(method.loss, key=jax.random.key(2))
    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.fixture(scope="module")
def projections(method):
    """Unit rows of each view: the encoder by size, the head on all together."""
    forward = jax.jit(functools.partial(forward_head_once, method.network, share_batch_norm=True))

    def project(params, state, views):
        z = np.asarray(forward(params, state.batch_stats, views)[0], np.float64)
        return z / np.linalg.norm(z, axis=-1, keepdims=True)

    return project


def plain_codes(scores, epsilon=0.05, iterations=3):
    """Eq. (5), with u and v as Sinkhorn and Knopp find them."""
    m = np.exp(np.asarray(scores, np.float64) / epsilon)
    u, v = np.ones(len(m)), np.ones(m.shape[1])
    for _ in range(iterations):
        v = 1 / (m.T @ u)  # all prototypes alike; the factor does not matter
        u = 1 / (m @ v)
    return u[:, None] * m * v[None, :]


def plain_loss(z, c, codes, temperature=0.1, bias=0.0):
    """Eq. (6): the code of view i in {1, 2} from every other view j."""
    terms = []
    for i in range(2):
        for j in range(len(z)):
            if i != j:
                logits = (z[j] @ c.T + bias) / temperature
                log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
                terms.append(-(codes[i] * log_p).sum(axis=1).mean())
    return np.mean(terms)


def test_loss_is_the_papers(started, views, run, projections):
    """Codes come from the first two of the large views, wherever the small one is in the list."""
    params, state = started
    (loss, (new_state, metrics)), _ = run(params, state, [views[3], *views[:3]], t=np.float32(0.3))
    z, c = projections(params, state, views), params["prototypes"].astype(np.float64)
    codes = [plain_codes(z[i] @ c.T) for i in range(2)]
    np.testing.assert_allclose(loss, plain_loss(z, c, codes), rtol=1e-4)
    assert 0 < metrics["embedding_std"] < 1.5
    moved = jax.tree.map(lambda a, b: (a != np.asarray(b)).any(), state, new_state)
    assert all(jax.tree.leaves(moved))


def test_bias_of_the_prototypes_is_in_the_predictions(method, started, views, projections):
    """Of the codes, which are those of `scores + bias`, Sinkhorn divides it out."""
    method = dataclasses.replace(method, prototype_bias=True)
    params, state = started
    drawn = jax.jit(method.init)(jax.random.key(0), views)[0]["prototype_bias"]
    assert drawn.shape == (K,)
    assert 0 < jnp.abs(drawn).max() <= D**-0.5  # torch's default
    bias = np.linspace(-0.3, 0.2, K).astype(np.float32)
    run = jax.jit(functools.partial(method.loss, key=jax.random.key(2)))
    loss, _ = run(params | {"prototype_bias": bias}, state, views, t=np.float32(0.3))
    z, c = projections(params, state, views), params["prototypes"].astype(np.float64)
    codes = [plain_codes(z[i] @ c.T + bias) for i in range(2)]
    np.testing.assert_allclose(loss, plain_loss(z, c, codes, bias=bias), rtol=1e-4)


def test_gradient_reaches_the_prototypes_late_and_not_through_the_codes(
    started, views, run, projections
):
    params, state = started
    z, c = projections(params, state, views), params["prototypes"].astype(np.float64)
    codes = [plain_codes(z[i] @ c.T) for i in range(2)]
    expected = np.zeros_like(c)  # of eq. (6) in c, with these codes: sum of (p_j - q_i) z_j / tau
    for i, j in [(0, 1), (0, 2), (0, 3), (1, 0), (1, 2), (1, 3)]:
        p = np.exp(z[j] @ c.T / 0.1)
        p /= p.sum(axis=1, keepdims=True)
        expected += (p - codes[i]).T @ z[j] / 0.1 / B / 6
    ordered = [views[3], *views[:3]]
    for t, factor in ((0.24, 0), (0.25, 1)):
        _, gradient = run(params, state, ordered, t=np.float32(t))
        close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
        close(gradient["prototypes"], factor * expected)
        assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient["encoder"]))
    assert np.abs(expected).max() > 0.1


def test_queue_holds_the_newest_first(started, views, run, projections):
    """Two batches long: each view has its own, and the first batch has gone after three."""
    params, state = started
    seen = []
    for i in range(3):
        turned = [View(image=np.roll(v.image, i, axis=1)) for v in views]
        seen.append(projections(params, state, turned)[:2])
        ordered = [turned[3], *turned[:3]]
        (_, (state, _)), _ = run(params, state, ordered, t=np.float32(0.0))
    expected = np.concatenate([seen[2], seen[1]], axis=1)
    np.testing.assert_allclose(state.queue, expected, rtol=1e-3, atol=1e-5)


def test_queue_is_used_when_full_and_from_its_start_on(method):
    rng = np.random.default_rng(0)
    arrays = (rng.normal(size=s) for s in ((2, B, D), (2, 2 * B, D), (K, D)))
    z, queue, c = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in arrays)
    half = queue.copy()
    half[:, B:] = 0
    alone = [plain_codes(z[i] @ c.T) for i in range(2)]
    together = [plain_codes(np.concatenate([z[i], queue[i]]) @ c.T)[:B] for i in range(2)]
    codes = jax.jit(method.codes)
    for t, held, expected in ((0.49, queue, alone), (0.5, half, alone), (0.5, queue, together)):
        arrays = (np.float32(a) for a in (z, c, held, t))
        np.testing.assert_allclose(codes(*arrays), expected, rtol=1e-3, atol=1e-6)
    assert np.abs(np.subtract(alone, together)).max() > 0.05


def test_prototypes_stay_on_the_sphere(method, started):
    params, state = started
    longer = jax.tree.map(lambda p: 3 * p, params)
    after, same = jax.jit(method.after_step)(longer, state, t=jnp.zeros(()))
    np.testing.assert_allclose(after["prototypes"], params["prototypes"], rtol=1e-5)
    for a, b in ((after["encoder"], longer["encoder"]), (same, state)):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_without_a_queue_there_is_none(tiny_encoder, views):
    _, state = jax.eval_shape(SwAV(tiny_encoder, **SMALL).init, jax.random.key(0), views)
    assert state.queue == ()


def test_encoder_variables_are_the_encoders(method, started):
    params, state = started
    variables = method.encoder_variables(params, state)
    assert variables["params"] is params["encoder"]
    assert variables["batch_stats"] is state.batch_stats["encoder"]


@pytest.mark.parametrize(
    ("options", "views", "message"),
    [
        ({}, ViewConfig(num_global=1, num_local=6), "compares two global views .*: set .*=2"),
        ({}, ViewConfig(num_local=6, local_size=128), "local views are as large: set .*_size=64"),
        (
            {"queue_size": 12},
            ViewConfig(),
            "queue_size is 12 and holds no whole .* of 8; take 0 or 16",
        ),
        ({"queue_size": 3}, ViewConfig(), "queue_size is 3 and .* take 0 or 8"),
        ({"queue_size": -8}, ViewConfig(), "queue_size is -8 and .* take 0 or 8"),
        ({"queue_size": 88}, ViewConfig(), "queue_size is 88 of 83 images: .* take 80 or less"),
    ],
)
def test_what_does_not_do(tiny_encoder, options, views, message):
    method = SwAV(tiny_encoder, **options)
    with pytest.raises(ValueError, match=message) as error:
        method.check(batch_size=8, num_examples=83, views=views.specs())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [0, 8, 80])
def test_what_does(tiny_encoder, size):
    SwAV(tiny_encoder, queue_size=size).check(
        batch_size=8, num_examples=83, views=ViewConfig().specs()
    )
