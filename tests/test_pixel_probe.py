"""The presets `neco` and `dinov3`: their heads against plain loops of torch, and as tasks."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.label_maps import VOID
from jaxssl.data.source import Example
from jaxssl.evaluation.datasets import open_datasets
from jaxssl.evaluation.dense import pixel_probe
from jaxssl.evaluation.dense.fcn import cross_entropy
from jaxssl.evaluation.dense.linear_segmentation import SEGMENTATION
from jaxssl.evaluation.dense.pets import Squares
from jaxssl.evaluation.dense.pixel_probe import DINO_V3, NECO
from jaxssl.evaluation.dense.pixel_recipe import RandomCrops, train_on_pixels
from jaxssl.evaluation.fine_tuning import init_state
from jaxssl.models.dense import Dense, LinearHead
from jaxssl.pretrained.encoder import Encoder
from jaxssl.types import Features

SIDE, CLASSES, BATCH, IMAGES = 16, 3, 4, 8


class Colors(nn.Module):
    """The mean color of each 4 x 4 pixels, times a weight that must stay, in twelve channels."""

    @nn.compact
    def __call__(self, images, train):
        assert not train
        b, h, w, _ = images.shape
        grid = images.reshape(b, h // 4, 4, w // 4, 4, 3).mean(axis=(2, 4))
        grid = grid @ self.param("weight", nn.initializers.normal(1.0), (3, 12))
        return Features(grid, grid.mean(axis=(1, 2)))


@pytest.fixture(scope="module")
def encoder():
    variables = Colors().init(jax.random.key(5), np.zeros((1, SIDE, SIDE, 3)), False)
    mesh = jax.make_mesh(
        (1,), ("data",), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,)
    )
    return Encoder(Colors(), variables, "none", mesh, 8, show=False)


def train(encoder, recipe, points):
    """Weights before and after, and every batch."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3), np.uint8)
    truth = rng.choice(np.array([0, 1, 2, VOID], np.uint8), (IMAGES, points, points))
    head = LinearHead(CLASSES, recipe.batch_norm, recipe.dropout)
    network = Dense(encoder.network, head, frozen=True, size=points)
    seen = []

    def batches(rows):
        seen.extend(rows)
        return ({"image": images[r], "truth": truth[r]} for r in rows)

    options = {"count": IMAGES, "size": SIDE, "seed": 0}
    change = Squares("none")
    tuned = train_on_pixels(network, encoder, recipe, cross_entropy, change, batches, **options)[""]
    optimizer = recipe.transform(BATCH, IMAGES // BATCH)
    first = init_state(network, encoder.variables, optimizer, SIDE, 0)
    assert np.array_equal(
        tuned.variables["params"]["encoder"]["weight"], encoder.variables["params"]["weight"]
    )
    grids = encoder.grid(images)
    found = [(torch.tensor(grids[r]).permute(0, 3, 1, 2), torch.tensor(truth[r])) for r in seen]
    return first.params["head"], tuned.variables, found


def torch_head(params, *, batch_norm):
    conv = torch.nn.Conv2d(12, CLASSES, 1)
    conv.weight.data = torch.tensor(np.array(params["Conv_0"]["kernel"])).permute(3, 2, 0, 1)
    conv.bias.data = torch.tensor(np.array(params["Conv_0"]["bias"]))
    return torch.nn.Sequential(*([torch.nn.BatchNorm2d(12)] if batch_norm else []), conv)


def plain_step(head, optimizer, grid, truth, points):
    optimizer.zero_grad()
    logits = functional.interpolate(head(grid), size=(points, points), mode="bilinear")
    functional.cross_entropy(logits, truth.long(), ignore_index=VOID).backward()
    optimizer.step()


def same_conv(params, head):
    conv = head[-1]
    weight = conv.weight.detach().numpy().transpose(2, 3, 1, 0)
    np.testing.assert_allclose(params["Conv_0"]["kernel"], weight, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(params["Conv_0"]["bias"], conv.bias.detach().numpy(), atol=2e-6)


def test_neco_equals_a_plain_loop_of_torch(encoder):
    points = 10
    recipe = dataclasses.replace(NECO, batch_size=BATCH, points=points, epochs=5)
    first, tuned, batches = train(encoder, recipe, points)
    head = torch_head(first, batch_norm=False)
    optimizer = torch.optim.SGD(head.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    drop = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.1)
    for number, (grid, truth) in enumerate(batches, start=1):
        plain_step(head, optimizer, grid, truth, points)
        if number % (IMAGES // BATCH) == 0:
            drop.step()
    same_conv(tuned["params"]["head"], head)
    assert not np.allclose(first["Conv_0"]["kernel"], tuned["params"]["head"]["Conv_0"]["kernel"])


def test_dino_v3_equals_a_plain_loop_of_torch(encoder):
    recipe = dataclasses.replace(
        DINO_V3, batch_size=BATCH, dropout=0.0, epochs=5, warmup=0.2, crop=SIDE
    )
    first, tuned, batches = train(encoder, recipe, SIDE)
    head = torch_head(first, batch_norm=True)
    decayed = [head[-1].weight]
    groups = [{"params": decayed, "weight_decay": 1e-3}]
    groups += [{"params": [*head[0].parameters(), head[-1].bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    total = len(batches)
    for number, (grid, truth) in enumerate(batches):
        t = number / total
        rate = 1e-3 * min(t / 0.2, 1) * 0.5 * (1 + np.cos(np.pi * max(t - 0.2, 0) / 0.8))
        for group in optimizer.param_groups:
            group["lr"] = rate
        plain_step(head, optimizer, grid, truth, SIDE)
    same_conv(tuned["params"]["head"], head)
    scale = head[0].weight.detach().numpy()
    np.testing.assert_allclose(tuned["params"]["head"]["BatchNorm_0"]["scale"], scale, rtol=1e-4)


def test_the_presets_are_the_papers():
    assert (NECO.lr, NECO.weight_decay, NECO.batch_size, NECO.epochs) == (0.01, 1e-4, 128, 25)
    assert [NECO.milestones[0] * NECO.epochs, NECO.size, NECO.points] == [20, 448, 100]
    assert (DINO_V3.lr, DINO_V3.weight_decay, DINO_V3.batch_size) == (1e-3, 1e-3, 16)
    assert (DINO_V3.iterations, DINO_V3.crop, DINO_V3.dropout) == (40_000, 512, 0.1)
    assert DINO_V3.warmup * DINO_V3.iterations == 1500


def test_part_of_an_image_is_squashed_and_its_truth_to_fewer_points():
    y, x = np.mgrid[:12, :18]
    image = np.stack([10 * y, 10 * x, x], axis=-1).astype(np.uint8)
    spec = CanvasSpec(12 * 18, (8, 1024), maps=("semantic",))
    canvas = spec.make(Example("", image, semantic=x + 0 * y), (12, 18))
    recipe = dataclasses.replace(NECO, area=(0.5, 1.0), flip=0.0)
    crops = RandomCrops(recipe, "none", 36, 0, bytes(range(256)), points=9)
    for seed in range(5):
        pixels, truth = jax.jit(crops.cut)(jax.random.key(seed), canvas)
        assert (pixels.shape, truth.shape) == ((36, 36, 3), (9, 9))
        assert not np.any(np.asarray(truth) == VOID)
        # The middle of each ninth of the crop, and what the image has there.
        there = np.asarray(pixels)[2::4, 2::4, 1] * 25.5
        assert np.abs(there - truth).max() <= 1.01


@pytest.mark.parametrize("preset", ["neco", "dinov3"])
def test_as_a_task(encoder, preset, tmp_path):
    (data,) = open_datasets(["scenes:12"], 64, str(tmp_path))
    small = {"batch_size": 4, "size": 32, "crop": 32}
    small |= {"points": 12, "epochs": 2} if preset == "neco" else {"iterations": 4}
    protocol = dataclasses.replace(SEGMENTATION.presets[preset], **small)
    found = SEGMENTATION.run(encoder, data, protocol, 0)
    opened = list(tmp_path.glob("canvases-*"))
    assert len(opened) == (3 if preset == "neco" else 2)  # squares of the test images alone
    tested = 3 * 12**2 if preset == "neco" else 3 * 192**2
    assert np.sum(found.details["confusion"]) == tested
    assert found.protocol["epochs"] == (2 if preset == "neco" else 1)
    assert found.protocol["size"] == 32
    assert 0 < found.results["miou"] < 1
    with pytest.raises(ValueError, match=r"dropout is 1.0; it must be in \[0, 1\)"):
        dataclasses.replace(protocol, dropout=1.0)
    with pytest.raises(ValueError, match="--compare random"):
        dataclasses.replace(protocol, scratch=True)


@pytest.mark.parametrize(("fraction", "epochs"), [(1.0, 16), (0.25, 80)])
def test_iterations_are_batches_of_the_images_used(
    encoder, fraction, epochs, tmp_path, monkeypatch
):
    (data,) = open_datasets(["scenes:20"], 64, str(tmp_path))
    small = {"batch_size": 4, "size": 32, "crop": 32, "iterations": 80, "fraction": fraction}
    asked = []

    def train(network, encoder, pixels, recipe, *args, **options):
        asked.append(recipe.epochs)
        raise InterruptedError

    monkeypatch.setattr(pixel_probe, "train_on_crops", train)
    with pytest.raises(InterruptedError):
        SEGMENTATION.run(encoder, data, dataclasses.replace(DINO_V3, **small), 0)
    assert asked == [epochs]


def test_a_class_that_is_squashed_away_keeps_its_number(encoder, tmp_path):
    """Of three rows the middle one is kept, and the first alone is of the class 2."""
    labels = np.zeros((36, 36), np.uint8)
    labels[:, 18:] = 1
    labels[::3] = 2
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2)):
        for kind in ("images", "labels"):
            (tmp_path / kind / part).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (36, 36, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / part / f"{i}.png")
            Image.fromarray(labels).save(tmp_path / "labels" / part / f"{i}.png")
    (data,) = open_datasets([f"folder:{tmp_path}"], 32, str(tmp_path / "cache"))
    small = {"size": 12, "crop": 12, "points": 12, "batch_size": 2, "epochs": 1}
    found = SEGMENTATION.run(encoder, data, dataclasses.replace(NECO, **small), 0)
    assert list(found.details["classes"]) == ["0", "1", "2"]
    assert np.sum(found.details["confusion"], axis=1).tolist() == [2 * 72, 2 * 72, 0]
