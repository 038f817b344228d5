"""tfds: sources, on data sets that tensorflow-datasets makes here and on names of real ones."""

import os
import pickle
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import warnings

import numpy as np
import pytest
import torchvision  # noqa: F401 - before TensorFlow: the other way round ends Python
from PIL import Image

from jaxssl.data import open_source, tfrecord
from jaxssl.data.source import BrokenImage, report
from jaxssl.data.tfds import Names, _reader, find_names
from jaxssl.errors import UserError
from mask_tools import export, inspect
from mask_tools.hierarchy import objects

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import constants
    from tiny_tfds import DATA_SETS, plane, segments, semantic_of


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def data_dir(request, tmp_path_factory):
    """A folder of prepared data sets, in each of the formats that can be read at random."""
    path = tmp_path_factory.mktemp(request.param)
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(constants, "DATA_DIR", str(path))
        for kind in DATA_SETS:
            kind(data_dir=path, file_format=request.param).download_and_prepare()
        yield path


def test_examples_are_those_of_the_data_set(data_dir):
    source = open_source("tfds:small_pets/train")
    assert (len(source), source.class_names) == (12, ("cat", "dog", "newt"))
    keys = [source[i].key for i in range(len(source))]
    assert sorted(keys) == sorted(f"train_{i}.png" for i in range(12))
    scenes = open_source("scenes:12")
    for i, key in enumerate(keys):
        number = int(key.removeprefix("train_").removesuffix(".png"))
        drawn, example = scenes[number], source[i]
        np.testing.assert_array_equal(example.image, drawn.image)
        np.testing.assert_array_equal(example.semantic, semantic_of(drawn))
        assert example.label == number % 3
        assert example.encoded.startswith(b"\x89PNG")


def test_a_source_goes_to_other_processes_without_tensorflow(data_dir):
    source = open_source("tfds:small_pets/test")
    copy = pickle.loads(pickle.dumps(source))
    assert b"tensorflow" not in pickle.dumps(source)
    assert copy.fingerprint() == source.fingerprint()
    np.testing.assert_array_equal(copy[3].image, source[3].image)


def test_depth_is_in_meters_and_of_the_shape_of_the_image(data_dir):
    source = open_source("tfds:small_depths", "test")
    found = sorted((source[i].depth for i in range(2)), key=np.max)
    for i, depth in enumerate(found):
        np.testing.assert_array_equal(depth, plane() + i)


def test_splits_that_no_part_reads_are_said(data_dir, caplog):
    report.cache_clear()  # the data sets of both formats have the same names
    with caplog.at_level("INFO", "jaxssl.data"):
        for part in (None, "train", "test"):
            open_source("tfds:small_depths", part)
        open_source("tfds:small_depths/test")
    assert caplog.messages == ["tfds:small_depths: splits left out: test (2 images)"]


def test_panoptic_segments_are_regions(data_dir, tmp_path):
    source = open_source("tfds:small_panoptic/train")
    assert source.has_regions
    regions = source[0].regions
    np.testing.assert_array_equal(regions.masks(), [segments() == 7, segments() == 70_000])
    assert regions.area.tolist() == [6, 23]
    words = ["--source", source.spec, "--segmenter", "exact", "--out", str(tmp_path / "out")]
    assert export.main([*words, "--workers", "0"]) == 0
    written = open_source(f"records:{tmp_path}/out")[0].regions
    assert written.rle == regions.rle
    np.testing.assert_array_equal(regions.object, objects(regions.rle, regions.size))


WITHOUT_TENSORFLOW = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] == "tensorflow" else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
from jaxssl.data import open_source
source = open_source("tfds:small_pets", "test")
print([(source[i].key, int(source[i].image.sum()), source[i].label) for i in range(len(source))])
try:
    import tensorflow
except ModuleNotFoundError:
    print("no TensorFlow")
try:
    open_source("tfds:cifar10/train")
except ValueError as error:
    print(error)
