"""The task `knn`: weighted k-nearest-neighbor classification (arXiv 1805.01978, section 3.4).

Each of the k training features most similar to a query (cosine s_i) votes for its class with
weight exp(s_i / T).

The bank stays on the host, where it may be a memory-mapped file; `BANK_CHUNK` rows of it are on
the devices at a time. Each device has its share of the queries and of their k nearest so far, and
compares `QUERY_CHUNK` of them with those rows at once. For a bank of 1.28 M x 2048 and 50,000
queries that is, on each of 8 devices: 0.5 GiB of bank and the same normalized, 128 MiB of
similarities, 49 MiB of queries and 10 MiB of neighbors (k = 200), 1.2 GiB in all; 10.5 GB of bank
on the host. It takes 33 TFLOP and 10.5 GB of copies a device.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jaxssl import sharding
from jaxssl.config import KNN_K, KNN_TEMPERATURE
from jaxssl.errors import UserError
from jaxssl.evaluation.classification.accuracy import score
from jaxssl.evaluation.datasets import DataSet, labeled_rows
from jaxssl.evaluation.features import labeled_features
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.losses import unit
from jaxssl.pretrained.encoder import Encoder
from jaxssl.progress import progress
from jaxssl.types import Leaf, Tree

BANK_CHUNK = 2**16  # training features on the devices at once
QUERY_CHUNK = 2**9  # queries compared with them at once

log = logging.getLogger("jaxssl")


@dataclasses.dataclass(frozen=True)
class Knn:
    """The protocol: lightly's and SAMCLR's."""

    k: tuple[int, ...] = (KNN_K,)  # the first is the main one
    temperature: float = KNN_TEMPERATURE

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 1 or not self.temperature > 0:
            raise UserError(f"knn.k {self.k} and knn.temperature {self.temperature} must be > 0")


class Neighbors(NamedTuple):
    """The k nearest to each query, nearest first."""

    similarity: Leaf | np.ndarray  # f32[m, k]
    label: Leaf | np.ndarray  # i32[m, k]


def knn(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    protocol: Knn,
    *,
    num_classes: int,
    mesh: Mesh,
    show: bool = False,
) -> np.ndarray:
    """Votes f32[len(k), m, num_classes] for test features f32[m, d]; the largest predicts.

    Args:
      train: f32[n, d].
      labels: i32[n]; rows with a label below zero are left out.
      test: f32[m, d].
      protocol: the values of k, and the temperature.
      num_classes: how many classes there are to vote for.
      mesh: of the devices, over which the queries are split.
      show: whether to show how far it is.

    Raises:
      UserError: fewer than k labeled training features.
    """
    rows, k = np.flatnonzero(labels >= 0), max(protocol.k)
    if k > len(rows):
        raise UserError(f"kNN needs k <= {len(rows)}, the labeled training images; k is {k}")
    chunk = min(QUERY_CHUNK, -(-len(test) // mesh.size))
    queries = _filled(test, -(-len(test) // (chunk * mesh.size)) * chunk * mesh.size)
    found = Neighbors(
        np.full((len(queries), k), -np.inf, np.float32), np.zeros((len(queries), k), np.int32)
    )
    queries, found = sharding.shard_rows((queries, found), mesh)
    size = min(BANK_CHUNK, len(rows))
    with progress(len(rows), "kNN", unit="neighbors", show=show) as advance:
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            of = _filled(labels[some].astype(np.int32), size)
            bank = (_filled(train[some], size), of, np.int32(len(some)))
            found = compile_search(mesh, chunk)((queries, found), bank)
            advance(len(some))
    votes = compile_votes(mesh, protocol, num_classes)(found, ())
    return np.asarray(sharding.jit_gather(mesh)(votes))[: len(test)].swapaxes(0, 1)


def _filled(array: np.ndarray, size: int) -> np.ndarray:
    """The array with zeros after it, `size` rows in all."""
    if len(array) == size:
        return array
    filled = np.zeros((size, *array.shape[1:]), array.dtype)
    filled[: len(array)] = array
    return filled


@functools.cache
def compile_search(mesh: Mesh, chunk: int) -> Callable[[Tree, Tree], Neighbors]:
    """`search((queries, found), bank)`: the nearest of those found before and those in the bank.

    Args:
      chunk: queries at once, a divisor of those that a device has.
    """

    def search(rows: Tree, bank: Tree) -> Neighbors:
        features, labels, count = bank  # f32[n, d], i32[n], i32[]: rows that are no filling
        features = unit(features)
        is_there, k = jnp.arange(len(labels)) < count, rows[1].label.shape[1]

        def merge(rows: Tree) -> Neighbors:
            queries, known = rows
            product = jnp.matmul(unit(queries), features.T, precision=jax.lax.Precision.HIGHEST)
            product = jnp.where(is_there[None], product, -jnp.inf)
            similarity, index = jax.lax.top_k(product, min(k, len(labels)))
            both = jnp.concatenate([known.similarity, similarity], axis=1)
            of_both = jnp.concatenate([known.label, labels[index]], axis=1)
            best, place = jax.lax.top_k(both, k)
            return Neighbors(best, jnp.take_along_axis(of_both, place, axis=1))

        chunks = jax.tree.map(lambda x: x.reshape(-1, chunk, x.shape[1]), rows)
        return jax.tree.map(lambda x: x.reshape(-1, x.shape[2]), jax.lax.map(merge, chunks))

    return sharding.shard_map_rows(search, mesh)


@functools.cache
def compile_votes(mesh: Mesh, protocol: Knn, num_classes: int) -> Callable[[Tree, Tree], Array]:
    """`votes(found, ())`: f32[m, len(k), num_classes]."""

    def votes(found: Neighbors, _: Tree) -> Float[Array, "m t k"]:
        # A factor common to a query changes no vote, and keeps the largest weight at 1.
        weight = jnp.exp((found.similarity - found.similarity[:, :1]) / protocol.temperature)
        row = jnp.arange(len(weight))[:, None]
        blank = jnp.zeros((len(weight), num_classes))
        of_each_k = [blank.at[row, found.label[:, :k]].add(weight[:, :k]) for k in protocol.k]
        return jnp.stack(of_each_k, axis=1)

    return sharding.shard_map_rows(votes, mesh)


def _run(encoder: Encoder, data: DataSet, protocol: Knn, seed: int) -> TaskResult:
    """Accuracy of weighted k-nearest-neighbor classification; top1_k20 is that of k = 20."""
    train, test = labeled_features(encoder, data)
    classes = data.labeled.classes
    protocol = _lower_default(protocol, int((train.labels >= 0).sum()))
    votes = knn(
        train.features,
        train.labels,
        test.features,
        protocol,
        num_classes=len(classes),
        mesh=encoder.mesh,
        show=encoder.show,
    )
    results, details = score(votes[0], test.labels, classes)
    for k, of_k in zip(protocol.k[1:], votes[1:], strict=True):
        results[f"top1_k{k}"] = score(of_k, test.labels, classes)[0]["top1"]
    return TaskResult(results, {"k": protocol.k}, details)


def _lower_default(protocol: Knn, count: int) -> Knn:
    """The protocol, with the k that nobody chose lowered to the number of labeled images."""
    if protocol.k == (KNN_K,) and 0 < count < KNN_K:
        return dataclasses.replace(protocol, k=(count,))
    return protocol


def check_knn(data: DataSet, protocol: Knn) -> None:
    """Raises UserError if there are fewer than k labeled images to learn from."""
    count, k = len(labeled_rows(data.labeled.train)[0]), max(protocol.k)
    if count < k and _lower_default(protocol, count) != protocol:
        log.warning("%s: kNN with k = %d, as many as it has labeled images", data.spec, count)
    elif count < k:
        raise UserError(
            f"{data.spec} has {count} labeled images in its training part and kNN has "
            f"k = {k}; set knn.k (in training eval.knn_k) to {count} or less"
        )


KNN = Task(
    _run,
    Knn(),
    "labels",
    seeded=False,
    check=check_knn,
    presets={"dino": Knn(k=(20,), temperature=0.07)},
)
