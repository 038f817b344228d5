"""Weights in files of `torch.save`, read without torch and without executing their pickles.

A pickle is a program that may call anything. The reader knows tensors and mappings of them, for
which it has stand-ins of its own. Any other name, such as that of the options of a run, stands for
something that is skipped: nothing of it is looked up or called. A name that only a harmful file
asks for ends the reading.
"""

import dataclasses
import functools
import io
import itertools
import math
import pickle
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np

from jaxssl.checked_files import MAX_PICKLE_STEPS, check_expansion, check_pickle, open_archive
from jaxssl.errors import UserError

LEGACY_TORCH = 0x1950A86A20F9469CFC6C  # what files of torch before 1.6 begin with, as a pickle
# Modules whose functions act on the machine, and what of them is data.
HARMFUL = {"builtins", "__builtin__", "os", "posix", "nt", "subprocess", "sys", "runpy", "shutil"}
HARMFUL |= {"importlib", "pty", "socket", "webbrowser", "commands", "code", "timeit", "pdb"}
HARMLESS = {"set", "frozenset", "slice", "complex", "range", "bytearray", "bytes", "object", "type"}
HARMLESS |= {"int", "float", "str", "bool", "list", "dict", "tuple", "long", "unicode", "Ellipsis"}
CONVERT = "save its arrays under the same names, flat, to .safetensors or by numpy.savez to .npz"


class Ignored:
    """Stands for whatever lies beside the weights: what a pickle may do with it does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Ignored":
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __call__(self, *args: Any, **kwargs: Any) -> "Ignored":
        return self

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def add(self, value: Any) -> None: ...


class Unpickler(pickle.Unpickler):
    """Reads a pickle of which it knows the names in `STAND_INS`; others are `ignored`."""

    def __init__(self, file: Any, ignored: list[str]) -> None:
        check_pickle(file)
        super().__init__(file)
        self._ignored = ignored
        self.dtypes: dict[str, Any] = {}  # of storages, by their keys

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name; UserError if it could only do harm."""
        if (module, name) in STAND_INS:
            return STAND_INS[module, name]
        if module in HARMFUL and name not in HARMLESS:
            raise UserError(
                f"it asks for {module}.{name}, which is no part of weights but may do harm: do not "
                "open it otherwise either"
            )
        self._ignored.append(f"{module}.{name}")
        return Ignored

    def persistent_load(self, pid: Any) -> Any:
        """A storage, which torch writes beside the pickle, by its key."""
        if pid[0] == "module":  # a class with its source, in files of torch before 1.6
            return Ignored
        kind, dtype, key, _, _, *view = pid
        if kind != "storage" or any(view):
            raise UserError(f"it holds a {kind} that is no plain storage")
        self.dtypes[str(key)] = dtype
        return Storage(str(key), dtype)


class Fields(dict[Any, Any]):
    """Stands for mappings and for objects whose attributes do not matter."""


def flatten(
    tree: Any, prefix: str = "", visited: Iterator[int] | None = None
) -> Iterator[tuple[str, Any]]:
    """Names, joined with dots, and values in nested mappings.

    Raises `UserError` after `MAX_PICKLE_STEPS` of them: a few may hold one another many times over.
    """
    visited = itertools.count() if visited is None else visited
    if isinstance(tree, dict):
        for key, value in tree.items():
            if next(visited) > MAX_PICKLE_STEPS:
                raise UserError(f"it holds more than {MAX_PICKLE_STEPS} values")
            yield from flatten(value, f"{prefix}.{key}" if prefix else f"{key}", visited)
    else:
        yield prefix, tree


@dataclasses.dataclass(frozen=True)
class Storage:
    """A run of numbers, in a part of the file of its own."""

    key: str
    dtype: Any


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
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda tensor, *_: tensor,
    ("torch._tensor", "_rebuild_from_type_v2"): lambda rebuild, _, args, __: rebuild(*args),
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
    ignored: list[str] = []
    tensors = (_read_zip if zipfile.is_zipfile(file) else _read_legacy)(file, ignored)
    if not tensors and ignored:
        raise UserError(
            f"it holds no state dictionary of tensors but {ignored[0]}, which is not looked into; "
            "where it can be opened, save the state_dict() of the model by torch.save"
        )
    return tensors


def _read_zip(file: io.BufferedIOBase, ignored: list[str]) -> dict[str, np.ndarray]:
    with open_archive(file) as archive:
        names = archive.namelist()
        (root,) = [n.removesuffix("data.pkl") for n in names if n.endswith("/data.pkl")]
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise UserError("it is of a machine with another order of bytes")
        tree = Unpickler(io.BytesIO(archive.read(f"{root}data.pkl")), ignored).load()

        @functools.cache
        def content(key: str) -> bytes:
            return archive.read(f"{root}data/{key}")

        def numbers(storage: Storage) -> np.ndarray:
            return np.frombuffer(content(storage.key), storage.dtype)

        return _read_tensors(tree, numbers, file)


def _read_legacy(file: io.BufferedIOBase, ignored: list[str]) -> dict[str, np.ndarray]:
    """Reads a file of torch before 1.6: five pickles, the fourth of the tensors, then storages."""
    file.seek(0)
    if Unpickler(file, ignored).load() != LEGACY_TORCH:
        asks = f"it asks for {ignored[0]}, and" if ignored else "it is not of torch.save:"
        raise UserError(
            f"{asks} of pickles only tensors of torch.save are read; "
            f"where it can be opened, {CONVERT}"
        )
    loaded: list[Any] = []
    dtypes: dict[str, Any] = {}
    for _ in range(4):
        reader = Unpickler(file, ignored)
        loaded.append(reader.load())
        dtypes |= reader.dtypes
    _, _, tree, keys = loaded
    numbers = {}
    for key in keys:
        (numel,) = np.frombuffer(file.read(8), "<i8")
        dtype = np.dtype(dtypes[str(key)])
        numbers[str(key)] = np.frombuffer(file.read(int(numel) * dtype.itemsize), dtype)
    return _read_tensors(tree, lambda storage: numbers[storage.key], file)


def _read_tensors(
    tree: Any, numbers: Callable[[Storage], np.ndarray], file: io.BufferedIOBase
) -> dict[str, np.ndarray]:
    """The tensors of a tree, by name, that are of types which numpy has; others have 8 bits."""
    tensors, size = dict[str, np.ndarray](), 0
    for name, value in flatten(tree):
        if isinstance(value, Tensor) and value.storage.dtype is not Ignored:
            tensors[name] = value.read(numbers(value.storage))
            size += tensors[name].nbytes
            check_expansion(size, file)
    return tensors
