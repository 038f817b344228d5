"""Accuracies against sklearn's; which images are learned from."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, recall_score, top_k_accuracy_score

from jaxssl.evaluation.classification.accuracy import score
from jaxssl.evaluation.datasets import hold_out, stratified, whole_batch

CLASSES = tuple("abcdefgh")


def test_equals_sklearn():
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=(500, 8)), rng.integers(0, 8, 500)
    results, details = score(scores, truth, CLASSES)
    predicted = scores.argmax(axis=1)
    for k, name in ((1, "top1"), (5, "top5")):
        assert results[name] == pytest.approx(top_k_accuracy_score(truth, scores, k=k))
    np.testing.assert_array_equal(details["confusion"], confusion_matrix(truth, predicted))
    recall = recall_score(truth, predicted, average=None)
    np.testing.assert_allclose(details["per_class"], recall)
    assert results["mean_class"] == pytest.approx(recall.mean())
    assert results["majority_baseline"] == np.bincount(truth).max() / 500


def test_a_class_without_images_has_no_accuracy():
    results, details = score(np.eye(3)[[0, 0, 2]], np.array([0, 0, 0]), ("a", "b", "c"))
    assert details["per_class"] == [pytest.approx(2 / 3), None, None]
    assert results["mean_class"] == results["top1"] == pytest.approx(2 / 3)
    assert "top5" not in results


def test_scores_that_are_not_finite():
    with pytest.raises(ValueError, match=r"diverged.* lower learning rates"):
        score(np.full((2, 3), np.nan), np.array([0, 1]), ("a", "b", "c"))


def test_fractions_are_of_each_class():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 3], [200, 100, 3]))
    rows = stratified(labels, 0.1, seed=0)
    np.testing.assert_array_equal(np.bincount(labels[rows]), [20, 10, 0, 1])
    np.testing.assert_array_equal(rows, stratified(labels, 0.1, seed=0))
    assert set(rows) != set(stratified(labels, 0.1, seed=1))
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        stratified(labels, 0.0, seed=0)


def test_held_out_images_are_of_each_class_and_not_learned_from():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 4, 1]))
    rest, held_out = hold_out(labels, seed=0)
    np.testing.assert_array_equal(np.bincount(labels[held_out]), [5, 1])
    np.testing.assert_array_equal(np.sort(np.concatenate([rest, held_out])), np.arange(55))
    with pytest.raises(ValueError, match="no class has two images"):
        hold_out(np.arange(5), seed=0)


def test_batches_divide_over_devices():
    assert whole_batch(256, 1000, 8) == 256
    assert whole_batch(256, 61, 8) == 56
    with pytest.raises(ValueError, match="batches of 5 of 5 training images .* 8 devices"):
        whole_batch(256, 5, 8)
