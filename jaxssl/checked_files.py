"""Readers that check files which may be damaged or from others, and limits on what they hold.

What cannot be read is a `UserError`: "FILE is damaged: WHAT; WHAT TO DO". A JSON file is read as
the type that was written: a dataclass, TypedDict or NamedTuple, or lists and dictionaries of such.
"""

import contextlib
import dataclasses
import functools
import io
import json
import math
import os
import pathlib
import pickletools
import types
import typing
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from jaxssl.errors import PartError, UserError

T = TypeVar("T")

# What a file may ask for, beyond which it is refused before memory or time are spent on it. Of an
# image the limit is Pillow's, twice `PIL.Image.MAX_IMAGE_PIXELS`.
MAX_EXPANSION = 20  # bytes that an archive may hold for each of its own ...
MAX_SMALL_ARCHIVE = 2**30  # ... if it holds more than these
MAX_PICKLE_STEPS = 2**20  # of the program that a pickle is; and values in what it makes
MAX_INTEGER = 2**63

_NAMES: dict[type, str] = {
    bool: "true or false", int: "whole number", float: "number", str: "text", dict: "object",
    list: "list", types.NoneType: "null",
}  # fmt: skip


class _Mismatch(Exception):
    """A value of another type than expected, and where it stands."""

    def __init__(self, what: str):
        self.what, self.path = what, ""

    def __str__(self) -> str:
        return f"{self.path.lstrip('.') or 'its content'} {self.what}"


class _TextError(UserError):
    """An array of texts, where one of numbers is wanted."""


def damage_of(path: str | os.PathLike[str], error: Exception, advice: str) -> UserError:
    """The error that says what is wrong with a file, in one line; long values are cut."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, KeyError):
        reason = f"it has no {reason}"
    return UserError(f"{os.fspath(path)} is damaged: {reason}; {advice}")


@contextlib.contextmanager
def naming_damage(path: str | os.PathLike[str], advice: str) -> Iterator[None]:
    """Whatever goes wrong in reading a file becomes a `UserError` that names it."""
    try:
        yield
    except Exception as error:  # parsers raise whatever a damaged file makes them run into
        if isinstance(error, PartError) or (isinstance(error, OSError) and error.filename):
            raise
        raise damage_of(path, error, advice) from error


def read_text(path: pathlib.Path, *, advice: str) -> str:
    """The text of a file in UTF-8."""
    with naming_damage(path, advice):
        return path.read_text(encoding="utf-8-sig")


def read_json(path: pathlib.Path, kind: Callable[..., T], *, advice: str) -> T:
    """The content of a JSON file as a `kind`, such as a dataclass or `dict[str, int]`."""
    return parse_json(path.read_bytes(), kind, path, advice=advice)


def parse_json(
    text: bytes | str, kind: Callable[..., T], path: str | os.PathLike[str], *, advice: str
) -> T:
    """A JSON text as a `kind`.

    Args:
      text: of the whole file, or of a part.
      kind: type of the content.
      path: names the file in errors.
      advice: what to do if it is damaged.

    Raises:
      UserError: it is no JSON in UTF-8, or a field is missing, unknown or of another type.
    """
    with naming_damage(path, advice):
        value = json.loads(text if isinstance(text, str) else text.decode("utf-8-sig"))
        if "\\ud" in str(text).lower():  # halves of characters, which no file can be given
            json.dumps(value, ensure_ascii=False).encode(errors="surrogateescape")
        return typing.cast(T, _as(kind, value))


def _as(kind: Any, value: Any) -> Any:
    """The value that JSON made of a `kind`, turned back into one."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        *others, last = sorted(arguments, key=lambda kind: kind is not types.NoneType)
        for other in others:
            with contextlib.suppress(_Mismatch):
                return _as(other, value)
        return _as(last, value)
    if origin is typing.NotRequired:
        return _as(arguments[0], value)
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        return _with_fields(kind, value)
    if hasattr(kind, "_fields"):  # a NamedTuple, which JSON has as a list
        return kind(*_as(tuple[tuple(_fields(kind).values())], value))  # type: ignore[misc]
    if origin is dict:
        _expect(dict, value)
        return {key: _at(f".{key}", arguments[1], inner) for key, inner in value.items()}
    if origin in (list, tuple):
        _expect(list, value)
        many = origin is list or arguments[-1] is ...
        kinds = arguments[:1] * len(value) if many else arguments
        if len(kinds) != len(value):
            raise _Mismatch(f"has {len(value)} entries, not {len(kinds)}")
        return origin(_at(f"[{i}]", *pair) for i, pair in enumerate(zip(kinds, value, strict=True)))
    if type(value) is int and abs(value) >= MAX_INTEGER:
        raise _Mismatch("is out of range")
    if kind is float and type(value) is int:
        return float(value)
    _expect(kind, value)
    return value


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _with_fields(kind: Any, value: Any) -> Any:
    """A dataclass, which has to have all its fields and no other, or a TypedDict."""
    _expect(dict, value)
    fields = _fields(kind)
    known = {name: _at(f".{name}", fields[name], value[name]) for name in fields if name in value}
    is_dict = typing.is_typeddict(kind)
    if missing := (kind.__required_keys__ if is_dict else set(fields)) - set(known):
        raise _Mismatch(f"has no {', '.join(sorted(missing))}")
    if is_dict:
        return value | known
    if unknown := set(value) - set(fields):
        raise _Mismatch(f"has an unknown {', '.join(sorted(unknown))}"[:100])
    try:
        return kind(**known)
    except UserError as error:
        raise _Mismatch(f"is wrong: {error}") from error


