"""Confusion matrix and IoU against sklearn, and their corners."""

import jax
import numpy as np
import pytest
import sklearn.metrics

from jaxssl.evaluation.dense.confusion import (
    VOID,
    class_iou,
    confusion_matrix,
    scores,
    summarize,
)

NAMES = tuple("abcde")


def random_maps(seed=0, n=7):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, 5, (2, n, 12, 12), dtype=np.uint8)
    predicted = np.where(rng.random(truth.shape) < 0.5, truth, predicted)
    return np.where(rng.random(truth.shape) < 0.2, VOID, truth).astype(np.uint8), predicted


def test_equals_sklearn():
    truth, predicted = random_maps()
    there = truth != VOID
    y, p = truth[there], predicted[there]
    results, details = summarize(np.asarray(confusion_matrix(truth, predicted, 5)), NAMES)
    expected = sklearn.metrics.confusion_matrix(y, p, labels=range(5))
    np.testing.assert_array_equal(details["confusion"], expected)
    iou = sklearn.metrics.jaccard_score(y, p, average=None)
    np.testing.assert_allclose(details["per_class"], iou, rtol=1e-12)
    assert results["miou"] == pytest.approx(iou.mean(), rel=1e-12)
    assert results["pixel_accuracy"] == pytest.approx(np.mean(y == p))
    assert results["baseline_pixel_accuracy"] == pytest.approx(np.bincount(y).max() / len(y))


def test_no_shape_of_maps_compiles_a_program():
    truth, predicted = random_maps()
    with jax.no_tracing():
        assert confusion_matrix(truth, predicted, 5).sum() == np.sum(truth != VOID)


def test_what_is_predicted_of_void_pixels_does_not_matter():
    truth, predicted = random_maps()
    other = np.where(truth == VOID, (predicted + 1) % 5, predicted).astype(np.uint8)
    assert not np.array_equal(predicted, other)
    first, second = (np.asarray(confusion_matrix(truth, p, 5)) for p in (predicted, other))
    np.testing.assert_array_equal(first, second)


def test_a_class_that_is_nowhere_is_left_out_and_one_that_is_predicted_counts_as_0(caplog):
    truth = np.array([[[0, 0], [1, 1]]], np.uint8)
    predicted = np.array([[[0, 0], [1, 2]]], np.uint8)
    results, details = summarize(np.asarray(confusion_matrix(truth, predicted, 4)), tuple("abcd"))
    assert details["per_class"] == [1.0, 0.5, 0.0, None]
    assert results["miou"] == pytest.approx(0.5)
    assert "no test pixel of 2 of 4 classes (c, d)" in caplog.text


def test_nothing_to_count():
    with pytest.raises(ValueError, match="no pixel of the test images has a class"):
        scores(np.zeros((3, 3), np.int64))
    assert np.isnan(class_iou(np.zeros((3, 3), np.int64))).all()
