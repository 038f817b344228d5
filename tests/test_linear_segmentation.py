"""The probe of the grid: histograms of cells against a plain loop, the fit against sklearn's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxssl.data.label_maps import VOID
from jaxssl.evaluation.dense.grid_cells import Cells, class_shares
from jaxssl.evaluation.dense.linear_segmentation import (
    Segmentation,
    counts_of_images,
    fit_cells,
)
from jaxssl.evaluation.probes import cross_entropy, predict

PROTOCOL = Segmentation(steps=100, batch_size=256)


def test_shares_of_classes_equal_a_plain_loop():
    truth = np.random.default_rng(0).choice(np.array([0, 1, 2, VOID], np.uint8), (3, 10, 13))
    found = np.stack([class_shares(labels, (3, 4), 3) for labels in truth])
    expected = np.zeros((3, 3, 4, 3))
    pixels = np.zeros((3, 4))
    for y in range(10):
        for x in range(13):
            cell = int((y + 0.5) / 10 * 3), int((x + 0.5) / 13 * 4)
            pixels[cell] += 1
            for i in range(3):
                if truth[i, y, x] != VOID:
                    expected[i, *cell, truth[i, y, x]] += 1
    np.testing.assert_allclose(found, expected / pixels[None, ..., None], rtol=1e-6)


def test_the_loss_of_shares_is_that_of_the_pixels():
    rng = np.random.default_rng(0)
    truth, logits = rng.integers(0, 3, (1, 8, 8), np.uint8), rng.normal(size=(1, 2, 2, 3))
    log_p = np.asarray(jax.nn.log_softmax(jnp.asarray(logits)))
    shares = jnp.asarray(class_shares(truth[0], (2, 2), 3)).reshape(4, 3)
    by_cells = float(cross_entropy(jnp.asarray(logits, jnp.float32).reshape(4, 3), shares))
    by_pixels = -np.mean(
        [log_p[0, y // 4, x // 4, truth[0, y, x]] for y in range(8) for x in range(8)]
    )
    assert by_cells == pytest.approx(by_pixels, rel=1e-5)


def make_data(n, seed):
    """Grids of four cells a side whose features speak of the class of the cell, not plainly."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(0).normal(size=(4, 6))
    cells = rng.integers(0, 4, (n, 4, 4), np.uint8)
    grid = (centers[cells] + 0.8 * rng.normal(size=(n, 4, 4, 6))) * np.geomspace(0.01, 100, 6)
    return grid.astype(np.float32), cells.repeat(4, axis=1).repeat(4, axis=2)


def fit(grids, truth):
    """A classifier of each cell."""
    cells = [
        Cells(grid.reshape(-1, 6), class_shares(labels, (4, 4), 4).reshape(-1, 4))
        for grid, labels in zip(grids, truth, strict=True)
    ]
    return fit_cells(cells, (0.1,), PROTOCOL, 0, np.random.default_rng(0))


def classes_of(probes, grids):
    """u8[n, 4, 4], of each cell."""
    scores = np.asarray(predict(probes, grids.reshape(-1, 6)))[0]
    return scores.argmax(axis=1).reshape(-1, 4, 4)


def test_as_good_as_logistic_regression():
    (train, truth), (test, expected) = make_data(60, 1), make_data(60, 2)
    scale = train.std(axis=(0, 1, 2))
    flat, labels = (train / scale).reshape(-1, 6), truth[:, ::4, ::4].ravel()
    theirs = LogisticRegression(max_iter=1000).fit(flat, labels)
    score = theirs.score((test / scale).reshape(-1, 6), expected[:, ::4, ::4].ravel())
    assert 0.6 < score < 0.95
    found = classes_of(fit(train, truth), test)
    assert abs(np.mean(found == expected[:, ::4, ::4]) - score) < 0.01


def test_void_pixels_are_not_learned_from():
    (train, truth), (test, expected) = make_data(60, 1), make_data(60, 2)
    wrong = np.random.default_rng(0).random((60, 4, 4)) < 0.6
    train[wrong] = -train[wrong]
    truth[wrong.repeat(4, axis=1).repeat(4, axis=2)] = VOID
    found = classes_of(fit(train, truth), test)
    assert np.mean(found == expected[:, ::4, ::4]) > 0.6


def test_a_cap_of_the_images_that_are_learned_from_is_said(caplog):
    caplog.set_level("INFO", "jaxssl")
    fractions = (1.0, 0.1, 0.01)
    few = Segmentation(fractions=fractions, images=200)
    assert counts_of_images(few, "streets", 200) == [200, 20, 2]
    assert not caplog.records
    assert counts_of_images(few, "streets", 3000) == [200, 200, 30]
    (record,) = caplog.records
    assert "200, 200, 30 of its 3000 training images are learned from in place" in record.message
    assert "in place of 3000, 300, 30; segmentation.images=200 is the most" in record.message
    assert counts_of_images(Segmentation(), "streets", 3000) == [2000]


def test_mistakes():
    with pytest.raises(ValueError, match=r"steps is 0"):
        Segmentation(steps=0)
