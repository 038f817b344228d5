"""Optimizers against released code (LARS) and plain loops."""

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from jaxssl.optim import OPTIMIZERS, AdamW, Lars, Sgd

CONSTANT = {"warmup_epochs": 0.0, "end_factor": 1.0, "scale_lr_by_batch": "none"}
LENGTH = (256, 10, 5)  # batch size, steps per epoch, epochs


def random_trees(n: int):
    """n trees of a kernel and a bias: f32[3, 4] and f32[4]."""
    rng = np.random.default_rng(0)
    return [
        {
            "kernel": rng.standard_normal((3, 4), np.float32),
            "bias": rng.standard_normal(4, np.float32),
        }
        for _ in range(n)
    ]


def run(transform, params, gradients):
    """The parameters after each step."""
    params = jax.tree.map(jnp.asarray, params)
    state, history = transform.init(params), []
    for gradient in gradients:
        updates, state = jax.jit(transform.update)(
            jax.tree.map(jnp.asarray, gradient), state, params
        )
        params = optax.apply_updates(params, updates)
        history.append(params)
    return history


def close(tree, expected, tolerance=1e-6):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        tree,
        expected,
    )


def test_lars_is_detcons(golden):
    data = golden("detcon_lars")
    trees = {
        prefix: {k.partition("/")[2]: data[k] for k in data.files if k.startswith(f"{prefix}/")}
        for prefix in ("p0", "p1", "p2", "p3", "g0", "g1", "g2")
    }
    lars = Lars(lr=0.5, weight_decay=1.5e-6, momentum=0.9, trust_coefficient=0.001, **CONSTANT)
    history = run(lars.transform(*LENGTH), trees["p0"], [trees[f"g{i}"] for i in range(3)])
    for i, params in enumerate(history, start=1):
        assert len(params) == 5
        close(params, trees[f"p{i}"])


def plain_lars(params, gradients, rates, *, lr_in_momentum):
    """As the papers write it; the bias is exempt from decay and trust ratio."""
    params = dict(params)
    momentum = {k: np.zeros_like(p) for k, p in params.items()}
    for gradient, rate in zip(gradients, rates, strict=True):
        for name, p in params.items():
            u = gradient[name]
            if name == "kernel":
                u = u + 0.1 * p
                u = u * 0.02 * np.linalg.norm(p) / np.linalg.norm(u)
            momentum[name] = 0.9 * momentum[name] + (rate * u if lr_in_momentum else u)
            params[name] = p - (momentum[name] if lr_in_momentum else rate * momentum[name])
    return params


@pytest.mark.parametrize("lr_in_momentum", [False, True])
def test_lars_under_a_changing_rate(lr_in_momentum):
    """Where DetCon's and SimCLR's variant differ."""
    lars = Lars(
        lr=0.3,
        weight_decay=0.1,
        trust_coefficient=0.02,
        warmup_epochs=1.0,
        lr_in_momentum=lr_in_momentum,
    )
    params, *gradients = random_trees(5)
    rates = [float(lars.schedule(256, 2, 2)(i)) for i in range(4)]
    assert len(set(rates)) > 2
    result = run(lars.transform(256, 2, 2), params, gradients)[-1]
    close(result, plain_lars(params, gradients, rates, lr_in_momentum=lr_in_momentum))
    other = plain_lars(params, gradients, rates, lr_in_momentum=not lr_in_momentum)
    assert np.abs(other["bias"] - result["bias"]).max() > 0.01


def test_lars_stands_for_swavs_larc():
    """LARC as SwAV calls it: decay and trust ratio for every parameter, then momentum."""
    lars = Lars(lr=4.8, weight_decay=1e-6, exclude_bias_and_norm=False, **CONSTANT)
    params, *gradients = random_trees(4)
    gradients = [{k: 0.01 * g for k, g in tree.items()} for tree in gradients]  # |w| = 100 |g|
    result = run(lars.transform(*LENGTH), params, gradients)[-1]
    for name in params:
        p, momentum = params[name].astype(np.float64), 0.0
        for gradient in gradients:
            g, size = gradient[name], np.linalg.norm(p)
            ratio = 0.001 * size / (np.linalg.norm(g) + 1e-6 * size)
            momentum = 0.9 * momentum + ratio * (g + 1e-6 * p)
            p = p - 4.8 * momentum
        np.testing.assert_allclose(result[name] - params[name], p - params[name], rtol=3e-4)


