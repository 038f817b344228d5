"""The task `overclustering`: are there classes in the features, if nobody names them?

The cells of the grids of all test images are clustered by k-means. Each cluster is then given a
class by the true label maps, and the mean IoU is that of the map with these classes: with as many
clusters as the test maps have classes, one to each, so that the sum of their IoU is largest
(Hungarian match); with more, that class to each of which most of its pixels are.

So do Leopart (arXiv 2204.13101, github.com/MkuuWaUjinga/leopart at 7835701) and NeCo (arXiv
2408.11054, github.com/vpariza/NeCo at 3932160): K = 500 and K = 21 on PASCAL VOC, features
standardized and reduced to 50 dimensions by PCA, k-means of faiss with 100 iterations and the best
of 5 starts, the mean of 5 seeds. There, images are squashed to squares of 448 pixels and maps to
100, and a class that is nowhere has an IoU of 0; here images keep their shape (`--size 448` resizes
their shorter side), every original pixel counts, for the cell in which its center lies, and such a
class is left out and gets no cluster. faiss learns from at most 256 random cells a cluster, if not
told otherwise; so does this.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy  # whose parts are loaded when they are used: optimize takes half a second
from jaxtyping import Float, Int

from jaxssl.errors import UserError
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.dense.confusion import summarize
from jaxssl.evaluation.dense.grid_cells import class_counts, labeled_grids
from jaxssl.evaluation.features import standardizer
from jaxssl.evaluation.k_means import assign, k_means
from jaxssl.evaluation.pixels import Pixels
from jaxssl.evaluation.ranges import check_numbers
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.pretrained.encoder import Encoder
from jaxssl.progress import Progress


@dataclasses.dataclass(frozen=True)
class Overclustering:
    """The protocol."""

    clusters: tuple[int, ...] = (500, 0)  # 0: one for each class; the first is the main one
    components: int = 50  # of a PCA of standardized features; 0: they stay as they are
    cells: int = 256  # to learn from, for each cluster; 0: all
    iterations: int = 100
    restarts: int = 5

    def __post_init__(self) -> None:
        ranges = {"0 or more": "clusters components cells", "1 or more": "iterations restarts"}
        check_numbers(self, ranges)


def standardized(
    parts: Sequence[Float[np.ndarray, "_ d"]], components: int
) -> Float[np.ndarray, "n c"]:
    """Features of mean 0 and deviation 1, on their first principal axes; with 0 as they are.

    Part after part: the features of many images take gigabytes, and are held once.
    """
    if not components:
        return np.concatenate(parts)
    mean, std = standardizer(parts)
    covariance = sum(x.T @ x for x in ((part - mean) / std for part in parts))
    _, axes = np.linalg.eigh(covariance)  # the largest last
    axes = axes[:, ::-1][:, :components] / std[:, None]
    return np.concatenate([(part - mean) @ axes for part in parts])


def cells_of_test_images(
    encoder: Encoder, pixels: Pixels
) -> tuple[list[Float[np.ndarray, "_ d"]], Int[np.ndarray, "n k"]]:
    """Features of all cells of each image, and how many pixels of each class each cell has."""
    features, counts, number = [], [], len(pixels.test["hw"])
    with Progress(number, "features", show=encoder.show) as advance:
        for _, grid, truth in labeled_grids(encoder, pixels, "test", np.arange(number)):
            of_each, _ = class_counts(truth, grid.shape[:2], len(pixels.classes))
            features.append(grid.reshape(-1, grid.shape[2]).astype(np.float32))
            counts.append(of_each.reshape(-1, of_each.shape[2]).astype(np.int32))
            advance(1)
    return features, np.concatenate(counts)


def match_clusters(table: Int[np.ndarray, "k c"]) -> Int[np.ndarray, " c"]:
    """The class of each cluster, by the pixels of each class (row) in each cluster (column).

    As many clusters as classes that have pixels are matched to these; of others each is alone.
    """
    there = np.flatnonzero(table.any(axis=1))
    if table.shape[1] != len(there):
        return table.argmax(axis=0)
    table = table[there]
    union = table.sum(axis=1)[:, None] + table.sum(axis=0)[None] - table
    row, column = scipy.optimize.linear_sum_assignment(-table / union)
    return there[row[np.argsort(column)]]


def _run(encoder: Encoder, data: DataSet, protocol: Overclustering, seed: int) -> TaskResult:
    """Mean IoU of matched clusters: miou_k500 of 500, miou_classes of one for each class."""
    pixels = data.label_maps
    parts, counts = cells_of_test_images(encoder, pixels)
    features = standardized(parts, protocol.components)
    seen = {"cells_seen": len(features), "classes_seen": int(counts.any(axis=0).sum())}
    results: dict[str, float] = {}
    details: dict[str, object] = {}
    for clusters in protocol.clusters:
        number = clusters or max(1, seen["classes_seen"])  # that there is none `summarize` says
        if number > len(features):
            raise UserError(
                f"overclustering makes {number} clusters and the test images of {data.name} have "
                f"{len(features)} cells; set overclustering.clusters"
            )
        rng = np.random.default_rng(seed)
        limit = protocol.cells * number or len(features)
        some = features[rng.permutation(len(features))[:limit]]
        options = {"iterations": protocol.iterations, "restarts": protocol.restarts}
        centers = k_means(some, number, encoder.mesh, seed=seed, **options)
        cluster = assign(features, centers, encoder.mesh)
        table = np.zeros((number, counts.shape[1]), np.int64)
        np.add.at(table, cluster, counts)
        class_of = match_clusters(table.T)
        confusion = np.zeros((counts.shape[1],) * 2, np.int64)
        np.add.at(confusion.T, class_of, table)
        found, more = summarize(confusion, pixels.classes)
        results[f"miou_k{clusters}" if clusters else "miou_classes"] = found["miou"]
        details = details or more
    return TaskResult(results, pixels.protocol | seen, details)


OVERCLUSTERING = Task(_run, Overclustering(), "label maps")
