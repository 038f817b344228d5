"""The k nearest of many features to each of many queries, by cosine: exact, on all devices.

The bank stays on the host, where it may be a memory-mapped file; `BANK_CHUNK` rows of it are on
the devices at a time. Each device has its share of the queries and of their k nearest so far, and
compares `QUERY_CHUNK` of them with those rows at once. For a bank of 1.28 M x 2048 and 50,000
queries that is, on each of 8 devices: 0.5 GiB of bank and the same normalized, 128 MiB of
similarities, 49 MiB of queries and 10 MiB of neighbors (k = 200), 1.2 GiB in all; 10.5 GB of bank
on the host. It takes 33 TFLOP and 10.5 GB of copies a device.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from jaxssl import sharding
from jaxssl.data.canvas import filled_up
from jaxssl.losses import unit
from jaxssl.progress import Progress
from jaxssl.types import Leaf, Tree

BANK_CHUNK = 2**16  # rows of the bank on the devices at once
QUERY_CHUNK = 2**9  # queries compared with them at once
RUN = 64  # neighboring rows of which the best is looked at first


class Neighbors(NamedTuple):
    """The k nearest to each query, nearest first."""

    similarity: Leaf | np.ndarray  # f32[m, k]
    place: Leaf | np.ndarray  # i32[m, k], among the rows that were searched


def nearest(
    bank: np.ndarray,
    queries: np.ndarray,
    k: int,
    mesh: Mesh,
    *,
    rows: np.ndarray | None = None,
    stops: Sequence[int] = (),
    show: bool = False,
) -> Iterator[Neighbors]:
    """The k nearest to each query among the first rows of a bank.

    Args:
      bank: f32[n, d].
      queries: f32[m, d].
      k: how many; there are as many rows.
      mesh: of the devices, over which the queries are split.
      rows: i64[r] of the bank, in the order in which they are searched; None: all.
      stops: increasing numbers of rows; (): all of them.
      show: whether to show how far it is.

    Yields:
      For each of `stops` the neighbors among so many rows, split over the devices; behind those of
      the queries are some that fill up the last chunk.
    """
    rows = np.arange(len(bank)) if rows is None else rows
    chunk = min(QUERY_CHUNK, -(-len(queries) // mesh.size))
    asked = filled_up(queries, -(-len(queries) // (chunk * mesh.size)) * chunk * mesh.size)
    found = Neighbors(
        np.full((len(asked), k), -np.inf, np.float32), np.zeros((len(asked), k), np.int32)
    )
    asked, found = sharding.shard_rows((asked, found), mesh)
    ends = list(stops) or [len(rows)]
    size = min(BANK_CHUNK, ends[-1])
    with Progress(ends[-1], "neighbors", unit="features", show=show) as advance:
        for first, end in zip([0, *ends], ends, strict=False):
            for start in range(first, end, size):
                some = rows[start : min(start + size, end)]
                part = (filled_up(bank[some], size), np.int32(start), np.int32(len(some)))
                found = compile_search(mesh, chunk)((asked, found), part)
                advance(len(some))
            yield found


@functools.cache
def compile_search(mesh: Mesh, chunk: int) -> Callable[[Tree, Tree], Neighbors]:
    """`search((queries, found), part)`: the nearest of those found before and a part of the bank.

    Args:
      mesh: of the devices, over which queries and what was found are split.
      chunk: queries at once, a divisor of those that a device has.
    """

    def search(rows: Tree, part: Tree) -> Neighbors:
        features, first, count = part  # f32[n, d]; place of the first; how many are no filling
        features = unit(features)
        is_there, k = jnp.arange(len(features)) < count, rows[1].place.shape[1]

        def merge(rows: Tree) -> Neighbors:
            queries, known = rows
            product = jnp.matmul(unit(queries), features.T, precision=jax.lax.Precision.HIGHEST)
            product = jnp.where(is_there[None], product, -jnp.inf)
            similarity, index = _largest(product, min(k, len(features)))
            both = jnp.concatenate([known.similarity, similarity], axis=1)
            of_both = jnp.concatenate([known.place, first + index], axis=1)
            best, place = jax.lax.top_k(both, k)
            return Neighbors(best, jnp.take_along_axis(of_both, place, axis=1))

        chunks = jax.tree.map(lambda x: x.reshape(-1, chunk, x.shape[1]), rows)
        return jax.tree.map(lambda x: x.reshape(-1, x.shape[2]), jax.lax.map(merge, chunks))

    return sharding.shard_map_rows(search, mesh)


def _largest(values: Float[Array, "m n"], k: int) -> tuple[Float[Array, "m k"], Int[Array, "m k"]]:
    """`top_k`, to the digit and the index, in a third of the time for a long row.

    The k largest are in the k runs of `RUN` values whose largest is largest.
    """
    m, n = values.shape
    if n % RUN or n < 4 * k * RUN:
        best, place = jax.lax.top_k(values, k)
        return best, place
    runs = values.reshape(m, n // RUN, RUN)
    # In their order, so that of equal values the first wins, as in `top_k`.
    chosen = jnp.sort(jax.lax.top_k(runs.max(axis=2), k)[1], axis=1)
    few = jnp.take_along_axis(runs, chosen[..., None], axis=1).reshape(m, k * RUN)
    best, place = jax.lax.top_k(few, k)
    return best, jnp.take_along_axis(chosen, place // RUN, axis=1) * RUN + place % RUN
