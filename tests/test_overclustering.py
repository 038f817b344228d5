"""Clusters of cells against sklearn, their match against all permutations."""

import dataclasses
import itertools

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import jaccard_score
from sklearn.preprocessing import StandardScaler
from test_whole_images import Odd, make_encoder

from jaxssl.data.label_maps import VOID
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


def test_of_more_clusters_each_gets_the_class_of_most_of_its_pixels():
    table = np.array([[5, 0, 1, 0], [4, 3, 1, 9], [0, 0, 7, 2]])
    np.testing.assert_array_equal(match_clusters(table), [0, 1, 2, 1])


def test_standardized_and_reduced_as_by_sklearn():
    x = np.random.default_rng(0).normal(size=(90, 6)) @ np.random.default_rng(1).normal(size=(6, 6))
    found = standardized(x.astype(np.float32), 3)
    theirs = PCA(3).fit_transform(StandardScaler().fit_transform(x))
    np.testing.assert_allclose(np.abs(found), np.abs(theirs), atol=1e-4)
    np.testing.assert_array_equal(standardized(x, 0), x)


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
