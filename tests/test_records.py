"""Records: what is written is read back, damage is found, TensorFlow's format is met."""

import dataclasses
import json
import pickle

import numpy as np
import pytest

from jaxssl.data import tfrecord
from jaxssl.data.record_codec import decode_example, encode_example
from jaxssl.data.records import (
    Info,
    Records,
    ShardInfo,
    describe_shard,
    read_info,
    shard_name,
    write_info,
    write_shard,
)
from jaxssl.data.rle import encode_mask, mask_boxes
from jaxssl.data.source import BrokenImage, Example, Regions
from jaxssl.errors import UserError

# One record with features a = [b"x"], f = [1.0, 2.0], i = [-1], as the `tfrecord` package on PyPI
# writes it: framing and message by an independent hand.
FOREIGN = bytes.fromhex(
    "36000000000000004f578cef0a340a0a0a016112050a030a01780a110a0166120c120a0a080000803f000000400a"
    "130a0169120e1a0c0a0affffffffffffffffff016d06d682"
)


def make_example(number: int, *, regions: int | None = 3, key: str | None = None) -> Example:
    rng = np.random.default_rng(number)
    height, width = 20 + number % 3, 30
    masks = rng.random((regions or 0, height, width)) < 0.5
    rle = tuple(encode_mask(mask) for mask in masks)
    return Example(
        key=key or f"images/{number:03}.png",
        image=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        label=number % 5 - 1,
        regions=None
        if regions is None
        else Regions(
            size=(height, width),
            box=mask_boxes(rle, (height, width)).astype(np.float32),
            area=masks.sum((1, 2)),
            object=np.arange(regions) // 2,
            score=rng.random(regions, dtype=np.float32),
            level=np.arange(regions) % 2,
            rle=rle,
        ),
    )


@pytest.fixture
def folder(tmp_path):
    """Records of 12 images in two shards, one split."""
    shards = tuple(
        write_shard(
            tmp_path / shard_name("all", s, 2),
            (make_example(i, regions=i % 4) for i in range(6 * s, 6 * s + 6)),
        )
        for s in range(2)
    )
    write_info(
        tmp_path,
        Info("folder:photos", {"name": "fh", "parameters": {}}, {"all": shards}, ("a", "b", "c")),
    )
    return tmp_path


def assert_same(one: Example, other: Example) -> None:
    assert (one.key, one.label) == (other.key, other.label)
    np.testing.assert_array_equal(one.image, other.image)
    assert (one.regions is None) == (other.regions is None)
    if one.regions is not None:
        for field in dataclasses.fields(Regions):
            a, b = getattr(one.regions, field.name), getattr(other.regions, field.name)
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b), field.name)


@pytest.mark.parametrize("regions", [None, 0, 1, 40])
def test_an_example_survives(regions):
    example = make_example(7, regions=regions)
    assert_same(decode_example(encode_example(example)), example)


def test_the_file_of_an_image_is_kept_and_label_maps_are_exact():
    small = np.arange(600).reshape(20, 30) % 256
    large = small * 200
    for semantic in (small, large):
        written = make_example(0)
        encoded = decode_example(encode_example(written)).encoded + b"trailing bytes of the camera"
        written = dataclasses.replace(written, semantic=semantic, encoded=encoded)
        read = decode_example(encode_example(written))
        np.testing.assert_array_equal(read.semantic, semantic)
        assert read.encoded == encoded
    with pytest.raises(ValueError, match=r"-1\.\."):
        encode_example(dataclasses.replace(written, semantic=small - 1))


def test_keys_may_hold_any_file_name():
    key = b"caf\xe9/\xe6\x97\xa5.jpg".decode(errors="surrogateescape")
    assert decode_example(encode_example(make_example(0, key=key))).key == key


def test_an_image_of_another_size_than_recorded_is_broken():
    features = tfrecord.decode_features(encode_example(make_example(0)))
    features["image/height"] += 1
    with pytest.raises(BrokenImage, match=r"images/000\.png: has \(20, 30\)"):
        decode_example(tfrecord.encode_features(features))


def test_framing_and_message_are_tensorflows(tmp_path):
    features = {"a": [b"x"], "f": np.array([1, 2], np.float32), "i": np.array([-1])}
    assert tfrecord.frame(tfrecord.encode_features(features)) == FOREIGN
    path = tmp_path / "foreign.tfrecord"
    path.write_bytes(FOREIGN)
    read = tfrecord.decode_features(next(tfrecord.read_all(path)))
    assert read["a"] == [b"x"]
    assert read["f"].tolist() == [1, 2]
    assert read["i"].tolist() == [-1]


