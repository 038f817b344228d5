"""`benchmarks/detection.py` on synthetic scenes: what is trained, what stays, precision."""

import json
import pathlib
import sys

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "benchmarks"))
import detection

SMALL = {"channels": 16, "box_batch_size_per_image": 8, "rpn_post_nms_top_n_train": 20}
SMALL |= {"rpn_post_nms_top_n_test": 10, "box_detections_per_img": 4, "box_score_thresh": 0.0}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with scenes, and their annotations, as the options of the command."""
    folder = tmp_path_factory.mktemp("drawn")
    words = []
    for part, count in (("train", 2), ("test", 2)):
        words += [f"--{part}", *map(str, detection.write_scenes(folder, count, part))]
    words += ["--encoder", "resnet18", "--batch-size", "2", "--shorter", "64", "--longer", "64"]
    return folder, [*words, "--workers", "0"]


def data_of(words, **options):
    args = detection.parse([*words, "--weights", "random"])
    return detection.Instances(*args.test, **options)


def test_what_is_annotated_has_full_precision(drawn):
    data = data_of(drawn[1])
    results = []
    for _, target in (data[n] for n in range(len(data))):
        found = {k: target[k] for k in ("boxes", "labels")} | {"masks": target["masks"][:, None]}
        results += detection.as_results(
            target, found | {"scores": torch.ones(len(target["boxes"]))}
        )
    precision = detection.average_precision(data, results)
    assert precision == pytest.approx(
        dict.fromkeys(("box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75"), 1.0)
    )
    half = [one for one in results if one["image_id"] == 0]
    share = len(half) / len(results)
    assert detection.average_precision(data, half)["mask_ap"] == pytest.approx(share, abs=0.01)
    assert detection.average_precision(data_of(drawn[1], boxes=True), [])["box_ap"] == 0
    assert "mask_ap" not in detection.average_precision(data_of(drawn[1], boxes=True), [])


def test_a_flip_goes_through_boxes_and_masks(drawn):
    image, target = data_of(drawn[1])[0]
    data = data_of(drawn[1], flip=True)
    flipped = next(pair for pair in (data[0] for _ in range(50)) if not pair[0].equal(image))
    assert flipped[0].flip(-1).equal(image)
    for box, mask in zip(flipped[1]["boxes"], flipped[1]["masks"], strict=True):
        y, x = map(np.asarray, torch.nonzero(mask, as_tuple=True))
        assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert flipped[1]["masks"].flip(-1).equal(target["masks"])


@pytest.mark.parametrize("frozen", [False, True])
def test_the_encoder_is_trained_or_stays_and_what_was_stopped_goes_on(drawn, frozen):
    folder, words = drawn
    torch.manual_seed(0)
    weights = torchvision.models.resnet18().state_dict()
    save_file({k: v for k, v in weights.items() if not k.startswith("fc.")}, folder / "w")
    out = folder / f"{frozen}.json"
    words = [*words, "--weights", str(folder / "w"), "--schedule", "2", "--out", str(out)]
    words += ["--frozen"] * frozen
    precision = detection.main(words, **SMALL)
    state = torch.load(out.with_suffix(".state"), weights_only=True)
    assert state["epochs"] == 2
    for name in ("layer4.1.conv2.weight", "layer1.0.bn1.running_mean", "bn1.weight"):
        same = torch.equal(state["model"][f"backbone.body.{name}"], weights[name])
        assert same == frozen
    assert json.loads(out.read_text())["results"] == precision
    # A run that was stopped after one of the two epochs ends as that one did.
    args = detection.parse(words)
    train = detection.Instances(*args.train, flip=True)
    options = {"epochs": 2, "batch_size": 2, "lr": 0.02, "state": folder / "again"}
    for _ in range(2 if not frozen else 0):
        torch.manual_seed(0)
        sizes = {"min_size": 64, "max_size": 64, "frozen": frozen, "boxes": False}
        model = detection.build("resnet18", str(folder / "w"), 1, **sizes, **SMALL)
        losses = detection.fit(model, train, **options)
        if not (folder / "again").exists():
            next(losses), next(losses)
            losses.close()
        else:
            assert len(list(losses)) == 1
            again = model.state_dict()["roi_heads.box_predictor.bbox_pred.weight"]
            assert again.equal(state["model"]["roi_heads.box_predictor.bbox_pred.weight"])
    with pytest.raises(SystemExit, match="with other settings"):
        detection.main([*words, "--lr", "0.5"], **SMALL)
    with pytest.raises(SystemExit, match="is no resnet50"):
        detection.main([*words, "--encoder", "resnet50"], **SMALL)