def test_lars_moves_weights_that_are_zero():
    zero = {"kernel": np.zeros((3, 4), np.float32)}
    gradient = {"kernel": np.ones((3, 4), np.float32)}
    (result,) = run(Lars(lr=0.5, **CONSTANT).transform(*LENGTH), zero, [gradient])
    close(result, {"kernel": np.full((3, 4), -0.5)})


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("exclude", [False, True])
def test_sgd_is_torchs(nesterov, exclude):
    """torch.optim.SGD: g += decay * p; v = momentum * v + g; p -= lr * (g + momentum * v or v)."""
    sgd = Sgd(
        lr=0.1, weight_decay=0.2, nesterov=nesterov, exclude_bias_and_norm=exclude, **CONSTANT
    )
    params, *gradients = random_trees(4)
    (*_, result) = run(sgd.transform(*LENGTH), params, gradients)
    for name in params:
        p, v = params[name].astype(np.float64), 0.0
        for gradient in gradients:
            g = gradient[name] + (0.0 if exclude and name == "bias" else 0.2) * p
            v = 0.9 * v + g
            p = p - 0.1 * (g + 0.9 * v if nesterov else v)
        np.testing.assert_allclose(result[name], p, rtol=1e-5, atol=1e-6)


def test_adamw_is_torchs():
    adamw = AdamW(lr=0.01, weight_decay=0.5, **CONSTANT)
    params, *gradients = random_trees(4)
    (*_, result) = run(adamw.transform(*LENGTH), params, gradients)
    for name in params:
        p, m, v = params[name].astype(np.float64), 0.0, 0.0
        for i, gradient in enumerate(gradients, start=1):
            m, v = 0.9 * m + 0.1 * gradient[name], 0.999 * v + 0.001 * gradient[name] ** 2
            p = p * (1 - 0.01 * (0.5 if name == "kernel" else 0))
            p = p - 0.01 * (m / (1 - 0.9**i)) / (np.sqrt(v / (1 - 0.999**i)) + 1e-8)
        np.testing.assert_allclose(result[name], p, rtol=1e-5, atol=1e-6)


