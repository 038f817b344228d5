"""kNN against lightly's numbers and a plain loop."""

import numpy as np
import pytest

from jaxssl import sharding
from jaxssl.evaluation import neighbors
from jaxssl.evaluation.classification.knn import Knn, knn


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh()


def test_equals_lightly(golden, mesh):
    g = golden("lightly_1_4_14")
    protocol = Knn((int(g["knn_k"]),), float(g["knn_t"]))
    arrays = g["knn_bank"], g["knn_labels"], g["knn_query"]
    (votes,) = knn(*arrays, protocol, num_classes=10, mesh=mesh)
    # All ten classes in order of their votes, not the first alone.
    np.testing.assert_array_equal(np.argsort(-votes, axis=1), g["knn_pred"])


def plain_loop(train, labels, test, k, temperature, num_classes):
    train = train / np.linalg.norm(train, axis=1, keepdims=True)
    votes = np.zeros((len(test), num_classes))
    for i, query in enumerate(test):
        similarity = train @ (query / np.linalg.norm(query))
        for j in np.argsort(-similarity)[:k]:
            votes[i, labels[j]] += np.exp((similarity[j] - similarity.max()) / temperature)
    return votes


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    train = rng.normal(size=(60, 8)).astype(np.float32)
    return train, rng.integers(0, 4, 60), rng.normal(size=(23, 8)).astype(np.float32)


@pytest.mark.parametrize(("bank", "queries"), [(2**16, 2**9), (25, 2)])
def test_plain_loop_with_several_k(data, mesh, monkeypatch, bank, queries):
    # The second: three chunks of the bank, two of each device's queries; the last ones not full.
    monkeypatch.setattr(neighbors, "BANK_CHUNK", bank)
    monkeypatch.setattr(neighbors, "QUERY_CHUNK", queries)
    votes = knn(*data, Knn((7, 1, 30), 0.07), num_classes=4, mesh=mesh)
    for k, of_k in zip((7, 1, 30), votes, strict=True):
        np.testing.assert_allclose(of_k, plain_loop(*data, k, 0.07, 4), rtol=1e-4)


def test_unlabeled_images_change_nothing(data, mesh):
    train, labels, test = data
    more = np.concatenate([train, test])
    more_labels = np.concatenate([labels, np.full(len(test), -1)])
    np.testing.assert_array_equal(
        knn(more, more_labels, test, Knn((5,)), num_classes=4, mesh=mesh),
        knn(train, labels, test, Knn((5,)), num_classes=4, mesh=mesh),
    )


def test_mistakes(data, mesh):
    with pytest.raises(ValueError, match=r"needs k <= 60, .*; k is 200"):
        knn(*data, Knn((20, 200)), num_classes=4, mesh=mesh)
    with pytest.raises(ValueError, match=r"k is \(20, 0\); it must be 1 or more"):
        Knn((20, 0))
