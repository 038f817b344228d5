"""A file or a folder of masks for each image, as SAM and others leave them."""

import base64
import io
import json
import pathlib
import pickle

import numpy as np
import pytest
from PIL import Image

from jaxssl.data.rle import decode_mask, encode_mask, mask_areas
from jaxssl.data.source import BrokenImage, Example
from jaxssl.errors import UserError
from mask_tools.segmenters.proposals import Proposals

SIZE = (10, 20)
EXAMPLE = Example("town/7.jpg", np.zeros((*SIZE, 3), np.uint8))
SMALL, LARGE = np.zeros((2, *SIZE), bool)
SMALL[2:5, 4:8] = True
LARGE[1:9, 5:15] = True
COCO = [{"size": [*SIZE], "counts": encode_mask(m).decode()} for m in (SMALL, LARGE)]
BOXES = [[[4, 2], [8, 2], [8, 5], [4, 5]], [[5, 1], [15, 1], [15, 9], [5, 9]]]
SAM = [{"segmentation": s, "predicted_iou": q} for s, q in zip(COCO, (0.5, 0.9), strict=True)]


def find(folder, **options):
    return Proposals(path=str(folder), **options)(EXAMPLE)


def assert_both(found, scores=(1.0, 1.0)):
    """The masks, of which the first has the larger score, or the order of the file."""
    order = [SMALL, LARGE] if scores[0] == 1 else [LARGE, SMALL]
    np.testing.assert_array_equal([decode_mask(r.rle, r.size) for r in found], order)
    assert [r.score for r in found] == list(scores)


@pytest.mark.parametrize("name", ["7.json", "town/7.json", "town/7.jpg.json", "7_masks.JSON"])
def test_sam_in_a_json_file_for_each_image(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(SAM))
    assert_both(find(tmp_path), (0.9, 0.5))
    assert len(find(tmp_path, min_score=0.6)) == 1


@pytest.mark.parametrize("key", ["../7.jpg", "a/../../7.jpg", "{}/7.jpg"])
def test_masks_of_other_folders_are_not_read_whatever_the_name_of_an_image(tmp_path, key):
    (tmp_path / "7.json").write_text(json.dumps(SAM))
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "8.json").write_text(json.dumps(SAM))
    example = Example(key.format(tmp_path), EXAMPLE.image)
    with pytest.raises(BrokenImage, match="has no masks in"):
        Proposals(path=str(tmp_path / "masks"))(example)


@pytest.mark.parametrize(
    "content",
    [
        {"image": {"width": 20, "height": 10}, "annotations": SAM},
        [s | {"segmentation": m.tolist()} for s, m in zip(SAM, (SMALL, LARGE), strict=True)],
        {"masks": [{"mask": s["segmentation"], "score": s["predicted_iou"]} for s in SAM]},
    ],
)
def test_sam_in_other_json(tmp_path, content):
    (tmp_path / "7.json").write_text(json.dumps(content))
    assert_both(find(tmp_path), (0.9, 0.5))


@pytest.mark.parametrize(
    "content",
    [
        {"shapes": [{"points": b, "shape_type": "polygon"} for b in BOXES]},
        {"objects": [{"polygon": b, "label": "car"} for b in BOXES], "imgHeight": 10},
    ],
)
def test_polygons_in_json(tmp_path, content):
    (tmp_path / "7.json").write_text(json.dumps(content))
    assert_both(find(tmp_path))
    assert [r.fault for r in find(tmp_path, min_score=0.1)] == ["has no score"] * 2


def test_shapes_that_are_no_polygons_are_at_fault(tmp_path):
    shapes = [{"points": BOXES[0], "shape_type": kind} for kind in ("polygon", "circle")]
    content = {"shapes": shapes, "imageHeight": 20, "imageWidth": 10}
    (tmp_path / "7.json").write_text(json.dumps(content))
    faults = [region.fault for region in find(tmp_path)]
    assert faults == ["is not of its image's size: 20 x 10", "is a circle, no polygon"]


