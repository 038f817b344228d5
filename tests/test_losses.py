"""`contrastive` against the authors' numbers, a plain loop, and what must hold of any such loss."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import collectives
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxssl.losses import contrastive, unit


def two_views(a, b):
    """Rows and ids of n images seen twice."""
    n = len(a)
    return jnp.concatenate([a, b]), jnp.tile(jnp.arange(n), 2), jnp.repeat(jnp.arange(2), n)


@pytest.mark.parametrize("temperature", [0.07, 0.1, 0.5])
def test_ntxent_equals_lightly(golden, temperature):
    g = golden("lightly_1_4_14")
    z, group, view = two_views(g["o0"], g["o1"])
    loss = contrastive(z, z, group, view, temperature)
    np.testing.assert_allclose(loss, g[f"ntxent_t{temperature:g}"], rtol=1e-6)


def test_ntxent_equals_contrastive_crop(golden):
    g = golden("ccrop_ntxent")
    z, group, view = two_views(g["a"], g["b"])
    loss = contrastive(z, z, group, view, 0.5)
    np.testing.assert_allclose(loss, g["loss_t05_plain"], rtol=1e-6)


def test_multi_view_equals_released_samclr(golden):
    g = golden("s3same_multiview_ntxent")
    emb, labels = jnp.asarray(g["emb"]), jnp.asarray(g["labels"], jnp.int32)
    # Rows of one image differ in view; which is which does not matter.
    view = jnp.asarray([np.sum(g["labels"][:i] == c) for i, c in enumerate(g["labels"])])

    def loss(z):
        return contrastive(
            z, z, labels, view, float(g["temperature"]), positives_in_denominator=False
        )

    value, gradient = jax.value_and_grad(loss)(emb)
    np.testing.assert_allclose(value, g["loss"], rtol=1e-6)
    np.testing.assert_allclose(gradient, g["grad"], atol=1e-6)


def detcon_rows(g, name1, name2, ids=("ind1", "ind2")):
    """Rows, groups, views and images of DetCon's arrays [b, R, d]."""
    b, r, d = g[name1].shape
    rows = jnp.concatenate([g[name1].reshape(-1, d), g[name2].reshape(-1, d)])
    image = jnp.tile(jnp.repeat(jnp.arange(b), r), 2)
    region = jnp.concatenate([g[ids[0]].ravel(), g[ids[1]].ravel()]).astype(jnp.int32)
    return rows, image * 1000 + region, jnp.repeat(jnp.arange(2), b * r), image


BLOCKS = pytest.mark.parametrize("most", [2**26, 96 * 10])  # at once, or 12 blocks of 8 rows


@BLOCKS
@pytest.mark.parametrize("local", [1, 0])
def test_detcon_b(golden, local, most):
    g = golden("detcon_loss")
    _, group, view, image = detcon_rows(g, "pred1", "pred2")
    target, *_ = detcon_rows(g, "target1", "target2")

    def loss(pred1, pred2):
        rows, *_ = detcon_rows({**g, "pred1": pred1, "pred2": pred2}, "pred1", "pred2")
        # Twice the mean: DetCon adds up the means of the two directions.
        return 2 * contrastive(
            rows,
            target,
            group,
            view,
            0.1,
            local_negatives=bool(local),
            image=image,
            max_entries=most,
        )

    value, (g1, g2) = jax.value_and_grad(loss, argnums=(0, 1))(
        jnp.asarray(g["pred1"]), jnp.asarray(g["pred2"])
    )
    np.testing.assert_allclose(value, g[f"loss_local{local}"], rtol=1e-6)
    np.testing.assert_allclose(g1, g[f"g1_local{local}"], atol=1e-6)
    np.testing.assert_allclose(g2, g[f"g2_local{local}"], atol=1e-6)


@BLOCKS
def test_detcon_s(golden, most):
    g = golden("detcon_loss")
    _, group, view, _ = detcon_rows(g, "pred1", "pred2")

    def loss(pred1, pred2):
        z, *_ = detcon_rows({**g, "pred1": pred1, "pred2": pred2}, "pred1", "pred2")
        return 2 * contrastive(z, z, group, view, 0.1, max_entries=most)

    value, (g1, g2) = jax.value_and_grad(loss, argnums=(0, 1))(
        jnp.asarray(g["pred1"]), jnp.asarray(g["pred2"])
    )
    np.testing.assert_allclose(value, g["loss_S"], rtol=1e-6)
    np.testing.assert_allclose(g1, g["gS1"], atol=1e-6)
    np.testing.assert_allclose(g2, g["gS2"], atol=1e-6)


def plain_loop(p, z, group, view, temperature, compete):
    """The definition, row by row."""
    p = p / np.linalg.norm(p, axis=1, keepdims=True)
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    total = 0.0
    for i in range(len(p)):
        s = z @ p[i] / temperature
        duplicates = [j for j in range(len(p)) if group[j] == group[i] and view[j] == view[i]]
        positives = [j for j in range(len(p)) if group[j] == group[i] and view[j] != view[i]]
        negatives = [j for j in range(len(p)) if group[j] != group[i]]
        for k in positives:
            others = negatives + (positives if compete else [k])
            term = np.log(np.sum(np.exp(s[others]))) - s[k]
            total += term / len(positives) / len(duplicates)
    return total / len(p)


