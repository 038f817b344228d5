"""SAM and HQ-SAM: the libraries' own models and generators, small, with random weights."""

import dataclasses
import inspect
import shutil
import sys
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import segment_anything
import torch
from skimage.measure import label

from jaxssl.data import open_source
from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.loading import load_arrays
from jaxssl.data.records import Records, read_info
from jaxssl.data.rle import decode_mask
from jaxssl.data.source import BrokenImage, Example
from jaxssl.image.augment import RECIPES
from jaxssl.samplers import RegionCrop
from jaxssl.types import ViewSpec
from mask_tools import export
from mask_tools.segmenters.sam import HqSam, Sam, SamConfig

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import segment_anything_hq

LOOSE = {  # with random weights nothing is good enough, and all boxes are alike
    "points_per_side": 4,
    "pred_iou_thresh": -100.0,
    "stability_score_thresh": 0.0,
    "box_nms_thresh": 1.0,
}
VIEWS = (ViewSpec(16, (0.2, 1.0), (3 / 4, 4 / 3), "torchvision", RECIPES["none"].local),) * 2
SIDE, DIM = 64, 16  # of the model's input in pixels, of its embeddings


def build(library, decoder, *, width=24, **of_decoder):
    """A SAM of the library's own classes: two layers, a grid of 4 x 4."""
    parts = library.modeling
    torch.manual_seed(0)
    encoder = parts.ImageEncoderViT(
        img_size=SIDE,
        depth=2,
        embed_dim=width,
        num_heads=2,
        out_chans=DIM,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=2,
        global_attn_indexes=[1],
    )
    prompts = parts.PromptEncoder(
        embed_dim=DIM,
        image_embedding_size=(SIDE // 16, SIDE // 16),
        input_image_size=(SIDE, SIDE),
        mask_in_chans=4,
    )
    transformer = parts.TwoWayTransformer(depth=1, embedding_dim=DIM, mlp_dim=32, num_heads=2)
    masks = decoder(transformer_dim=DIM, transformer=transformer, **of_decoder)
    return parts.Sam(image_encoder=encoder, prompt_encoder=prompts, mask_decoder=masks).eval()


def build_sam(width=24):
    return build(segment_anything, segment_anything.modeling.MaskDecoder, width=width)


def build_hq_sam(width=24):
    decoder = segment_anything_hq.modeling.MaskDecoderHQ
    return build(segment_anything_hq, decoder, width=width, vit_dim=width)


KINDS = {
    "sam": (Sam, segment_anything, build_sam),
    "hq_sam": (HqSam, segment_anything_hq, build_hq_sam),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """Small models in the place of vit_b and vit_l, and files of their weights."""
    paths = {}
    for name, (_, library, make) in KINDS.items():
        for model_type, width in {"vit_b": 24, "vit_l": 48}.items():
            small = partial(make, width)
            monkeypatch.setitem(library.sam_model_registry, model_type, small)
            paths[name, model_type] = str(tmp_path / f"{name}_{model_type}.pth")
            torch.save(small().state_dict(), paths[name, model_type])
    return paths


@pytest.fixture
def photo():
    image = open_source("scenes:1")[0].image[:72, :96]
    return Example("photo.png", image)


def test_defaults_are_the_generators_own(kind):
    _, library, _ = KINDS[kind]
    signature = inspect.signature(library.SamAutomaticMaskGenerator).parameters
    given = {field.name: field.default for field in dataclasses.fields(SamConfig)}
    left_out = {"model", "point_grids", "output_mode"}
    assert set(signature) - set(given) == left_out
    assert all(given[name] == signature[name].default for name in set(signature) - left_out)


def test_masks_are_those_of_the_library(kind, checkpoints, photo):
    segmenter, library, make = KINDS[kind]
    found = segmenter("vit_b", checkpoints[kind, "vit_b"], device="cpu", **LOOSE)(photo)
    theirs = library.SamAutomaticMaskGenerator(make(), **LOOSE).generate(photo.image)
    assert len(found) == len(theirs) > 1
    for region, mask in zip(found, theirs, strict=True):
        np.testing.assert_array_equal(decode_mask(region.rle, region.size), mask["segmentation"])
        assert region.score == mask["predicted_iou"]
    areas = {mask["area"] for mask in theirs}
    assert len(areas) > 1  # not the whole image again and again


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # torch's own
def test_small_holes_and_islands_can_be_removed(kind, checkpoints, photo):
    segmenter, path = KINDS[kind][0], checkpoints[kind, "vit_b"]
    as_they_are = segmenter("vit_b", path, device="cpu", **LOOSE)(photo)
    cleaned = segmenter("vit_b", path, device="cpu", **LOOSE, min_mask_region_area=30)(photo)
    before, after = (
        max(label(decode_mask(region.rle, region.size), connectivity=2).max() for region in found)
        for found in (as_they_are, cleaned)
    )
    assert after < before


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_reduced_precision_changes_little(kind, checkpoints, photo, precision):
    segmenter, path = KINDS[kind][0], checkpoints[kind, "vit_b"]
    full, reduced = (
        segmenter("vit_b", path, device="cpu", precision=p, **LOOSE)(photo)
        for p in ("auto", precision)
    )
    scores = [[region.score for region in found] for found in (full, reduced)]
    assert scores[0] != scores[1]
    np.testing.assert_allclose(scores[0], scores[1], atol=0.01)


def test_records_of_sam_give_views_and_planes(kind, checkpoints, tmp_path):
    words = ["--source", "scenes:3", "--segmenter", kind, "--out", tmp_path / "out"]
    words += ["--model-type", "vit_b", "--checkpoint", checkpoints[kind, "vit_b"]]
    words += [w for n, v in LOOSE.items() for w in (f"--{n.replace('_', '-')}", v)]
    assert export.main([*map(str, words), "--device", "cpu", "--workers", "0"]) == 0
    segmenter = read_info(tmp_path / "out").segmenter
    assert segmenter["name"] == kind
    assert len(segmenter["checkpoint_sha256"]) == 64
    assert segmenter["parameters"]["points_per_side"] == 4
    source = Records(tmp_path / "out")
    spec = CanvasSpec(1024, objects=4, planes=1)
    for index in range(len(source)):
        regions = source[index].regions
        canvas = load_arrays(source, index, spec)
        assert canvas["region_areas"].max() == regions.area.max()
        assert canvas["region_planes"].any()
        boxes, fallback = RegionCrop(min_area=1).boxes(
            jax.random.key(0), jax.tree.map(jnp.asarray, canvas), (), VIEWS
        )
        assert not fallback
        np.testing.assert_array_less(boxes[:, :2], boxes[:, 2:])


def message_of(make, photo):
    with pytest.raises(ValueError, match=".") as error:
        make()(photo)
    assert "\n" not in str(error.value)
    return str(error.value)


OFFICIAL = {
    "sam": "get sam_vit_b_01ec64.pth from https://dl.fbaipublicfiles.com/segment_anything/",
    "hq_sam": "get sam_hq_vit_b.pth from https://huggingface.co/lkeab/hq-sam/resolve/main/",
}


def test_a_checkpoint_that_is_not_there(kind, photo):
    segmenter = KINDS[kind][0]
    message = message_of(lambda: segmenter("vit_b", "weights.pth"), photo)
    assert "--checkpoint weights.pth is not a file" in message
    assert OFFICIAL[kind] in message
    assert "--checkpoint (none)" in message_of(lambda: segmenter("vit_b"), photo)


@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_a_checkpoint_that_is_cut_short(kind, checkpoints, photo, size):
    path = checkpoints[kind, "vit_b"]
    with open(path, "r+b") as file:
        file.truncate(size)
    message = message_of(lambda: KINDS[kind][0]("vit_b", path), photo)
    assert "is damaged or cut short" in message
    assert OFFICIAL[kind] in message


def test_a_checkpoint_of_another_model(kind, checkpoints, photo):
    segmenter, (other,) = KINDS[kind][0], set(KINDS) - {kind}
    message = message_of(lambda: segmenter("vit_b", checkpoints[kind, "vit_l"]), photo)
    assert "holds weights of another model, not of vit_b" in message
    assert OFFICIAL[kind] in message
    message = message_of(lambda: segmenter("vit_b", checkpoints[other, "vit_b"]), photo)
    assert f"give --segmenter {other}, or other weights" in message


def test_a_file_that_holds_something_else(checkpoints, tmp_path, photo):
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    message = message_of(lambda: Sam("vit_b", str(tmp_path / "other.pth")), photo)
    assert "holds no weights of SAM; get sam_vit_b_01ec64.pth" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "vit_x"}, "no model 'vit_x'; --model-type vit_b, vit_l, vit_h"),
        ({"precision": "half"}, "--precision half: choose auto, float32"),
        ({"points_per_side": 0}, "--points-per-side and --points-per-batch must be at least 1"),
        ({"device": "cuda:99"}, "--device cuda:99 cannot be used"),
        ({"device": "gpu"}, "--device gpu cannot be used"),
    ],
)
def test_options_that_cannot_be(checkpoints, photo, options, message):
    given = {"model_type": "vit_b", "checkpoint": checkpoints["sam", "vit_b"]} | options
    assert message in message_of(lambda: Sam(**given), photo)