def _at(place: str, kind: Any, value: Any) -> Any:
    try:
        return _as(kind, value)
    except _Mismatch as mismatch:
        mismatch.path = place + mismatch.path
        raise


def _expect(kind: type, value: Any) -> None:
    if type(value) is not kind:
        raise _Mismatch(f"is {value!r:.60}, no {_NAMES[kind]}")


def is_plain_name(name: str) -> bool:
    """Whether a name is that of a file in the same folder: no path to another place."""
    is_one = name == pathlib.PurePath(name).name and name not in ("", "..") and "\0" not in name
    return is_one and len(os.fsencode(name)) < 256


def open_archive(file: io.BufferedIOBase) -> zipfile.ZipFile:
    """A zip archive that does not hold much more than its own size."""
    archive = zipfile.ZipFile(file)
    check_expansion(sum(part.file_size for part in archive.infolist()), file)
    return archive


def check_expansion(size: int, file: io.BufferedIOBase) -> None:
    """Raises `UserError` if what is made of a file takes far more bytes than the file itself."""
    if size > max(MAX_SMALL_ARCHIVE, MAX_EXPANSION * os.fstat(file.fileno()).st_size):
        raise UserError(f"it would take {size / 1e9:.3g} GB")


def check_pickle(file: io.BufferedIOBase) -> None:
    """Raises `UserError` if the pickle that follows makes more than `MAX_PICKLE_STEPS` objects.

    What it is a program of is read, not run; the file is then where it was.
    """
    start = file.tell()
    for step, (opcode, argument, _) in enumerate(
        pickletools.genops(typing.cast(typing.IO[bytes], file))
    ):
        is_place = "PUT" in opcode.name and opcode.name != "MEMOIZE"  # in a table made as large
        if step > MAX_PICKLE_STEPS or (is_place and int(argument or 0) > MAX_PICKLE_STEPS):
            raise UserError(f"its pickle makes more than {MAX_PICKLE_STEPS} objects")
    file.seek(start)


def read_npz(path: pathlib.Path, *, advice: str) -> dict[str, np.ndarray]:
    """The arrays of a file of `numpy.savez`: of numbers, and no larger than their part of it."""
    with naming_damage(path, advice), path.open("rb") as file:
        return read_arrays(file)


def read_arrays(file: io.BufferedIOBase) -> dict[str, np.ndarray]:
    """`read_npz` of a file that is open; whatever a parser raises passes.

    Texts beside the numbers are skipped.
    """
    arrays, text = {}, None
    with open_archive(file) as archive:
        for part in archive.infolist():
            with archive.open(part) as stream:
                try:
                    array = _read_array(stream, part.filename, part.file_size)
                    arrays[part.filename.removesuffix(".npy")] = array
                except _TextError as error:
                    text = error
    if text and not arrays:
        raise text
    return arrays


def read_npy(path: pathlib.Path, *, advice: str) -> np.ndarray:
    """The array of a file of `numpy.save`: of numbers, and no larger than the file."""
    with naming_damage(path, advice), path.open("rb") as file:
        return _read_array(file, path.name, path.stat().st_size)


def _read_array(stream: Any, name: str, size: int) -> np.ndarray:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(stream)
    if dtype.kind not in "fiub":
        kind = _TextError if dtype.kind in "US" else UserError
        raise kind(f"{name} holds {dtype}, not numbers")
    if stream.tell() + math.prod(shape) * dtype.itemsize != size:
        raise UserError(f"{name} is too short or too long for {shape} {dtype}")
    numbers = np.frombuffer(stream.read(), dtype)
    return numbers.reshape(shape, order="F" if by_columns else "C")
