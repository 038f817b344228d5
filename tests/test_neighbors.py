"""The nearest of many features against numpy's order of all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import sharding
from jaxssl.evaluation import neighbors
from jaxssl.evaluation.neighbors import Neighbors, compile_search, nearest


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh()


def by_numpy(bank, queries, k):
    bank, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, queries))
    similarity = queries @ bank.T
    place = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarity, place, axis=1), place


def test_the_nearest_of_growing_parts_of_a_bank(mesh, monkeypatch):
    monkeypatch.setattr(neighbors, "BANK_CHUNK", 96)  # parts of the bank end within a chunk
    rng = np.random.default_rng(0)
    bank, queries = (rng.normal(size=(n, 6)).astype(np.float32) for n in (400, 21))
    rows = rng.permutation(400)[:330]
    stops = (50, 207, 330)
    found = nearest(bank, queries, 5, mesh, rows=rows, stops=stops)
    for stop, (similarity, place) in zip(stops, found, strict=True):
        theirs, places = by_numpy(bank[rows[:stop]], queries, 5)
        np.testing.assert_allclose(np.asarray(similarity)[:21], theirs, atol=1e-6)
        np.testing.assert_array_equal(np.asarray(place)[:21], places)


def test_the_largest_are_those_of_top_k_ties_included():
    values = jnp.asarray(np.random.default_rng(0).integers(0, 50, (7, 2048)), jnp.float32)
    for k in (1, 8):
        ours, theirs = neighbors._largest(values, k), jax.lax.top_k(values, k)
        for mine, its in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, its)


def test_memory_does_not_grow_with_the_queries_and_devices_share_nothing(mesh):
    def compiled(queries):
        rows = np.zeros((queries, 8), np.float32)
        found = Neighbors(np.zeros((queries, 3), np.float32), np.zeros((queries, 3), np.int32))
        bank = (np.zeros((500, 8), np.float32), np.int32(0), np.int32(500))
        return compile_search(mesh, 4).lower((rows, found), bank).compile()

    few, many = compiled(64), compiled(640)
    temporary = [c.memory_analysis().temp_size_in_bytes for c in (few, many)]
    similarities = (640 - 64) * 500 * 4  # bytes, had they all been there at once
    assert temporary[1] - temporary[0] < similarities / 20
    assert "all-" not in many.as_text()
