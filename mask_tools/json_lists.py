"""The lists in a large JSON file, one element at a time, and where in the file each one is."""

import json
import mmap
import pathlib
import re
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

from jaxssl.errors import UserError

_SPACE = re.compile(r"[ \t\r\n]*")
_decode = json.JSONDecoder().raw_decode


class Element(NamedTuple):
    """An element of a list."""

    of: str  # the key of the list in the file's object; "" if the file is a list
    start: int  # bytes from the beginning of the file
    end: int
    value: Any


def read_lists(path: str) -> Iterator[Element]:
    """The elements of the lists in a file: of the list that it is, or those in its object.

    Only the text of the file is in memory: parsed, it would take five times as much.

    Raises:
      UserError: the file is no such JSON, or not in UTF-8.
    """
    try:
        text = _text(path)
        end = yield from _walk(text)
        if _skip(text, end) < len(text):
            raise ValueError(f"there is more than one value in it, from byte {end} on")
    except (ValueError, StopIteration, RecursionError) as error:
        raise UserError(f"{path} is no JSON file that can be read: {error}") from error


def read_spans(path: str, spans: list[list[int]]) -> list[Any]:
    """The elements at these starts and ends, parsed.

    Raises:
      UserError: they are no longer there.
    """
    with open(path, "rb") as file:
        found = []
        for start, end in spans:
            file.seek(start)
            try:
                found.append(json.loads(file.read(end - start)))
            except ValueError:
                raise UserError(
                    f"{path} has changed while it was read; repeat the command"
                ) from None
        return found


def _text(path: str) -> str:
    """The file, a character for each byte, so that positions are those in the file."""
    with pathlib.Path(path).open("rb") as file:
        if not file.read(1):
            raise ValueError("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if json.detect_encoding(data[:4]) not in ("utf-8", "utf-8-sig"):
                raise ValueError("its text is not in UTF-8; save it so")
            return str(data, "latin-1")


def _walk(text: str) -> Generator[Element, None, int]:
    """The elements; returns where what holds them ends."""
    at = _skip(text, 3 if text.startswith("\xef\xbb\xbf") else 0)
    if text[at : at + 1] == "[":
        return (yield from _walk_list(text, "", at))
    if text[at : at + 1] != "{":
        raise ValueError("it holds neither a list nor an object")
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        key, end = _decode(text, at)
        if not text[at:end].isascii():
            key = json.loads(text[at:end].encode("latin-1"))
        at = _skip(text, end)
        if not isinstance(key, str) or text[at : at + 1] != ":":
            raise ValueError(f"a key or its colon is missing at byte {at}")
        at = _skip(text, at + 1)
        if text[at : at + 1] == "[":
            at = yield from _walk_list(text, key, at)
        else:
            _, at = _decode(text, at)
        at = _next_item(text, at, "}")
    return at + 1


def _walk_list(text: str, of: str, at: int) -> Generator[Element, None, int]:
    """The elements of the list that begins at a position; returns where it ends."""
    at = _skip(text, at + 1)
    while text[at : at + 1] != "]":
        value, end = _decode(text, at)
        if not text[at:end].isascii():
            value = json.loads(text[at:end].encode("latin-1"))
        yield Element(of, at, end, value)
        at = _next_item(text, end, "]")
    return at + 1


def _next_item(text: str, at: int, closing: str) -> int:
    """The position of the next item, or of the closing bracket."""
    at = _skip(text, at)
    if text[at : at + 1] == closing:
        return at
    if text[at : at + 1] != ",":
        raise ValueError(f"a comma is missing at byte {at}")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    """The position after white space."""
    space = _SPACE.match(text, at)
    return space.end() if space else at
