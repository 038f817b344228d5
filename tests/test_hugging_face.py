"""Masks by models of transformers: those of the library's own pipeline, on photographs."""

import functools
import hashlib
import pathlib
import shutil

import huggingface_hub
import numpy as np
import pytest
import tiny_masks
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage import data
from small_export import contents

from jaxssl.data.records import read_info
from jaxssl.data.rle import decode_mask
from jaxssl.data.source import BrokenImage, Example
from mask_tools import Transformers, export
from mask_tools.segmenters import hugging_face, point_masks

LOOSE = {  # with random weights nothing is good enough, and all boxes are alike
    "device": "cpu",
    "points_per_side": 4,
    "pred_iou_thresh": -100.0,
    "stability_score_thresh": 0.0,
    "box_nms_thresh": 1.0,
}


@pytest.fixture(scope="module", autouse=True)
def quiet():
    hf.logging.set_verbosity_error()
    hf.logging.disable_progress_bar()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder for each kind."""
    folder = tmp_path_factory.mktemp("models")
    return {kind: tiny_masks.save(kind, folder / kind) for kind in tiny_masks.KINDS}


@pytest.fixture
def sam(models, tmp_path):
    """A folder with a model to spoil."""
    return pathlib.Path(shutil.copytree(models["sam"], tmp_path / "model"))


@pytest.fixture(scope="module")
def photos():
    pixels = (data.astronaut()[:150], data.chelsea()[:, :120], data.coffee()[100:220, 50:170])
    return [Example(f"{i}.jpg", np.ascontiguousarray(p)) for i, p in enumerate(pixels)]


@functools.cache
def pipeline(folder):
    return hf.pipeline("mask-generation", model=folder, dtype=torch.float32)


def by_the_library(folder, photo, options):
    """Masks and scores of one photograph."""
    return pipeline(folder)(
        Image.fromarray(photo.image),
        points_per_crop=options["points_per_side"],
        points_per_batch=options["points_per_batch"],
        pred_iou_thresh=options["pred_iou_thresh"],
        stability_score_thresh=options["stability_score_thresh"],
        crops_nms_thresh=options["box_nms_thresh"],
        crops_n_layers=options["crop_n_layers"],
    )


def assert_same(found, theirs):
    assert len(found) == len(theirs["masks"])
    for region, mask, score in zip(found, theirs["masks"], theirs["scores"], strict=True):
        np.testing.assert_array_equal(decode_mask(region.rle, region.size), mask)
        assert region.score == score


@pytest.mark.parametrize("kind", tiny_masks.KINDS)
def test_masks_are_those_of_the_library(models, photos, kind):
    layers = 1 if kind in ("sam", "sam2") else 0
    options = LOOSE | {"points_per_batch": 5, "crop_n_layers": layers}
    options["stability_score_thresh"] = 0.1
    segmenter = Transformers(models[kind], **options, images_per_batch=2, library_points=True)
    found = segmenter.segment_all(photos)
    for photo, masks in zip(photos, found, strict=True):
        assert_same(masks, by_the_library(models[kind], photo, options))
    assert sum(map(len, found)) > 3 * len(photos)
    assert len({region.rle for masks in found for region in masks}) == sum(map(len, found))


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_thresholds_keep_what_the_library_keeps(models, photos, kind):
    options = LOOSE | {"points_per_batch": 64, "crop_n_layers": 0}
    everything = Transformers(models[kind], **options, library_points=True)(photos[0])
    median = float(np.median([region.score for region in everything]))
    options |= {"pred_iou_thresh": max(median, 0.01), "box_nms_thresh": 0.97}
    found = Transformers(models[kind], **options, library_points=True)(photos[0])
    assert 0 < len(found) < len(everything) // 2
    assert_same(found, by_the_library(models[kind], photos[0], options))
    options["pred_iou_thresh"] = 1e6
    assert Transformers(models[kind], **options)(photos[0]) == []


@pytest.mark.parametrize(("kind", "whole"), [("sam", hf.SamProcessor), ("sam2", hf.Sam2Processor)])
def test_points_are_spread_over_the_whole_image(models, photos, kind, whole, monkeypatch):
    """As the library's own processor places them, and its pipeline does not for SAM 2."""
    given = []
    decode = point_masks._decode

    def spy(model, points, *others):
        given.append(points)
        return decode(model, points, *others)

    monkeypatch.setattr(point_masks, "_decode", spy)
    height, width = photos[0].image.shape[:2]
    middle = (np.arange(4) + 0.5) / 4
    points = [[[x * width, y * height]] for y in middle for x in middle]
    processor = whole(tiny_masks.processor_of(kind))
    processor.target_size = tiny_masks.SIDE
    theirs = processor(images=photos[0].image, input_points=[points], return_tensors="pt")
    Transformers(models[kind], **LOOSE)(photos[0])
    torch.testing.assert_close(given.pop(), theirs["input_points"][0, :, 0].float())
    Transformers(models[kind], **LOOSE, library_points=True)(photos[0])
    lowest = given.pop()[:, 1].max() / tiny_masks.SIDE
    assert lowest < height / width  # of an image twice as wide as high: above the middle
    square = Example("square.png", photos[0].image[:, :height])
    same = [Transformers(models[kind], **LOOSE, library_points=p)(square) for p in (False, True)]
    assert same[0] == same[1]


