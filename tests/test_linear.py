"""The linear probe against sklearn's logistic regression."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxssl.evaluation.linear import linear_probe


def make_data(n, seed):
    """Five classes of overlapping Gaussians, with features of very different scale."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(5, 10)) * 1.0
    labels = rng.integers(0, 5, n)
    features = (centres[labels] + rng.normal(size=(n, 10))) * np.geomspace(0.01, 100, 10)
    return features.astype(np.float32), labels


def test_as_good_as_logistic_regression():
    (train, labels), (test, truth) = make_data(2000, 1), make_data(4000, 2)
    scores, rate = linear_probe(train, labels, test, num_classes=5, epochs=30)
    ours = np.mean(scores.argmax(axis=1) == truth)
    std = train.std(axis=0)
    theirs = LogisticRegression(max_iter=1000).fit(train / std, labels).score(test / std, truth)
    assert 0.5 < theirs < 0.95  # neither trivial nor hopeless
    assert abs(ours - theirs) < 0.01
    assert rate > 0


def test_unlabelled_images_are_left_out():
    (train, labels), (test, truth) = make_data(500, 1), make_data(500, 2)
    labels[::2] = -1
    scores, _ = linear_probe(train, labels, test, num_classes=5, epochs=10)
    assert np.mean(scores.argmax(axis=1) == truth) > 0.5


def test_too_few_images():
    train, labels = make_data(5, 1)
    with pytest.raises(ValueError, match="needs 10 labelled"):
        linear_probe(train, labels, train, num_classes=5)
