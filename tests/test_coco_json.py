"""COCO's JSON as it is in the wild: names, ids, sizes, crowds, of one kind given as another."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxssl.data.source import Example
from jaxssl.errors import UserError
from mask_tools.coco_json import open_instances, open_results
from mask_tools.coco_panoptic import open_panoptic

EXAMPLE = Example("a.jpg", np.zeros((6, 8, 3), np.uint8))
SQUARE = [[1, 1, 4, 1, 4, 4, 1, 4]]
IMAGE = {"id": 1, "file_name": "a.jpg", "height": 6, "width": 8}


def write(folder, content, name="file.json"):
    (folder / name).write_text(json.dumps(content))
    return str(folder / name)


def instances(folder, annotations, images=(IMAGE,)):
    listed = [{"id": i, "segmentation": SQUARE} | each for i, each in enumerate(annotations)]
    return write(folder, {"images": list(images), "annotations": listed})


@pytest.mark.parametrize(("listed", "given"), [(1, "1"), ("1", 1), (1.0, "0001"), ("x", "x")])
def test_ids_are_the_same_as_text_and_as_numbers(tmp_path, listed, given):
    path = instances(tmp_path, [{"image_id": given}], [IMAGE | {"id": listed}])
    opened = open_instances(path)
    assert (opened.names, opened.counts.tolist(), opened.strays) == (("a.jpg",), [1], ())
    (region,) = opened.read(0, EXAMPLE)
    assert (region.name, region.fault, region.size) == ("annotation 0", "", (6, 8))


@pytest.mark.parametrize("key", ["coco_url", "path", "name"])
def test_images_may_have_no_file_name_and_no_size(tmp_path, key):
    images = [{"id": 1, key: "http://host/val/a.jpg"}, {"id": 2}]
    opened = open_instances(instances(tmp_path, [{"image_id": 1}], images))
    assert opened.names == ("http://host/val/a.jpg",)
    assert opened.read(0, EXAMPLE)[0].size == (6, 8)
    with pytest.raises(UserError, match="names none of its images"):
        open_instances(instances(tmp_path, [{"image_id": 1}], [{"id": 1}]))


def test_annotations_of_no_image_are_counted(tmp_path):
    opened = open_instances(instances(tmp_path, [{"image_id": i} for i in (1, 2, 2)]))
    assert (opened.counts.tolist(), opened.strays) == ([1], ("2", "2"))


def test_two_images_of_one_number_are_refused(tmp_path):
    path = instances(tmp_path, [{"image_id": 1}], [IMAGE, IMAGE | {"file_name": "b.jpg"}])
    with pytest.raises(UserError, match=r"numbers two images 1: a.jpg and b.jpg"):
        open_instances(path)
    assert open_instances(instances(tmp_path, [{"image_id": 1}], [IMAGE] * 2)).names == ("a.jpg",)


@pytest.mark.parametrize(
    ("flags", "option", "kept"),
    [((1, 0, 0), False, 2), ((1, 1, 1), False, 3), ((1, 0, 1), True, 3), ((0, 0, 0), False, 3)],
)
def test_crowds_are_left_out_unless_all_are_flagged(tmp_path, flags, option, kept):
    path = instances(tmp_path, [{"image_id": 1, "iscrowd": flag} for flag in flags])
    opened = open_instances(path, crowds=option)
    found = opened.read(0, EXAMPLE)
    assert sum(not region.fault for region in found) == kept
    assert len(found) == 3
    assert bool(opened.notes) == (all(flags) and not option)


@pytest.mark.parametrize("flag", ["0", "false", 0.0, None, False])
def test_flags_that_say_no(tmp_path, flag):
    path = instances(tmp_path, [{"image_id": 1, "iscrowd": flag}, {"image_id": 1, "iscrowd": "1"}])
    assert [r.fault for r in open_instances(path).read(0, EXAMPLE)] == ["", "is a crowd (iscrowd)"]


def panoptic(folder, segments, image="a.jpg", png="a.png"):
    ids = np.zeros((6, 8, 3), np.uint8)
    ids[:3, :, 0], ids[3:, :4, 1] = 5, 1
    (folder / "file").mkdir(exist_ok=True)
    (folder / "file" / png).parent.mkdir(exist_ok=True)
    Image.fromarray(ids).save(folder / "file" / png)
    images = [IMAGE | {"file_name": image}, {"id": 2, "file_name": "lost.jpg"}]
    named = [{"image_id": i, "file_name": f} for i, f in ((1, png), (2, "lost.png"))]
    annotations = [each | {"segments_info": segments} for each in named]
    return write(folder, {"images": images, "annotations": annotations})


def test_segments_are_found_by_the_name_of_their_file(tmp_path):
    segments = [{"id": 5}, {"id": 256, "iscrowd": 1}, {"id": 9}]
    path = panoptic(tmp_path, segments, "a_gtFine_leftImg8bit.png", "a_gtFine_panoptic.png")
    opened = open_panoptic(path)
    assert opened.names == ("a_gtFine_leftImg8bit.png",)
    assert opened.notes == (f"1 images of {path} have no PNG in {tmp_path / 'file'}",)
    found = opened.read(0, EXAMPLE)
    faults = ["", "is a crowd (iscrowd)", "has a mask that covers no pixel"]
    assert [region.fault for region in found] == faults
    everything = open_panoptic(panoptic(tmp_path, [s | {"iscrowd": 1} for s in segments]))
    assert sum(not region.fault for region in everything.read(0, EXAMPLE)) == 2


def test_what_is_no_list_of_segments_is_a_fault_and_ids_may_be_text(tmp_path):
    ids = [{"id": "5"}, {"id": 256.0}, {"id": None}]
    found = open_panoptic(panoptic(tmp_path, ids)).read(0, EXAMPLE)
    assert [region.fault for region in found] == ["", "", "has a mask that covers no pixel"]
    path = panoptic(tmp_path, {"5": {"id": 5}})
    assert [r.fault for r in open_panoptic(path).read(0, EXAMPLE)] == ["has no list segments_info"]


def test_segments_that_the_file_does_not_list_are_counted_and_zero_is_void(tmp_path):
    path = panoptic(tmp_path, [{"id": 5}, {"id": 0}])
    listed, void, other = open_panoptic(path).read(0, EXAMPLE)
    assert (listed.fault, void.fault) == ("", "")
    assert (other.fault, other.name) == ("is in the PNG, and not in the JSON", "segment 256")


def test_files_of_segments_of_one_name_are_told_apart_or_refused(tmp_path):
    path = panoptic(tmp_path, [{"id": 5}, {"id": 256}], png="val/a.png")
    (tmp_path / "file" / "train").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "file" / "train" / "a.png")
    assert [region.fault for region in open_panoptic(path).read(0, EXAMPLE)] == ["", ""]
    content = json.loads((tmp_path / "file.json").read_text())
    content["annotations"][0]["file_name"] = "a.png"
    with pytest.raises(UserError, match=r"'a.png' fits .* 'train/a.png' and 'val/a.png' equally"):
        open_panoptic(write(tmp_path, content))


def test_a_file_of_another_kind_is_named(tmp_path):
    path = panoptic(tmp_path, [{"id": 5}])
    alone = write(tmp_path, json.loads((tmp_path / path).read_text()), "alone.json")
    with pytest.raises(UserError, match="holds no COCO instances; give --format panoptic"):
        open_instances(path)
    with pytest.raises(UserError, match="holds no COCO panoptic; give --format coco"):
        open_panoptic(instances(tmp_path, [{"image_id": 1}]))
    with pytest.raises(UserError, match="there is no folder .*alone with the PNG files"):
        open_panoptic(alone)
    (tmp_path / "alone").mkdir()
    with pytest.raises(UserError, match="alone has no PNG file of an image that"):
        open_panoptic(alone)


def test_segments_may_be_unpacked_into_a_folder_of_their_own(tmp_path):
    path = panoptic(tmp_path, [{"id": 5}, {"id": 256}])
    folder = tmp_path / "file"
    folder.rename(tmp_path / "archive")
    folder.mkdir()
    (tmp_path / "archive").rename(folder / "file")
    assert [region.fault for region in open_panoptic(path).read(0, EXAMPLE)] == ["", ""]


def results(folder, *images):
    masks = [{"image_id": image, "segmentation": SQUARE, "score": 0.5} for image in images]
    return write(folder, masks, "results.json")


def test_results_are_of_names_or_of_the_numbers_in_a_file(tmp_path):
    named = open_results(results(tmp_path, "a", "b/a.jpg", "007"), "")
    assert (named.names, named.counts.tolist()) == (("a", "b/a.jpg", "007"), [1, 1, 1])
    numbered = open_results(results(tmp_path, "1", "01", "1"), "")
    assert (numbered.names, numbered.counts.tolist()) == (("1", "01"), [2, 1])
    path = results(tmp_path, 2, "1", 2)
    with pytest.raises(UserError, match=r"are of the image 2: give .* --images FILE.json"):
        open_results(path, "")
    images = [IMAGE, {"id": "2", "file_name": "b.jpg"}, {"id": 3, "file_name": "c.jpg"}]
    file = instances(tmp_path, [{"image_id": 1}], images)
    opened = open_results(path, file)
    assert (opened.names, opened.counts.tolist()) == (("a.jpg", "b.jpg", "c.jpg"), [1, 2, 0])
    with pytest.raises(UserError, match="has no list of images"):
        open_results(path, path)


def test_masks_by_name_in_one_object_and_files_with_images(tmp_path):
    by_name = {"a.jpg": [{"segmentation": SQUARE}] * 2, "b.jpg": [{"segmentation": SQUARE}]}
    opened = open_results(write(tmp_path, by_name), "")
    assert (opened.names, opened.counts.tolist()) == (("a.jpg", "b.jpg"), [2, 1])
    assert open_results(instances(tmp_path, [{"image_id": 1}]), "").names == ("a.jpg",)


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_names_that_are_keys_may_have_any_letter(tmp_path, ensure_ascii):
    by_name = {"größe_é.jpg": [{"segmentation": SQUARE}]}
    (tmp_path / "a.json").write_text(json.dumps(by_name, ensure_ascii=ensure_ascii))
    assert open_results(str(tmp_path / "a.json"), "").names == ("größe_é.jpg",)


def test_a_file_that_is_written_anew_while_it_is_read_is_named(tmp_path):
    path = instances(tmp_path, [{"image_id": 1}])
    opened = open_instances(path)
    (tmp_path / "file.json").write_text("[" + "x" * 500)
    with pytest.raises(UserError, match=r"file.json has changed while it was read; repeat the com"):
        opened.read(0, EXAMPLE)


@pytest.mark.parametrize("content", [[{"segmentation": SQUARE}], [7], [], {}, {"images": []}])
def test_what_is_no_list_of_results(tmp_path, content):
    with pytest.raises(UserError, match="is no list of COCO results with an image_id each"):
        open_results(write(tmp_path, content), "")
