"""Files as `torch.save` writes them, without torch: a zip of a pickle and the numbers of tensors.

Metadata are a further entry of the zip, which `torch.load` passes over.
"""

import io
import json
import math
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxssl.checked_files import open_archive, parse_json

_METADATA = "archive/jaxssl.json"


def to_archive(tree: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a file of nested mappings that hold plain values and arrays f32."""
    arrays: list[np.ndarray] = []
    content = b"\x80\x02" + b"".join(_opcodes(tree, arrays)) + b"."
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", "little")
        for key, array in enumerate(arrays):
            archive.writestr(f"archive/data/{key}", np.ascontiguousarray(array, "<f4").tobytes())
        archive.writestr("archive/version", "3\n")
        archive.writestr(_METADATA, json.dumps(dict(metadata)))
    return file.getvalue()


def read_metadata(file: io.BufferedIOBase, name: str) -> dict[str, str]:
    """The metadata of a file; {} if it is not of this package. Errors name it by `name`."""
    if not zipfile.is_zipfile(file):
        return {}
    with open_archive(file) as archive:
        if _METADATA not in archive.namelist():
            return {}
        content = archive.read(_METADATA)
        return parse_json(content.decode(), dict[str, str], name, advice="export it again")


def _opcodes(value: Any, arrays: list[np.ndarray]) -> Iterator[bytes]:
    """The part of a pickle that makes a value; arrays are added to those in files of their own."""
    if isinstance(value, Mapping):
        yield b"}("
        for key, part in value.items():
            yield from _opcodes(key, arrays)
            yield from _opcodes(part, arrays)
        yield b"u"
    elif isinstance(value, np.ndarray):
        yield b"ctorch._utils\n_rebuild_tensor_v2\n(("
        yield _plain("storage") + b"ctorch\nFloatStorage\n" + _plain(str(len(arrays)))
        yield _plain("cpu") + _plain(value.size) + b"tQ"
        strides = tuple(math.prod(value.shape[axis + 1 :]) for axis in range(value.ndim))
        yield _plain(0) + _plain(value.shape) + _plain(strides) + _plain(False)
        yield b"ccollections\nOrderedDict\n)RtR"
        arrays.append(value)
    else:
        yield _plain(value)


def _plain(value: Any) -> bytes:
    """The pickle of a value without what begins and ends one."""
    return pickle.dumps(value, 2)[2:-1]