def test_adamw_counts_the_steps_of_a_frozen_layer_from_its_first_as_torchs():
    params, *gradients = random_trees(9)
    frozen = [gradient | {"bias": np.zeros(4, np.float32)} for gradient in gradients[:5]]
    results = run(AdamW(lr=0.01, **CONSTANT).transform(*LENGTH), params, frozen + gradients[5:])
    weights = {name: torch.tensor(value, requires_grad=True) for name, value in params.items()}
    groups = [
        {"params": [weights["kernel"]], "weight_decay": 0.04},
        {"params": [weights["bias"]], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=0.01)
    for step, (gradient, result) in enumerate(zip(gradients, results, strict=True)):
        for name, weight in weights.items():
            frozen_yet = name == "bias" and step < 5
            weight.grad = None if frozen_yet else torch.tensor(gradient[name])
        adamw.step()
        close(result, {name: weight.detach().numpy() for name, weight in weights.items()}, 1e-5)


def test_clip_shortens_the_whole_gradient():
    sgd = Sgd(lr=1.0, weight_decay=0.0, momentum=0.0, clip_norm=0.5, **CONSTANT)
    params, gradient = random_trees(2)
    norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
    assert norm > 0.5
    (result,) = run(sgd.transform(*LENGTH), params, [gradient])
    close(result, {k: params[k] - gradient[k] * 0.5 / norm for k in params})


@pytest.mark.parametrize("clip_norm", [0.0, 0.4])
def test_clip_each_parameter_as_dino_does(clip_norm):
    """The gradient of the kernel is too long and shrinks to 0.5, that of the bias stays."""
    sgd = Sgd(
        lr=1.0, weight_decay=0.0, momentum=0.0, clip_each=0.5, clip_norm=clip_norm, **CONSTANT
    )
    params, gradient = random_trees(2)
    gradient["bias"] = np.float32([0.1, 0.0, -0.2, 0.0])
    expected = gradient | {"kernel": gradient["kernel"] * 0.5 / np.linalg.norm(gradient["kernel"])}
    if clip_norm:
        norm = np.sqrt(0.5**2 + 0.1**2 + 0.2**2)
        expected = {k: g * 0.4 / norm for k, g in expected.items()}
    (result,) = run(sgd.transform(*LENGTH), params, [gradient])
    close(result, {k: params[k] - expected[k] for k in params})


def test_clip_leaves_a_zero_gradient_alone():
    sgd = Sgd(weight_decay=0.0, clip_each=0.5, **CONSTANT)
    params, _ = random_trees(2)
    (result,) = run(sgd.transform(*LENGTH), params, [jax.tree.map(np.zeros_like, params)])
    close(result, params)


def test_weight_decay_moves_as_dinos():
    """From 0.04 to 0.4 along half a cosine, one value a step; biases are exempt."""
    adamw = AdamW(lr=0.5, weight_decay=0.04, weight_decay_end=0.4, **CONSTANT)
    params, _ = random_trees(2)
    zero = jax.tree.map(np.zeros_like, params)
    history = [params, *run(adamw.transform(256, 4, 2), params, [zero] * 8)]
    for i in range(8):
        decay = 0.4 + 0.5 * (0.04 - 0.4) * (1 + np.cos(np.pi * i / 8))
        close(history[i + 1]["kernel"], history[i]["kernel"] * (1 - 0.5 * decay))
        close(history[i + 1]["bias"], params["bias"])


@pytest.mark.parametrize("optimizer", [Sgd, Lars])
def test_constant_rate_of_simsiams_predictor(optimizer):
    """Without momentum a step is as long as its rate: the peak, whatever the schedule."""
    options = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "warmup_epochs": 0.0}
    plain = optimizer(**options)
    fixed = optimizer(**options, constant_lr_for=("predictor",))
    params, gradient = random_trees(2)
    params = {"encoder": params, "predictor": params}
    gradients = [{"encoder": gradient, "predictor": gradient}] * 20
    expected = [params, *run(plain.transform(256, 4, 5), params, gradients)]
    history = [params, *run(fixed.transform(256, 4, 5), params, gradients)]
    close(history[-1]["encoder"], expected[-1]["encoder"])
    first, last = (
        [np.array(history[i + 1]["predictor"]["bias"] - history[i]["predictor"]["bias"])]
        for i in (0, 19)
    )
    np.testing.assert_allclose(last, first, rtol=1e-3)
    np.testing.assert_allclose(first, [-0.1 * gradient["bias"]], rtol=1e-5, atol=1e-7)


def test_constant_rate_of_what_is_not_there():
    params, _ = random_trees(2)
    with pytest.raises(ValueError, match="constant_lr_for names predictor, .* among bias, kernel"):
        Sgd(constant_lr_for=("predictor",)).transform(*LENGTH).init(params)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_follows_the_logged_learning_rate(name):
    """Zero at step 0 of a warm-up: nothing may move."""
    optimizer = OPTIMIZERS[name](warmup_epochs=1.0)
    params, *gradients = random_trees(3)
    first, second = run(optimizer.transform(*LENGTH), params, gradients)
    jax.tree.map(np.testing.assert_array_equal, first, params)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max() > 0, first, second)
    assert all(jax.tree.leaves(moved))


def test_bias_and_norm_are_told_by_their_axes():
    tree = {"conv/kernel": (3, 3, 2, 4), "linear/kernel": (2, 4), "bn/scale": (4,), "bn/bias": (4,)}
    params = flax.traverse_util.unflatten_dict({k: jnp.zeros(v) for k, v in tree.items()}, sep="/")
    decayed = Lars().decayed(params)
    assert decayed == {
        "conv": {"kernel": True},
        "linear": {"kernel": True},
        "bn": {"scale": False, "bias": False},
    }
    assert all(jax.tree.leaves(Sgd().decayed(params)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cosine_per": "year"}, "optim.cosine_per is 'year'; choose one of step, epoch"),
        ({"scale_lr_by_batch": "log"}, "optim.scale_lr_by_batch is 'log'; choose one of linear"),
        ({"lr": -0.1}, "optim.lr is -0.1"),
        ({"momentum": 1.0}, "optim.momentum is 1.0; it must be in"),
        ({"weight_decay": float("nan")}, "optim.weight_decay is nan"),
        ({"milestones": (0.6, 120.0)}, r"milestones is \(0.6, 120.0\); give fractions of training"),
    ],
)
def test_wrong_options_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        Sgd(**wrong)
