"""Images of odd shapes, whole: padding changes nothing, and scores are those of a plain loop."""

import dataclasses
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from jaxssl.config import base
from jaxssl.data.label_maps import VOID
from jaxssl.data.source import Example
from jaxssl.evaluation.datasets import DataSet
from jaxssl.evaluation.dense import whole_images as module
from jaxssl.evaluation.dense.confusion import summarize
from jaxssl.evaluation.dense.whole_images import (
    MapScores,
    grid_of,
    grids_of,
    padded_side,
    predict_whole,
    whole_images,
)
from jaxssl.evaluation.run import choose_tasks, match, run_tasks
from jaxssl.image.augment import normalize
from jaxssl.models.dense import Dense, DepthHead, FcnHead
from jaxssl.models.padded import resize_within
from jaxssl.models.resnet import Block
from jaxssl.pretrained.encoder import Encoder
from jaxssl.reporting.run_arrays import RunArrays
from jaxssl.reporting.runs import Run
from jaxssl.training.workdir import environment
from jaxssl.types import Features

SIZES = [(37, 50), (64, 33), (1, 200), (50, 37), (97, 65)]


class Odd:
    """Images of odd shapes; a third of their pixels, and their border, has no class."""

    class_names, has_regions, spec = (), False, "odd"

    def __init__(self, count=5, sizes=SIZES):
        self._count, self._sizes = count, sizes

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        size = self._sizes[index % len(self._sizes)]
        labels = rng.integers(0, 4, size)
        labels[labels == 3] = VOID
        labels[:, [0, -1]] = VOID
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        return Example(f"{index}", image, semantic=labels, depth=(1.0 + labels).astype(np.float32))

    def fingerprint(self):
        return f"{self._count} {self._sizes}"


class SmallResNet(nn.Module):
    """What a ResNet is made of: a stem, pooling, blocks with a stride of 16 in all."""

    @nn.compact
    def __call__(self, images, train):
        x = nn.Conv(4, (7, 7), strides=2, padding=3, use_bias=True)(images)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for channels in (4, 6):
            x = Block(channels, 2, False, False, "torch", jnp.float32)(x, train)
        return Features(grid=x, pooled=x.mean(axis=(1, 2)))


def randomized(variables):
    """Other numbers than 0 and 1 for biases and statistics, so that padding would be seen."""
    leaves, tree = jax.tree.flatten(variables)
    rng = np.random.default_rng(0)
    return tree.unflatten([np.abs(x + 0.3 * rng.standard_normal(x.shape)).astype(np.float32) + 0.01
                           if x.ndim == 1 else np.asarray(x) for x in leaves])  # fmt: skip


def make_encoder(network=None, devices=8):
    network = network or SmallResNet()
    mesh = jax.make_mesh(
        (devices,), ("data",), devices=jax.devices()[:devices],
        axis_types=(jax.sharding.AxisType.Auto,),
    )  # fmt: skip
    variables = network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    return Encoder(network, randomized(variables), "imagenet", mesh, 2, show=False)


@pytest.fixture
def data(tmp_path):
    return DataSet("odd", "odd", Odd(), Odd(), size=16, cache_dir=str(tmp_path))


def alone(network, variables, image):
    """What the network makes of one image that is not padded."""
    pixels = normalize(jnp.asarray(image[None], jnp.float32) / 255, "imagenet")
    return network.apply(variables, pixels, train=False)


def test_padding_changes_no_feature(data):
    encoder = make_encoder()
    seen = set()
    for row, grid in grids_of(encoder, data.label_maps, "test", range(len(SIZES))):
        expected = alone(encoder.network, encoder.variables, data.test[row].image).grid[0]
        assert grid.shape == expected.shape
        np.testing.assert_allclose(grid, expected, rtol=1e-4, atol=1e-5)
        seen.add(row)
    assert seen == set(range(len(SIZES)))


