"""The tasks on pixels from data set to findings, with a tiny encoder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import sharding
from jaxssl.data.source import Example
from jaxssl.evaluation.datasets import DataSet, open_datasets
from jaxssl.evaluation.dense.linear_segmentation import LEARNING_RATES
from jaxssl.evaluation.dense.pets_metrics import summarize
from jaxssl.evaluation.protocols import with_presets
from jaxssl.evaluation.run import also_from_scratch, choose_tasks, match, run_tasks
from jaxssl.pretrained.encoder import Encoder

TRAIN = {"epochs": 2, "batch_size": 8, "fraction": 0.5}


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
    variables = tiny_encoder.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    # On one device, which compiles fastest; a step on eight is in test_dense_training.py.
    mesh = jax.make_mesh(
        (1,), ("data",), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,)
    )
    return Encoder(tiny_encoder, variables, "imagenet", mesh, 8, show=False)


def run(encoder, task, data, seeds=(0,), **changes):
    (known,) = also_from_scratch(choose_tasks([task])).values()
    protocol = dataclasses.replace(known.protocol, **changes)
    pairs = match({task: dataclasses.replace(known, protocol=protocol)}, [data])
    return list(run_tasks(encoder, pairs, seeds))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    (data,) = open_datasets(["scenes:40"], 64, str(tmp_path_factory.mktemp("cache")), shorter=64)
    return data


def test_segmentation(encoder, scenes):
    tasks = choose_tasks(["segmentation"])
    (task,) = tasks.values()
    options = {"steps": 200, "batch_size": 64, "images": 30, "fractions": (1.0, 0.1)}
    protocol = dataclasses.replace(task.protocol, **options)
    pairs = match({"segmentation": dataclasses.replace(task, protocol=protocol)}, [scenes])
    first, again, other = run_tasks(encoder, pairs, (0, 0, 1))
    assert first.as_metrics() == {"eval/scenes/miou": first.result.results["miou"]}
    assert first.result.results == again.result.results
    assert (first.result.results, first.protocol) != (other.result.results, other.protocol)
    assert first.protocol["training_images"] == [30, 4]
    assert len(first.protocol["learning_rate"]) == 2
    assert set(first.protocol["learning_rate"]) <= set(LEARNING_RATES)
    assert (first.protocol["fit"], first.protocol["size"]) == ("aspect", 64)
    details = first.result.details
    assert len(details["classes"]) == len(details["per_class"]) == len(details["confusion"]) == 11
    assert np.sum(details["confusion"]) == 10 * 192 * 192  # resized for the encoder alone
    with pytest.raises(ValueError, match="--from-scratch is for finetune, fcn, pets, depth"):
        also_from_scratch(tasks)


def test_tasks_that_train_no_encoder_are_left_out_of_from_scratch(caplog):
    tasks = with_presets(choose_tasks(["knn", "segmentation", "fcn", "finetune"]), ["neco"])
    found = also_from_scratch(tasks)
    assert [found[name].protocol.scratch for name in ("segmentation", "fcn", "finetune")] == [
        False, True, True,
    ]  # fmt: skip
    assert found["knn"] is tasks["knn"]
    assert "--from-scratch changes nothing of knn, segmentation" in caplog.text


class Drawn:
    """Scenes whose pixels have three kinds, and a depth: a source made for a test."""

    class_names = ()
    has_regions = False
    spec = "drawn"

    def __init__(self, count, kinds=3):
        self._count, self._kinds = count, kinds

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        kind = np.kron(rng.integers(0, self._kinds, (4, 4)), np.ones((4, 4), int))
        image = (kind[..., None] * 80 + rng.integers(0, 40, (16, 16, 3))).astype(np.uint8)
        return Example(f"{index}", image, semantic=kind, depth=(1.0 + kind).astype(np.float16))

    def fingerprint(self):
        return f"{self._count} {self._kinds}"


def drawn(tmp_path, kinds=3):
    sources = {"train": Drawn(16, kinds), "test": Drawn(9, kinds)}
    return DataSet(name="drawn", spec="drawn", size=16, cache_dir=str(tmp_path), **sources)


def test_fcn(encoder, tmp_path):
    data = drawn(tmp_path)
    changes = {"epochs": 20, "batch_size": 8, "scale": (1.0, 1.0), "lr": 0.1}
    changes |= {"head_convs": 1, "head_channels": 8, "head_dilation": 1}
    first, again = run(encoder, "fcn", data, (0, 0), **changes)
    results = first.result.results
    assert results == again.result.results
    assert results["pixel_accuracy"] > results["baseline_pixel_accuracy"] + 0.1
    assert results["miou"] != results["scratch_miou"]
    assert first.result.predictions["predicted"].shape == (8, 16, 16)
    assert first.protocol["epochs"] == 20
    with pytest.raises(ValueError, match="loss is not finite in epoch"):
        run(encoder, "fcn", data, **changes | {"lr": 1e30})
    assert first.protocol["batch_size"] == 8


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_batches_are_lowered_to_what_divides_over_the_devices(encoder, tmp_path, fraction):
    on_eight = dataclasses.replace(encoder, mesh=sharding.make_mesh())
    (found,) = run(on_eight, "pets", drawn(tmp_path), batch_size=13, epochs=1, fraction=fraction)
    assert found.protocol["batch_size"] == 8
    with pytest.raises(ValueError, match="batches of 6 of .* do not divide over 8 .* larger batch"):
        run(on_eight, "pets", drawn(tmp_path), batch_size=6, fraction=fraction)


def test_pets(encoder, tmp_path):
    (entry,) = run(encoder, "pets", drawn(tmp_path), **TRAIN)
    results, shown = entry.result.results, entry.result.predictions
    names = ("accuracy", "iou", "dice", "precision", "recall")
    every = [p + m for p in ("", "paper_") for m in names]
    assert set(results) == {p + name for p in ("", "scratch_", "baseline_") for name in every}
    assert results["baseline_paper_recall"] == 1
    assert summarize(shown["truth"], shown["truth"])["iou"] == 1
    with pytest.raises(ValueError, match="has 4 classes of pixels; the task pets is for three"):
        run(encoder, "pets", drawn(tmp_path, kinds=4), **TRAIN)


def test_depth(encoder, tmp_path):
    changes = TRAIN | {"fraction": 1.0, "epochs": 15}
    (entry,) = run(encoder, "depth", drawn(tmp_path), **changes)
    results = entry.result.results
    assert results["delta1"] > results["baseline_delta1"] + 0.1  # brightness tells the depth
    assert {"scratch_delta1", "rmse", "baseline_abs_rel"} <= set(results)
