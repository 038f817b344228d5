"""The preset `capi` against scikit-learn and plain loops, from images to the mean IoU."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import jaccard_score
from sklearn.preprocessing import StandardScaler

from jaxssl.data.label_maps import VOID
from jaxssl.evaluation.datasets import open_datasets
from jaxssl.evaluation.dense.linear_segmentation import SEGMENTATION
from jaxssl.evaluation.dense.patch_logistic import PatchLogistic
from jaxssl.pretrained.encoder import Encoder
from jaxssl.types import Features

SIDE, CELL, IMAGES = 12, 4, {"train": 20, "test": 6}
C = (1e-4, 1.0, 100.0)


class MeanColors(nn.Module):
    """The mean color of each cell."""

    @nn.compact
    def __call__(self, images, train):
        cells = images.reshape(len(images), SIDE // CELL, CELL, SIDE // CELL, CELL, 3)
        grid = cells.mean(axis=(2, 4))
        return Features(grid, grid.mean(axis=(1, 2)))


@pytest.fixture
def encoder():
    mesh = jax.make_mesh(
        (1,), ("data",), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,)
    )
    return Encoder(MeanColors(), {}, "none", mesh, 8, show=False)


@pytest.fixture
def data(tmp_path):
    """Images whose colors speak of the class of a pixel, not plainly; some pixels are of none."""
    rng = np.random.default_rng(0)
    colors = rng.uniform(90, 160, (4, 3))
    for part, count in IMAGES.items():
        for number in range(count):
            labels = rng.integers(0, 4, (3, 3)).repeat(CELL, 0).repeat(CELL, 1).astype(np.uint8)
            image = colors[labels] + rng.normal(0, 60, (SIDE, SIDE, 3))
            other = rng.random(labels.shape) < 0.3
            labels[other] = rng.choice(np.array([0, 1, 2, 3, VOID], np.uint8), other.sum())
            labels[:CELL, :CELL] = VOID if number % 3 == 0 else labels[:CELL, :CELL]
            for kind, values in (("images", image.clip(0, 255)), ("labels", labels)):
                path = tmp_path / "set" / kind / part / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values.astype(np.uint8)).save(path)
    (found,) = open_datasets([f"folder:{tmp_path / 'set'}"], 64, str(tmp_path / "cache"))
    return found


def plain(encoder, data, seed):
    """Mean IoU and the C chosen."""
    pixels = dataclasses.replace(data, size=SIDE).label_squares

    def cells(part, rows):
        features, labels = [], []
        for row in rows:
            (grid,) = encoder.outputs("grid", pixels.part(part)["image"], np.array([row]))
            truth = pixels.truth(part, int(row))
            for i in range(3):
                for j in range(3):
                    features.append(grid[i, j])
                    labels.append(truth[CELL * i : CELL * i + CELL, CELL * j : CELL * j + CELL])
        return np.array(features), np.array(labels).reshape(len(labels), -1)

    def mode(labels):
        return np.array([np.bincount(of_cell, minlength=256).argmax() for of_cell in labels])

    def miou(x, y, asked, truth, c):
        known = mode(y) != VOID
        model = LogisticRegression(C=c, max_iter=5000, tol=1e-10).fit(x[known], mode(y)[known])
        predicted = model.predict(asked)[:, None].repeat(truth.shape[1], 1)
        there = truth != VOID
        return jaccard_score(truth[there], predicted[there], average="macro")

    order = np.random.default_rng(seed).permutation(IMAGES["train"])
    held_out, rest = order[: len(order) // 10], order[len(order) // 10 :]
    x, y = cells("train", rest)
    scaler = StandardScaler().fit(x)
    (v, v_truth), (t, t_truth) = cells("train", held_out), cells("test", range(IMAGES["test"]))
    x, v, t = map(scaler.transform, (x, v, t))
    c = max(C, key=lambda c: miou(x, y, v, v_truth, c))
    return miou(np.concatenate([x, v]), np.concatenate([y, v_truth]), t, t_truth, c), c


def test_equals_scikit_learn(encoder, data):
    protocol = PatchLogistic(size=SIDE, c=C)
    for seed in (0, 1):
        found = SEGMENTATION.run(encoder, data, protocol, seed)
        expected, c = plain(encoder, data, seed)
        assert found.protocol["c_chosen"] == c
        assert found.results["miou"] == pytest.approx(expected, abs=1e-6)
        assert 0.1 < expected < 0.9


def test_the_preset_is_the_papers():
    capi = SEGMENTATION.presets["capi"]
    assert (capi.size, capi.iterations, len(capi.c)) == (224, 1000, 8)
    assert capi.c[0] == pytest.approx(1e-6)
    assert capi.c[-1] == pytest.approx(1e5)
    with pytest.raises(ValueError, match="above 0"):
        PatchLogistic(c=(0.0,))