def test_one_image_alone(data):
    encoder = make_encoder()
    for row, size in enumerate(SIZES):
        image = data.test[row].image
        grid, covered = grid_of(encoder, image)
        expected = alone(encoder.network, encoder.variables, image).grid[0]
        np.testing.assert_allclose(grid, expected, rtol=1e-4, atol=1e-5)
        assert covered == tuple(16 * -(-side // 16) for side in size)


def test_heat_maps_keep_the_aspect_of_images():
    arrays = RunArrays(Run(pathlib.Path("run"), "run", base(), [], [], environment()))
    arrays.source, arrays.encoder = Odd(), make_encoder()
    for (height, width), (image, heat) in zip(SIZES, arrays.heat_maps(5), strict=True):
        assert heat.shape == image.shape[:2]
        assert heat.min() >= 0
        assert heat.max() <= 1
        factor = 256 / np.sqrt(height * width)
        assert image.shape[0] == round(factor * height)
        assert image.shape[1] == round(factor * width)


@pytest.mark.parametrize("head", [FcnHead(3, convs=1, channels=8, dilation=2), DepthHead()])
def test_padding_changes_no_prediction(data, head):
    encoder = make_encoder()
    network = Dense(encoder.network, head)
    variables = network.init(jax.random.key(1), jnp.zeros((1, 32, 32, 3)), train=False)
    variables = randomized(variables)
    pixels = data.label_maps if isinstance(head, FcnHead) else data.depths
    tuned = dataclasses.replace(encoder, network=network, variables=variables)
    for rows, truth, predicted in predict_whole(tuned, pixels):
        for i, row in enumerate(rows):
            height, width = data.test[row].image.shape[:2]
            outputs = np.asarray(alone(network, variables, data.test[row].image)[0])
            found = predicted[i, :height, :width]
            if pixels.classes:
                first, second = np.sort(outputs, axis=-1)[..., :-3:-1].transpose(2, 0, 1)
                sure = first - second > 1e-4
                assert sure.mean() > 0.9
                np.testing.assert_array_equal(found[sure], outputs.argmax(axis=-1)[sure])
            else:
                np.testing.assert_allclose(found, outputs[..., 0], rtol=1e-3, atol=1e-4)
            inside = np.zeros(truth.shape[1:], bool)
            inside[:height, :width] = True
            assert (truth[i][~inside] == pixels.void).all()


def test_scores_are_those_of_a_plain_loop_over_original_pixels(data):
    encoder = make_encoder()
    network = Dense(encoder.network, FcnHead(3, convs=1, channels=8, dilation=2))
    variables = network.init(jax.random.key(1), jnp.zeros((1, 32, 32, 3)), train=False)
    maps, pixels = MapScores(data.label_maps), data.label_maps
    assert pixels.classes == ("0", "1", "2")
    everything = {}
    tuned = dataclasses.replace(encoder, network=network, variables=variables)
    for rows, truth, predicted in predict_whole(tuned, pixels):
        maps.add(rows, truth, predicted)
        everything |= dict(zip(rows, predicted, strict=True))
    y, p = [], []
    for row in range(len(SIZES)):
        labels = data.test[row].semantic
        for place in np.argwhere(labels != VOID):
            y.append(labels[tuple(place)])
            p.append(everything[row][tuple(place)])
    results, _ = summarize(maps.confusion, pixels.classes)
    ious = sklearn.metrics.jaccard_score(y, p, average=None, labels=[0, 1, 2])
    assert results["miou"] == pytest.approx(ious.mean(), rel=1e-12)
    shown = maps.shown()
    assert {name: len(a) for name, a in shown.items()} == dict.fromkeys(shown, len(SIZES))
    assert shown["predicted"].shape[1:] == (200, 200)


def test_resized_between_cells_as_jax_does():
    values = jax.random.normal(jax.random.key(0), (1, 3, 5, 2))
    padded = jnp.pad(values, ((0, 0), (0, 2), (0, 1), (0, 0)), constant_values=9)
    found = resize_within(padded, jnp.array([[3, 5]]), jnp.array([[20, 31]]), (32, 32))
    expected = jax.image.resize(values, (1, 20, 31, 2), "bilinear")
    np.testing.assert_allclose(found[:, :20, :31], expected, atol=1e-5)


def test_few_lengths():
    assert [padded_side(n, 32) for n in (1, 32, 33, 256, 257, 480, 1025)] == [
        *(32, 32, 64, 256, 288, 480, 1152)
    ]
    lengths = {padded_side(n, 32) for n in range(1, 2049)}
    assert len(lengths) == 16 + 8 + 8
    assert all(padded_side(n, 32) < 9 / 8 * n + 32 for n in range(1, 2049))


def test_the_shorter_side_is_resized_and_the_truth_is_not(data):
    resized = dataclasses.replace(data, shorter=30).label_maps
    rows = [0, 1]
    for whole in whole_images(make_encoder(), resized, "test", rows):
        for hw, out, row in zip(whole.batch["hw"], whole.batch["out"], whole.rows, strict=False):
            assert tuple(out) == SIZES[row]
            assert tuple(hw) == ((30, 41), (58, 30))[row]


@pytest.mark.parametrize(("devices", "sizes"), [(1, [1] * 9), (8, [8, 1])])
def test_each_device_has_an_image_of_its_own(devices, sizes, tmp_path, monkeypatch):
    """Where a batch of one image would fill one device and leave the others without."""
    monkeypatch.setattr(module, "BATCH_PIXELS", 64 * 64)
    nine = Odd(9, [(64, 33)])
    data = DataSet("nine", "nine", nine, nine, size=16, cache_dir=str(tmp_path))
    encoder = dataclasses.replace(make_encoder(devices=devices), batch_size=64)
    found = list(whole_images(encoder, data.label_maps, "test", range(9)))
    assert [len(whole.rows) for whole in found] == sizes
    assert {len(whole.truth) for whole in found} == {devices}


@pytest.mark.parametrize("task", ["segmentation", "fcn", "depth"])
def test_tasks_on_odd_shapes_are_the_same_on_one_device_and_on_eight(task, tmp_path):
    parts = {"train": Odd(16), "test": Odd()}
    data = DataSet("odd", "odd", size=16, cache_dir=str(tmp_path), **parts)
    tasks = choose_tasks([task])
    changes = (
        {"steps": 20} if task == "segmentation" else {"epochs": 1, "batch_size": 8, "crop": 16}
    )
    changes |= {"head_channels": 8} if task == "fcn" else {}
    protocol = dataclasses.replace(tasks[task].protocol, **changes)
    tasks = {task: dataclasses.replace(tasks[task], protocol=protocol)}
    found = []
    for devices in (1, 8):
        (record,) = run_tasks(make_encoder(devices=devices), match(tasks, [data]))
        found.append(record.result.results)
        assert record.protocol["fit"] == "aspect"
        assert record.protocol["shrunk_test_images"] == 0
    assert found[0] == pytest.approx(found[1], rel=1e-3)
