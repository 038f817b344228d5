"""kNN against lightly's numbers and a plain loop."""

import numpy as np
import pytest

from jaxssl.evaluation import knn as module
from jaxssl.evaluation.knn import knn


def test_equals_lightly(golden):
    g = golden("lightly_1_4_14")
    votes = knn(
        g["knn_bank"],
        g["knn_labels"],
        g["knn_query"],
        k=int(g["knn_k"]),
        temperature=float(g["knn_t"]),
        num_classes=10,
    )
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


def test_plain_loop_in_chunks(data, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ENTRIES", 60 * 5)  # 5 chunks, the last one not full
    votes = knn(*data, k=7, temperature=0.07, num_classes=4)
    np.testing.assert_allclose(votes, plain_loop(*data, 7, 0.07, 4), rtol=1e-4)


def test_unlabelled_images_change_nothing(data):
    train, labels, test = data
    more = np.concatenate([train, test])
    more_labels = np.concatenate([labels, np.full(len(test), -1)])
    np.testing.assert_allclose(
        knn(more, more_labels, test, k=5, num_classes=4),
        knn(train, labels, test, k=5, num_classes=4),
        rtol=1e-5,
    )


def test_k_larger_than_the_bank(data):
    with pytest.raises(ValueError, match=r"1 <= k <= 60 .* k is 200"):
        knn(*data, k=200, num_classes=4)
