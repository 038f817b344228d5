"""Segmentation by retrieval against plain numpy: every similarity, one image after another."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_whole_images import Odd

from jaxssl import sharding
from jaxssl.data.label_maps import VOID
from jaxssl.evaluation import TASKS
from jaxssl.evaluation.datasets import DataSet, open_datasets
from jaxssl.evaluation.dense import in_context as module
from jaxssl.evaluation.dense.in_context import InContext
from jaxssl.evaluation.dense.whole_images import grids_of
from jaxssl.evaluation.run import evaluate_encoder
from jaxssl.pretrained.encoder import Encoder

TASK = TASKS["in_context"]


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
    variables = tiny_encoder.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    variables = jax.tree.map(lambda x: x + 0.1, variables)
    return Encoder(tiny_encoder, variables, "imagenet", sharding.make_mesh(), 4, show=False)


def bilinear(values, size):
    """Values [h, w, k] brought to a size, each pixel between the four nearest cells."""
    for axis, side in enumerate(size):
        place = (np.arange(side) + 0.5) * values.shape[axis] / side - 0.5
        place = place.clip(0, values.shape[axis] - 1)
        low = place.astype(int)
        high = np.minimum(low + 1, values.shape[axis] - 1)
        part = np.expand_dims(place - low, [a for a in range(3) if a != axis])
        values = values.take(low, axis) * (1 - part) + values.take(high, axis) * part
    return values


def plain_miou(encoder, pixels, images, k, temperature):
    """Mean IoU by the labels of some training images, in float64 from the features on."""
    classes, bank, shares = len(pixels.classes), [], []
    for row, grid in grids_of(encoder, pixels, "train", images):
        truth = pixels.truth("train", row)
        (height, width), (h, w) = grid.shape[:2], truth.shape
        y, x = (np.arange(h) + 0.5) * height // h, (np.arange(w) + 0.5) * width // w
        cell = (y[:, None] * width + x[None]).astype(int)
        for i, feature in enumerate(grid.reshape(height * width, -1)):
            labels, feature = truth[cell == i], feature.astype(np.float64)
            if (labels != VOID).any():
                bank.append(feature / np.linalg.norm(feature))
                shares.append(np.bincount(labels, minlength=256)[:classes] / len(labels))
    bank, shares = np.array(bank), np.array(shares)
    confusion = np.zeros((classes, classes))
    for row, grid in grids_of(encoder, pixels, "test", range(len(pixels.test["hw"]))):
        grid = grid.astype(np.float64)
        query = grid / np.linalg.norm(grid, axis=2, keepdims=True)
        similarity = query.reshape(-1, grid.shape[2]) @ bank.T
        scores = np.zeros((len(similarity), classes))
        for i, order in enumerate(np.argsort(-similarity, axis=1)[:, :k]):
            weight = np.exp(similarity[i, order] / temperature)
            scores[i] = weight @ shares[order] / weight.sum()
        truth = pixels.truth("test", row)
        predicted = bilinear(scores.reshape(*grid.shape[:2], -1), truth.shape).argmax(2)
        known = truth != VOID
        np.add.at(confusion, (truth[known], predicted[known]), 1)
    both = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - both
    return np.mean(both[union > 0] / union[union > 0])


def datasets(tmp_path):
    sizes = [(37, 50), (64, 33)]
    odd = {"train": Odd(9, sizes), "test": Odd(5, sizes)}
    yield DataSet(name="odd", spec="odd", size=16, cache_dir=str(tmp_path), **odd), "odd"
    yield open_datasets(["scenes:20"], 16, str(tmp_path), shorter=48)[0], "scenes"


def test_equals_plain_numpy(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "QUERY_BYTES", 2**14)  # several groups of test images
    protocol = InContext(k=7, temperature=0.05, fractions=(1.0, 0.25))
    for data, name in datasets(tmp_path):
        result = TASK.run(encoder, data, protocol, 3)
        images = np.random.default_rng(3).permutation(len(data.train))
        for key, count in (("miou", len(images)), ("miou_0.25", round(len(images) / 4))):
            theirs = plain_miou(encoder, data.label_maps, images[:count], 7, 0.05)
            assert abs(result.results[key] - theirs) < 1e-6, (name, key)
        assert result.predictions["predicted"].ndim == 3


def test_a_memory_of_fewer_cells(encoder, tmp_path):
    data = next(datasets(tmp_path))[0]
    whole, part = (
        TASK.run(encoder, data, dataclasses.replace(InContext(), memory=memory), 0)
        for memory in (10**6, 90)
    )
    assert part.protocol["cells"][0] <= 90 < whole.protocol["cells"][0]
    assert part.results["miou"] != whole.results["miou"]


def test_mistakes(encoder, tmp_path):
    data = next(datasets(tmp_path))[0]
    with pytest.raises(ValueError, match=r"in_context needs k <= \d+, the labeled cells"):
        TASK.run(encoder, data, InContext(k=1000, memory=50), 0)
    with pytest.raises(ValueError, match=r"it must be in \(0, 1\]"):
        InContext(fractions=(2.0,))
    with pytest.raises(ValueError, match="it must be above 0"):
        InContext(temperature=0.0)
    with pytest.raises(ValueError, match="in_context needs label maps"):
        evaluate_encoder(encoder, ["objects:20"], ["in_context"])
