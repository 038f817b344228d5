"""Files damaged at random: read as they were, or refused in one line that names them.

Never another exception, a crash, a long wait or much memory; and never other content where there is
a checksum. FUZZ_CASES and FUZZ_SEED change how many cases of each kind are tried, and which:

    FUZZ_CASES=300 FUZZ_SEED=1 python -m pytest tests/test_damaged_*.py
"""

import dataclasses
import io
import json
import os
import pathlib
import random
import re
import resource
import time
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxssl.config import base
from jaxssl.data import open_source
from jaxssl.data.records import Info, write_info, write_shard
from jaxssl.data.rle import encode_mask, mask_boxes
from jaxssl.data.source import Example, Regions
from jaxssl.errors import UserError
from jaxssl.evaluate import save
from jaxssl.evaluation.run import EvalRecord
from jaxssl.evaluation.task import TaskResult
from jaxssl.training.metrics import MetricsWriter
from jaxssl.training.workdir import check_images, create_workdir

ODD = [
    None, True, -1, 0, 1, 0.5, -0.0, 2**31, 2**64, 10**40, 1e308, float("nan"), float("-inf"), "",
    "a", "\0", "\ud83d", "../../x", "/etc/hostname", "<b>", "9" * 500, [], [[]], {}, {"a": {}}, [1],
]  # fmt: skip
ODD_TEXT = [
    b"9" * 5000,
    b"1e999",
    b"-0x1",
    b"[" * 10**5,
    b'{"a":' * 10**5,
    b"\0",
    b"\xff",
    b"1.",
    b",",
]
Rng = random.Random
CASES, SEED = int(os.environ.get("FUZZ_CASES", 50)), int(os.environ.get("FUZZ_SEED", 0))
SECONDS, MEMORY = 10, 1.5e9  # of a case; of all cases of a kind


def example(number: int = 0) -> Example:
    """An image with a label, three regions and a label map."""
    rng = np.random.default_rng(number)
    masks = rng.random((3, 20, 30)) < 0.3
    rle = tuple(map(encode_mask, masks))
    regions = Regions(
        (20, 30), mask_boxes(rle, (20, 30)).astype(np.float32), masks.sum((1, 2)), np.arange(3),
        np.ones(3, np.float32), np.zeros(3, np.int64), rle,
    )  # fmt: skip
    image = rng.integers(0, 256, (20, 30, 3), np.uint8)
    return Example(f"a/{number}.png", image, number, regions, masks[0].astype(np.int32))


