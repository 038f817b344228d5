"""Retrieval of regions against plain loops."""

import dataclasses
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import sharding
from jaxssl.data.label_maps import VOID
from jaxssl.data.source import BrokenImage
from jaxssl.data.synthetic.scenes import Scenes
from jaxssl.evaluation import region_retrieval as module
from jaxssl.evaluation.datasets import DataSet, open_datasets
from jaxssl.evaluation.region_retrieval import (
    load_regions,
    pool_regions,
    read_planes,
    region_classes,
    retrieval,
)
from jaxssl.evaluation.run import choose_tasks, match, run_tasks
from jaxssl.image.region_pooling import occupancy, pool
from jaxssl.pretrained.encoder import Encoder


def make_regions(count=40):
    rng = np.random.default_rng(0)
    classes = rng.integers(-1, 4, count).astype(np.int32)
    features = rng.standard_normal((count, 5)).astype(np.float32)
    features[np.arange(count), classes] += 1.5  # of class -1: the last dimension
    return features, classes, rng.integers(0, 9, count).astype(np.int32)


def by_loops(features, classes, image):
    unit = [f / np.linalg.norm(f) for f in features.astype(np.float64)]
    averages, firsts, chances = [], [], []
    for q in range(len(unit)):
        others = [r for r in range(len(unit)) if image[r] != image[q] and classes[r] >= 0]
        ranking = sorted(others, key=lambda r: -(unit[q] @ unit[r]))
        relevant = [classes[r] == classes[q] for r in ranking]
        if classes[q] < 0 or not any(relevant):
            continue
        found = [sum(relevant[: k + 1]) / (k + 1) for k in range(len(ranking)) if relevant[k]]
        averages.append(np.mean(found))
        firsts.append(relevant[0])
        chances.append(np.mean(relevant))
    return {
        "map": np.mean(averages),
        "recall_at_1": np.mean(firsts),
        "baseline_map": np.mean(chances),
        "regions": len(averages),
    }


@pytest.mark.parametrize("entries", [2**24, 7 * 33])  # all at once, and in chunks that do not fit
def test_retrieval_equals_loops(monkeypatch, entries):
    monkeypatch.setattr(module, "CHUNK_ENTRIES", entries)
    regions = make_regions()
    assert retrieval(*regions) == pytest.approx(by_loops(*regions), rel=1e-5)


def test_perfect_features_find_everything_and_own_image_does_not_count():
    classes, image = np.int32([0, 0, 1, 1, 2, 2]), np.int32([0, 1, 0, 1, 0, 0])
    found = retrieval(np.eye(3, dtype=np.float32)[classes], classes, image)
    assert (found["map"], found["recall_at_1"], found["regions"]) == (1.0, 1.0, 4)


def test_no_class_in_two_images_is_a_mistake():
    with pytest.raises(ValueError, match="of 2 regions with a class there is none"):
        retrieval(np.eye(2, dtype=np.float32), np.int32([0, 1]), np.int32([0, 1]))
    with pytest.raises(ValueError, match="of 0 regions with a class there is none"):
        retrieval(np.eye(2, dtype=np.float32), np.int32([-1, -1]), np.int32([0, 1]))


def test_region_classes():
    planes = np.zeros((1, 4, 4, 1), np.uint32)
    planes[0, :2] = 0b001  # 8 points: 5 of class 3, 2 of class 1, one of none
    planes[0, 3] = 0b010  # no label
    planes[0, 2, :3] = 0b100  # too small
    labels = np.full((4, 4), 255, np.uint8)
    labels[:2] = [[3, 3, 3, 1], [3, 3, 1, 255]]
    labels[2] = 7
    semantic = labels.repeat(2, axis=0).repeat(2, axis=1)[None]
    assert region_classes(list(planes), list(semantic))[0, :4].tolist() == [3, -1, -1, -1]


def test_features_are_means_over_the_regions():
    grid = np.random.default_rng(0).standard_normal((3, 2, 5)).astype(np.float32)
    planes = np.where(np.arange(4) < 2, 1, 2).astype(np.uint32)
    planes = np.broadcast_to(planes[None, :, None], (6, 4, 1)).copy()  # left, right
    found = pool_regions(grid, planes)
    np.testing.assert_allclose(found[:2], grid.mean(axis=0), rtol=1e-5, atol=1e-6)
    assert not found[2:].any()


@pytest.mark.parametrize("points", [(6, 4), (7, 5), (2, 9)])
def test_regions_are_pooled_as_in_training_and_no_shape_compiles_a_program(points):
    rng = np.random.default_rng(0)
    grid = rng.standard_normal((3, 2, 5), np.float32)
    planes = rng.integers(0, 2**32, (*points, 2), np.uint32) & rng.integers(0, 2**32, 2, np.uint32)
    expected = pool(jnp.asarray(grid)[None], occupancy(jnp.asarray(planes)[None], 3, 2))[0]
    with jax.no_tracing():
        found = pool_regions(grid, planes)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert (~found.any(axis=1)).any()  # a region that is nowhere


