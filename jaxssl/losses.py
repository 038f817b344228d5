"""Losses as functions of arrays. Computed in float32, whatever the network computes in."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxssl.errors import UserError
from jaxssl.types import Tree

MAX_ENTRIES = 2**26  # of a matrix of similarities that a device has in memory at once


def unit(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """The rows of x, scaled to length one. A zero row stays zero."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-12))


def contrastive(
    p: Float[Array, "n d"],
    z: Float[Array, "n d"],
    group: Int[Array, " n"],
    view: Int[Array, " n"],
    temperature: float,
    *,
    positives_in_denominator: bool = True,
    local_negatives: bool = True,
    image: Int[Array, " n"] | None = None,
    max_entries: int = MAX_ENTRIES,
) -> Float[Array, ""]:
    """Each row of `p` must pick, among the rows of `z`, its own group seen in another view.

    With two views and `group` the image this is NT-Xent (SimCLR, eq. 1), the mean over all rows;
    with `group` the region of an image, half of DetCon's loss (eq. 3), which sums two means.
    A row and those of its own group and view are left out of the softmax. A row whose group is in
    no other view counts as zero; k rows of one group in one view weigh 1 / k each, so that every
    distinct region has the same weight.

    Args:
      p: predictions. The gradient flows into both `p` and `z`: stop it in the caller if need be.
      z: what is to be picked; row i of `z` has the group and view of row i of `p`.
      group: id of what the row shows, unique over the whole batch.
      view: id of the view the row comes from.
      temperature: divides the cosine similarities.
      positives_in_denominator: whether the softmax of one positive also holds the others of its
        row. They do in DetCon; in the multi-view loss of SAMCLR's released code they do not. All
        the same when each row has one positive.
      local_negatives: whether rows of the same image and another group are negatives. Needs
        `image` when false.
      image: id of the image each row comes from.
      max_entries: of the matrix of similarities that a device has in memory at once. A larger one
        is made in blocks of rows, and again in the backward pass: the same loss and gradient.

    Raises:
      UserError: `local_negatives` is false and `image` is not given.
    """
    if image is None:
        if not local_negatives:
            raise UserError("contrastive: local_negatives=False needs the image of each row")
        image = group
    ids = (group, view, image)
    losses = functools.partial(
        _row_losses,
        temperature=temperature,
        positives_in_denominator=positives_in_denominator,
        local_negatives=local_negatives,
    )
    return jnp.mean(_in_blocks(losses, (unit(p), *ids), (unit(z), *ids), max_entries // len(z)))


def _row_losses(
    rows: tuple[Array, ...],
    others: tuple[Array, ...],
    *,
    temperature: float,
    positives_in_denominator: bool,
    local_negatives: bool,
) -> Float[Array, " k"]:
    """The losses of `rows`, weighted, among `others`: unit vectors, group, view and image each."""
    (p, *own), (z, *other) = rows, others
    same, own_view, own_image = (a[:, None] == b[None, :] for a, b in zip(own, other, strict=True))
    positive, excluded = same & ~own_view, same & own_view
    left_out = excluded if local_negatives else excluded | (own_image & ~same)
    similarity = jnp.matmul(p, z.T, precision=jax.lax.Precision.HIGHEST) / temperature
    logits = jnp.where(left_out, -jnp.inf, similarity)
    if positives_in_denominator:
        log_q = jax.nn.log_softmax(logits)
    else:
        rest = jax.nn.logsumexp(jnp.where(positive, -jnp.inf, logits), axis=1, keepdims=True)
        log_q = similarity - jnp.logaddexp(similarity, rest)
    n_positive = positive.sum(axis=1)
    loss = -jnp.where(positive, log_q, 0.0).sum(axis=1) / jnp.maximum(n_positive, 1)
    weight = (n_positive > 0) / excluded.sum(axis=1)
    return weight * loss


def _in_blocks(
    function: Callable[[Tree, Tree], Array], rows: Tree, others: Tree, most: int
) -> Float[Array, " n"]:
    """`function(rows, others)`, in equal blocks of at most `most` rows, one after another.

    Over several devices, each gets all of the others once and goes through its own rows: were the
    loop that of all devices together, they would send each other the others for every block.
    """
    n = len(jax.tree.leaves(rows)[0])
    mesh = jax.sharding.get_abstract_mesh()
    number = 1 if mesh.empty else mesh.size
    if number == 1 or n <= most or n % number:
        return _one_by_one(function, rows, others, most)

    def on_each(rows: Tree, others: Tree) -> Array:
        everything = jax.tree.map(
            lambda x: jax.lax.all_gather(x, mesh.axis_names, tiled=True), others
        )
        return _one_by_one(function, rows, everything, most)

    split = jax.sharding.PartitionSpec(mesh.axis_names)
    return jax.shard_map(on_each, in_specs=split, out_specs=split, check_vma=False)(rows, others)


def _one_by_one(
    function: Callable[[Tree, Tree], Array], rows: Tree, others: Tree, most: int
) -> Float[Array, " n"]:
    """`_in_blocks` on one device."""
    n = len(jax.tree.leaves(rows)[0])
    k = next(k for k in range(-(-n // max(most, 1)), n + 1) if n % k == 0)
    if k == 1:
        return function(rows, others)
    blocks = jax.tree.map(lambda x: x.reshape(k, n // k, *x.shape[1:]), rows)
    one = jax.checkpoint(function)
    return jax.lax.map(lambda block: one(block, others), blocks).reshape(n)


def info_nce(
    q: Float[Array, "n d"], k: Float[Array, "n d"], queue: Float[Array, "m d"], temperature: float
) -> Float[Array, ""]:
    """Each row of `q` must pick the same row of `k` among that and the queue (MoCo, eq. 1).

    The gradient flows into all three arrays: stop it in the caller if need be.

    Args:
      q: queries; scaled to length one here.
      k: keys, row i that of query i; scaled to length one here.
      queue: keys of other images, of length one already.
      temperature: divides the cosine similarities.

    Returns:
      The mean over rows.
    """
    q, k = unit(q), unit(k)
    positive = jnp.sum(q * k, axis=-1, keepdims=True)
    negative = jnp.matmul(q, queue.T, precision=jax.lax.Precision.HIGHEST)
    logits = jnp.concatenate([positive, negative], axis=1) / temperature
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - logits[:, 0])


def cosine_similarity(p: Float[Array, "n d"], z: Float[Array, "n d"]) -> Float[Array, ""]:
    """The cosine between each row of `p` and the same row of `z`, the mean over rows."""
    return jnp.mean(jnp.sum(unit(p) * unit(z), axis=-1))


def cross_entropy(
    targets: Float[Array, "g b k"], logits: Float[Array, "v b k"]
) -> Float[Array, ""]:
    """Mean cross entropy of the distributions predicted in each view with those of other views.

    -sum_k targets[i] log softmax(logits[j]), the mean over images and over pairs of views i != j:
    eq. (3) of DINO and eq. (6) of SwAV, there sums over pairs. The gradient flows into both: stop
    that into `targets` in the caller. `targets[i]`, distributions, is of the same view as
    `logits[i]`; logits are already divided by their temperature.
    """
    g, v, b = len(targets), *logits.shape[:2]
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    pairs = -jnp.einsum("gbk,vbk->gv", targets, log_p, precision=jax.lax.Precision.HIGHEST)
    return jnp.where(jnp.eye(g, v, dtype=bool), 0.0, pairs).sum() / (b * g * (v - 1))


def sinkhorn(scores: Float[Array, "n k"], epsilon: float, iterations: int) -> Float[Array, "n k"]:
    """Soft assignments of n samples to k prototypes that use all prototypes alike: SwAV, eq. (5).

    Diag(u) exp(scores / epsilon) Diag(v), with u and v by Sinkhorn and Knopp's iteration: each
    prototype in turn gets n / k, then each sample gives 1. Logarithms throughout, so that no
    exponential overflows and no sum vanishes, however large the scores.
    """
    log_q = scores.astype(jnp.float32) / epsilon
    for _ in range(iterations):  # n / k is left out: the next line divides any constant away
        log_q = log_q - jax.nn.logsumexp(log_q, axis=0, keepdims=True)
        log_q = log_q - jax.nn.logsumexp(log_q, axis=1, keepdims=True)
    return jnp.exp(log_q)


def embedding_std(z: Float[Array, "*n d"]) -> Float[Array, ""]:
    """Standard deviation of the unit rows of z, the mean over dimensions, times sqrt(d).

    1 for directions spread evenly over the sphere, 0 when all collapsed into one (SimSiam,
    section 4.1, there without the factor).
    """
    return jnp.mean(jnp.std(unit(z), axis=tuple(range(z.ndim - 1)))) * z.shape[-1] ** 0.5
