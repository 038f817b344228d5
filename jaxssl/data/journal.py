"""The journal of a store: a line of JSON for each chunk of rows that is there, with a checksum."""

import contextlib
import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from crc32c import crc32c

from jaxssl.checked_files import parse_json
from jaxssl.errors import UserError


class Chunk(NamedTuple):
    """A line of the journal."""

    number: int
    checksum: int  # of its rows in all arrays, and of the reasons
    broken: list[tuple[int, str]]  # index and reason


def line_of(chunk: Chunk) -> str:
    """The line of a chunk, with its end."""
    return json.dumps(chunk) + "\n"


def noted_chunks(journal: pathlib.Path) -> dict[int, Chunk]:
    """The chunks in a journal by number, the last line of each; a damaged line is left out."""
    noted: dict[int, Chunk] = {}
    for line in journal.read_bytes().splitlines():
        with contextlib.suppress(UserError):  # a kill may have cut the last line short
            chunk = parse_json(line, Chunk, journal, advice="it is made again")
            noted[chunk.number] = chunk
    return noted


def broken_images(chunks: Sequence[Chunk]) -> dict[int, str]:
    """Indices of the images that could not be read, and why not."""
    return dict(sorted({index: why for chunk in chunks for index, why in chunk.broken}.items()))


def with_reasons(checksum: int, broken: Sequence[tuple[int, str]]) -> int:
    """The checksum of a chunk's line, from that of its rows.

    Where an image is broken it is another than it once was, when the one in its place had labels:
    such chunks are made again.
    """
    return crc32c(json.dumps([broken, "no labels"]).encode(), checksum) if broken else checksum
