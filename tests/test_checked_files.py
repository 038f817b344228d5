"""Damaged files: one line that names the file, the place and what to do; no memory spent."""

import dataclasses
import io
import json
import os
import struct
import zipfile
from typing import Any, NotRequired, TypedDict

import numpy as np
import pytest

from jaxssl import checked_files
from jaxssl.checked_files import naming_damage, parse_json, read_json, read_npz
from jaxssl.errors import UserError


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    size: int


class Note(TypedDict):
    kind: str
    more: NotRequired[dict[str, float | None]]


@dataclasses.dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    pair: tuple[int, str]
    rate: float
    note: Note | None
    free: Any
    done: bool


GOOD = Whole((Part("a", 1), Part("b", 2)), (3, "c"), 1.0, {"kind": "d"}, [None, {}], True)


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "whole.json"
    content = dataclasses.asdict(GOOD) | {"rate": 1}  # JSON may write 1.0 without its point
    path.write_text(json.dumps(content))
    assert read_json(path, Whole, advice="") == GOOD
    note: Any = {"kind": "x", "more": {"a": None, "b": 2}, "else": [1]}
    assert parse_json(json.dumps(note), Note, path, advice="") == note
    assert parse_json(json.dumps("caf\udce9"), str, path, advice="") == "caf\udce9"  # a file's name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate": "1"}, "rate is '1', no number"),
        ({"rate": True}, "rate is True, no number"),
        ({"done": 1}, "done is 1, no true or false"),
        ({"pair": [1]}, "pair has 1 entries, not 2"),
        ({"pair": [1.5, "c"]}, "pair[0] is 1.5, no whole number"),
        ({"parts": [{"name": "a", "size": 10**30}]}, "parts[0].size is out of range"),
        ({"parts": [{"name": "a"}]}, "parts[0] has no size"),
        ({"parts": {}}, "parts is {}, no list"),
        ({"note": {}}, "note has no kind"),
        ({"note": {"kind": "", "more": {"a": "x"}}}, "note.more.a is 'x', no number"),
        ({"size": 3}, "its content has an unknown size"),
    ],
)
def test_the_field_at_fault_is_named(change, said):
    text = json.dumps(dataclasses.asdict(GOOD) | change)
    with pytest.raises(UserError) as error:
        parse_json(text, Whole, "runs/whole.json", advice="write it again")
    assert str(error.value) == f"runs/whole.json is damaged: {said}; write it again"


@pytest.mark.parametrize(
    "text", [b"", b"{", b'"\xff"', b"\0\0", b"[" * 10**5, b'"\\ud800"', b"3", b"9" * 5000]
)
def test_what_is_no_text_of_json_is_named_in_one_line(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(UserError, match="a.json is damaged: .*; do that") as error:
        read_json(path, dict[str, int], advice="do that")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_file_that_is_not_there_names_itself(tmp_path):
    with pytest.raises(FileNotFoundError) as error, naming_damage("x", ""):
        read_json(tmp_path / "none.json", int, advice="")
    assert error.value.filename == str(tmp_path / "none.json")


def archive(compression: int = zipfile.ZIP_STORED, **parts: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, content in parts.items():
            made.writestr(f"{name}.npy", content)
    return file.getvalue()


def header(shape: tuple[int, ...], descr: str = "|b1") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", 118) + text.encode()


def test_arrays_are_read_as_numpy_does(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"a": rng.random((3, 4, 5)) < 0.5, "b": np.asfortranarray(rng.random((3, 4)), "f4"),
              "c": np.array(7), "d": np.zeros((0, 3), np.uint16)}  # fmt: skip
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        read = read_npz(tmp_path / "a.npz", advice="")
        assert set(read) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)
            assert read[name].dtype == array.dtype


@pytest.mark.parametrize(
    "content",
    [
        archive(masks=header((10**9, 48, 64)) + bytes(100)),
        archive(masks=header((2, 3)) + bytes(5)),
        archive(masks=header((2, 3)) + bytes(7)),
        archive(masks=header((2,), "|O") + bytes(16)),
        archive(masks=header((-2, -3)) + bytes(6)),
        archive(masks=b"\x93NUMPY\x01\0\x05\0{'a':" + bytes(6)),
        archive(masks=b"no numbers"),
        archive(zipfile.ZIP_DEFLATED, masks=header((60,)) + bytes(60))[:-30],
        b"PK\5\6",
    ],
)
def test_arrays_that_are_not_as_their_headers_say_are_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npz is damaged: .*; do that"):
        read_npz(tmp_path / "a.npz", advice="do that")


def test_archives_that_hold_far_more_than_they_are_large_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checked_files, "MAX_SMALL_ARCHIVE", 10**5)
    for size, allowed in ((10**5 - 128, True), (10**6, False)):
        content = archive(zipfile.ZIP_DEFLATED, a=header((size,)) + bytes(size))
        (tmp_path / "a.npz").write_bytes(content)
        if allowed:
            assert len(read_npz(tmp_path / "a.npz", advice="")["a"]) == size
            continue
        with pytest.raises(UserError, match="it would take 0.001 GB"):
            read_npz(tmp_path / "a.npz", advice="")
    (tmp_path / "b.npz").write_bytes(archive(a=header((10**6,)) + os.urandom(10**6)))
    assert len(read_npz(tmp_path / "b.npz", advice="")["a"]) == 10**6


def test_a_message_shows_a_part_of_a_long_value_and_the_whole_of_a_path():
    path = "/".join(["folder" * 30] * 20)
    said = str(UserError(f"{path} is damaged: its name is {'[' * 10**5!r}; copy it again"))
    assert said == f"{path} is damaged: its name is '{'[' * 99}... copy it again"
