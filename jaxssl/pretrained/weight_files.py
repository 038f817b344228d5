"""Files of weights: `.safetensors` and `.pth`, read and written; `.npz`, read."""

import dataclasses
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import ml_dtypes  # noqa: F401 - makes numpy know bfloat16
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from jaxssl.checked_files import read_arrays
from jaxssl.errors import UserError
from jaxssl.files import atomic_write
from jaxssl.pretrained.safe_pickle import CONVERT, read_torch
from jaxssl.pretrained.torch_archive import read_metadata, to_archive

FORMATS = ".safetensors, .npz of numpy.savez or .pth of torch.save"


@dataclasses.dataclass(frozen=True)
class Weights:
    """Tensors by name, and the metadata of their file."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]


def read_weights(path: pathlib.Path) -> Weights:
    """Tensors by the names they have in the file. Its format shows in its first bytes."""
    if not path.is_file():
        raise UserError(f"no file of weights {path}; give one that is {FORMATS}")
    with path.open("rb") as file:
        head = file.read(9)
        file.seek(0)
        try:
            if head[8:9] == b"{":
                return _read_safetensors(path)
            if head.startswith(b"\x93NUMPY"):
                raise UserError(f"it is one array of numpy.save, or a pickle in it; {CONVERT}")
            if head.startswith(b"PK") and _is_npz(path):
                return Weights(read_arrays(file), {})
            if head.startswith((b"PK", b"\x80")):
                return Weights(read_torch(file), read_metadata(file, str(path)))
        except Exception as error:  # whatever a damaged file makes a reader raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"{path} cannot be read as weights: {reason}") from error
    raise UserError(f"{path} is no file of weights; give one that is {FORMATS}")


def _read_safetensors(path: pathlib.Path) -> Weights:
    with safe_open(path, framework="np") as file:
        return Weights({name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {})  # noqa: SIM118


def _is_npz(path: pathlib.Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return all(name.endswith(".npy") for name in archive.namelist())


def write_weights(
    path: pathlib.Path, tensors: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
    """Writes a file, which has its name only once it is complete.

    Args:
      path: of the file, `.safetensors` or `.pth`.
      tensors: by name; in a `.pth` file there may be mappings of them, and plain values beside.
      metadata: texts by name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".pth":
        content = to_archive(tensors, metadata)
    else:
        content = save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, dict(metadata))
    with atomic_write(path) as file:
        file.write(content)
