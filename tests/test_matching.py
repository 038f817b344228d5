"""Exports from annotations: what finds no partner is counted and named, too much of it refused."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from jaxssl.data.records import Records, read_info
from mask_tools import export

SQUARE = [[1, 1, 4, 1, 4, 4, 1, 4]]
POINTS = [[1, 1, 4, 4]]


@pytest.fixture
def photos(tmp_path):
    """Four images of 8 x 6 pixels."""
    for name in ("a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 8, 3), 99, np.uint8)).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def write_coco(path, masks, names="{}.jpg", ids=lambda i: i):
    """A COCO file of four images, and annotations: of which image, and the segmentation."""
    images = [{"id": i, "file_name": names.format(i)} for i in range(1, 5)]
    annotations = [
        {"id": n, "image_id": ids(image), "segmentation": mask, "bbox": [1, 1, 3, 3]}
        for n, (image, mask) in enumerate(masks)
    ]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))


def run(photos, *options):
    words = ["--source", f"folder:{photos}", "--out", str(photos.parent / "out"), *options]
    return export.main([*words, "--workers", "0"])


def coco(photos):
    return ["--segmenter", "annotation", "--format", "coco", "--path", f"{photos.parent}/a.json"]


def regions(folder):
    records = Records(folder)
    return {records[i].key: len(records[i].regions) for i in range(len(records))}


def test_bad_annotations_are_left_out_and_the_images_stay(tmp_path, photos, capsys):
    masks = [(1, SQUARE), (1, []), (2, POINTS), (2, SQUARE), (3, SQUARE), (4, None)]
    write_coco(tmp_path / "a.json", masks)
    assert run(photos, *coco(photos)) == 0
    assert regions(tmp_path / "out") == {"a/1.jpg": 1, "a/2.jpg": 1, "b/3.jpg": 1, "b/4.jpg": 0}
    out = " ".join(capsys.readouterr().out.split())
    assert "annotations 6 in" in out
    assert "images with annotations 4 of 4" in out
    assert (
        "annotations left out has no mask, a box only: 2 (first: annotation 1 of a/1.jpg); has a "
        "polygon of fewer than three points: 1 (first: annotation 2 of a/2.jpg)"
    ) in out
    assert "images left without a region 1" in out
    left_out = {"has no mask, a box only": 2, "has a polygon of fewer than three points": 1}
    assert read_info(tmp_path / "out").segmenter["left_out"] == {"train": left_out}


def test_boxes_alone_are_regions_where_that_is_asked_for(tmp_path, photos, capsys):
    write_coco(tmp_path / "a.json", [(i, None) for i in (1, 2, 3, 4)])
    for command in (["--dry-run"], []):
        assert run(photos, *coco(photos), *command) == 1
        assert "--boxes, with another --out, makes rectangles of boxes" in capsys.readouterr().err
        boxes = ["--boxes", "--out", str(tmp_path / "boxes")]
        assert run(photos, *coco(photos), *boxes, *command) == 0
    assert [*regions(tmp_path / "boxes").values()] == [1, 1, 1, 1]


def test_a_dry_run_of_a_part_of_the_images_only_warns(tmp_path, photos, capsys, monkeypatch):
    monkeypatch.setattr("mask_tools.dry_run.TRIED", 2)  # the first and the last
    write_coco(tmp_path / "a.json", [(1, None), (2, SQUARE), (3, SQUARE), (4, None)])
    assert run(photos, *coco(photos), "--dry-run") == 0
    warning = capsys.readouterr().err
    assert "warning: the export may stop: of 2 images tried 2 have annotations and no" in warning
    assert run(photos, *coco(photos)) == 0
    (photos / "a" / "1.jpg").write_bytes(b"broken")
    assert run(photos, *coco(photos), "--dry-run", "--min-matched", "0") == 0
    assert "tried 1 are broken, more than --max-broken 0.01" in capsys.readouterr().err


def test_images_all_of_whose_annotations_are_bad_are_an_error(tmp_path, photos, capsys):
    write_coco(tmp_path / "a.json", [(1, SQUARE), *((i, POINTS) for i in (2, 3, 4))])
    assert run(photos, *coco(photos)) == 1
    assert (
        "3 of 4 images have annotations and no region so far, less than --min-matched 0.5 have: "
        "has a polygon of fewer than three points: 3 (first: annotation 1 of a/2.jpg)"
    ) in capsys.readouterr().err
    assert run(photos, *coco(photos), "--min-matched", "0.2") == 0


def test_an_export_without_any_region_is_an_error(tmp_path, photos, capsys):
    (tmp_path / "m").mkdir()
    for i in range(1, 5):
        Image.fromarray(np.zeros((6, 8), np.uint8)).save(tmp_path / "m" / f"{i}.png")
    options = ["--segmenter", "annotation", "--path", f"{tmp_path}/m"]
    assert run(photos, *options) == 1
    assert "none of 4 images has a region: their annotations are empty" in capsys.readouterr().err
    assert not (tmp_path / "out" / "info.json").exists()


@pytest.mark.parametrize(
    ("names", "ids", "message"),
    [
        ("{}0.jpg", int, "0 of 4 images match one of the 4 that are annotated in"),
        ("val/{}.jpg", int, "the image 'a/1.jpg' and the annotation 'val/1.jpg' have the same"),
        (
            "{}.jpg",
            "n{}".format,
            "2 of 2 annotations .* of no image .* image_id n1, where .*1.jpg.* has the id 1",
        ),
    ],
)
def test_what_does_not_match_is_an_error(tmp_path, photos, capsys, names, ids, message):
    write_coco(tmp_path / "a.json", [(1, SQUARE), (2, SQUARE)], names, ids)
    assert run(photos, *coco(photos)) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_images_without_a_file_are_left_out_or_an_error(tmp_path, photos, capsys, workers):
    labels = np.zeros((6, 8), np.uint8)
    labels[:3] = 1
    for name in ("3_mask", "4_mask", "9_mask"):
        (tmp_path / "labels").mkdir(exist_ok=True)
        Image.fromarray(labels).save(tmp_path / "labels" / f"{name}.PNG")
    options = ["--segmenter", "annotation", "--path", str(tmp_path / "labels"), "--shards", "2"]
    assert run(photos, *options, "--unannotated", "error") == 1
    assert "2 of 4 images have no annotation in" in capsys.readouterr().err
    assert run(photos, *options, "--workers", workers) == 0
    assert regions(tmp_path / "out") == {"b/3.jpg": 1, "b/4.jpg": 1}
    out = " ".join(capsys.readouterr().out.split())
    assert "images with annotations 2 of 4 images without 2; first: a/1.jpg" in out
    assert "annotated, but no image 1; first: 9_mask.PNG" in out
    assert "matched by part of the name 2; first: b/3.jpg" in out


def test_an_image_of_which_there_are_no_results_stays(tmp_path, photos, capsys):
    masks = [{"image_id": name, "segmentation": SQUARE} for name in ("a/1", "2", "3.jpg")]
    (tmp_path / "r.json").write_text(json.dumps(masks))
    assert run(photos, "--segmenter", "proposals", "--path", str(tmp_path / "r.json")) == 0
    assert regions(tmp_path / "out") == {"a/1.jpg": 1, "a/2.jpg": 1, "b/3.jpg": 1, "b/4.jpg": 0}
    out = " ".join(capsys.readouterr().out.split())
    assert "images without 1; first: b/4.jpg; they are kept, with no region" in out


def test_numbers_go_to_images_by_the_file_that_numbers_them(tmp_path, photos, capsys):
    write_coco(tmp_path / "a.json", [(1, SQUARE)])
    masks = [{"image_id": i, "segmentation": SQUARE * i} for i in (4, 4, 2)]
    (tmp_path / "r.json").write_text(json.dumps(masks))
    options = ["--segmenter", "proposals", "--path", str(tmp_path / "r.json")]
    assert run(photos, *options) == 1
    assert "give the file of annotations that numbers" in capsys.readouterr().err
    assert run(photos, *options, "--images", str(tmp_path / "a.json")) == 0
    assert regions(tmp_path / "out") == {"a/1.jpg": 0, "a/2.jpg": 1, "b/3.jpg": 0, "b/4.jpg": 2}
    assert len(read_info(tmp_path / "out").segmenter["images_sha256"]) == 64
    write_coco(tmp_path / "b.json", [(2, SQUARE)])
    assert run(photos, *options, "--images", str(tmp_path / "b.json"), "--split", "val") == 0
    assert list(read_info(tmp_path / "out").splits) == ["train", "val"]


def test_a_dry_run_tells_and_writes_nothing(tmp_path, photos, capsys):
    write_coco(tmp_path / "a.json", [(1, SQUARE), (2, POINTS), (7, SQUARE)])
    (photos / "notes.xyz").write_text("")
    assert export.main(["--source", f"folder:{photos}", *coco(photos), "--dry-run"]) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    lines = {name: text.strip() for name, text in lines.items()}
    assert lines["images"] == f"4 in folder:{photos} (.jpg 4)"
    assert lines["annotations"].startswith("3 in ")
    assert lines["annotations"].endswith("(COCO instances), 2 of them of images in the source")
    assert lines["annotations of no listed image"] == "1; first: 7"
    assert lines["regions of 4 images tried"] == "0.2 (0 to 1)"
    assert lines["annotations left out"].startswith("has a polygon of fewer than three points: 1")
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "a.json"}
    assert export.main(["--source", f"folder:{photos}", *coco(photos)]) == 1
    assert "--out is missing" in capsys.readouterr().err


def test_a_dry_run_tries_label_maps_of_the_source(tmp_path, photos, capsys):
    source = ["--segmenter", "annotation", "--format", "source", "--dry-run"]
    assert run(photos, *source) == 1
    printed = capsys.readouterr()
    assert "its source carries no label map" in printed.out
    assert "the export would stop: of 4 images 4 are broken, more than" in printed.err
    assert export.main(["--source", "scenes:3", *source]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert re.search(r"regions of 3 images tried \d", out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--format coco --path {}/a.json --ignore 1,2", "format coco has no use for --ignore"),
        ("--format coco --path {}/a.json --components", "coco has no use for --components"),
        ("--path {}/photos --crowds", "format instances has no use for --crowds"),
        ("--format source --path {}/photos", "format source has no use for --path"),
        ("--format coco --path {}/a.json --min-matched 50", "--min-matched 50: give a fraction"),
        ("--format coco --path {}/a.json --min-matched nan", "--min-matched nan: give a fraction"),
        ("--format coco --path {}/a.json --max-broken -1", "--max-broken -1: give a fraction"),
        ("--format coco --path {}/a.json --split ../x", "--split '../x': give a plain name"),
        ("--format coco --path {}/a.json --split a/b", "--split 'a/b': give a plain name"),
        ("--format coco --path {}/a.json --split x*", "--split 'x[*]': give a plain name"),
        ("--format coco --path {}/a.json --max-broken nan", "--max-broken nan: give a fraction"),
        ("--format coco --path {}/a.json --max-broken 7 --dry-run", "--max-broken 7: give a frac"),
        ("--format coco --path {}/a.json --split=", "--split '': give a plain name"),
    ],
)
def test_options_without_effect_and_out_of_range_are_refused(
    tmp_path, photos, capsys, options, message
):
    write_coco(tmp_path / "a.json", [(1, SQUARE)] * 4)
    assert run(photos, "--segmenter", "annotation", *options.format(tmp_path).split()) == 1
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("mask", "ending"),
    [
        ("{}_seg.png", "jpg"),
        ("{}.mask.PNG", "png"),
        ("{}.png", "jpg"),
        ("../masks/{}.png", "png"),
    ],
)
def test_masks_may_lie_beside_their_images(tmp_path, mask, ending):
    folder = tmp_path / "set" / "images"
    folder.mkdir(parents=True)
    (tmp_path / "set" / "masks").mkdir()
    for i in (1, 2):
        Image.new("RGB", (8, 6), (99, i, 0)).save(folder / f"{i}.{ending}")
        labels = np.zeros((6, 8), np.uint8)
        labels[1:3, :i] = 255
        Image.fromarray(labels).save(folder / mask.format(i))
    root = tmp_path / "set"
    words = ["--source", f"folder:{root}", "--segmenter", "annotation", "--path", str(root)]
    assert export.main([*words, "--workers", "0", "--out", str(tmp_path / "out")]) == 0
    records = Records(tmp_path / "out")
    areas = {records[i].key[-5:]: records[i].regions.area.tolist() for i in range(len(records))}
    assert areas == {f"1.{ending}": [2], f"2.{ending}": [4]}


@pytest.mark.parametrize("command", [(), ("--dry-run",)])
def test_that_annotations_are_taken_as_upright_is_said(tmp_path, photos, capsys, command):
    exif = Image.Exif()
    for name, exif[0x0112] in (("a/1", 3), ("a/2", 6), ("b/3", 2)):  # of 2 the size tells
        Image.fromarray(np.full((6, 8, 3), 99, np.uint8)).save(photos / f"{name}.jpg", exif=exif)
    write_coco(tmp_path / "c.json", [(1, [SQUARE[0]]), (2, [SQUARE[0]]), (4, [SQUARE[0]])])
    options = ("--segmenter", "annotation", "--format", "coco", "--path", f"{tmp_path}/c.json")
    assert run(photos, *options, *command) == 0
    said = "annotations taken as upright"
    line = next(text for text in capsys.readouterr().out.splitlines() if said in text)
    assert "of 1 images that EXIF turns; first: a/1.jpg; if they are of the images as sto" in line
    assert run(photos, *options, *command, "--stored", "--out", str(tmp_path / "stored")) == 0
    assert said not in capsys.readouterr().out


def test_numbers_that_may_be_a_part_of_the_images_name_are_refused(tmp_path, photos, capsys):
    (photos / "b" / "4.jpg").rename(photos / "b" / "3_1.jpg")
    (tmp_path / "m").mkdir()
    for name in ("1", "2", "3", "3_1"):
        Image.fromarray(np.full((6, 8), 255, np.uint8)).save(tmp_path / "m" / f"{name}.png")
    assert run(photos, "--segmenter", "proposals", "--path", f"{tmp_path}/m") == 1
    assert "3_1.png may be of the image 'b/3_1.jpg' or of one" in capsys.readouterr().err


def test_images_that_are_all_annotations_are_refused(photos, capsys):
    for file in photos.rglob("*.jpg"):
        Image.open(file).save(file.with_suffix(".png"))
        file.unlink()
    assert run(photos, "--segmenter", "annotation", "--path", str(photos)) == 1
    assert "all images of" in capsys.readouterr().err


def test_masks_of_black_and_white_are_no_classes(tmp_path, photos, capsys):
    (tmp_path / "m").mkdir()
    for i in range(1, 5):
        values = np.zeros((6, 8), np.uint8)
        values[2:4, 2:4] = 255
        Image.fromarray(values).save(tmp_path / "m" / f"{i}.png")
    words = ["--segmenter", "annotation", "--path", f"{tmp_path}/m", "--format"]
    assert run(photos, *words, "semantic") == 1
    assert "no values but 0 and 255" in capsys.readouterr().err
    assert run(photos, *words, "instances") == 0


def test_a_folder_without_masks_says_what_it_holds(tmp_path, photos, capsys):
    assert run(photos, "--segmenter", "annotation", "--path", str(photos)) == 1
    assert "holds no instances label maps but 4 .jpg (JPEG changes" in capsys.readouterr().err


def test_annotations_that_are_none_are_counted_with_those_of_no_image(tmp_path, photos, capsys):
    write_coco(tmp_path / "a.json", [(i, SQUARE) for i in (1, 2, 3)])
    content = json.loads((tmp_path / "a.json").read_text())
    content["annotations"] += [None, {"segmentation": SQUARE}]
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert run(photos, *coco(photos)) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "images with annotations 3 of 4 images listed with none 1; first: b/4.jpg" in out
    assert "annotations of no listed image 2; first: none" in out