def test_masks_do_not_depend_on_batches_of_images(models, photos):
    """But for rounding: some processors add up a batch of one in another order."""
    alone, together = (Transformers(models["sam2"], **LOOSE, images_per_batch=n) for n in (1, 3))
    for photo, found in zip(photos, together.segment_all(photos), strict=True):
        for one, other in zip(alone(photo), found, strict=True):
            assert one.score == pytest.approx(other.score, rel=1e-5)
            masks = [decode_mask(region.rle, region.size) for region in (one, other)]
            assert np.mean(masks[0] != masks[1]) < 1e-4


def test_crops_may_have_fewer_points(models, photos):
    options = LOOSE | {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2}
    assert len(Transformers(models["sam"], **options)(photos[0])) > 0
    with pytest.raises(ValueError, match="no point is left in the smallest crops"):
        Transformers(models["sam"], **options | {"crop_n_layers": 3})


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_reduced_precision_changes_little(models, photos, precision):
    found = [Transformers(models["sam2"], **LOOSE, precision=p) for p in ("auto", precision)]
    areas, other = (
        [decode_mask(region.rle, region.size).mean() for region in segmenter(photos[0])]
        for segmenter in found
    )
    assert abs(len(areas) - len(other)) <= 2
    assert abs(np.mean(areas) - np.mean(other)) < 0.05


def test_images_of_odd_shapes(models):
    pixel, thin = (Example("a.png", np.zeros((h, w, 3), np.uint8)) for h, w in ((1, 1), (1, 400)))
    with pytest.raises(BrokenImage, match=r"a.png: the model takes no image of \(1, 400\) pixels"):
        Transformers(models["sam"], **LOOSE)(thin)
    assert len(Transformers(models["sam"], **LOOSE)(pixel)) > 0
    assert Transformers(models["sam2"], **LOOSE)(thin)[0].size == (1, 400)


def words(folder, out):
    given = ["--source", "scenes:5", "--segmenter", "transformers", "--model", folder]
    given += ["--out", out, "--shards", 2, "--workers", 0]
    given += [w for n, v in LOOSE.items() for w in (f"--{n.replace('_', '-')}", v)]
    return list(map(str, given))