def test_the_tasks_on_scenes(tiny_encoder):
    variables = tiny_encoder.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    encoder = Encoder(tiny_encoder, variables, "none", sharding.make_mesh(), 8, show=False)
    datasets = open_datasets(("scenes:80",), 16, shorter=16)
    found = {
        entry.task: entry
        for entry in run_tasks(encoder, match(choose_tasks(("retrieval", "health")), datasets))
    }
    results, health = (found[name].result.results for name in ("retrieval", "health"))
    assert 0 < results["map"] < 1
    assert results["regions"] > 40
    assert found["retrieval"].protocol["images"] == 500
    assert next(iter(health)) == "rank_me"
    assert health["images"] == 20
    assert 0 < health["alignment"] < 4
    with pytest.raises(ValueError, match="task retrieval needs labeled regions"):
        match(choose_tasks(("retrieval",)), open_datasets(("objects:80",), 16))


def test_classes_of_scenes_are_those_of_their_regions():
    (data,) = open_datasets(("scenes:40",), 96)
    pixels = load_regions(data, 3)
    planes = [read_planes(pixels.test, row) for row in range(3)]
    classes = region_classes(planes, [pixels.truth("test", row) for row in range(3)])
    order = np.random.default_rng(0).permutation(10)[:3]
    for index, found in zip(order, classes, strict=True):
        example = data.test[int(index)]
        expected = [int(example.semantic[mask][0]) for mask in example.regions.masks()]
        assert sorted(found[found >= 0].tolist()) == sorted(expected)


class Changed:
    """Scenes of which some are changed: by the number of the image."""

    def __init__(self, changes, spec="scenes:40"):
        self._scenes, self._changes = Scenes(40), changes
        self.spec, self.class_names, self.has_regions = spec, (), True

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self._changes.get(index, lambda example: example)(self._scenes[index])

    def fingerprint(self):
        return self.spec


def broken(example):
    raise BrokenImage(f"{example.key}: cut short")


def test_images_without_a_map_or_that_cannot_be_read_are_left_out():
    without = {2: lambda example: dataclasses.replace(example, semantic=None), 5: broken}
    source = Changed(without)
    found = load_regions(DataSet("s", "s", source, source, 96), 500).test["image"]
    assert len(found) == len(np.unique(found, axis=0)) == 6


def test_images_are_held_once(tmp_path):
    (data,) = open_datasets(("scenes:200",), 96)
    load_regions(data, 2)  # what the first call imports
    tracemalloc.start()
    arrays = load_regions(data, 40).test
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * sum(array.nbytes for array in arrays.values())


def test_many_images_in_a_row_without_a_map(tmp_path):
    source = Changed(dict.fromkeys(range(1, 8), lambda e: dataclasses.replace(e, semantic=None)))
    assert len(load_regions(DataSet("s", "s", source, source, 96), 500).test["image"]) == 1
    source = Changed(dict.fromkeys(range(8), broken), spec="none:8")
    source.image_size = lambda index: (192, 192)
    with pytest.raises(ValueError, match="none of 8 images has a label map"):
        load_regions(DataSet("s", "s", source, source, 96), 500)


def test_classes_are_those_that_the_data_set_is_known_to_have():
    """Of Cityscapes' 34 values 15 are no class, and the others count from 0."""
    cityscapes = {i: lambda e: dataclasses.replace(e, semantic=e.semantic + 7) for i in range(8)}
    source = Changed(cityscapes, "tfds:cityscapes")
    pixels = load_regions(DataSet("c", "c", source, source, 96, ignore_labels=(8,)), 500)
    values = {v for i in range(8) for v in np.unique(Scenes(40)[i].semantic).tolist()}
    assert values == set(range(11))
    # 7 is road, 8 is ignored, 9 and 10 are no class, 11 to 13 are building, wall and fence, ...
    truth = np.unique(np.concatenate([pixels.truth("test", i).ravel() for i in range(8)]))
    assert [pixels.classes[i] for i in truth if i != VOID] == [
        "road",
        "building",
        "wall",
        "fence",
        "pole",
    ]


def test_features_that_are_not_finite_are_refused(tiny_encoder):
    variables = tiny_encoder.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    variables = jax.tree.map(lambda x: x * jnp.nan, variables)
    encoder = Encoder(tiny_encoder, variables, "none", sharding.make_mesh(), 8, show=False)
    datasets = open_datasets(("scenes:40",), 16, shorter=16)
    with pytest.raises(ValueError, match="not finite"):
        list(run_tasks(encoder, match(choose_tasks(("retrieval",)), datasets)))