def test_an_export_with_wrong_weights_can_be_begun_again(checkpoints, tmp_path, capsys):
    words = ["--source", "scenes:2", "--segmenter", "sam", "--model-type", "vit_b"]
    words += ["--out", str(tmp_path / "out"), "--device", "cpu", "--points-per-side", "2"]
    assert export.main([*words, "--checkpoint", checkpoints["sam", "vit_l"]]) == 1
    assert "not of vit_b" in capsys.readouterr().err
    assert export.main([*words, "--checkpoint", checkpoints["sam", "vit_b"]]) == 0


def test_images_of_odd_shapes(kind, checkpoints):
    segmenter = KINDS[kind][0]("vit_b", checkpoints[kind, "vit_b"], device="cpu", **LOOSE)
    assert len(segmenter(Example("pixel.png", np.zeros((1, 1, 3), np.uint8)))) > 0
    for size in (1, 400), (400, 1):
        with pytest.raises(BrokenImage, match=r"thin.png: SAM takes no image of"):
            segmenter(Example("thin.png", np.zeros((*size, 3), np.uint8)))


def test_what_decides_no_mask_may_change(checkpoints, tmp_path, capsys):
    words = ["--source", "scenes:2", "--segmenter", "sam", "--model-type", "vit_b", "--out"]
    words += [str(tmp_path / "out"), "--device", "cpu", "--points-per-side", "2"]
    path = checkpoints["sam", "vit_b"]
    assert export.main([*words, "--checkpoint", path]) == 0
    moved = shutil.copy(path, tmp_path / "moved.pth")
    again = [*words, "--checkpoint", str(moved), "--points-per-batch", "2"]
    assert export.main(again) == 0
    assert "nothing to do" in capsys.readouterr().out
    moved.write_bytes(b"other weights")
    assert export.main(again) == 1
    assert "another checkpoint_sha256" in capsys.readouterr().err


def test_torchvision_is_loaded_before_tensorflow(checkpoints, monkeypatch):
    """The other way round aborts the process: an export makes its segmenter first."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    path = checkpoints["sam", "vit_b"]
    Sam("vit_b", path)  # is loaded already
    monkeypatch.delitem(sys.modules, "torchvision")
    with pytest.raises(ValueError, match=r"SAM cannot be loaded after TensorFlow; make it before"):
        Sam("vit_b", path)