def write_images(folder: pathlib.Path, count: int, first: int = 0) -> None:
    """PNG files of 4 x 4 pixels, each of another gray."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        Image.fromarray(np.full((4, 4, 3), first + number, np.uint8)).save(folder / f"{number}.png")


def write_records(tmp: pathlib.Path) -> pathlib.Path:
    """Two examples, and what is said of them."""
    shard = write_shard(tmp / "train-00000-of-00001.tfrecord", map(example, range(2)))
    write_info(tmp, Info("x", {"name": "fh", "parameters": {"a": 1}}, {"train": (shard,)}, ("a",)))
    return tmp


def write_run(tmp: pathlib.Path) -> pathlib.Path:
    """A workdir with metrics and results."""
    create_workdir(tmp, base(), check_images(tmp, base(), open_source("scenes:10")))
    with MetricsWriter(tmp) as writer:
        for step in range(4):
            writer.write(step, step / 2, {"loss": 1.0, "eval/objects/knn_top1": 0.5})
    details = {"classes": ["a", "b"], "per_class": [0.5, None], "confusion": [[1, 2], [3, 4]]}
    save(
        tmp / "eval.json", 3, EvalRecord("knn", "d", 0, TaskResult({"top1": 0.5}, {}, details), {})
    )
    return tmp


def damage_bytes(data: bytes, rng: Rng) -> bytes:
    """Bits turned, blocks overwritten, moved, repeated or lost, the end lost or added to."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at, size = rng.randrange(len(out) + 1), rng.choice([1, 3, 4, 16, 200])
        kind = rng.randrange(7)
        if kind < 2 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            out[at : at + size] = rng.randbytes(len(out[at : at + size]))
        elif kind == 3:
            out[at : at + size] = bytes([rng.choice([0, 255, 127])]) * len(out[at : at + size])
        elif kind == 4:
            other = rng.randrange(len(out) + 1)
            out[at : at + size] = out[other : other + size]
        elif kind == 5:
            out += rng.randbytes(size)
        elif rng.random() < 0.3:
            del out[rng.choice([at, len(out) * rng.randrange(10) // 10]) :]
    return bytes(out)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Each container in a tree of JSON, with each of its keys."""
    if not isinstance(tree, dict | list):
        return []
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    return [(tree, key) for key in keys] + [p for key in keys for p in places(tree[key])]


def damage_json(text: bytes, rng: Rng) -> bytes:
    """Values replaced, removed, renamed, nested or exchanged; or other bytes."""
    kind = rng.random()
    if kind < 0.35:
        return damage_bytes(text, rng)
    if kind < 0.4:  # as no JSON of Python's would be
        start, odd = rng.choice(list(re.finditer(rb"[\w.]+", text))).span(), rng.choice(ODD_TEXT)
        return text[: start[0]] + odd + text[start[1] :]
    tree = [json.loads(text)]
    for _ in range(rng.choice([1, 1, 2])):
        inside, key = rng.choice(places(tree))
        value, kind = inside[key], rng.randrange(8)
        if kind == 0 and inside is not tree:
            del inside[key]
        elif kind == 1 and isinstance(inside, dict):
            inside[f"{key}s"] = inside.pop(key)
        elif kind == 2:
            inside[key] = [value]
        elif kind == 3:
            other, place = rng.choice(places(tree))
            inside[key] = json.loads(json.dumps(other[place]))
        elif kind == 4 and isinstance(inside, list) and inside is not tree:
            inside.append(value)
        else:
            inside[key] = rng.choice(ODD)
    content = json.dumps(tree[0])
    codings = ["utf-8"] * 8 + ["utf-16", "utf-8-sig"]
    return content.encode(rng.choice(codings)) + rng.choice([b""] * 9 + [b"\0", b"}", b"{}"])


def damage_lines(text: bytes, rng: Rng) -> bytes:
    """The same to one line of several."""
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    lines[at] = damage_json(lines[at], rng)
    return b"\n".join(lines) + b"\n"


def damage_zip(data: bytes, rng: Rng) -> bytes:
    """A zip archive with damage in one of its parts, or anywhere."""
    if rng.random() < 0.3:
        return damage_bytes(data, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as new:
        chosen = rng.choice(archive.namelist())
        for name in archive.namelist():
            part = archive.read(name)
            new.writestr(name, damage_bytes(part, rng) if name == chosen else part)
    return out.getvalue()


@dataclasses.dataclass
class Kind:
    """A kind of file: where it is, how it is read, and what is done to it."""

    path: pathlib.Path
    read: Callable[[], Any]
    damage: Callable[[bytes, Rng], bytes] = damage_bytes
    exact: bool = False  # whether whatever is read must be what was written


def make_test(kinds: Mapping[str, Callable[[pathlib.Path], Kind]]) -> Callable[..., None]:
    """A test that tries `CASES` cases of each kind of file."""

    @pytest.mark.parametrize("name", kinds)
    def test(tmp_path: pathlib.Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # what takes longest here
        assert_harmless(kinds[name](tmp_path), name, tmp_path)

    return test


def assert_harmless(kind: Kind, name: str, folder: pathlib.Path) -> None:
    """Tries `CASES` cases of a kind of file in a folder."""
    written = kind.path.read_bytes() if kind.path.exists() else b""
    good = kind.read() if written else None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(CASES):
        rng, said, read = Rng(f"{name} {SEED} {number}"), None, None
        kind.path.parent.mkdir(exist_ok=True)
        kind.path.unlink(missing_ok=True)  # on some disks twice as fast as to write over it
        kind.path.write_bytes(kind.damage(written, rng))
        started = time.monotonic()
        try:
            read = kind.read()
        except UserError as error:
            said = str(error)
        except Exception as error:
            error.add_note(f"Case {number} of {name}, seed {SEED}")
            raise
        assert time.monotonic() - started < SECONDS, number
        if said is None:
            assert not kind.exact or read == good, number
        else:
            names = (kind.path.name, str(folder), "a/0.png")
            assert any(each in said for each in names), (number, said)
            assert "\n" not in said, (number, said)
            assert len(said) < 1000, (number, said)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < MEMORY, f"{grown / 1e9:.1f} GB"
