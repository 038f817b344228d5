"""Records, images, canvases, annotations and labels, damaged at random; see `damage.py`."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import scipy.io
from damage import (
    Kind,
    damage_bytes,
    damage_json,
    damage_lines,
    damage_zip,
    example,
    make_test,
    write_images,
    write_records,
)
from PIL import Image

import mask_tools
from jaxssl.data import open_source, tfrecord
from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.decode import decode_image
from jaxssl.data.folder import Folder
from jaxssl.data.loading import load_arrays
from jaxssl.data.record_codec import encode_example
from jaxssl.data.records import Info, Records, ShardInfo, write_info
from jaxssl.data.squares import SquareSpec
from jaxssl.data.store import open_store, store_folder
from mask_tools.segmenting import segment


def read_records(folder: pathlib.Path) -> list[bytes]:
    source, spec = Records(folder), CanvasSpec(500, (8, 16), objects=2, planes=1)
    for index in range(len(source)):
        assert source[index].regions is None or len(source[index].regions.masks()) >= 0
    loaded = [load_arrays(source, index, spec) for index in range(len(source))]
    return [array.tobytes() for arrays in loaded for array in arrays.values()]


def of_records(tmp):
    folder = write_records(tmp)
    return Kind(folder / "train-00000-of-00001.tfrecord", lambda: read_records(folder), exact=True)


def of_info(tmp):
    folder = write_records(tmp)
    return Kind(folder / "info.json", lambda: read_records(folder), damage_json)


def of_features(tmp):
    """Records whose checksums are right and whose features are not."""
    path = tmp / "train-00000-of-00001.tfrecord"

    def damage(_, rng):
        data = encode_example(example())
        features = tfrecord.decode_features(data)
        name, other = rng.sample(sorted(features), 2)
        value = features.pop(name)
        is_list = isinstance(value, list)
        changed = [damage_bytes(part, rng) for part in value] if is_list else -value
        twice = value * 2 if is_list else np.tile(value, 2)
        chosen = rng.choice([None, value[:-1], value[:0], features[other], changed, twice])
        if chosen is not None:
            features[name] = chosen
        data = damage_bytes(data, rng) if rng.random() < 0.3 else tfrecord.encode_features(features)
        info = ShardInfo(path.name, 1, len(tfrecord.frame(data)), "", 3, 3)
        write_info(tmp, Info("x", None, {"train": (info,)}))
        return tfrecord.frame(data)

    return Kind(path, lambda: read_records(tmp), damage)


def of_images(tmp, form):
    pixels = np.add.outer(np.arange(40), np.arange(30))[..., None] * np.array([1, 2, 3])
    path = tmp / f"a.{form}"
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return Kind(path, lambda: decode_image(path.read_bytes(), path.name))


def of_store(tmp, name):
    """A part of a store, or the same part of another one."""
    spec, cache = SquareSpec(4, "squash"), tmp / "cache"
    for folder, first in ((tmp / "a", 0), (tmp / "b", 100)):
        write_images(folder, 70, first)
        source = Folder(folder)
        open_store(source, spec, cache, show=False)
    other = (store_folder(source, spec, cache) / name).read_bytes()
    source = Folder(tmp / "a")

    def read():
        arrays = open_store(source, spec, cache, show=False)
        return {key: array.tobytes() for key, array in arrays.items()}

    def damage(written, rng):
        if rng.random() < 0.1:
            return other
        return damage_lines(written, rng) if name == "journal" else damage_bytes(written, rng)

    return Kind(store_folder(source, spec, cache) / name, read, damage, exact=True)


def of_annotations(tmp, name):
    """Masks of one image, in a file of its own or of a data set."""
    path = tmp / name
    masks: list[Any] = [
        {"size": [20, 30], "counts": counts.decode()} for counts in example().regions.rle
    ]
    masks += [[[1, 1, 9, 1, 9.5, 9]], {"size": [20, 30], "counts": [100, 50, 450]}]
    entries = [
        {"id": i, "image_id": 1, "segmentation": mask, "score": 0.5} for i, mask in enumerate(masks)
    ]
    images = [{"id": 1, "file_name": "a/0.png", "height": 20, "width": 30}]
    make = mask_tools.Proposals(path=str(tmp))
    if name == "coco.json":
        path.write_text(json.dumps({"images": images, "annotations": entries}))
        make = mask_tools.Annotation(format="coco", path=str(path))
    elif name == "results.json":
        path.write_text(json.dumps([entry | {"image_id": "0"} for entry in entries]))
        make = mask_tools.Proposals(path=str(path))
    elif name == "panoptic.json":
        parts = {"image_id": 1, "file_name": "0.png", "segments_info": [{"id": 1}, {"id": 0}]}
        path.write_text(json.dumps({"images": images, "annotations": [parts]}))
        (tmp / "panoptic").mkdir()
        Image.fromarray(example().semantic.astype(np.uint8)).save(tmp / "panoptic" / "0.png")
        make = mask_tools.Annotation(format="panoptic", path=str(path))
    elif name == "0.json":
        path.write_text(json.dumps(entries))
    elif name == "0.txt":
        path.write_text("0 0.1 0.1 0.9 0.1 0.9 0.8\n1 0.2 0.2 0.4 0.2 0.3 0.6 0.5\n")
    elif name == "boxes.csv":
        rows = "0,1,1,9,8,30,20,0.5\n0,3,2,4,9,30,20,1\n"
        path.write_text("file,xmin,ymin,xmax,ymax,width,height,score\n" + rows)
        make = mask_tools.Proposals(path=str(path), boxes=True)
    elif name == "0.npz":
        np.savez_compressed(path, masks=example().regions.masks(), scores=np.ones(3, np.float32))
    elif name == "0.mat":
        parts = np.empty((1, 2), object)
        parts[0, :] = [{"Segmentation": example(i).semantic.astype(np.uint16)} for i in range(2)]
        scipy.io.savemat(path, {"groundTruth": parts}, do_compression=True)
        make = mask_tools.Annotation(format="bsds", path=str(tmp))
    elif name == "0.npy":
        np.save(path, example().regions.masks())
    else:
        Image.fromarray(example().semantic.astype(np.uint8)).save(path)
        make = mask_tools.Annotation(format="semantic", path=str(tmp))
    damage = {".json": damage_json, ".npz": damage_zip}.get(path.suffix, damage_bytes)
    return Kind(path, lambda: segment(example(), dataclasses.replace(make), None), damage)


def of_labels(tmp):
    write_images(tmp, 3)
    path = tmp / "labels.csv"
    path.write_text("name,label\n0.png,a\n1.png,b\n2.png,a\n")
    return Kind(path, lambda: open_source(f"folder:{tmp}?labels=labels.csv").class_names)


def of_part_list(tmp):
    """Pascal VOC's, of the images of a part."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp / folder).mkdir(parents=True)
    Image.fromarray(example().image).save(tmp / "JPEGImages" / "a.jpg")
    labels = Image.fromarray(example().semantic.astype(np.uint8))
    labels.save(tmp / "SegmentationClass" / "a.png")
    path = tmp / "ImageSets" / "Segmentation" / "train.txt"
    path.write_text("a\nb\n")
    return Kind(path, lambda: len(open_source(f"folder:{tmp}", "train")))