@pytest.mark.parametrize("compete", [True, False])
def test_plain_loop(compete):
    rng = np.random.default_rng(0)
    p, z = rng.normal(size=(2, 20, 5)).astype(np.float32)
    group, view = rng.integers(0, 5, 20), rng.integers(0, 3, 20)
    arrays = [jnp.asarray(a) for a in (p, z, group, view)]
    value = contrastive(*arrays, 0.3, positives_in_denominator=compete)
    np.testing.assert_allclose(value, plain_loop(p, z, group, view, 0.3, compete), rtol=1e-5)


def test_order_of_rows_does_not_matter():
    rng = np.random.default_rng(1)
    z = jnp.asarray(rng.normal(size=(24, 8)), jnp.float32)
    group, view, order = jnp.arange(24) % 8, jnp.arange(24) // 8, rng.permutation(24)
    np.testing.assert_allclose(
        contrastive(z, z, group, view, 0.2),
        contrastive(z[order], z[order], group[order], view[order], 0.2),
        rtol=1e-6,
    )


@pytest.mark.parametrize(("compete", "local"), [(True, True), (True, False), (False, True)])
def test_blocks_of_rows_give_the_same_loss_and_gradient(compete, local):
    rng = np.random.default_rng(2)
    p, z = rng.normal(size=(2, 60, 5)).astype(np.float32)
    view, image, region = (rng.integers(0, n, 60) for n in (2, 4, 3))

    def value_and_gradient(most):
        loss = functools.partial(
            contrastive,
            temperature=0.3,
            positives_in_denominator=compete,
            local_negatives=local,
            max_entries=most,
        )
        run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
        return run(p, z, image * 3 + region, view, image=image)

    whole = value_and_gradient(60 * 60)
    for rows in (59, 20, 7):  # 2 blocks of 30 rows, 3 of 20, 10 of 6
        parts = value_and_gradient(60 * rows)
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), parts, whole)


def test_blocks_hold_no_more_than_they_may():
    """A blocked loss computes no array as large as the whole matrix, its gradient neither."""
    ids = np.arange(64, dtype=np.int32)
    z = np.ones((64, 2), np.float32)

    def largest(most):
        loss = functools.partial(contrastive, temperature=0.3, max_entries=most)
        program = jax.jit(jax.grad(loss)).lower(z, z, ids // 2, ids % 2).as_text()
        shapes = re.findall(r"tensor<([0-9x]+)x[a-z]", program)
        return max(math.prod(map(int, shape.split("x"))) for shape in shapes)

    assert largest(64 * 64) == 64 * 64
    assert largest(64 * 8) == 64 * 8


def test_devices_get_the_others_once_and_each_goes_through_its_own_rows():
    rng = np.random.default_rng(3)
    p, z = rng.normal(size=(2, 1, 64, 5)).astype(np.float32)  # a batch of one, as in DetCon
    view, image = (rng.integers(0, n, (1, 64)) for n in (2, 12))

    def compiled(number):
        mesh = Mesh(np.array(jax.devices()[:number]), ("data",))
        loss = functools.partial(contrastive, temperature=0.3, max_entries=64 * 4)

        def mean(p, z):
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return jax.vmap(loss)(p, z, image, view).mean()

        rows = NamedSharding(mesh, PartitionSpec(None, "data"))
        run = jax.jit(jax.value_and_grad(mean, argnums=(0, 1)), in_shardings=rows)
        return run.lower(p, z).compile()

    one, eight = compiled(1), compiled(8)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-6),
        eight(*jax.device_put((p, z), eight.input_shardings[0])),
        one(p, z),
    )
    text = eight.as_text()
    assert " while(" in text
    sent = collectives(text)
    assert sent == collectives(text[text.index("ENTRY") :])  # none in the loop over blocks
    assert set(sent) == {"all-gather", "all-reduce", "reduce-scatter"}
    assert sent["reduce-scatter"] == 1


def test_finite_without_positives_and_with_zero_rows():
    z = jnp.zeros((4, 3)).at[0, 0].set(1.0)
    group, view = jnp.arange(4), jnp.zeros(4, jnp.int32)
    value, gradient = jax.value_and_grad(lambda z: contrastive(z, z, group, view, 0.1))(z)
    assert value == 0
    assert jnp.isfinite(gradient).all()


def test_bfloat16_rows_are_compared_in_float32():
    z = jax.random.normal(jax.random.key(0), (8, 4), jnp.bfloat16)
    assert unit(z).dtype == jnp.float32


def test_missing_image_ids():
    z = jnp.ones((2, 2))
    ids = jnp.arange(2)
    with pytest.raises(ValueError, match="needs the image"):
        contrastive(z, z, ids, ids, 0.1, local_negatives=False)
