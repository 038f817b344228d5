"""Logistic regression against sklearn's."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from jaxssl.evaluation.classification.logistic import Logistic, logistic_regression
from jaxssl.evaluation.features import LabeledFeatures


def make_data(n, seed):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(0).normal(size=(4, 6))
    labels = rng.integers(0, 4, n)
    features = (centers[labels] + rng.normal(size=(n, 6))) * np.geomspace(0.01, 100, 6)
    return LabeledFeatures(features.astype(np.float32), labels)


def sklearn_logits(train, test, c):
    scaler = StandardScaler().fit(train.features)
    model = LogisticRegression(C=c, max_iter=1000, tol=1e-8)
    model.fit(scaler.transform(train.features), train.labels)
    return model.decision_function(scaler.transform(test.features))


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_scores_equal_sklearn(c):
    train, test = make_data(300, 1), make_data(200, 2)
    ours, chosen = logistic_regression(train, test, Logistic((c,)), num_classes=4)
    theirs = sklearn_logits(train, test, c)
    np.testing.assert_allclose(
        ours - ours.mean(axis=1, keepdims=True),
        theirs - theirs.mean(axis=1, keepdims=True),
        atol=0.02,
    )
    assert chosen == c


def test_c_is_chosen_on_a_part_of_the_training_images():
    train, test = make_data(300, 1), make_data(20, 2)
    options = {"num_classes": 4}
    _, chosen = logistic_regression(train, test, Logistic((1e-6, 1.0)), **options)
    assert chosen == 1.0
    with pytest.raises(ValueError, match=r"c is \(1.0, 0.0\); it must be above 0"):
        Logistic((1.0, 0.0))
