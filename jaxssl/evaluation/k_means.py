"""k-means by Lloyd's algorithm: exact, on all devices.

Each device has its share of the rows and looks at `CHUNK` of them at once; it knows no others', so
that what devices exchange are the sums of the clusters. A cluster that loses all rows keeps its
center.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from jaxssl import sharding
from jaxssl.types import Tree

CHUNK = 2**12  # rows compared with all centers at once


def k_means(
    x: Float[np.ndarray, "n d"],
    k: int,
    mesh: Mesh,
    *,
    seed: int,
    iterations: int = 100,
    restarts: int = 5,
) -> Float[np.ndarray, "k d"]:
    """The centers of k clusters: the best of several starts from random rows.

    Args:
      x: to cluster, k rows at least.
      k: how many clusters.
      mesh: of the devices, over which the rows are split.
      seed: of the starts.
      iterations: at most, of each start; none follows one that changes nothing.
      restarts: how many starts; that with the least sum of squared distances is returned.
    """
    rng, rows = np.random.default_rng(seed), split_rows(x, mesh)
    found = []
    for _ in range(restarts):
        start = x[rng.choice(len(x), k, replace=False)]
        found.append(lloyd(rows, start, mesh, iterations))
    return min(found, key=lambda one: one[1])[0]


def split_rows(x: Float[np.ndarray, "n d"], mesh: Mesh) -> Tree:
    """The rows, and 1 for each of them, on the devices; rows of 0 fill up their last chunks."""
    chunk = min(CHUNK, -(-len(x) // mesh.size))
    missing = -len(x) % (chunk * mesh.size)
    filled = np.pad(x, ((0, missing), (0, 0)))
    weight = np.pad(np.ones(len(x), np.float32), (0, missing))
    return sharding.shard_rows(
        (filled.reshape(-1, chunk, x.shape[1]), weight.reshape(-1, chunk)), mesh
    )


def lloyd(
    rows: Tree, centers: Float[np.ndarray, "k d"], mesh: Mesh, iterations: int
) -> tuple[Float[np.ndarray, "k d"], float]:
    """Centers after some iterations, and the sum of squared distances to those before the last.

    Args:
      rows: of `split_rows`.
      centers: to start from.
      mesh: of the devices.
      iterations: at most.
    """
    for _ in range(iterations):
        each = compile_sums(mesh)(rows, centers)
        sums, counts, distance = (
            np.asarray(part).sum(0) for part in sharding.jit_gather(mesh)(each)
        )
        moved = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centers)
        done, centers = np.array_equal(moved, centers), moved.astype(np.float32)
        if done:
            break
    return centers, float(distance)


def assign(
    x: Float[np.ndarray, "n d"], centers: Float[np.ndarray, "k d"], mesh: Mesh
) -> Int[np.ndarray, " n"]:
    """The cluster of each row."""
    found = compile_assign(mesh)(split_rows(x, mesh), centers)
    return np.asarray(sharding.jit_gather(mesh)(found)).reshape(-1)[: len(x)]


def _nearest(x: Float[Array, "c d"], centers: Float[Array, "k d"]) -> tuple[Array, Array]:
    """The nearest center of each row, and the squared distance to it."""
    product = jnp.matmul(x, centers.T, precision=jax.lax.Precision.HIGHEST)
    distance = jnp.sum(centers**2, axis=1)[None] - 2 * product
    least = jnp.min(distance, axis=1) + jnp.sum(x**2, axis=1)
    return distance.argmin(axis=1), jnp.maximum(least, 0)


@functools.cache
def compile_assign(mesh: Mesh) -> Callable[[Tree, Tree], Int[Array, "b c"]]:
    """`assign(rows, centers)`, of chunks of rows."""

    def nearest(rows: Tree, centers: Array) -> Array:
        return jax.lax.map(lambda x: _nearest(x, centers)[0], rows[0])

    return sharding.shard_map_rows(nearest, mesh)


@functools.cache
def compile_sums(mesh: Mesh) -> Callable[[Tree, Tree], tuple[Array, Array, Array]]:
    """`sums(rows, centers)`: of each device the sums of its clusters, their sizes, the distance."""

    def sums(rows: Tree, centers: Array) -> tuple[Array, Array, Array]:
        def add(total: tuple[Array, ...], chunk: tuple[Array, Array]) -> tuple[Tree, None]:
            x, weight = chunk
            cluster, distance = _nearest(x, centers)
            member = jax.nn.one_hot(cluster, len(centers)) * weight[:, None]
            of_each = jnp.matmul(member.T, x, precision=jax.lax.Precision.HIGHEST)
            more = of_each, member.sum(axis=0), jnp.sum(distance * weight)
            return jax.tree.map(jnp.add, total, more), None

        zero = jnp.zeros_like(centers), jnp.zeros(len(centers)), jnp.zeros(())
        return jax.tree.map(lambda one: one[None], jax.lax.scan(add, zero, rows)[0])

    return sharding.shard_map_rows(sums, mesh)