def test_records_say_what_made_them_and_a_stopped_export_ends_with_the_same(
    models, tmp_path, monkeypatch, capsys
):
    assert export.main(words(models["sam2"], tmp_path / "whole")) == 0
    segment_all, calls = Transformers.segment_all, []

    def stop(self, examples):
        calls.append(len(examples))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return segment_all(self, examples)

    monkeypatch.setattr(Transformers, "segment_all", stop)
    assert export.main(words(models["sam2"], tmp_path / "out")) == 130
    monkeypatch.undo()
    assert export.main(words(models["sam2"], tmp_path / "out")) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    described = read_info(tmp_path / "out").segmenter
    weights = pathlib.Path(models["sam2"], "model.safetensors").read_bytes()
    assert described["model_sha256"] == hashlib.sha256(weights).hexdigest()
    assert len(described["model_config_sha256"]) == 64
    assert described["parameters"]["points_per_side"] == 4
    capsys.readouterr()
    moved = shutil.copytree(models["sam2"], tmp_path / "moved")
    again = [*words(moved, tmp_path / "out"), "--points-per-batch", "3", "--images-per-batch", "2"]
    assert export.main(again) == 0
    assert "nothing to do" in capsys.readouterr().out
    tiny_masks.save("sam2", moved, seed=1)
    assert export.main(again) == 1
    assert "another model_sha256" in capsys.readouterr().err


@pytest.fixture
def hub(models, tmp_path, monkeypatch):
    """A cache of the hub with one model, and no network."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "cache" / "models--some--sam"
    shutil.copytree(models["sam"], repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub._snapshot_download.constants, "HF_HUB_OFFLINE", True)
    hugging_face._fetch.cache_clear()
    return commit


def test_a_name_on_the_hub_is_found_in_its_cache(models, photos, hub):
    segmenter = Transformers("some/sam", **LOOSE)
    assert segmenter.revision == hub
    assert segmenter(photos[0]) == Transformers(models["sam"], **LOOSE)(photos[0])


def message_of(make):
    with pytest.raises(ValueError, match=".") as error:
        make()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_model_that_cannot_be_had(hub, tmp_path, models):
    for name in ("some/other", "some/sam/x", "nowhere"):
        message = message_of(lambda name=name: Transformers(name))
        assert f"--model {name} is neither a folder nor available on the hub" in message
    assert "--model (none)" in message_of(Transformers)
    assert "--revision v1" in message_of(lambda: Transformers(models["sam"], revision="v1"))
    assert "has no config.json; give --model" in message_of(lambda: Transformers(str(tmp_path)))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ('{"model_type": "vit"}', "is a vit, which makes no masks from points; give one of edge"),
        ('{"model_type": "sam9"}', "cannot be read: The checkpoint you are trying to load has"),
        ('{"model_type": "sam", "vision_config": {"hidden_size": "x"}}', "expected int, got str"),
        ('{"model_ty', "is not a valid JSON file"),
    ],
)
def test_a_folder_with_another_model(sam, config, says):
    (sam / "config.json").write_text(config)
    assert says in message_of(lambda: Transformers(str(sam)))


def test_weights_and_settings_that_do_not_fit(sam, photos):
    path = sam / "model.safetensors"
    weights = load_file(path)

    def says():
        hugging_face._load.cache_clear()
        return message_of(lambda: Transformers(str(sam), **LOOSE)(photos[0]))

    name, *others = sorted(weights)
    save_file({n: weights[n] for n in others}, path, metadata={"format": "pt"})
    assert f"has no weights for 1 of its parts, such as {name}" in says()
    odd = torch.zeros(3)
    save_file(weights | {name: odd}, path, metadata={"format": "pt"})
    assert f"has no weights for 1 of its parts, such as {name}" in says()
    with path.open("r+b") as file:
        file.truncate(50_000)
    assert "is damaged or cut short" in says()
    save_file(weights, path, metadata={"format": "pt"})
    (sam / "preprocessor_config.json").write_text("{}")
    assert "takes images of 64 pixels a side, and its preprocessor_config.json makes" in says()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"precision": "half"}, "--precision half: choose auto, float32"),
        ({"points_per_side": 0}, "--points-per-side and --points-per-batch must be at least 1"),
        ({"images_per_batch": 0}, "--images-per-batch must be at least 1"),
        ({"device": "cuda:99"}, "--device cuda:99 cannot be used"),
    ],
)
def test_options_that_cannot_be(models, photos, options, says):
    given = LOOSE | options
    assert says in message_of(lambda: Transformers(models["sam"], **given)(photos[0]))
