"""DINO: lightly's numbers, a plain loop, its loss from its parts, what moves and what stays."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.methods import DINO
from jaxssl.optim import AdamW
from jaxssl.types import Features, View
from jaxssl.views import ViewConfig

B, D, K = 4, 6, 5
SMALL = {"hidden": (8, 8), "bottleneck": D, "num_outputs": K, "head_batch_norm": False}


class NoBatchNorm(nn.Module):
    """An encoder without batch statistics, and quick to compile."""

    @nn.compact
    def __call__(self, images, train):
        grid = nn.relu(nn.Dense(12)(images))
        return Features(grid=grid, pooled=grid.mean(axis=(1, 2)))


@pytest.fixture(scope="module")
def views():
    rng = np.random.default_rng(0)
    return [View(image=rng.normal(size=(B, s, s, 3)).astype(np.float32)) for s in (16, 16, 8, 8)]


def random_like(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.uniform(-0.5, 1.0, x.shape).astype(np.float32), tree)


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def plain_loop(g_s, g_t, center, tau_s, tau_t):
    """Eq. (3), image by image."""
    terms = [
        -np.sum(softmax((g_t[i, n] - center) / tau_t) * np.log(softmax(g_s[j, n] / tau_s)))
        for i in range(len(g_t))
        for j in range(len(g_s))
        for n in range(g_s.shape[1])
        if i != j
    ]
    return np.mean(terms)


def test_two_steps_equal_lightly(golden):
    g = golden("lightly_1_4_14")
    compare = jax.jit(DINO(NoBatchNorm()).compare)
    center, t = np.zeros(32, np.float32), np.float32(0)
    loss1, center = compare(g["dino_s"], g["dino_t"], center, t)
    np.testing.assert_allclose(loss1, g["dino_loss1"], rtol=1e-6)
    np.testing.assert_allclose(center, g["dino_center1"][0, 0], rtol=1e-5, atol=1e-7)
    loss2, _ = compare(g["dino_s"], g["dino_t"], center, t)
    np.testing.assert_allclose(loss2, g["dino_loss2"], rtol=1e-6)


def test_plain_loop_with_a_teacher_that_warms_up():
    method = DINO(
        NoBatchNorm(),
        student_temperature=0.5,
        teacher_temperature_start=0.1,
        teacher_temperature=0.3,
        teacher_warmup=0.4,
        center_momentum=0.7,
    )
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(4, 3, K)), rng.normal(size=(2, 3, K)), rng.normal(size=K)
    g_s, g_t, center = (a.astype(np.float32) for a in arrays)
    compare = jax.jit(method.compare)
    for t, tau_t in ((0.0, 0.1), (0.2, 0.2), (0.4, 0.3), (0.9, 0.3)):
        loss, new_center = compare(g_s, g_t, center, np.float32(t))
        np.testing.assert_allclose(loss, plain_loop(g_s, g_t, center, 0.5, tau_t), rtol=1e-5)
        expected = 0.7 * center + 0.3 * g_t.reshape(-1, K).mean(axis=0)
        np.testing.assert_allclose(new_center, expected, rtol=1e-5, atol=1e-6)


@functools.cache
def compiled(module):
    return jax.jit(functools.partial(module.apply, train=True, mutable=["batch_stats"]))


def outputs(method, params, batch_stats, images, *, groups):
    """g of each view, f32[v, b, k], by hand: these groups through the encoder, then the head."""
    stats, pooled = dict(batch_stats), []

    def apply(name, module, x):
        out, changed = compiled(module)({"params": params[name], "batch_stats": stats[name]}, x)
        stats[name] = changed["batch_stats"]
        return out

    for group in groups:
        out = apply("encoder", method.encoder, np.concatenate([images[i] for i in group]))
        pooled.append(np.asarray(out.pooled))
    together = [np.concatenate(pooled)] if method.share_batch_norm else pooled
    rows = np.concatenate([apply("head", method.network.head, x) for x in together])
    v = params["last_layer"]["v"]
    rows = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    rows = rows @ (v / np.linalg.norm(v, axis=1, keepdims=True)).T
    return rows.reshape(-1, B, K), stats


@pytest.mark.parametrize("share", [True, False])
def test_loss_is_that_of_the_networks(tiny_encoder, views, share):
    """The teacher sees the two large views, wherever they are in the list."""
    options = SMALL | {"head_batch_norm": True, "share_batch_norm": share}
    method = DINO(tiny_encoder, **options)
    params, state = random_like(jax.eval_shape(method.init, jax.random.key(0), views), 1)
    run = jax.jit(functools.partial(method.loss, key=jax.random.key(2), t=jnp.zeros(())))
    shuffled = [views[2], views[0], views[3], views[1]]
    loss, (new_state, metrics) = run(params, state, shuffled)

    x = [v.image for v in views]
    g_s, stats = outputs(
        method, params, state.batch_stats, x, groups=[[0, 1], [2, 3]] if share else np.c_[:4]
    )
    g_t, teacher_stats = outputs(
        method,
        state.teacher_params,
        state.teacher_batch_stats,
        x,
        groups=[[0, 1]] if share else np.c_[:2],
    )
    np.testing.assert_allclose(loss, plain_loop(g_s, g_t, state.center, 0.1, 0.04), rtol=1e-4)
    expected = state.replace(
        batch_stats=stats,
        teacher_batch_stats=teacher_stats,
        center=0.9 * state.center + 0.1 * g_t.mean(axis=(0, 1)),
    )
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, new_state, expected)
    assert 0 < metrics["embedding_std"] < 1.5


def test_gradient_moves_the_student_and_later_its_last_layer(views):
    method = DINO(NoBatchNorm(), **SMALL, freeze_last_layer=0.25, fixed_norm=False)
    shapes = jax.eval_shape(method.init, jax.random.key(0), views)
    params, state = jax.tree.map(jnp.asarray, random_like(shapes, 2))

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradients(params, teacher, views, t):
        new = state.replace(teacher_params=teacher)
        return method.loss(params, new, views, key=jax.random.key(0), t=t)[0]

    def moved(tree):
        return {np.asarray(leaf).any() for leaf in jax.tree.leaves(tree)}

    for t, last_moves in ((0.24, False), (0.25, True)):
        gradient, to_teacher = gradients(params, state.teacher_params, views, np.float32(t))
        assert moved(gradient.pop("last_layer")) == {last_moves}
        assert moved(gradient["encoder"]) == {True}
        assert moved(to_teacher) == {False}


@pytest.mark.parametrize(("fixed", "names"), [(True, {"v"}), (False, {"v", "g"})])
def test_length_of_the_last_layers_rows_is_learned_or_not(views, fixed, names):
    method = DINO(NoBatchNorm(), **SMALL, fixed_norm=fixed)
    params, state = jax.eval_shape(method.init, jax.random.key(0), views)
    assert set(params["last_layer"]) == set(state.teacher_params["last_layer"]) == names
    # Lengths are weights that decay, as in torch, whose `weight_g` has two axes.
    assert all(jax.tree.leaves(AdamW().decayed(params["last_layer"])))


def test_teacher_starts_as_the_student_and_follows_it(views):
    method = DINO(NoBatchNorm(), **SMALL, momentum=0.9, momentum_end=1.0)
    params, state = jax.device_get(jax.jit(method.init)(jax.random.key(1), views))
    jax.tree.map(np.testing.assert_array_equal, params, state.teacher_params)
    assert not state.center.any()
    assert all(
        np.ptp(w) > 0 for w in (params["last_layer"]["v"], params["head"]["linear1"]["kernel"])
    )
    moved = jax.tree.map(lambda p: p + 1, params)
    after_step = jax.jit(method.after_step)
    for t, share in ((0.0, 0.1), (0.5, 0.05), (1.0, 0.0)):
        same, after = after_step(moved, state, t=np.float32(t))
        jax.tree.map(np.testing.assert_array_equal, same, moved)
        expected = state.replace(
            teacher_params=jax.tree.map(lambda p, share=share: p + share, params)
        )
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-6), after, expected
        )


def test_the_teachers_encoder_is_evaluated_unless_said_otherwise(tiny_encoder, views):
    method = DINO(tiny_encoder, **SMALL)
    params, state = random_like(jax.eval_shape(method.init, jax.random.key(0), views), 3)
    variables = method.encoder_variables(params, state)
    assert variables["params"] is state.teacher_params["encoder"]
    assert variables["batch_stats"] is state.teacher_batch_stats["encoder"]
    student = DINO(tiny_encoder, **SMALL, evaluate_student=True).encoder_variables(params, state)
    assert student["params"] is params["encoder"]
    assert student["batch_stats"] is state.batch_stats["encoder"]
    method = DINO(NoBatchNorm(), **SMALL)
    _, state = jax.eval_shape(method.init, jax.random.key(0), views)
    assert method.encoder_variables(params, state)["batch_stats"] == {}


@pytest.mark.parametrize(
    ("views", "options", "message"),
    [
        (ViewConfig(num_global=1, num_local=6), {}, "compares two global views .*: set .*=2"),
        (ViewConfig(num_global=2), {"needs_local": True}, "needs_local asks .* none: set"),
        (ViewConfig(num_local=2, local_size=128), {}, "local views are as large: set .*_size=64"),
    ],
)
def test_views_that_do_not_do(views, options, message):
    with pytest.raises(ValueError, match=message) as error:
        DINO(NoBatchNorm(), **options).check(batch_size=8, num_examples=80, views=views.specs())
    assert "\n" not in str(error.value)


def test_views_that_do():
    method = DINO(NoBatchNorm())
    for views in (ViewConfig(), ViewConfig(num_global=3, num_local=2)):
        method.check(batch_size=8, num_examples=80, views=views.specs())
    method = DINO(NoBatchNorm(), needs_local=True)
    method.check(batch_size=8, num_examples=80, views=ViewConfig(num_local=1).specs())
