"""The layouts in mask_tools/README.md, each made small and exported by the page's own command."""

import json
import pathlib
import re
import shlex

import numpy as np
import pytest
import scipy.io
from PIL import Image
from test_documentation import PAGES, commands

from jaxssl.data.records import Records
from jaxssl.data.rle import encode_mask
from mask_tools import export

NAME = "mask_tools/README.md"
SIZE = (12, 16)
MASK = np.zeros(SIZE, bool)
MASK[2:8, 3:9] = True
LABELS = np.where(MASK, 2, 0).astype(np.uint8)
SQUARE = [[3, 2, 9, 2, 9, 8, 3, 8]]


def layouts():
    """For each row of the tables the segmenter of its section and its options."""
    for section in re.split(r"^## ", PAGES[NAME], flags=re.M):
        if segmenter := re.search(r"^`.*--segmenter (\w+)`, and:", section, flags=re.M):
            for name, options in re.findall(r"^\| (.*?) \|.*\| `(--.*)` \|$", section, flags=re.M):
                yield pytest.param(segmenter[1], shlex.split(options), id=name)


def photos(*names):
    for number, name in enumerate(names):
        pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1], (number, 99, 0)).save(name)


def save(array, *names):
    for name in names:
        pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(name)


def write(content, *names):
    for name in names:
        pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        pathlib.Path(name).write_text(text)


def coco(*names, key="file_name", **annotation):
    images = [{"id": i, key: name, "height": 12, "width": 16} for i, name in enumerate(names)]
    masks = [
        {"id": i, "image_id": i, "iscrowd": 0, "segmentation": SQUARE} | annotation
        for i in range(len(names))
    ]
    return {"images": images, "annotations": masks}


RUN_LENGTHS = {"size": SIZE, "counts": encode_mask(MASK).decode()}
SAM = [{"segmentation": RUN_LENGTHS, "predicted_iou": q, "bbox": [3, 2, 6, 6]} for q in (0.5, 0.95)]


def coco_tree():
    photos("coco/train2017/000001.jpg", "coco/train2017/000002.jpg")
    names = ("000001.jpg", "000002.jpg")
    write(coco(*names), "coco/annotations/instances_train2017.json")
    folder = "coco/annotations/panoptic_train2017"
    save(
        np.dstack([LABELS, 0 * LABELS, 0 * LABELS]), f"{folder}/000001.png", f"{folder}/000002.png"
    )
    segments = coco(*names, segments_info=[{"id": 2}])
    write(segments, f"{folder}.json")
    urls = [f"http://images.cocodataset.org/train2017/{name}" for name in names]
    write(coco(*urls, key="coco_url"), "lvis_v1_train.json")
    write(
        [{"image_id": i, "segmentation": RUN_LENGTHS, "score": 1} for i in (0, 1)], "results.json"
    )


def exports_of_others():
    photos("exported/images/cat.jpg", "exported/images/day 1/dog.png")
    names = ("upload/1a2b3c4d-cat.jpg", r"C:\set\day 1\dog.png")
    write(coco(*names, iscrowd=1), "exported/annotations.json")


def voc():
    root = "VOCdevkit/VOC2012"
    photos(*(f"{root}/JPEGImages/2007_{i}.jpg" for i in range(5)))
    for folder in ("SegmentationObject", "SegmentationClass"):
        save(LABELS, f"{root}/{folder}/2007_1.png", f"{root}/{folder}/2007_3.png")
    sides = dict(zip(("xmin", "ymin", "xmax", "ymax"), (4, 3, 9, 8), strict=True))
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides.items())
    boxes = f"<annotation><object><bndbox>{box}</bndbox></object></annotation>"
    write(boxes, *(f"{root}/Annotations/2007_{i}.xml" for i in range(5)))


def cityscapes():
    for part, city in (("train", "bonn"), ("val", "ulm")):
        photos(
            *(f"cityscapes/leftImg8bit/{part}/{city}/{city}_{i}_leftImg8bit.png" for i in (0, 1))
        )
        for i in (0, 1):
            stem = f"cityscapes/gtFine/{part}/{city}/{city}_{i}_gtFine"
            save(np.where(MASK, 26000, 7).astype(np.uint16), f"{stem}_instanceIds.png")
            save(np.where(MASK, 26, 7).astype(np.uint8), f"{stem}_labelIds.png")
            save(np.dstack([LABELS] * 3), f"{stem}_color.png")


def ade20k():
    for part in ("training", "validation"):
        names = [f"{part}/ADE_{part[:5]}_{i:08}" for i in (1, 2)]
        photos(*(f"ADEChallengeData2016/images/{name}.jpg" for name in names))
        save(LABELS, *(f"ADEChallengeData2016/annotations/{name}.png" for name in names))
    stem = "ADE20K/images/training/urban/street/ADE_train_00000001"
    photos(f"{stem}.jpg")
    save(np.dstack([LABELS] * 3), f"{stem}_seg.png", f"{stem}_parts_1.png")
    save(LABELS, f"{stem}/instance_000_ADE_train_00000001.png")


