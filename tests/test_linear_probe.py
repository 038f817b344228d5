"""The linear probe against sklearn and a plain loop; the papers' protocols."""

import dataclasses

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxssl.data.batch_order import Order
from jaxssl.evaluation.classification.linear_probe import PRESETS, linear_probe
from jaxssl.evaluation.features import LabeledFeatures
from jaxssl.evaluation.probes import LinearProbe


def make_data(n, seed, spread=100):
    """Five classes of overlapping Gaussians, with features of very different scale."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(0).normal(size=(5, 10)) * 1.0
    labels = rng.integers(0, 5, n)
    features = (centers[labels] + rng.normal(size=(n, 10))) * np.geomspace(1 / spread, spread, 10)
    return LabeledFeatures(features.astype(np.float32), labels)


def accuracy(scores, test):
    return np.mean(scores.argmax(axis=1) == test.labels)


def test_as_good_as_logistic_regression():
    train, test = make_data(2000, 1), make_data(4000, 2)
    trained = linear_probe(train, test, LinearProbe(epochs=30), num_classes=5)
    std = train.features.std(axis=0)
    theirs = LogisticRegression(max_iter=1000).fit(train.features / std, train.labels)
    theirs = theirs.score(test.features / std, test.labels)
    assert 0.5 < theirs < 0.95  # neither trivial nor hopeless
    assert abs(accuracy(trained.scores, test) - theirs) < 0.005


def plain_sgd(train, protocol, weight, rate_at):
    """Momentum as torch has it, in the order of seed 0."""
    bias, velocity = np.zeros(5), 0
    order = Order(len(train.labels), protocol.batch_size, 0)
    steps = order.steps_per_epoch
    for i in range(protocol.epochs * steps):
        rows = order.indices(i)
        x = np.concatenate([train.features[rows], np.ones((len(rows), 1))], axis=1)
        logits = x @ np.concatenate([weight, bias[None]])
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        gradient = x.T @ (p - np.eye(5)[train.labels[rows]]) / len(rows)
        velocity = 0.9 * velocity + gradient
        step = gradient + 0.9 * velocity if protocol.nesterov else velocity
        step = rate_at(i / (protocol.epochs * steps)) * step
        weight, bias = weight - step[:-1], bias - step[-1]
    return weight, bias


def cosine(t):
    return (1 + np.cos(np.pi * t)) / 2


@pytest.mark.parametrize(
    ("preset", "batch_size", "rate_at"),
    [
        ("simclr", 64, lambda t: 0.1 * 64 / 256 * cosine(t)),
        ("contrastive_crop", 50, lambda t: 10.0 if t < 0.6 else 1.0 if t < 0.8 else 0.1),
        ("moco", 50, lambda t: 30.0 if t < 0.6 else 3.0 if t < 0.8 else 0.3),
        ("lightly", 100, lambda t: 0.1 * 100 / 256 * (0.001 + 0.999 * cosine(t))),
    ],
)
def test_presets_equal_a_plain_loop(preset, batch_size, rate_at):
    train, test = make_data(200, 1, spread=1), make_data(50, 2, spread=1)
    protocol = dataclasses.replace(PRESETS[preset], epochs=5, batch_size=batch_size, augment=False)
    start = protocol.init_std * np.asarray(jax.random.normal(jax.random.key(0), (10, 5)))
    weight, bias = plain_sgd(train, protocol, start, rate_at)
    trained = linear_probe(train, test, protocol, num_classes=5)
    np.testing.assert_allclose(trained.scores, test.features @ weight + bias, rtol=1e-3, atol=1e-3)
    assert trained.learning_rate == protocol.lr[0]
    if protocol.best_on_test:
        assert trained.best_on_test >= accuracy(trained.scores, test)


def test_papers_learning_rates():
    first = {n: p.sgd().peak(p.batch_size) * p.lr[0] for n, p in PRESETS.items()}
    assert first["s3same"] == pytest.approx(0.05)
    assert first["simclr"] == pytest.approx(1.6)
    assert first["byol"] == pytest.approx(0.8)
    assert first["contrastive_crop"] == 10
    assert first["moco"] == 30


def test_the_rate_is_not_chosen_on_the_test_images():
    train, test = make_data(400, 1), make_data(300, 2)
    wrong = test._replace(labels=(test.labels + 1) % 5)
    chosen = [
        linear_probe(train, t, LinearProbe(epochs=3), num_classes=5).learning_rate
        for t in (test, wrong)
    ]
    assert chosen[0] == chosen[1]


def test_mistakes():
    few = LabeledFeatures(np.eye(3, dtype=np.float32), np.arange(3))
    with pytest.raises(ValueError, match="no class has two images"):
        linear_probe(few, few, LinearProbe(), num_classes=3)
    with pytest.raises(ValueError, match=r"epochs is 0; it must be 1 or more"):
        LinearProbe(epochs=0)
    with pytest.raises(ValueError, match="it must be above 0"):
        LinearProbe(lr=(0.1, 0.0))
