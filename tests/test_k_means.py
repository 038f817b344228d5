"""k-means against sklearn's, from the same start."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from jaxssl import sharding
from jaxssl.evaluation import k_means as module
from jaxssl.evaluation.k_means import assign, k_means, lloyd, split_rows


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh()


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    centers = 2 * rng.normal(size=(9, 5))
    return (centers[rng.integers(0, 9, 501)] + rng.normal(size=(501, 5))).astype(np.float32)


@pytest.mark.parametrize("iterations", [1, 100])
def test_equals_sklearn(mesh, x, monkeypatch, iterations):
    monkeypatch.setattr(module, "CHUNK", 32)  # two chunks of each device, the last one not full
    start = x[:7]
    centers, distance = lloyd(split_rows(x, mesh), start, mesh, iterations)
    theirs = KMeans(7, init=start, n_init=1, max_iter=iterations, tol=0).fit(x)
    np.testing.assert_allclose(centers, theirs.cluster_centers_, atol=1e-5)
    np.testing.assert_array_equal(assign(x, centers, mesh), theirs.predict(x))
    if iterations == 100:
        assert distance == pytest.approx(theirs.inertia_, rel=1e-5)


def test_the_best_of_several_starts(mesh, x):
    def distance(restarts):
        centers = k_means(x, 9, mesh, seed=1, restarts=restarts)
        return ((x - centers[assign(x, centers, mesh)]) ** 2).sum()

    assert distance(4) <= distance(1)
    np.testing.assert_array_equal(k_means(x, 4, mesh, seed=2), k_means(x, 4, mesh, seed=2))


def test_a_cluster_without_rows_keeps_its_center(mesh, x):
    start = np.concatenate([x[:2], np.full((1, 5), 1e3, np.float32)])
    centers, _ = lloyd(split_rows(x, mesh), start, mesh, 20)
    np.testing.assert_array_equal(centers[2], start[2])
    assert np.isfinite(centers).all()
