"""Projection heads against plain numpy, and the parameters that each paper's head has."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.models.heads import MLP, gelu, weight_normed_scores

X = np.random.default_rng(0).standard_normal((8, 16), np.float32)
LIGHTLY = MLP(hidden=(12,), out=4, final_batch_norm="affine")
GOOGLE = MLP(hidden=(12, 12), out=4, final_batch_norm="scale")
BYOL = MLP(hidden=(12,), out=4, bias=True)
MOCO = MLP(hidden=(12,), out=4, bias=True, final_bias=True, batch_norm=False)
SIMSIAM = MLP(hidden=(12, 12), out=4, final_batch_norm="fixed")
DINO = MLP(
    hidden=(12, 12), out=4, batch_norm=False, bias=True, final_bias=True,
    activation=gelu, normal_std=0.02,
)  # fmt: skip
PREDICTOR = MLP(hidden=(12,), out=4, final_bias=True)

W, WB, BN = {"kernel"}, {"kernel", "bias"}, {"scale", "bias"}
PARAMETERS = [
    (LIGHTLY, {"linear1": W, "bn1": BN, "linear2": W, "bn2": BN}),
    (GOOGLE, {"linear1": W, "bn1": BN, "linear2": W, "bn2": BN, "linear3": W, "bn3": {"scale"}}),
    (BYOL, {"linear1": WB, "bn1": BN, "linear2": W}),
    (MOCO, {"linear1": WB, "linear2": WB}),
    (SIMSIAM, {"linear1": W, "bn1": BN, "linear2": W, "bn2": BN, "linear3": W}),
    (DINO, {"linear1": WB, "linear2": WB, "linear3": WB}),
    (PREDICTOR, {"linear1": W, "bn1": BN, "linear2": WB}),
    (MLP(hidden=(), out=4), {"linear1": W}),
]


def initialized(head: MLP, x: np.ndarray = X):
    """Variables, all random: batch norm's too, so that none can be left out unseen."""
    shapes = jax.eval_shape(functools.partial(head.init, train=False), jax.random.key(0), x)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: rng.uniform(0.5, 1.5, s.shape).astype(np.float32), shapes)


def plain(head: MLP, variables, x: np.ndarray, train: bool) -> np.ndarray:
    """The head as its table says."""

    def linear(i, x):
        p = variables["params"][f"linear{i}"]
        return x @ p["kernel"] + p.get("bias", 0)

    def batch_norm(i, x):
        name = f"bn{i}"
        p, stats = variables["params"].get(name, {}), variables.get("batch_stats", {})[name]
        rows = x.reshape(-1, x.shape[-1])
        mean, var = (rows.mean(0), rows.var(0)) if train else (stats["mean"], stats["var"])
        return (x - mean) / np.sqrt(var + 1e-5) * p.get("scale", 1) + p.get("bias", 0)

    for i in range(1, len(head.hidden) + 1):
        x = linear(i, x)
        x = batch_norm(i, x) if head.batch_norm else x
        x = x * (1 + np.vectorize(math.erf)(x / 2**0.5)) / 2 if head is DINO else np.maximum(x, 0)
    last = len(head.hidden) + 1
    x = linear(last, x)
    return x if head.final_batch_norm == "none" else batch_norm(last, x)


@pytest.mark.parametrize(("head", "expected"), PARAMETERS)
def test_parameters_of_each_head(head, expected):
    params = initialized(head)["params"]
    assert {name: set(leaves) for name, leaves in params.items()} == expected


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("head", [LIGHTLY, GOOGLE, BYOL, MOCO, SIMSIAM, PREDICTOR, DINO])
def test_head_is_what_its_table_says(head, train):
    variables = initialized(head)
    variables["params"]["linear1"]["kernel"] -= 1  # both signs, for the ReLU
    result, _ = head.apply(variables, jnp.asarray(X), train=train, mutable=["batch_stats"])
    np.testing.assert_allclose(result, plain(head, variables, X, train), rtol=1e-4, atol=1e-4)


def test_batch_norm_averages_over_images_and_their_regions():
    x = np.random.default_rng(2).standard_normal((3, 5, 16), np.float32)
    variables = initialized(BYOL, x)
    result, _ = BYOL.apply(variables, jnp.asarray(x), train=True, mutable=["batch_stats"])
    assert result.shape == (3, 5, 4)
    np.testing.assert_allclose(result, plain(BYOL, variables, x, True), rtol=1e-4, atol=1e-4)


def test_linear_layers_start_as_in_torch():
    params = MLP(hidden=(400,), out=3, bias=True).init(jax.random.key(0), jnp.ones((1, 25)), False)
    for leaf in params["params"]["linear1"].values():
        assert float(jnp.abs(leaf).max()) == pytest.approx(
            0.2, rel=0.02
        )  # 1 / sqrt(25), never above
        assert float(jnp.abs(leaf).max()) <= 0.2
        assert float(leaf.std()) == pytest.approx(0.2 / 3**0.5, rel=0.1)


def test_linear_layers_start_as_in_dino():
    params = MLP(hidden=(400,), out=3, bias=True, normal_std=0.02).init(
        jax.random.key(0), jnp.ones((1, 25)), False
    )["params"]["linear1"]
    assert float(params["kernel"].std()) == pytest.approx(0.02, rel=0.03)
    assert float(jnp.abs(params["kernel"]).max()) > 0.06  # normal, not uniform
    assert not params["bias"].any()


@pytest.mark.parametrize("lengths", [None, np.float32([[1.0], [2.0], [0.5]])])
def test_weight_norm_sees_directions_and_lengths(lengths):
    v = np.random.default_rng(3).standard_normal((3, 16), np.float32)
    weights = {"v": jnp.asarray(v)} | ({} if lengths is None else {"g": jnp.asarray(lengths)})
    result = weight_normed_scores(jnp.asarray(X[None]), weights)
    expected = X @ (v / np.linalg.norm(v, axis=1, keepdims=True)).T
    expected = expected * (1 if lengths is None else lengths[:, 0])
    np.testing.assert_allclose(result[0], expected, rtol=1e-5, atol=1e-6)


def test_bfloat16_keeps_parameters_and_output_in_float32():
    head = MLP(hidden=(12,), out=4, final_batch_norm="affine", dtype=jnp.bfloat16)
    variables = head.init(jax.random.key(0), jnp.asarray(X), train=False)
    result, changed = head.apply(variables, jnp.asarray(X), train=True, mutable=["batch_stats"])
    for leaf in jax.tree.leaves((variables, result, changed)):
        assert leaf.dtype == jnp.float32


def test_unknown_norm_is_named():
    with pytest.raises(ValueError, match="final_batch_norm is 'layer'; choose one of none, affine"):
        MLP(hidden=(), out=4, final_batch_norm="layer")
