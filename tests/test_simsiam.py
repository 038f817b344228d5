"""SimSiam: its loss and gradient by lightly and by a loop, what moves and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxssl.methods import SimSiam
from jaxssl.types import View
from jaxssl.views import ViewConfig


@pytest.fixture(scope="module")
def simsiam(given_features):
    return SimSiam(given_features, hidden=(8, 8), dim=6, predictor_hidden=(4,))


@pytest.fixture(scope="module")
def started(simsiam, views):
    return jax.jit(simsiam.init)(jax.random.key(1), views)


def loss_and_gradient(method, params, state, views):
    loss = functools.partial(method.loss, key=jax.random.key(2), t=jnp.zeros(()))
    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params, state, views)


def test_loss_and_gradient_equal_lightly(golden, given_features):
    g = golden("lightly_siamese")
    method = SimSiam(given_features, hidden=(12, 12), dim=10, predictor_hidden=(6,))
    views = [View(image=jnp.asarray(x)[:, None, None]) for x in g["views"]]
    names = [name for name in g.files if name.startswith("simsiam/params/")]
    params = unflatten_dict({tuple(n.split("/")[2:]): jnp.asarray(g[n]) for n in names})
    shapes, state = jax.eval_shape(method.init, jax.random.key(0), views)
    assert jax.tree.structure(shapes) == jax.tree.structure(params)
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state)

    (loss, _), gradient = loss_and_gradient(method, params, state, views)
    np.testing.assert_allclose(loss, g["simsiam/loss"], rtol=1e-5)
    for path, value in flatten_dict(gradient).items():
        np.testing.assert_allclose(value, g["/".join(("simsiam/grad", *path))], atol=1e-6)


def test_loss_is_the_mean_over_pairs(simsiam, started, views):
    """The third view predicts the first two and is predicted by none."""
    params, state = started
    (loss, (new_state, metrics)), gradient = loss_and_gradient(simsiam, params, state, views)

    apply = jax.jit(functools.partial(simsiam.network.apply, train=True, mutable=["batch_stats"]))
    stats, outputs = state.batch_stats, []
    for view in views:  # each on its own: batch norm does not mix them
        out, changed = apply({"params": params, "batch_stats": stats}, view.image)
        stats = changed["batch_stats"]
        outputs.append([np.float64(x) for x in out])
    cosines = []
    for i, (_, p) in enumerate(outputs):
        for j, (z, _) in enumerate(outputs[:2]):
            if i != j:
                for a, b in zip(p, z, strict=True):
                    cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert len(cosines) == 4 * 4
    np.testing.assert_allclose(loss, -np.mean(cosines), rtol=1e-5)
    z = np.concatenate([z / np.linalg.norm(z, axis=1, keepdims=True) for z, _ in outputs])
    np.testing.assert_allclose(metrics["embedding_std"], z.std(0).mean() * 6**0.5, rtol=1e-5)
    assert all(bool((g != 0).any()) for g in jax.tree.leaves(gradient))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        new_state.batch_stats,
        stats,
    )


def test_predictor_has_a_place_of_its_own(tiny_encoder):
    """Optimizers, which may keep its learning rate constant, know it by its name."""
    views = [View(image=jnp.ones((4, 16, 16, 3)))]
    params, _ = jax.eval_shape(SimSiam(tiny_encoder).init, jax.random.key(0), views)
    assert set(params) == {"encoder", "projector", "predictor"}


@pytest.mark.parametrize("options", [{"num_global": 1}, {"num_global": 1, "num_local": 2}])
def test_two_global_views(simsiam, options):
    with pytest.raises(ValueError, match="set --config.views.num_global=2"):
        simsiam.check(batch_size=8, num_examples=80, views=ViewConfig(**options).specs())
    simsiam.check(batch_size=8, num_examples=80, views=ViewConfig(num_local=2).specs())
