"""Weighted k-nearest-neighbour classification (Wu et al., arXiv 1805.01978, section 3.4).

Each of the k training features most similar to a query (cosine s_i) votes for its class with
weight exp(s_i / T).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxssl.losses import unit

CHUNK_ENTRIES = 2**25  # similarities held at once: 128 MiB


@dataclasses.dataclass(frozen=True)
class Knn:
    """The protocol. DINO's: k = 20, temperature 0.07."""

    k: int = 200
    temperature: float = 0.1


@functools.partial(jax.jit, static_argnames=("k", "temperature", "num_classes", "chunk"))
def _votes(
    bank: Float[Array, "n d"],
    labels: Int[Array, " n"],
    queries: Float[Array, "c q d"],
    *,
    k: int,
    temperature: float,
    num_classes: int,
    chunk: int,
) -> Float[Array, "c q k"]:
    bank = unit(bank)

    def votes(query: Float[Array, "q d"]) -> Float[Array, "q k"]:
        similarity = jnp.matmul(unit(query), bank.T, precision=jax.lax.Precision.HIGHEST)
        nearest, index = jax.lax.top_k(similarity, k)
        # A factor common to a query changes no vote, and keeps the largest weight at 1.
        weight = jnp.exp((nearest - nearest[:, :1]) / temperature)
        rows = jnp.arange(chunk)[:, None]
        return jnp.zeros((chunk, num_classes)).at[rows, labels[index]].add(weight)

    return jax.lax.map(votes, queries)


def knn(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    *,
    k: int = 200,
    temperature: float = 0.1,
    num_classes: int,
) -> np.ndarray:
    """Votes f32[m, num_classes] for test features f32[m, d]; the largest is the prediction.

    Memory grows with the bank, not with the bank times the queries.

    Args:
      train: f32[n, d].
      labels: i32[n]; rows with a label below zero are left out.

    Raises:
      ValueError: fewer than k labelled training features.
    """
    labelled = labels >= 0
    train, labels = train[labelled], labels[labelled]
    if not 1 <= k <= len(train):
        raise ValueError(f"kNN needs 1 <= k <= {len(train)} training images; k is {k}")
    chunk = max(1, min(len(test), CHUNK_ENTRIES // len(train)))
    num_chunks = -(-len(test) // chunk)
    queries = np.zeros((num_chunks * chunk, test.shape[1]), np.float32)
    queries[: len(test)] = test
    votes = _votes(
        jnp.asarray(train),
        jnp.asarray(labels, jnp.int32),
        jnp.asarray(queries.reshape(num_chunks, chunk, -1)),
        k=k,
        temperature=temperature,
        num_classes=num_classes,
        chunk=chunk,
    )
    return np.asarray(votes).reshape(-1, num_classes)[: len(test)]
