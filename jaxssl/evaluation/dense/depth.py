"""The task `depth`: NYU v2 by fine-tuning.

As DetCon (arXiv 2103.10957, table 1) and BYOL (arXiv 2006.07733, appendix) do, who follow Laina et
al. (arXiv 1606.00373): up-projections and the reverse Huber loss

    B(x) = |x| where |x| <= c, else (x^2 + c^2) / 2c,    c = max |x| / 5 over the batch

    python -m jaxssl.evaluate --workdir RUN --tasks depth --datasets tfds:nyu_depth_v2 --size 240

The number in the paper is the share of pixels whose depth is off by a factor below 1.25, `delta1`.
BYOL takes 7,500 steps in batches of 256 with a learning rate of 0.16, which is 40 epochs of the
47,584 images; here batches of 16 and the rate in proportion. Images keep their shape; crops are
squares as high as they are, where BYOL has 304 x 228 pixels of images resized to 320 x 240 (so:
`--size 240 --set depth.crop=228`), and its changes of color are left out.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxssl.errors import UserError
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.dense.pixel_recipe import CropRecipe, train_on_crops
from jaxssl.evaluation.dense.whole_images import predict_whole
from jaxssl.evaluation.task import Task, TaskResult
from jaxssl.models.dense import Dense, DepthHead
from jaxssl.pretrained.encoder import Encoder

MIN_DEPTH = 0.01  # meters; a prediction below is taken for this


@dataclasses.dataclass(frozen=True, kw_only=True)
class Depth(CropRecipe):
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


def depth_sums(
    truth: Float[np.ndarray, "*n h w"], predicted: Float[np.ndarray, "*n h w"]
) -> Float[np.ndarray, "6"]:
    """The number of pixels of a known depth, and sums over them, for `depth_metrics`."""
    known = truth > 0
    true, said = truth[known].astype(np.float64), np.maximum(predicted[known], MIN_DEPTH)
    ratio = np.maximum(true / said, said / true)
    right = [float(np.sum(ratio < 1.25**i)) for i in (1, 2, 3)]
    squares, relative = np.sum((true - said) ** 2), np.sum(np.abs(true - said) / true)
    return np.array([len(true), *right, squares, relative])


def depth_metrics(sums: Float[np.ndarray, "6"]) -> dict[str, float]:
    """Metrics over all pixels whose depth is known.

    Returns:
      delta1, delta2, delta3: the share that is off by a factor below 1.25, 1.25^2 and 1.25^3;
      rmse: root of the mean squared error, meters; abs_rel: mean of |error| / depth.

    Raises:
      UserError: no depth is known.
    """
    if not sums[0]:
        raise UserError("no pixel of the test images has a depth above 0")
    *right, square, relative = (sums[1:] / sums[0]).tolist()
    return {
        **{f"delta{i}": share for i, share in enumerate(right, start=1)},
        "rmse": float(np.sqrt(square)),
        "abs_rel": relative,
    }


def _run(encoder: Encoder, data: DataSet, protocol: Depth, seed: int) -> TaskResult:
    """Depth metrics after fine-tuning; `baseline_`: of the training images' median depth."""
    pixels = data.depths
    network = Dense(encoder.network, DepthHead())
    trained = train_on_crops(network, encoder, pixels, protocol, reverse_huber, seed=seed)
    # Of the pixels of the first thousand training images whose depth is known.
    some = [pixels.truth("train", row) for row in range(min(1000, len(pixels.train["hw"])))]
    median = float(np.median(np.concatenate([depth[depth > 0] for depth in some])))
    results: dict[str, float] = {}
    for prefix, tuned in trained.items():
        sums, constant = np.zeros(6), np.zeros(6)
        for _, truth, predicted in predict_whole(tuned, pixels):
            sums += depth_sums(truth, predicted)
            constant += depth_sums(truth, np.full_like(truth, median))
        results |= {prefix + name: value for name, value in depth_metrics(sums).items()}
        baseline = {f"baseline_{name}": value for name, value in depth_metrics(constant).items()}
    return TaskResult(results | baseline, pixels.protocol | protocol.decided(pixels, encoder))


DEPTH = Task(_run, Depth(), "depth")
