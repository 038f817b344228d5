"""MoCo: its loss and queue by lightly and by a loop, and the key network that follows slowly."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.methods import MoCo
from jaxssl.types import Features, View
from jaxssl.views import ViewConfig


class NormedFeatures(nn.Module):
    """The images are the features, but for a batch norm: MoCo's head has none."""

    @nn.compact
    def __call__(self, images, train):
        normed = nn.BatchNorm(use_running_average=not train, momentum=0.9)(images)
        return Features(grid=normed, pooled=normed[:, 0, 0])


@pytest.fixture(scope="module")
def moco():
    return MoCo(NormedFeatures(), hidden=(8,), dim=6, queue_size=16, momentum=0.9)


@pytest.fixture(scope="module")
def started(moco, views):
    """With a key network that has moved away from the query network."""
    params, state = jax.jit(moco.init)(jax.random.key(1), views)
    moved = jax.tree.map(lambda p: p + 0.1 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)
    return params, state.replace(key_params=moved, pointer=jnp.int32(8))


def loss_and_gradients(method, params, state, views):
    """Loss and the rest, and the gradients of the parameters and of the key network's."""

    def loss(params, key_params):
        given = state.replace(key_params=key_params)
        return method.loss(params, given, views, key=jax.random.key(2), t=jnp.zeros(()))

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    return run(params, state.key_params)


def unit_rows(x):
    x = np.float64(x)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def linear(given_features, queue_size):
    """MoCo without a network: queries and keys are the images, scaled to length one."""
    method = MoCo(given_features, 0.1, hidden=(), dim=16, queue_size=queue_size)
    shapes = jax.eval_shape(method.init, jax.random.key(0), [View(image=jnp.ones((1, 1, 1, 16)))])
    _, state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    params = {"head": {"linear1": {"kernel": jnp.eye(16), "bias": jnp.zeros(16)}}}
    return method, params, state.replace(key_params=params)


def test_loss_and_queue_equal_lightly(golden, given_features):
    g = golden("lightly_1_4_14")
    method, params, state = linear(given_features, 64)
    state = state.replace(queue=jnp.asarray(g["moco_bank_before"].T))
    views = [View(image=jnp.asarray(x)[:, None, None]) for x in (g["o0"], g["o1"])]
    loss, (state, _) = method.loss(params, state, views, key=jax.random.key(0), t=jnp.zeros(()))
    np.testing.assert_allclose(loss, g["moco_loss_bank64"], rtol=1e-6)
    np.testing.assert_allclose(state.queue, g["moco_bank_after"].T, atol=1e-6)
    assert state.pointer == g["moco_ptr_after"]


def test_queue_wraps_and_holds_the_batches_before(given_features):
    method, params, state = linear(given_features, 12)
    rng = np.random.default_rng(0)
    batches = rng.standard_normal((5, 2, 4, 16)).astype(np.float32)
    step = jax.jit(functools.partial(method.loss, key=jax.random.key(0), t=jnp.zeros(())))
    for n, batch in enumerate(batches):
        before = np.float64(state.queue)
        loss, (state, _) = step(params, state, [View(image=x[:, None, None]) for x in batch])
        q, k = map(unit_rows, batch)
        terms = []
        for a, b in zip(q, k, strict=True):
            scores = [a @ c / 0.1 for c in (b, *before)]
            terms.append(np.log(np.sum(np.exp(scores))) - scores[0])
        np.testing.assert_allclose(loss, np.mean(terms), rtol=1e-5)
        assert int(state.pointer) == 4 * (n + 1) % 12
    # Batches 4 and 5 have overwritten 1 and 2.
    expected = np.concatenate([unit_rows(batches[n, 1]) for n in (3, 4, 2)])
    np.testing.assert_allclose(state.queue, expected, atol=1e-6)