def test_a_shard_is_described_and_always_the_same(tmp_path):
    examples = [make_example(i, regions=i) for i in range(5)]
    one = write_shard(tmp_path / "a.tfrecord", iter(examples))
    other = write_shard(tmp_path / "b.tfrecord", iter(examples))
    assert (
        dataclasses.replace(other, file=one.file) == one == describe_shard(tmp_path / "a.tfrecord")
    )
    assert (one.count, one.max_regions, one.max_objects) == (5, 4, 2)
    assert one.bytes == (tmp_path / "a.tfrecord").stat().st_size


def test_nothing_is_left_of_a_shard_that_was_not_finished(tmp_path):
    def examples():
        yield make_example(0)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "a.tfrecord", examples())
    assert not list(tmp_path.iterdir())


def test_info_survives(folder):
    info = read_info(folder)
    assert info.class_names == ("a", "b", "c")
    assert [shard.count for shard in info.splits["all"]] == [6, 6]
    assert json.loads((folder / "info.json").read_text())["splits"]["all"]["count"] == 12


def test_records_are_read_at_random_and_in_other_processes(folder):
    records = pickle.loads(pickle.dumps(Records(folder)))
    assert len(records) == 12
    assert records.has_regions
    assert records.class_names == ("a", "b", "c")
    for index in (11, 0, 6, 5):
        assert_same(records[index], make_example(index, regions=index % 4))


def test_parts_without_splits_are_told_apart_by_key(folder):
    parts = {part: Records(folder, part) for part in ("train", "test")}
    keys = {part: {r[i].key for i in range(len(r))} for part, r in parts.items()}
    assert keys["train"].isdisjoint(keys["test"])
    assert len(keys["train"] | keys["test"]) == 12
    assert len(keys["train"]) > len(keys["test"]) > 0
    prints = {Records(folder, part).fingerprint() for part in (None, "train", "test")}
    assert len(prints) == 3


def test_declared_splits_are_parts(tmp_path):
    splits = {}
    for split, count in (("train", 3), ("validation", 2)):
        shard = write_shard(tmp_path / shard_name(split, 0, 1), map(make_example, range(count)))
        splits[split] = (shard,)
    write_info(tmp_path, Info("folder:photos", None, splits))
    assert [len(Records(tmp_path, part)) for part in (None, "train", "test")] == [3, 3, 2]
    assert not Records(tmp_path).has_regions


def test_splits_that_no_part_reads_are_said(tmp_path, caplog):
    splits = {}
    for split, count in (("train", 3), ("extra", 4), ("val", 1), ("test", 2)):
        shard = write_shard(tmp_path / shard_name(split, 0, 1), map(make_example, range(count)))
        splits[split] = (shard,)
    write_info(tmp_path, Info("folder:photos", None, splits))
    with caplog.at_level("INFO", "jaxssl.data"):
        assert [len(Records(tmp_path, part)) for part in (None, "train", "test")] == [3, 3, 1]
    said = f"records:{tmp_path}: splits left out: extra (4 images), test (2 images)"
    assert caplog.messages == [said]


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_damage_found_on_opening(folder):
    shard = folder / shard_name("all", 1, 2)
    data = shard.read_bytes()
    shard.write_bytes(data[:-10])
    with pytest.raises(ValueError, match=r"info\.json says") as error:
        Records(folder)
    assert str(shard) in one_line(error)
    with pytest.raises(ValueError, match="record 5 is cut short"):
        describe_shard(shard)
    shard.write_bytes(data + b"\0" * 5)
    with pytest.raises(ValueError, match="record 6 is cut short"):
        describe_shard(shard)
    shard.write_bytes(b"\1" + data[1:])
    with pytest.raises(ValueError, match="record 0 has a damaged header") as error:
        Records(folder)
    assert str(shard) in one_line(error)
    shard.unlink()
    with pytest.raises(ValueError, match="is missing"):
        Records(folder)


def test_a_flipped_byte_is_found_on_reading(folder):
    shard = folder / shard_name("all", 0, 2)
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    records = Records(folder)
    with pytest.raises(ValueError, match="does not match its checksum") as error:
        records[0]
    assert str(shard) in one_line(error)
    assert not isinstance(error.value, BrokenImage)  # no image to be skipped: the data are damaged
    assert_same(records[1], make_example(1, regions=1))