def of_scores(tmp):
    """Those of the masks that Segment Anything's script writes."""
    (tmp / "0").mkdir()
    for i, mask in enumerate(example().regions.masks()):
        Image.fromarray(mask).save(tmp / "0" / f"{i}.png")
    path, make = tmp / "0" / "metadata.csv", mask_tools.Proposals(path=str(tmp))
    path.write_text("id,area,predicted_iou\n0,30,0.5\n1,20,0.25\n2,10,0.125\n")
    return Kind(path, lambda: segment(example(), dataclasses.replace(make), None))


def of_export(tmp, name):
    write_images(tmp / "images", 4)

    def export(index):
        source, segmenter = f"folder:{tmp / 'images'}", mask_tools.Grid()
        mask_tools.segment_dataset(
            source, segmenter, tmp, shards=2, workers=0, num_shards=2, shard_index=index
        )

    export(0)
    made = [*tmp.glob("*.tfrecord"), *(tmp / ".work").iterdir()]
    kept = {path: path.read_bytes() for path in made if path.name != name}

    def read():
        for path, content in kept.items():
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_bytes(content)
        (tmp / "info.json").unlink(missing_ok=True)
        export(1), export(0)
        return read_records(tmp)

    return Kind(tmp / ".work" / name, read, damage_json, exact=True)


KINDS = {
    "records": of_records, "info.json": of_info, "features": of_features, "labels.csv": of_labels,
    "part list": of_part_list, "scores": of_scores,
    **{f"image {form}": lambda tmp, form=form: of_images(tmp, form)
       for form in ("png", "jpg", "gif", "tif", "webp")},
    **{f"store {name}": lambda tmp, name=name: of_store(tmp, name)
       for name in ("image", "label", "journal", "store.json")},
    **{name: lambda tmp, name=name: of_annotations(tmp, name) for name in (
        "coco.json", "results.json", "panoptic.json", "0.json", "0.txt", "0.npz", "0.npy",
        "0.mat", "0.png", "boxes.csv")},
    **{f"export {name}": lambda tmp, name=name: of_export(tmp, name)
       for name in ("train-00000-of-00002.tfrecord.json", "train.json")},
}  # fmt: skip


test_damage_is_named_or_does_no_harm = make_test(KINDS)