def test_rectangles_of_labelme_and_of_voc_are_boxes_alone(tmp_path):
    rectangle = np.zeros((10, 20), bool)
    rectangle[3:7, 8:12] = True
    shape = {"points": [[12, 7], [8, 3]], "shape_type": "rectangle"}
    broken = {"points": [[12, 7]], "shape_type": "rectangle"}
    content = json.dumps({"shapes": [shape, broken], "imageHeight": 10, "imageWidth": 20})
    boxes = "<bndbox><xmin>9</xmin><ymin>4</ymin><xmax>12</xmax><ymax>7.0</ymax></bndbox>"
    damaged = "<object><bndbox><xmin>x</xmin></bndbox></object>"
    size = "<size><width>20.0</width><height>10</height></size>"
    voc = f"<annotation>{size}<object><name>a</name>{boxes}</object>{damaged}</annotation>"
    for folder, name, text in (("labelme", "7.json", content), ("voc", "7.xml", voc)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
        faults = [region.fault for region in find(tmp_path / folder)]
        assert faults == ["has no mask, a box only", "has a box that is not x, y, width and height"]
        taken, _ = find(tmp_path / folder, boxes=True)
        np.testing.assert_array_equal(decode_mask(taken.rle, taken.size), rectangle)
    (tmp_path / "voc" / "7.xml").write_text(voc[:-9])
    with pytest.raises(BrokenImage, match=r"7\.xml .*save it in Pascal VOC's format"):
        find(tmp_path / "voc")
    Image.fromarray(SMALL).save(tmp_path / "voc" / "7_0.png")  # masks, if there are any
    (mask,) = find(tmp_path / "voc")
    np.testing.assert_array_equal(decode_mask(mask.rle, mask.size), SMALL)


def test_labelmes_groups_and_masks(tmp_path):
    parts = [BOXES[0], [[x + 4, y] for x, y in BOXES[0]], BOXES[1]]
    shapes = [{"label": "a", "points": b, "shape_type": "polygon", "group_id": 0} for b in parts]
    shapes[2]["group_id"] = None
    buffer = io.BytesIO()
    Image.fromarray(np.ones((3, 4), np.uint8)).save(buffer, "PNG")
    patch = {"shape_type": "mask", "mask": base64.b64encode(buffer.getvalue()).decode()}
    shapes += [patch | {"points": [[4.0, 2], [7, 4]]}, patch | {"points": [[18, 2], [21, 4]]}]
    shapes += [{"shape_type": "mask", "points": [[4, 2]]}, patch | {"mask": "iVBORw0KGgo="}]
    corners = ([-5, 2], [4, -4], [-0.6, 2], [float("inf"), 2], [float("nan"), 2], [1e30, 2])
    shapes += [patch | {"points": [corner]} for corner in corners]
    (tmp_path / "7.json").write_text(json.dumps({"shapes": shapes}))
    group, large, small, *others = find(tmp_path)
    assert_both([small, large])
    assert mask_areas([group.rle]).tolist() == [24]
    assert {r.fault for r in others} == {"has a mask that is damaged, or not inside"}
    assert len(others) == 9


@pytest.mark.parametrize("flat", [False, True])
def test_a_png_file_for_each_mask(tmp_path, flat):
    for number, mask in enumerate((SMALL, LARGE)):
        path = tmp_path / (f"7_{number + 9}.png" if flat else f"town/7/{number + 9}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    assert_both(find(tmp_path))
    if not flat:
        table = "id,area,predicted_iou\n9,12,0.5\n10,80,0.9\n"
        (path.parent / "metadata.csv").write_text(table, "utf-8-sig")
        assert_both(find(tmp_path), (0.9, 0.5))
    for damaged in (b"\x89PNG", b""):  # the image keeps the other
        path.write_bytes(damaged)
        whole, broken = find(tmp_path)
        np.testing.assert_array_equal(decode_mask(whole.rle, SIZE), SMALL)
        assert (broken.fault, broken.name) == ("cannot be decoded", str(path))


def test_label_maps_are_not_masks(tmp_path):
    for number in (1, 2):
        Image.fromarray(SMALL).save(tmp_path / f"{number}.png")
    with pytest.raises(UserError, match="or --segmenter annotation if they are label maps"):
        find(tmp_path)


def test_yolos_text(tmp_path):
    def line(points, *after):
        return " ".join(map(str, [0, *(np.array(points) / (20, 10)).ravel(), *after])) + "\n"

    (tmp_path / "7.txt").write_text(line(BOXES[0]) + "\n" + line(BOXES[1]))
    assert_both(find(tmp_path))
    (tmp_path / "7.txt").write_text(line(BOXES[0], 0.5) + line(BOXES[1], 0.9), "utf-8-sig")
    assert_both(find(tmp_path), (0.9, 0.5))
    (tmp_path / "7.txt").write_text("0 0.5 0.5 0.1 0.1\n1 a b\n3 100 100 90 90 80 100\n")
    box, *others = (region.fault for region in find(tmp_path))
    assert box == "has no mask, a box only"
    assert others == ["is no line of a class and shares of width and height"] * 2
    (tmp_path / "7.txt").write_text("0 0.5 0.5 0.2 0.4 0.9\n")
    (taken,) = find(tmp_path, boxes=True)
    rectangle = np.zeros((10, 20), bool)
    rectangle[3:7, 8:12] = True
    np.testing.assert_array_equal(decode_mask(taken.rle, taken.size), rectangle)
    assert (taken.fault, taken.score) == ("", 0.9)


@pytest.mark.parametrize("names", [("masks", "scores"), ("segmentation", "iou_predictions")])
def test_arrays(tmp_path, names):
    logits = np.stack([SMALL, LARGE])[:, None] * 9.0 - 4
    np.savez_compressed(
        tmp_path / "7.npz", **dict(zip(names, (logits, [[0.5], [0.9]]), strict=True))
    )
    assert_both(find(tmp_path), (0.9, 0.5))
    (tmp_path / "7.npz").unlink()
    np.save(tmp_path / "7.npy", np.moveaxis(logits[:, 0], 0, -1))
    assert_both(find(tmp_path))


def test_texts_beside_arrays_and_files_beside_masks_are_passed_over(tmp_path):
    for name in ("7", "8"):
        np.savez(tmp_path / f"{name}.npz", masks=np.stack([SMALL, LARGE]), classes=["a", "b"])
    (tmp_path / "log.txt").write_text("done")
    assert_both(find(tmp_path))


def test_json_with_a_mark_of_its_encoding_or_in_another(tmp_path):
    text = json.dumps(
        {"label": "Bär", "shapes": [{"points": b} for b in BOXES]}, ensure_ascii=False
    )
    (tmp_path / "7.json").write_text(text, encoding="utf-8-sig")
    assert_both(find(tmp_path))
    (tmp_path / "7.json").write_text(text, encoding="latin-1")
    with pytest.raises(BrokenImage, match=r"7.json is damaged: .*; .* save it in UTF-8"):
        find(tmp_path)


def test_an_archive_of_unknown_arrays(tmp_path):
    np.savez(tmp_path / "7.npz", a=SMALL, b=LARGE)
    with pytest.raises(BrokenImage, match=r"none of the arrays a, b in .* is called masks"):
        find(tmp_path)


@pytest.mark.parametrize("name", ["7.pkl", "7.pt", "7.npz", "7.npy"])
def test_pickles_are_refused_in_words(tmp_path, name):
    path = pathlib.Path(tmp_path, name)
    content = np.array([{"masks": SMALL}])
    if name == "7.npz":
        np.savez(path, masks=content)
    elif name == "7.npy":
        np.save(path, content)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r"pickles run code .* np.savez\(KEY.npz, masks="):
        find(tmp_path)


def test_files_of_two_kinds_and_of_none(tmp_path):
    with pytest.raises(UserError, match="holds no masks; give a folder of KEY.npz"):
        find(tmp_path)
    (tmp_path / "7.json").write_text("[]")
    (tmp_path / "7.txt").write_text("")
    with pytest.raises(UserError, match=r"files of several kinds, .json and .txt"):
        find(tmp_path)


def test_a_folder_of_masks_for_each_image(tmp_path):
    for name in ("7", "8"):
        (tmp_path / name / "masks").mkdir(parents=True)
        (tmp_path / name / "images").mkdir()
        Image.new("RGB", SIZE[::-1]).save(tmp_path / name / "images" / f"{name}.png")
        for mask, word in zip((SMALL, LARGE), ("b0", "c1"), strict=True):
            Image.fromarray(mask * np.uint8(255)).save(tmp_path / name / "masks" / f"{word}.png")
    example = Example("7/images/7.png", EXAMPLE.image)
    assert_both(Proposals(path=str(tmp_path))(example))


def test_a_text_beside_masks_is_none(tmp_path):
    (tmp_path / "README.txt").write_text("masks of 2024")
    for i, mask in enumerate((SMALL, LARGE)):
        Image.fromarray(mask * np.uint8(255)).save(tmp_path / f"7_{i}.png")
    assert_both(find(tmp_path))
