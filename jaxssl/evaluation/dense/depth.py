"""The task `depth`: NYU v2 by fine-tuning.

As DetCon (arXiv 2103.10957, table 1) and BYOL (arXiv 2006.07733, appendix) do, who follow Laina et
al. (arXiv 1606.00373): up-projections and the reverse Huber loss

    B(x) = |x| where |x| <= c, else (x^2 + c^2) / 2c,    c = max |x| / 5 over the batch

    python -m jaxssl.evaluate --workdir RUN --tasks depth --datasets tfds:nyu_depth_v2 --size 256

The number in the paper is the share of pixels whose depth is off by a factor below 1.25, `delta1`.
BYOL takes 7,500 steps in batches of 256 with a learning rate of 0.16, which is 40 epochs of the
47,584 images; here batches of 16 and the rate in proportion. Its crops of 304 x 228 pixels and its
changes of colour are left out: images are squashed to squares of one size.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxssl.errors import UserError
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.dense.pixel_recipe import Recipe, predict_pixels
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.models.dense import Dense, DepthHead
from jaxssl.pretrained.encoder import Encoder

MIN_DEPTH = 0.01  # metres; a prediction below is taken for this


@dataclasses.dataclass(frozen=True, kw_only=True)
class Depth(Recipe):
    """The protocol."""

    epochs: int = 40
    lr: float = 0.01
    weight_decay: float = 5e-4
    flip: float = 0.5


def reverse_huber(
    predicted: Float[Array, "b s s 1"], truth: Float[Array, "b s s"]
) -> Float[Array, ""]:
    """Mean of B over the pixels whose depth is known, that is, above 0."""
    there = truth > 0
    error = jnp.where(there, jnp.abs(predicted[..., 0] - truth), 0)
    c = jax.lax.stop_gradient(jnp.maximum(error.max() / 5, 1e-6))
    losses = jnp.where(error <= c, error, (error**2 + c**2) / (2 * c))
    return jnp.sum(losses) / jnp.maximum(there.sum(), 1)


def depth_metrics(
    truth: Float[np.ndarray, "n s s"], predicted: Float[np.ndarray, "n s s"]
) -> dict[str, float]:
    """Over all pixels whose depth is known.

    Returns:
      delta1, delta2, delta3: the share that is off by a factor below 1.25, 1.25^2 and 1.25^3;
      rmse: root of the mean squared error, metres; abs_rel: mean of |error| / depth.

    Raises:
      UserError: no depth is known.
    """
    known = truth > 0
    if not known.any():
        raise UserError("no pixel of the test images has a depth above 0")
    true, said = truth[known].astype(np.float64), np.maximum(predicted[known], MIN_DEPTH)
    ratio = np.maximum(true / said, said / true)
    return {
        **{f"delta{i}": float(np.mean(ratio < 1.25**i)) for i in (1, 2, 3)},
        "rmse": float(np.sqrt(np.mean((true - said) ** 2))),
        "abs_rel": float(np.mean(np.abs(true - said) / true)),
    }


def run_depth(encoder: Encoder, data: DataSet, protocol: Depth, seed: int) -> TaskResult:
    """How many depths are about right; `baseline_`: with the training images' median depth."""
    pixels = data.depths
    network = Dense(encoder.network, DepthHead())
    predicted = predict_pixels(network, encoder, pixels, protocol, reverse_huber, seed=seed)
    truth, some = pixels.truth("test", slice(None)), pixels.truth("train", slice(0, 1000))
    predicted["baseline_"] = np.full_like(truth, np.median(some[some > 0]))
    results = {
        prefix + name: value
        for prefix, depths in predicted.items()
        for name, value in depth_metrics(truth, depths).items()
    }
    return TaskResult(results, pixels.protocol)


DEPTH = Task(run_depth, Depth(), "depth")
