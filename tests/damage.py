"""Small files, and what may happen to one at random: to its bytes, JSON, lines, parts of a zip."""

import io
import json
import pathlib
import random
import zipfile
from typing import Any

import numpy as np
from PIL import Image

from jaxssl.data.rle import encode_mask
from jaxssl.data.source import Example, Regions

ODD = [
    None, True, -1, 0, 1, 0.5, -0.0, 2**31, 2**64, 10**40, 1e308, float("nan"), float("-inf"), "",
    "a", "\0", "\ud83d", "../../x", "/etc/hostname", "<b>", "9" * 500, [], [[]], {}, {"a": {}}, [1],
]  # fmt: skip
Rng = random.Random


def example(number: int = 0) -> Example:
    """An image with a label, three regions and a label map."""
    rng = np.random.default_rng(number)
    masks = rng.random((3, 20, 30)) < 0.3
    regions = Regions(
        (20, 30), rng.random((3, 4), np.float32), masks.sum((1, 2)), np.arange(3),
        np.ones(3, np.float32), np.zeros(3, np.int64), tuple(map(encode_mask, masks)),
    )  # fmt: skip
    image = rng.integers(0, 256, (20, 30, 3), np.uint8)
    return Example(f"a/{number}.png", image, number, regions, masks[0].astype(np.int32))


def write_images(folder: pathlib.Path, count: int) -> None:
    """PNG files of 4 x 4 pixels, each of another gray."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(folder / f"{number}.png")


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
            del out[at:]
    return bytes(out)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Each container in a tree of JSON, with each of its keys."""
    if not isinstance(tree, dict | list):
        return []
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    return [(tree, key) for key in keys] + [p for key in keys for p in places(tree[key])]


def damage_json(text: bytes, rng: Rng) -> bytes:
    """Values replaced, removed, renamed, nested or exchanged; or other bytes."""
    if rng.random() < 0.35:
        return damage_bytes(text, rng)
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
