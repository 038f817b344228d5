"""Exports whose annotations have other contents since, of the same names and sizes."""

import functools
import json
import os
import re

import numpy as np
import pytest
from PIL import Image

import mask_tools
from jaxssl.data.records import Records, read_info
from jaxssl.errors import UserError
from mask_tools import dataset_export

LABELS = np.zeros((12, 16), np.uint8)
LABELS[2:6, 3:9] = 1
LABELS[8:, 10:] = 2
OTHERS = LABELS.clip(0, 1)


def save(path, content, seconds=0):
    """Text, an array, or a picture, which takes as many bytes whatever it shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    elif path.suffix == ".npy":
        np.save(path, content)
    else:
        Image.fromarray(content).save(path, compress_level=0)
    os.utime(path, (seconds, seconds))


def of_arrays(root):
    for name in ("1", "2"):
        save(root / f"masks/{name}.npy", LABELS[None] > 0)
    return mask_tools.Proposals(f"{root}/masks"), "masks/1.npy", LABELS[None] > 1


def of_scores(root):
    for name in ("1", "2"):
        save(root / f"masks/{name}/0.png", LABELS.clip(0, 1))
        save(root / f"masks/{name}/metadata.csv", "id,predicted_iou\n0,0.5\n")
    return (
        mask_tools.Proposals(f"{root}/masks"),
        "masks/1/metadata.csv",
        "id,predicted_iou\n0,0.8\n",
    )


def of_results(root):
    masks = [[[2, 2, 7, 2, 7, 7, 2, 7]], [[2, 2, 7, 2, 7, 7, 2, 8]]]
    texts = [
        json.dumps([{"image_id": name, "segmentation": mask} for name in ("1", "2")])
        for mask in masks
    ]
    save(root / "results.json", texts[0])
    return mask_tools.Proposals(f"{root}/results.json"), "results.json", texts[1]


def of_label_maps(root):
    for name in ("1", "2"):
        save(root / f"maps/{name}.png", LABELS)
    return mask_tools.Annotation(path=f"{root}/maps"), "maps/1.png", OTHERS


def of_panoptic_pictures(root):
    images = [{"id": number, "file_name": f"{number}.png"} for number in (1, 2)]
    segments = [{"image_id": n, "segments_info": [{"id": 1}, {"id": 2}]} for n in (1, 2)]
    save(root / "p.json", json.dumps({"images": images, "annotations": segments}))
    for name in ("1", "2"):
        save(root / f"p/{name}.png", LABELS)
    return mask_tools.Annotation("panoptic", f"{root}/p.json"), "p/1.png", OTHERS


def of_the_source(root, segmenter):
    for name in ("1", "2"):
        save(root / f"annotations/training/{name}.png", LABELS)
    return segmenter, "annotations/training/1.png", OTHERS


def of_classes(root):
    save(root / "images/classes.csv", "name,label\n1.png,a\n2.png,b\n")
    return mask_tools.Grid(), "images/classes.csv", "name,label\n1.png,b\n2.png,a\n"


KINDS = {
    "arrays": of_arrays,
    "scores": of_scores,
    "results": of_results,
    "label maps": of_label_maps,
    "panoptic": of_panoptic_pictures,
    "source": functools.partial(of_the_source, segmenter=mask_tools.Annotation("source")),
    "kept": functools.partial(of_the_source, segmenter=mask_tools.Grid()),
    "classes": of_classes,
}


@pytest.fixture(params=KINDS)
def made(request, tmp_path):
    """An export of two images: the call, the file that annotates the first, and other contents."""
    for name in ("1", "2"):
        save(tmp_path / f"images/training/{name}.png", LABELS * 99)
    segmenter, file, content = KINDS[request.param](tmp_path)
    source = "" if request.param in ("source", "kept") else "/images"
    source += "?labels=classes.csv" * (request.param == "classes")

    def run(**options):
        return mask_tools.segment_dataset(
            f"folder:{tmp_path}{source}", segmenter, tmp_path / "out", workers=0, **options
        )

    return run, tmp_path / file, content


def test_a_complete_export_is_not_one_of_other_annotations(made):
    run, path, content = made
    assert run().statistics
    assert run(split="val").statistics
    os.utime(path, (1, 1))  # as of a copy
    assert run().statistics is None
    size = path.stat().st_size
    save(path, content)
    assert path.stat().st_size == size
    for split in ("train", "val"):
        with pytest.raises(UserError, match="out was exported with another content of annotations"):
            run(split=split)
    assert run(split="test").statistics


def test_annotations_of_other_images_may_change(tmp_path):
    save(tmp_path / "images/1.png", LABELS * 99)
    segmenter, file, content = of_label_maps(tmp_path)

    def run():
        source, out = f"folder:{tmp_path}/images", tmp_path / "out"
        return mask_tools.segment_dataset(source, segmenter, out, workers=0)

    assert run().statistics
    save(tmp_path / file.replace("1", "2"), content)
    assert run().statistics is None


def test_an_export_that_noted_no_contents_is_taken_with_a_warning(made, tmp_path, caplog):
    run, path, content = made
    run()
    info = json.loads((tmp_path / "out/info.json").read_text())
    del info["segmenter"]["annotations"]  # as earlier versions wrote it
    (tmp_path / "out/info.json").write_text(json.dumps(info))
    caplog.clear()
    if path.name == "results.json":  # a checksum of its content has always been there
        assert run().statistics is None
        assert not caplog.messages
        return
    save(path, content)
    assert run().statistics is None
    (message,) = caplog.messages
    assert "out is taken as it is, since its export noted no contents of annotations; if" in message


def test_an_export_under_way_makes_files_again_where_annotations_have_changed(tmp_path):
    for name in ("1", "2"):
        save(tmp_path / f"images/{name}.png", LABELS * 99)
    segmenter, file, content = of_panoptic_pictures(tmp_path)

    def run(index):
        source, out = f"folder:{tmp_path}/images", tmp_path / "out"
        return mask_tools.segment_dataset(
            source, segmenter, out, shards=2, workers=0, num_shards=2, shard_index=index
        )

    run(0)
    save(tmp_path / file, content, seconds=1)
    assert not run(1).is_complete
    assert run(0).is_complete
    assert [len(example.regions) for example in Records(tmp_path / "out")] == [1, 2]


def export_halves(folder, segmenter, out="out"):
    """Two jobs of an array, as two functions."""

    def run(index):
        return mask_tools.segment_dataset(
            f"folder:{folder}/images",
            segmenter,
            folder / out,
            shards=2,
            workers=0,
            num_shards=2,
            shard_index=index,
        )

    return functools.partial(run, 0), functools.partial(run, 1)


def test_annotations_in_linked_folders_count_and_hidden_files_do_not(tmp_path):
    for name in ("1", "2"):
        save(tmp_path / f"images/{name}.png", LABELS * 99)
        save(tmp_path / f"elsewhere/{name}.png", LABELS)
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/train").symlink_to(tmp_path / "elsewhere")
    first, second = export_halves(tmp_path, mask_tools.Annotation(path=f"{tmp_path}/maps"))
    first()
    for name in ("1", "2"):
        save(tmp_path / f"elsewhere/{name}.png", OTHERS, seconds=1)
    assert not second().is_complete  # the first half is of the former ones
    assert first().is_complete
    assert [len(example.regions) for example in Records(tmp_path / "out")] == [1, 1]
    (tmp_path / "maps/.DS_Store").write_text("of a Mac")
    assert first().is_complete


def test_an_export_under_way_goes_on_with_copies_of_its_images(tmp_path):
    for name in ("1", "2"):
        save(tmp_path / f"images/{name}.png", LABELS * 99)
    first, second = export_halves(tmp_path, mask_tools.Grid())
    first()
    for name in ("1", "2"):
        os.utime(tmp_path / f"images/{name}.png", (5, 5))
    assert not second().is_complete  # the first half is made again
    assert first().is_complete


def test_records_may_be_made_beside_the_annotations(tmp_path):
    for name in ("1", "2"):
        save(tmp_path / f"images/{name}.jpg", LABELS * 99)
        save(tmp_path / f"images/{name}_mask.png", LABELS)
    segmenter = mask_tools.Annotation(path=str(tmp_path))
    first, second = export_halves(tmp_path, segmenter, "images/records")
    first()
    assert second().is_complete
    assert first().statistics is None
    assert [len(example.regions) for example in Records(tmp_path / "images/records")] == [2, 2]


def test_splits_whose_names_begin_alike_and_sources_with_commas(tmp_path):
    for name in ("1", "2", "3"):
        save(tmp_path / f"a, b/{name}.png", LABELS * 99)
        save(tmp_path / f"c/{name}.png", LABELS * 99)

    def run(source, split, grid=2, index=0):
        return mask_tools.segment_dataset(
            f"folder:{tmp_path}/{source}",
            mask_tools.Grid(grid, grid),
            tmp_path / "out",
            split=split,
            shards=2,
            workers=0,
            num_shards=2,
            shard_index=index,
        )

    assert not run("c", "train-extra").is_complete
    open_file = tmp_path / "out/.train-extra-00001-of-00002.tfrecord.tmp"
    open_file.write_text("another run's")
    for index in (0, 1):
        run("a, b", "train", grid=2, index=index)
    assert open_file.exists()
    assert run("c", "train-extra", index=1).is_complete
    for source, split in (("a, b", "train"), ("c", "train-extra")):
        assert run(source, split).statistics is None
    assert read_info(tmp_path / "out").source == f"folder:{tmp_path}/a, b, folder:{tmp_path}/c"


def test_images_chosen_twice_are_known_again(tmp_path):
    """Maps lie among the images, and one image has none."""
    for name in ("1", "2", "3"):
        save(tmp_path / f"set/photos/{name}.png", LABELS * 99)
    for name in ("1", "2"):
        save(tmp_path / f"set/regions/{name}.png", LABELS)

    def run():
        segmenter = mask_tools.Annotation(path=f"{tmp_path}/set/regions")
        out = tmp_path / "out"
        return mask_tools.segment_dataset(f"folder:{tmp_path}/set", segmenter, out, workers=0)

    assert run().statistics
    for path in (tmp_path / "set/photos").iterdir():
        os.utime(path, (5, 5))  # as of a copy
    assert run().statistics is None


def test_annotations_that_change_while_an_export_is_made(made, monkeypatch, tmp_path):
    """Its records are of the former ones, so it is never complete."""
    run, path, content = made
    make = dataset_export._make_missing

    def make_and_change(*args, **options):
        make(*args, **options)
        save(path, content, seconds=2)

    monkeypatch.setattr(dataset_export, "_make_missing", make_and_change)
    with pytest.raises(UserError, match="have changed while .*out was made of them"):
        run()
    assert not (tmp_path / "out/info.json").exists()


def test_an_option_that_an_earlier_version_did_not_have_is_another_than_its_default(tmp_path):
    for name in ("1", "2"):
        save(tmp_path / f"images/{name}.png", LABELS * 99)
        save(tmp_path / f"maps/{name}.png", LABELS)

    def run(**options):
        segmenter = mask_tools.Annotation(path=f"{tmp_path}/maps", **options)
        source = f"folder:{tmp_path}/images"
        return mask_tools.segment_dataset(source, segmenter, tmp_path / "out", workers=0)

    run()
    path = tmp_path / "out/info.json"
    info = json.loads(path.read_text())
    del info["segmenter"]["parameters"]["components"], info["segmenter"]["parameters"]["ignore"]
    path.write_text(json.dumps(info))
    assert "nothing to do" in str(run())
    for other, said in (
        ({"components": True}, "components (False"),
        ({"ignore": (1,)}, "ignore ("),
    ):
        with pytest.raises(UserError, match=f"another {re.escape(said)}"):
            run(**other)