@pytest.mark.parametrize("symmetric", [False, True])
def test_every_query_against_its_key_and_the_queue(moco, started, views, symmetric):
    """The second view is the key of the others; if symmetric, the first is too."""
    method = dataclasses.replace(moco, symmetric=symmetric)
    params, state = started
    (loss, (new_state, metrics)), (gradient, key_gradient) = loss_and_gradients(
        method, params, state, views
    )
    apply = jax.jit(functools.partial(method.network.apply, train=True, mutable=["batch_stats"]))

    def passes(params, stats, which):
        rows = {}
        for i in which:  # each on its own: batch norm does not mix them
            out, changed = apply({"params": params, "batch_stats": stats}, views[i].image)
            stats, rows[i] = changed["batch_stats"], unit_rows(out)
        return rows, stats

    q, stats = passes(params, state.batch_stats, (0, 1, 2) if symmetric else (0, 2))
    k, key_stats = passes(state.key_params, state.key_batch_stats, (0, 1) if symmetric else (1,))
    terms = []
    for i in q:
        for j in k:
            for a, b in zip(q[i], k[j], strict=True) if i != j else ():
                scores = [a @ c / 0.2 for c in (b, *np.float64(state.queue))]
                terms.append(np.log(np.sum(np.exp(scores))) - scores[0])
    assert len(terms) == 4 * (4 if symmetric else 2)
    np.testing.assert_allclose(loss, np.mean(terms), rtol=1e-5)
    keys = np.concatenate([*k.values()])
    queue = np.asarray(state.queue)
    expected = np.concatenate([queue[:8], keys, queue[8 + len(keys) :]])
    np.testing.assert_allclose(new_state.queue, expected, atol=1e-5)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    assert jax.tree.leaves(stats)
    jax.tree.map(close, new_state.batch_stats, stats)
    jax.tree.map(close, new_state.key_batch_stats, key_stats)

    assert all(bool(leaf.any()) for leaf in jax.tree.leaves(gradient))
    assert not any(bool(leaf.any()) for leaf in jax.tree.leaves(key_gradient))
    jax.tree.map(np.testing.assert_array_equal, new_state.key_params, state.key_params)
    assert 0 < metrics["embedding_std"] < 1.5


def test_key_networks_are_those_of_the_released_code(moco, started):
    """Which starts from a copy and moves the key network before it uses it."""
    params, state = started
    state = state.replace(key_params=params)
    released = params
    for n in range(3):
        released = jax.tree.map(lambda k, q: 0.9 * k + 0.1 * q, released, params)
        jax.tree.map(  # those used at step n
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7),
            state.key_params,
            released,
        )
        params = jax.tree.map(lambda p, n=n: p * 0.5 + n, params)  # the optimizer
        same, after = moco.after_step(params, state, t=jnp.zeros(()))
        assert same is params
        others = after.replace(key_params=state.key_params)
        jax.tree.map(np.testing.assert_array_equal, others, state)
        state = after


def test_starts_as_a_copy_with_a_queue_of_unit_rows(moco, views):
    params, state = jax.jit(moco.init)(jax.random.key(1), views)
    jax.tree.map(np.testing.assert_array_equal, state.key_params, params)
    assert state.queue.shape == (16, 6)
    np.testing.assert_allclose(np.linalg.norm(state.queue, axis=1), 1, rtol=1e-6)
    assert len(np.unique(np.asarray(state.queue)[:, 0])) == 16


def test_evaluation_loads_the_query_encoder(tiny_encoder):
    views = [View(image=jnp.ones((4, 16, 16, 3)))]
    params, state = jax.eval_shape(MoCo(tiny_encoder).init, jax.random.key(0), views)
    variables = MoCo(tiny_encoder).encoder_variables(params, state)
    assert variables["params"] is params["encoder"]
    assert variables["batch_stats"] is state.batch_stats["encoder"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queue_size": 0}, "--config.method.queue_size=8$"),
        ({"queue_size": 4}, "--config.method.queue_size=8$"),
        ({"queue_size": 20}, "each step makes 8 keys.*--config.method.queue_size=16$"),
        ({"queue_size": 24, "symmetric": True}, "each step makes 16 keys.*queue_size=16$"),
        ({"queue_size": 88}, "88, more than the 80 keys of an epoch.*queue_size=80$"),
        ({"queue_size": 176, "symmetric": True}, "176, more than the 160 keys"),
    ],
)
def test_queues_that_do_not_fit(moco, options, message):
    method = dataclasses.replace(moco, **options)
    with pytest.raises(ValueError, match=message):
        method.check(batch_size=8, num_examples=83, views=ViewConfig().specs())


def test_queues_that_fit(moco):
    for size, symmetric in ((8, False), (80, False), (16, True), (160, True)):
        method = dataclasses.replace(moco, queue_size=size, symmetric=symmetric)
        method.check(batch_size=8, num_examples=83, views=ViewConfig(num_local=2).specs())


@pytest.mark.parametrize("options", [{"num_global": 1}, {"num_global": 1, "num_local": 2}])
def test_two_global_views(moco, options):
    with pytest.raises(ValueError, match="set --config.views.num_global=2"):
        moco.check(batch_size=8, num_examples=80, views=ViewConfig(**options).specs())
