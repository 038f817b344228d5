"""Records as other people's readers see them: TensorFlow's of the file, pycocotools' of masks."""

import os
import warnings

import numpy as np
import pytest
import torchvision  # noqa: F401 - before TensorFlow: the other way round ends Python
from pycocotools import mask as coco_mask

from jaxssl.data import open_source
from jaxssl.data.records import Records
from mask_tools import export

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf

FEATURES = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/key": tf.io.FixedLenFeature([], tf.string),
    "image/height": tf.io.FixedLenFeature([], tf.int64),
    "image/width": tf.io.FixedLenFeature([], tf.int64),
    "label": tf.io.FixedLenFeature([], tf.int64),
    "regions/box": tf.io.VarLenFeature(tf.float32),
    "regions/area": tf.io.VarLenFeature(tf.int64),
    "regions/object": tf.io.VarLenFeature(tf.int64),
    "regions/level": tf.io.VarLenFeature(tf.int64),
    "regions/score": tf.io.VarLenFeature(tf.float32),
    "regions/rle": tf.io.VarLenFeature(tf.string),
}


@pytest.fixture
def folder(tmp_path):
    out = tmp_path / "out"
    words = ["--source", "objects:6", "--segmenter", "fh", "--scale", "20,50", "--min-size", "5,9"]
    assert export.main([*words, "--out", str(out), "--workers", "0", "--shards", "2"]) == 0
    return out


def test_tensorflow_reads_the_records(folder):
    files = sorted(map(str, folder.glob("*.tfrecord")))
    read = [tf.io.parse_single_example(r, FEATURES) for r in tf.data.TFRecordDataset(files)]
    source, records = open_source("objects:6"), Records(folder)
    assert len(read) == len(records) == 6
    for i, features in enumerate(read):
        mine = records[i]
        np.testing.assert_array_equal(tf.io.decode_image(features["image/encoded"]), mine.image)
        np.testing.assert_array_equal(mine.image, source[i].image)
        assert features["image/key"].numpy().decode() == source[i].key
        assert int(features["label"]) == source[i].label
        size = int(features["image/height"]), int(features["image/width"])
        assert size == mine.image.shape[:2]
        regions = mine.regions
        box = tf.sparse.to_dense(features["regions/box"]).numpy().reshape(-1, 4)
        np.testing.assert_array_equal(box, regions.box)
        for name in ("area", "object", "level", "score"):
            values = tf.sparse.to_dense(features[f"regions/{name}"]).numpy()
            np.testing.assert_array_equal(values, getattr(regions, name))
        assert tuple(tf.sparse.to_dense(features["regions/rle"]).numpy()) == regions.rle


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # its own
def test_pycocotools_decodes_the_masks(folder):
    records = Records(folder)
    for i in range(len(records)):
        regions = records[i].regions
        assert len(regions) > 1
        coded = [{"size": list(regions.size), "counts": rle} for rle in regions.rle]
        masks = coco_mask.decode(coded).astype(bool)
        np.testing.assert_array_equal(np.moveaxis(masks, -1, 0), regions.masks())
        assert [int(coco_mask.area(c)) for c in coded] == regions.area.tolist()
        y0, x0, y1, x1 = regions.box.T
        boxes = np.stack([x0, y0, x1 - x0, y1 - y0], axis=1)
        np.testing.assert_array_equal(coco_mask.toBbox(coded), boxes)
