"""MATLAB's files of versions 5 to 7.2: arrays of numbers, cells and structures, as BSDS has them.

SciPy's reader follows the sizes in a damaged file out of its memory, which ends the process.
"""

import pathlib
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxssl.checked_files import MAX_EXPANSION, MAX_SMALL_ARCHIVE
from jaxssl.errors import UserError

_HEADER = 128  # bytes, of which the last say the version, and in which order those of a number are
_ORDERS = {b"\0\1IM": "<", b"\1\0MI": ">"}
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCTURE, _FIRST_NUMBER, _LAST_NUMBER = 1, 2, 6, 15  # classes of a matrix


def read_mat(path: pathlib.Path) -> dict[str, Any]:
    """The variables of a file: arrays, a list for cells, a list of dicts for structures.

    None stands for what is of another class. Whatever a damaged file makes it run into passes.
    """
    data = path.read_bytes()
    order = _ORDERS.get(data[_HEADER - 4 : _HEADER])
    if order is None:
        raise UserError("it is no MATLAB file of version 5 to 7.2; save it by save(..., '-v7')")
    most = max(MAX_SMALL_ARCHIVE, MAX_EXPANSION * len(data))
    variables = {}
    for kind, content in _elements(memoryview(data)[_HEADER:], order):
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            unpacked = memoryview(unpacker.decompress(content, most))
            if not unpacker.eof:
                raise UserError("a compressed variable ends too early or is too large")
            most -= len(unpacked)
            ((kind, content),) = _elements(unpacked, order)
        if kind == _MATRIX:
            name, value = _matrix(content, order)
            variables[name] = value
    return variables


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """The kind and content of each element: 8 bytes that tell them, or 4 for up to 4 bytes."""
    while data:
        kind, size = struct.unpack_from(f"{order}II", data)
        start = 8
        if kind >> 16:
            kind, size, start = kind & 0xFFFF, kind >> 16, 4
        content = data[start : start + size]
        if len(content) < size or (start == 4 and size > 4):
            raise UserError("an element is longer than what holds it")
        yield kind, content
        padded = size if kind == _COMPRESSED else size + -(start + size) % 8
        data = data[start + padded :]


def _matrix(content: memoryview, order: str) -> tuple[str, Any]:
    """Name and value of a matrix of any class."""
    if not content:
        return "", None
    (_, flags), (_, sizes), (_, name), *parts = _elements(content, order)
    matrix_class = struct.unpack_from(f"{order}I", flags)[0] & 0xFF
    value: Any = None
    if matrix_class == _CELL:
        value = [_matrix(part, order)[1] for _, part in parts]
    elif matrix_class == _STRUCTURE:
        (_, width), (_, joined), *parts = parts
        step = struct.unpack_from(f"{order}i", width)[0]
        fields = [
            bytes(joined[at : at + step]).split(b"\0")[0].decode()
            for at in range(0, len(joined), step)
        ]
        values = [_matrix(part, order)[1] for _, part in parts]
        rows = [values[at : at + len(fields)] for at in range(0, len(values), len(fields))]
        value = [dict(zip(fields, row, strict=True)) for row in rows]
    elif _FIRST_NUMBER <= matrix_class <= _LAST_NUMBER:
        kind, numbers = parts[0]
        shape = np.frombuffer(sizes, f"{order}i4")
        value = np.frombuffer(numbers, order + _NUMBERS[kind]).reshape(shape, order="F")
    return bytes(name).decode(), value
