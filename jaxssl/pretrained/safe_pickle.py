"""Weights in files of `torch.save`, read without torch and without executing their pickles.

A pickle is a program that may call anything. The reader knows tensors and mappings of them, for
which it has stand-ins of its own; any other name in a pickle ends the reading before anything is
called.
"""

import dataclasses
import functools
import io
import math
import pickle
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np

from jaxssl.errors import UserError

LEGACY_TORCH = 0x1950A86A20F9469CFC6C  # what files of torch before 1.6 begin with, as a pickle
CONVERT = "save its arrays under the same names, flat, to .safetensors or by numpy.savez to .npz"


class Unpickler(pickle.Unpickler):
    """Reads a pickle in which only names of `STAND_INS` occur."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name; UserError if there is none."""
        if (module, name) not in STAND_INS:
            raise UserError(
                f"it asks for {module}.{name}, and of pickles only tensors of torch.save are read; "
                f"where it can be opened, {CONVERT}"
            )
        return STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """A storage, which torch writes beside the pickle, by its key."""
        kind, dtype, key, _, numel, *view = pid
        if kind != "storage" or any(view):
            raise UserError(f"it holds a {kind} that is no plain storage")
        return Storage(str(key), dtype, int(numel))


class Fields(dict[Any, Any]):
    """Stands for mappings and for objects whose attributes do not matter."""


def flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names, joined with dots, and values in nested mappings."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else f"{key}")
    else:
        yield prefix, tree


@dataclasses.dataclass(frozen=True)
class Storage:
    """A run of numbers, in a part of the file of its own."""

    key: str
    dtype: Any
    numel: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of part of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers, not in bytes

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """The tensor; UserError if it reaches out of its storage or repeats parts of it."""
        sizes = (self.offset, *self.shape, *self.strides)
        if not all(isinstance(n, int) and n >= 0 for n in sizes):
            raise UserError(f"it holds a tensor of {self.shape} with strides {self.strides}")
        reach = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        count = math.prod(self.shape)
        if count and (self.offset + reach >= len(numbers) or count > len(numbers)):
            raise UserError(f"it holds a tensor of {self.shape} in {len(numbers)} numbers")
        strides = [s * numbers.itemsize for s in self.strides]
        part = numbers[self.offset :] if count else numbers[:0]
        return np.lib.stride_tricks.as_strided(part, self.shape, strides).copy()


def _rebuild_tensor(
    storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> Tensor:
    return Tensor(storage, offset, tuple(shape), tuple(strides))


STAND_INS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Fields,
    ("argparse", "Namespace"): Fields,  # the options of a run, in DINO's full checkpoints
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
} | {
    ("torch", f"{name}Storage"): np.dtype(dtype).str if dtype != ml_dtypes.bfloat16 else dtype
    for name, dtype in {
        "Float": np.float32,
        "Double": np.float64,
        "Half": np.float16,
        "BFloat16": ml_dtypes.bfloat16,
        "Long": np.int64,
        "Int": np.int32,
        "Short": np.int16,
        "Char": np.int8,
        "Byte": np.uint8,
        "Bool": np.bool_,
    }.items()
}


def read_torch(file: io.BufferedIOBase) -> dict[str, np.ndarray]:
    """The tensors of a file of `torch.save`, by their names joined with dots."""
    if zipfile.is_zipfile(file):
        return _read_torch_zip(file)
    return _read_torch_legacy(file)


def _read_torch_zip(file: io.BufferedIOBase) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        (root,) = [n.removesuffix("data.pkl") for n in names if n.endswith("/data.pkl")]
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise UserError("it is of a machine with another order of bytes")
        tree = Unpickler(io.BytesIO(archive.read(f"{root}data.pkl"))).load()

        @functools.cache
        def numbers(storage: Storage) -> np.ndarray:
            return np.frombuffer(archive.read(f"{root}data/{storage.key}"), storage.dtype)

        return _read_tensors(tree, numbers)


def _read_torch_legacy(file: io.BufferedIOBase) -> dict[str, np.ndarray]:
    """Before 1.6: five pickles, the fourth with the tensors, then the storages one by one."""
    file.seek(0)
    magic, _, _, tree, keys = (Unpickler(file).load() for _ in range(5))
    if magic != LEGACY_TORCH:
        raise UserError("it is not of torch.save")
    tensors = [value for _, value in flatten(tree) if isinstance(value, Tensor)]
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors}
    numbers = {}
    for key in keys:
        (numel,) = np.frombuffer(file.read(8), "<i8")
        dtype = np.dtype(dtypes[str(key)])
        numbers[str(key)] = np.frombuffer(file.read(int(numel) * dtype.itemsize), dtype)
    return _read_tensors(tree, lambda storage: numbers[storage.key])


def _read_tensors(tree: Any, numbers: Callable[[Storage], np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: value.read(numbers(value.storage))
        for name, value in flatten(tree)
        if isinstance(value, Tensor)
    }
