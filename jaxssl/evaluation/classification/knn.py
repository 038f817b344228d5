"""The task `knn`: weighted k-nearest-neighbor classification (arXiv 1805.01978, section 3.4).

Each of the k training features most similar to a query (cosine s_i) votes for its class with
weight exp(s_i / T).
"""

import dataclasses
import functools
import logging
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from jaxssl import sharding
from jaxssl.config import KNN_K, KNN_TEMPERATURE
from jaxssl.errors import UserError
from jaxssl.evaluation.classification.accuracy import score
from jaxssl.evaluation.datasets import DataSet, labeled_rows
from jaxssl.evaluation.features import labeled_features
from jaxssl.evaluation.neighbors import Neighbors, nearest
from jaxssl.evaluation.ranges import check_numbers
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.pretrained.encoder import Encoder
from jaxssl.types import Tree

log = logging.getLogger("jaxssl")


@dataclasses.dataclass(frozen=True)
class Knn:
    """The protocol: lightly's and SAMCLR's."""

    k: tuple[int, ...] = (KNN_K,)  # the first is the main one
    temperature: float = KNN_TEMPERATURE

    def __post_init__(self) -> None:
        check_numbers(self, {"1 or more": "k", "above 0": "temperature"})


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
    (found,) = nearest(train, test, k, mesh, rows=rows, show=show)
    labels = labels[rows].astype(np.int32)
    votes = compile_votes(mesh, protocol, num_classes)(found, labels)
    return np.asarray(sharding.jit_gather(mesh)(votes))[: len(test)].swapaxes(0, 1)


@functools.cache
def compile_votes(mesh: Mesh, protocol: Knn, num_classes: int) -> Callable[[Tree, Tree], Array]:
    """`votes(found, labels)`: f32[m, len(k), num_classes], by the labels i32[r] of the rows."""

    def votes(found: Neighbors, labels: Int[Array, " r"]) -> Float[Array, "m t k"]:
        # A factor common to a query changes no vote, and keeps the largest weight at 1.
        weight = jnp.exp((found.similarity - found.similarity[:, :1]) / protocol.temperature)
        row, label = jnp.arange(len(weight))[:, None], labels[found.place]
        blank = jnp.zeros((len(weight), num_classes))
        of_each_k = [blank.at[row, label[:, :k]].add(weight[:, :k]) for k in protocol.k]
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
        log.warning(
            "%s: kNN with k = %d, the number of its labeled training images", data.spec, count
        )
    elif protocol.k == (KNN_K,) and k * len(data.labeled.classes) > count:
        log.warning(
            "%s: kNN with k = %d, more than the %d images that a class has on average; set knn.k "
            "(in training eval.knn_k) to 20, say",
            *(data.spec, k, count // len(data.labeled.classes)),
        )
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
