"""Clusters of cells against sklearn, their match against all permutations."""

import dataclasses
import itertools
import tracemalloc

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import PCA
from sklearn.metrics import jaccard_score
from sklearn.preprocessing import StandardScaler
from test_whole_images import Odd, make_encoder

from jaxssl.data.label_maps import VOID
from jaxssl.data.source import Example
from jaxssl.evaluation import TASKS
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.dense import overclustering as module
from jaxssl.evaluation.dense.overclustering import Overclustering, match_clusters, standardized
from jaxssl.evaluation.dense.whole_images import grids_of
from jaxssl.evaluation.k_means import assign

TASK = TASKS["overclustering"]


def test_the_match_of_as_many_clusters_as_classes_is_the_best_of_all():
    for seed in range(5):
        table = np.random.default_rng(seed).integers(0, 100, (5, 5))
        union = table.sum(1)[:, None] + table.sum(0)[None] - table
        iou = table / union
        best = max(itertools.permutations(range(5)), key=lambda p: sum(iou[p, range(5)]))
        np.testing.assert_array_equal(match_clusters(table), best)


def test_classes_without_a_pixel_get_no_cluster():
    """Against a plain loop: of 7 classes the test maps have 4, and 4 clusters are matched."""
    rng, there = np.random.default_rng(0), [0, 2, 5, 6]
    table = np.zeros((7, 4), np.int64)
    table[there] = rng.integers(0, 100, (4, 4))
    cost = np.zeros((4, 4))
    for i, row in enumerate(there):
        for j in range(4):
            cost[i, j] = -table[row, j] / (table[row].sum() + table[:, j].sum() - table[row, j])
    rows, columns = linear_sum_assignment(cost)
    expected = {column: there[row] for row, column in zip(rows, columns, strict=True)}
    assert dict(enumerate(match_clusters(table))) == expected


def test_perfect_features_of_classes_that_the_test_maps_lack(tmp_path, monkeypatch):
    """Labels 0, 3 and 7, and 3 in the training part only: two clusters, and a perfect score."""

    class Halves(Odd):
        def fingerprint(self):
            return f"halves {len(self)}"

        def __getitem__(self, index):
            image = np.zeros((32, 32, 3), np.uint8)
            image[16:] = 200
            labels = np.where(image[..., 0] > 0, 7, 0)
            labels[0, 0] = 3 if self is train else 0
            return Example(f"{index}", image, semantic=labels.astype(np.uint8))

    train, test = Halves(4), Halves(3)
    data = DataSet("halves", "halves", train, test, 32, cache_dir=str(tmp_path))
    grid = np.repeat(np.eye(2, dtype=np.float32), 8, axis=0).reshape(4, 4, 2)
    grid += 0.01 * np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    some = ((row, grid, data.label_maps.truth("test", row)) for row in range(3))
    monkeypatch.setattr(module, "labeled_grids", lambda *args: some)
    result = TASK.run(make_encoder(), data, Overclustering(clusters=(0,)), 0)
    assert result.results == {"miou_classes": 1.0}
    assert result.protocol["classes_seen"] == 2


def test_of_more_clusters_each_gets_the_class_of_most_of_its_pixels():
    table = np.array([[5, 0, 1, 0], [4, 3, 1, 9], [0, 0, 7, 2]])
    np.testing.assert_array_equal(match_clusters(table), [0, 1, 2, 1])


def test_standardized_and_reduced_as_by_sklearn():
    x = np.random.default_rng(0).normal(size=(90, 6)) @ np.random.default_rng(1).normal(size=(6, 6))
    found = standardized(np.split(x.astype(np.float32), [20, 21]), 3)
    theirs = PCA(3).fit_transform(StandardScaler().fit_transform(x))
    np.testing.assert_allclose(np.abs(found), np.abs(theirs), atol=1e-4)
    np.testing.assert_array_equal(standardized(np.split(x, [20, 21]), 0), x)


def test_standardizing_takes_little_memory_beside_the_features():
    parts = np.random.default_rng(0).normal(size=(50, 400, 64)).astype(np.float32)
    tracemalloc.start()
    standardized([*parts], 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < parts.nbytes / 2


def test_miou_is_that_of_the_maps_of_matched_clusters(tmp_path, monkeypatch):
    sizes = [(37, 50), (64, 33)]
    data = DataSet("odd", "odd", Odd(4, sizes), Odd(5, sizes), 16, cache_dir=str(tmp_path))
    encoder, seen = make_encoder(), []
    monkeypatch.setattr(module, "assign", lambda *args: seen.append(assign(*args)) or seen[-1])
    protocol = Overclustering(clusters=(5, 0), components=4, iterations=20)
    result = TASK.run(encoder, data, protocol, 0)
    pixels = data.label_maps
    for cluster, name in zip(seen, ("miou_k5", "miou_classes"), strict=True):
        start, maps, truths = 0, [], []
        for row, grid in grids_of(encoder, pixels, "test", range(5)):
            h, w, _ = grid.shape
            own, truth = cluster[start : start + h * w].reshape(h, w), pixels.truth("test", row)
            start += h * w
            y, x = (((np.arange(s) + 0.5) * n / s).astype(int) for s, n in
                    zip(truth.shape, (h, w), strict=True))  # fmt: skip
            known = truth != VOID
            maps.append(own[y[:, None], x[None]][known])
            truths.append(truth[known])
        clusters, truth = np.concatenate(maps), np.concatenate(truths)
        number = clusters.max() + 1
        options = itertools.permutations(range(3))
        if name == "miou_k5":
            options = [[np.bincount(truth[clusters == c]).argmax() for c in range(number)]]
        best = max(jaccard_score(truth, np.array(o)[clusters], average="macro") for o in options)
        assert result.results[name] == pytest.approx(best, abs=1e-9)
    assert result.protocol["cells_seen"] == start
    other = TASK.run(encoder, data, dataclasses.replace(protocol, cells=2), 0)
    assert other.results != result.results


def test_mistakes(tmp_path):
    data = DataSet("odd", "odd", Odd(4), Odd(2), 16, cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match="makes 500 clusters and the test images of odd have"):
        TASK.run(make_encoder(), data, Overclustering(), 0)
    with pytest.raises(ValueError, match="restarts is 0; it must be 1 or more"):
        Overclustering(restarts=0)