def test_what_is_no_folder_of_records_is_refused(folder, tmp_path_factory):
    for path in (folder / "nothing", tmp_path_factory.mktemp("empty")):
        with pytest.raises(ValueError, match=r"python -m mask_tools\.export") as error:
            Records(path)
        assert str(path) in one_line(error)
    info = folder / "info.json"
    content = json.loads(info.read_text())
    info.write_text(json.dumps(content | {"format_version": 2}))
    with pytest.raises(ValueError, match="format_version 2"):
        Records(folder)
    info.write_text(info.read_text()[:50])
    with pytest.raises(ValueError, match="is damaged") as error:
        Records(folder)
    one_line(error)


SMALL_PNG = tfrecord.decode_features(encode_example(Example("", np.zeros((5, 5, 3), np.uint8))))[
    "image/encoded"
][0]
DAMAGE = {
    "no label": {"label": None},
    "two labels": {"label": np.array([1, 2])},
    "a label that is text": {"label": [b"1"]},
    "a label of no class": {"label": np.array([2**40])},
    "no key": {"image/key": []},
    "no image": {"image/encoded": None},
    "no height": {"image/height": np.zeros(0, np.int64)},
    "one box too few": {"regions/box": np.zeros(8, np.float32)},
    "boxes that are no numbers": {"regions/box": np.full(12, np.nan, np.float32)},
    "an empty box": {"regions/box": np.array([*[0, 0, 9, 9] * 2, 4, 5, 4, 9], np.float32)},
    "a box within a pixel": {"regions/box": np.tile(np.float32([4.1, 5, 4.9, 9]), 3)},
    "an inverted box": {"regions/box": np.tile(np.float32([9, 5, 4, 9]), 3)},
    "a box beyond the image": {"regions/box": np.tile(np.float32([0, 0, 21, 9]), 3)},
    "a box before the image": {"regions/box": np.tile(np.float32([0, -1, 9, 9]), 3)},
    "no scores": {"regions/score": None},
    "whole numbers for scores": {"regions/score": np.ones(3, np.int64)},
    "areas below 0": {"regions/area": np.full(3, -1)},
    "objects of another image": {"regions/object": np.arange(4)},
    "masks of another image": {"regions/rle": [encode_mask(np.ones((5, 5), bool))] * 3},
    "masks that end early": {"regions/rle": [b"0`"] * 3},
    "a label map of another size": {"semantic/png": [SMALL_PNG]},
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_a_record_whose_features_do_not_fit_is_named(tmp_path, change):
    features = tfrecord.decode_features(encode_example(make_example(0))) | change
    shard = tmp_path / shard_name("all", 0, 1)
    data = tfrecord.encode_features({k: v for k, v in features.items() if v is not None})
    shard.write_bytes(tfrecord.frame(data))
    info = ShardInfo(shard.name, 1, shard.stat().st_size, "", 3, 3)
    write_info(tmp_path, Info("", {"name": "fh", "parameters": {}}, {"all": (info,)}))
    with pytest.raises(UserError, match="the record at byte 12 is damaged: .*; export") as error:
        Records(tmp_path)[0]
    assert str(error.value).startswith(str(shard))
    one_line(error)
    assert not isinstance(error.value, BrokenImage)


def test_a_box_of_no_pixels_may_be_anything():
    features = tfrecord.decode_features(encode_example(make_example(0, regions=2)))
    features["regions/area"] = np.array([0, 7])
    features["regions/box"] = np.array([0, 0, 0, 0, 0, 0, 9, 9], np.float32)
    assert decode_example(tfrecord.encode_features(features)).regions.area.tolist() == [0, 7]


@pytest.mark.parametrize(
    "name", ["../a.tfrecord", "/etc/passwd", "a/b", "", "..", "a\0b", "9" * 256]
)
def test_records_stay_in_their_folder(folder, name):
    path = folder / "info.json"
    content = json.loads(path.read_text())
    content["splits"]["all"]["shards"][1]["file"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"info\.json is damaged: splits\.all\.shards\[1\] is wr"):
        Records(folder)


@pytest.mark.parametrize("name", ["source", "segmenter", "splits", "class_names", "has_semantic"])
@pytest.mark.parametrize("value", [3, ["a", 1], {"all": {"count": 1, "shards": 7}}, None, "gone"])
def test_info_of_other_types_is_damaged(folder, name, value):
    path = folder / "info.json"
    content = json.loads(path.read_text()) | {name: value}
    if value == "gone" or (name, value) == ("segmenter", None):
        del content[name]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"info\.json is damaged: .*; copy it again or repeat") as e:
        Records(folder)
    one_line(e)
