"""BYOL: its loss and gradient by lightly and by a loop, and the target that follows slowly."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxssl.methods import BYOL
from jaxssl.types import View
from jaxssl.views import ViewConfig


@pytest.fixture(scope="module")
def byol(given_features):
    return BYOL(given_features, hidden=(8,), dim=6)


@pytest.fixture(scope="module")
def started(byol, views):
    return jax.jit(byol.init)(jax.random.key(1), views)


def loss_and_gradients(method, params, state, views):
    """Loss and the rest, and the gradients of parameters and of the target's parameters."""

    def loss(params, target_params):
        given = state.replace(target_params=target_params)
        return method.loss(params, given, views, key=jax.random.key(2), t=jnp.zeros(()))

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    return run(params, state.target_params)


def test_loss_and_gradient_equal_lightly(golden, given_features):
    g = golden("lightly_siamese")
    method = BYOL(given_features, hidden=(12,), dim=10, final_bias=True, loss_scale=0.25)
    views = [View(image=jnp.asarray(x)[:, None, None]) for x in g["views"]]
    shapes = jax.eval_shape(method.init, jax.random.key(0), views)
    params, state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def filled(tree, where):
        """With lightly's values; zeros for the bias before batch norm, which it has not."""
        flat = flatten_dict(tree)
        names = {path: "/".join((where, *path)) for path in flat}
        assert {n for n in g.files if n.startswith(where)} <= set(names.values())
        return unflatten_dict(
            {p: jnp.asarray(g[n]) if n in g.files else flat[p] for p, n in names.items()}
        )

    params = filled(params, "byol/params")
    state = state.replace(target_params=filled(state.target_params, "byol/target"))
    (loss, _), (gradient, _) = loss_and_gradients(method, params, state, views)
    np.testing.assert_allclose(loss - 1, g["byol/loss"], rtol=1e-5)  # there the mean of -cos
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-6),
        gradient,
        filled(gradient, "byol/grad"),
    )
    np.testing.assert_allclose(gradient["projector"]["linear1"]["bias"], 0, atol=1e-6)


@pytest.fixture(scope="module")
def computed(byol, started, views):
    return loss_and_gradients(byol, *started, views)


def test_loss_is_twice_the_mean_over_pairs(byol, started, views, computed):
    """The third view predicts the first two, and the target does not see it."""
    params, state = started
    (loss, (new_state, metrics)), _ = computed

    def passes(network, params, stats, views):
        apply = jax.jit(functools.partial(network.apply, train=True, mutable=["batch_stats"]))
        outputs = []
        for view in views:  # each on its own: batch norm does not mix them
            out, changed = apply({"params": params, "batch_stats": stats}, view.image)
            stats = changed["batch_stats"]
            outputs.append(out)
        return jax.tree.map(np.float64, outputs), stats

    online, stats = passes(byol.online, params, state.batch_stats, views)
    target, target_stats = passes(
        byol.target, state.target_params, state.target_batch_stats, views[:2]
    )
    distances = []
    for i, (_, p) in enumerate(online):
        for j, z in enumerate(target):
            if i != j:
                for a, b in zip(p, z, strict=True):
                    gap = a / np.linalg.norm(a) - b / np.linalg.norm(b)
                    distances.append(gap @ gap)
    assert len(distances) == 4 * 4
    np.testing.assert_allclose(loss, 2 * np.mean(distances), rtol=1e-5)
    z = np.concatenate([z / np.linalg.norm(z, axis=1, keepdims=True) for z, _ in online])
    np.testing.assert_allclose(metrics["embedding_std"], z.std(0).mean() * 6**0.5, rtol=1e-5)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, new_state.batch_stats, stats)
    jax.tree.map(close, new_state.target_batch_stats, target_stats)


def test_gradient_reaches_all_of_the_online_network_and_none_of_the_target(started, computed):
    (_, (new_state, _)), (gradient, target_gradient) = computed
    assert all(bool(leaf.any()) for leaf in jax.tree.leaves(gradient))
    assert not any(bool(leaf.any()) for leaf in jax.tree.leaves(target_gradient))
    jax.tree.map(np.testing.assert_array_equal, new_state.target_params, started[1].target_params)


@pytest.mark.parametrize("end", [1.0, 0.99])
@pytest.mark.parametrize("t", [0.0, 0.25, 1.0])
def test_target_follows_by_the_moving_average(byol, started, t, end):
    method = dataclasses.replace(byol, momentum=0.99, momentum_end=end)
    params, state = started
    same, after = method.after_step(params, state, t=jnp.float32(t))
    assert same is params
    m = 1 - 0.01 * (np.cos(np.pi * t) + 1) / 2 if end == 1 else 0.99
    for path, new in flatten_dict(after.target_params).items():
        old, online = (np.float64(flatten_dict(p)[path]) for p in (state.target_params, params))
        np.testing.assert_allclose(new, m * old + (1 - m) * online, rtol=1e-6, atol=1e-8)
    for name in ("batch_stats", "target_batch_stats"):  # the parameters only
        assert getattr(after, name) is getattr(state, name)


def test_target_starts_as_a_copy_or_from_a_draw_of_its_own(byol, started, views):
    params, state = started
    kernels = [p["projector"]["linear1"]["kernel"] for p in (params, state.target_params)]
    assert (kernels[0] != kernels[1]).all()
    copying = dataclasses.replace(byol, copy_target=True)
    params, state = jax.jit(copying.init)(jax.random.key(1), views)
    jax.tree.map(
        np.testing.assert_array_equal, state.target_params["projector"], params["projector"]
    )


def test_networks_and_the_encoder_that_evaluation_loads(tiny_encoder):
    views = [View(image=jnp.ones((4, 16, 16, 3)))]
    params, state = jax.eval_shape(BYOL(tiny_encoder).init, jax.random.key(0), views)
    assert set(params) == {"encoder", "projector", "predictor"}
    assert set(state.target_params) == {"encoder", "projector"}
    variables = BYOL(tiny_encoder).encoder_variables(params, state)
    assert variables["params"] is params["encoder"]
    assert variables["batch_stats"] is state.batch_stats["encoder"]


@pytest.mark.parametrize("options", [{"num_global": 1}, {"num_global": 1, "num_local": 2}])
def test_two_global_views(byol, options):
    with pytest.raises(ValueError, match="set --config.views.num_global=2"):
        byol.check(batch_size=8, num_examples=80, views=ViewConfig(**options).specs())
    byol.check(batch_size=8, num_examples=80, views=ViewConfig(num_local=2).specs())