def bsds():
    for part in ("train", "val"):
        photos(f"BSDS500/data/images/{part}/{part}1.jpg")
        map_ = np.zeros((1, 1), [("Segmentation", object)])
        map_["Segmentation"][0, 0] = LABELS.astype(np.uint16) + 1
        annotators = np.empty((1, 2), object)
        annotators[0, :] = [map_, map_]
        folder = pathlib.Path("BSDS500/data/groundTruth", part)
        folder.mkdir(parents=True)
        scipy.io.savemat(folder / f"{part}1.mat", {"groundTruth": annotators})
    photos("SBD/dataset/img/2008_1.jpg")
    pathlib.Path("SBD/dataset/inst").mkdir()
    scipy.io.savemat("SBD/dataset/inst/2008_1.mat", {"GTinst": {"Segmentation": LABELS}})


def camvid():
    photos(*(f"camvid/{part}/0001TP_{i}.png" for part in ("train", "val") for i in (1, 2)))
    folders = ("camvid/trainannot", "camvid/valannot")
    names = [f"{folder}/0001TP_{i}.png" for folder in folders for i in (1, 2)]
    save(np.where(MASK, 8, 11).astype(np.uint8), *names)


def bdd100k():
    numbers = np.zeros((*SIZE, 4), np.uint8)  # class, attributes, and of the object in two bytes
    numbers[LABELS > 0, 0] = 3
    numbers[..., 3] = LABELS
    for part in ("train", "val"):
        photos(f"bdd100k/images/10k/{part}/{part}-1.jpg")
        save(numbers, f"bdd100k/labels/ins_seg/bitmasks/{part}/{part}-1.png")


def davis():
    names = ("480p/bear/00000", "480p/bear/00001", "480p/camel/00000")
    photos(*(f"DAVIS/JPEGImages/{name}.jpg" for name in names))
    save(LABELS, *(f"DAVIS/Annotations/{name}.png" for name in names))


def plain_folders():
    photos("data/images/1.jpg", "data/images/2.jpg", "beside/1.jpg", "beside/2.jpg")
    save(LABELS, "data/masks/1.png", "data/masks/2.png", "beside/1_mask.png", "beside/2_mask.png")


def of_programs():
    photos("images/1.jpg", "images/2.jpg", "sa_000001/sa_1.jpg", "labelme/1.jpg")
    write(SAM, "sam_json/1.json", "sam_json/2.json")
    for i in (1, 2):
        save(MASK * np.uint8(255), f"sam_png/{i}/0.png", f"sam_png/{i}/1.png")
        write("id,predicted_iou\n0,0.9\n1,0.8\n", f"sam_png/{i}/metadata.csv")
        pathlib.Path("arrays").mkdir(exist_ok=True)
        np.savez(f"arrays/{i}.npz", masks=np.where(MASK, 3.0, -3.0)[None], scores=np.ones(1))
        photos(f"yolo/images/train/{i}.jpg")
        write("0 0.2 0.2 0.6 0.2 0.6 0.7\n", f"yolo/labels/train/{i}.txt")
        photos(f"stage1_train/a{i}/images/a{i}.png")
        save(MASK * np.uint8(255), *(f"stage1_train/a{i}/masks/{n}.png" for n in ("c0", "d1")))
    head = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    write(head + "".join(f"{i}.jpg,16,12,cat,3,2,9,8\n" for i in (1, 2)), "boxes.csv")
    about = {"image_id": 1, "file_name": "sa_1.jpg", "height": 12, "width": 16}
    write({"image": about, "annotations": SAM}, "sa_000001/sa_1.json")
    shapes = [{"label": "a", "points": [[3, 2], [9, 2], [9, 8]], "shape_type": "polygon"}]
    write({"shapes": shapes, "imageHeight": 12, "imageWidth": 16}, "labelme/1.json")


@pytest.fixture(scope="module", autouse=True)
def trees(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trees"))
        for make in (coco_tree, exports_of_others, voc, cityscapes, ade20k, bsds, camvid, davis):
            make()
        bdd100k()
        plain_folders()
        of_programs()
        yield


@pytest.mark.parametrize(("segmenter", "options"), list(layouts()))
def test_layout(segmenter, options, capsys, tmp_path):
    words = ["--segmenter", segmenter, *options]
    assert export.main([*words, "--dry-run"]) == 0
    assert export.main([*words, "--out", str(tmp_path / "out"), "--workers", "0"]) == 0
    records = Records(tmp_path / "out")
    for index in range(len(records)):
        assert len(records[index].regions), capsys.readouterr().out


def test_the_page_has_layouts_and_a_dry_run():
    assert len(list(layouts())) == 26
    (words,) = [words for words in commands(NAME) if "--dry-run" in words]
    assert words[:3] == ["python", "-m", "mask_tools.export"]
    assert export.main(words[3:]) == 0