"""


def test_a_prepared_data_set_is_read_where_there_is_no_tensorflow(data_dir):
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW],
        env=os.environ | {"TFDS_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        check=True,
    )
    found, absent, message = run.stdout.splitlines()
    source = open_source("tfds:small_pets/test")
    examples = [source[i] for i in range(len(source))]
    assert found == str([(e.key, int(e.image.sum()), e.label) for e in examples])
    assert absent == "no TensorFlow"
    assert "only TensorFlow can prepare it: pip install 'jaxssl[tfds]', or run" in message
    assert f"tfds build cifar10 --file_format=array_record --data_dir={data_dir}" in message


def test_other_formats_are_refused(data_dir, monkeypatch):
    monkeypatch.setattr("jaxssl.data.tfds._FORMATS", ())
    with pytest.raises(ValueError, match=r"tfds build small_pets .* --overwrite prepares it again"):
        open_source("tfds:small_pets/test")


def keys_of(name, part=None):
    source = open_source(name, part)
    return {source[i].key for i in range(len(source))}


def test_splits_parts_and_slices(data_dir):
    train = keys_of("tfds:small_pets/train")
    assert keys_of("tfds:small_pets") == train
    assert keys_of("tfds:small_pets", "train") == train
    assert keys_of("tfds:small_pets", "test") == keys_of("tfds:small_pets/test")
    parts = [keys_of("tfds:small_pets/train", part) for part in ("train", "test")]
    assert parts[0] | parts[1] == train
    assert not parts[0] & parts[1]
    assert all(parts)
    slices = [keys_of(f"tfds:small_pets/train[{s}]") for s in (":5", "5:", ":50%")]
    assert [len(keys) for keys in slices] == [5, 7, 6]
    assert slices[0] | slices[1] == train
    fingerprints = {
        open_source(f"tfds:small_pets/{s}").fingerprint() for s in ("train", "test", "train[:5]")
    }
    assert len(fingerprints) == 3


def test_what_the_mock_draws(data_dir):
    source = open_source("tfds:small_scenes/train")
    theirs = tfds.builder("small_scenes").as_data_source("train") if is_array(data_dir) else None
    assert len(source) == 3
    assert len({source[i].key for i in range(3)}) == 3
    for i in range(3):
        example = source[i]
        assert example.label == -1
        assert example.image.shape == (24, 32, 3)
        assert example.semantic.shape == (24, 32)
        assert example.encoded.startswith(b"\xff\xd8\xff")
        if theirs is not None:
            np.testing.assert_array_equal(example.semantic, theirs[i]["annotation"][..., 0])


def test_a_label_map_of_another_size_breaks_the_image(data_dir):
    with pytest.raises(BrokenImage, match=r"its label map has \(3, 5\) pixels, it has \(4, 5\)"):
        open_source("tfds:odd_scenes/train")[0]


@pytest.mark.parametrize("name", ["image", "label", "file_name", "segmentation_mask"])
def test_a_record_without_a_feature_is_named(data_dir, tmp_path, name):
    source = open_source("tfds:small_pets/test")
    features = tfrecord.decode_features(source._read(0, tfrecord.encode_features))
    for value in (None, [], np.array([0.5], np.float32)):
        changed = features | {name: value} if value is not None else dict(features)
        if value is None:
            del changed[name]
        path = tmp_path / "a.tfrecord"
        path.write_bytes(tfrecord.frame(tfrecord.encode_features(changed)))
        source._is_tfrecord, source._paths = True, [path]
        source._extent = np.insert(tfrecord.scan(path), 0, 0, axis=1)
        with pytest.raises(UserError, match=f"a.tfrecord is damaged: its? .*{name}.*; prepare"):
            source[0]


@pytest.mark.parametrize("name", ["records", "dataset_info.json"])
def test_a_damaged_data_set_is_named(data_dir, name):
    folder = data_dir / "small_depths" / "1.0.0"
    paths = [path for path in folder.iterdir() if "validation" in path.name]
    path = folder / name if name.endswith("json") else paths[0]
    written = path.read_bytes()
    try:
        _reader.cache_clear()
        path.write_bytes(written[: len(written) // 2])
        with pytest.raises(UserError, match="small_depths"):
            open_source("tfds:small_depths/validation")[1]
    finally:
        path.write_bytes(written)
        _reader.cache_clear()


def is_array(data_dir):
    return "array_record" in data_dir.name


def test_label_maps_become_regions_and_stay(data_dir, tmp_path, capsys):
    words = ["--source", "tfds:small_pets/test", "--segmenter", "annotation", "--format", "source"]
    words += ["--ignore", "0", "--out", str(tmp_path / "out"), "--workers", "0"]
    assert export.main(words) == 0
    source, records = open_source("tfds:small_pets/test"), open_source(f"records:{tmp_path}/out")
    for i in range(len(source)):
        np.testing.assert_array_equal(records[i].semantic, source[i].semantic)
        values = np.unique(source[i].semantic)[1:]
        expected = source[i].semantic[None] == values[:, None, None]
        np.testing.assert_array_equal(records[i].regions.masks(), expected)
    capsys.readouterr()
    assert inspect.main([str(tmp_path / "out")]) == 0
    assert "compared with              source\n" in capsys.readouterr().out


def test_masks_in_files_of_images_in_records(data_dir, tmp_path, capsys):
    source = open_source("tfds:small_pets/test")
    for example in (source[i] for i in range(len(source))):
        Image.fromarray(np.ones(example.image.shape[:2], np.uint8)).save(tmp_path / example.key)
    words = ["--source", "tfds:small_pets/test", "--segmenter", "annotation", "--path"]
    assert export.main([*words, str(tmp_path), "--dry-run"]) == 0
    assert f"{len(source)} of {len(source)}\n" in capsys.readouterr().out


def test_tensorflow_is_told_to_leave_the_gpu(data_dir, monkeypatch):
    told = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *words: told.append(words))
    open_source("tfds:small_pets/test")
    assert told == [([], "GPU")]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scene_parse150", ("image", "", "annotation", "")),
        ("cityscapes", ("image_left", "", "segmentation_label", "image_id")),
        ("coco/2017", ("image", "", "", "image/filename")),
        ("coco/2017_panoptic", ("image", "", "", "image/filename", "", "panoptic_image")),
        ("voc/2012", ("image", "", "", "image/filename")),
        ("oxford_iiit_pet", ("image", "label", "segmentation_mask", "file_name")),
        ("imagenet2012", ("image", "label", "", "file_name")),
        ("cifar10", ("image", "label", "", "id")),
        ("stl10", ("image", "label", "", "")),
        ("imagenette", ("image", "label", "", "")),
        ("nyu_depth_v2", ("image", "", "", "", "depth")),
    ],
)
def test_features_of_real_data_sets(tmp_path, name, expected):
    features = tfds.builder(name, data_dir=tmp_path).info.features
    names = find_names(features, name)
    assert names == Names(*expected, classes=names.classes)
    assert bool(names.classes) == bool(names.label)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("small_pet/train", r"tfds:small_pet/train cannot be opened: .*; give tfds:NAME/SPLIT"),
        ("small_pets/val", r"has no split 'val'; choose from train, test"),
        ("dummy_mnist/train", r"tfds:dummy_mnist/train cannot be opened"),
    ],
)
def test_mistakes_get_one_line(data_dir, name, message):
    with pytest.raises(ValueError, match=message) as error:
        open_source(f"tfds:{name}")
    assert "\n" not in str(error.value)
