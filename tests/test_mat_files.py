"""MATLAB's files: read as SciPy reads them, and refused where they are damaged."""

import contextlib
import struct

import numpy as np
import pytest
import scipy.io

from jaxssl.errors import UserError
from mask_tools import mat_files
from mask_tools.mat_files import read_mat

NUMBERS = [
    np.arange(6, dtype=kind).reshape(2, 3)
    for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
]
REFUSED = (UserError, ValueError, KeyError, struct.error)  # which `naming_damage` turns into one


def write(path, compressed=False):
    cells, structures = np.empty((1, 2), object), np.empty((1, 2), object)
    cells[0, :] = [NUMBERS[0], NUMBERS[9] / 3]
    structures[0, :] = [{"Segmentation": NUMBERS[2] + i, "Boundaries": NUMBERS[0]} for i in (0, 1)]
    content = {f"n{i}": array for i, array in enumerate(NUMBERS)}
    content |= {"cells": cells, "groundTruth": structures, "text": "a", "none": np.zeros((0, 3))}
    scipy.io.savemat(path, content, do_compression=compressed)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_what_scipy_writes(tmp_path, compressed):
    read = read_mat(write(tmp_path / "a.mat", compressed))
    for i, array in enumerate(NUMBERS):
        np.testing.assert_array_equal(read[f"n{i}"], array)
    np.testing.assert_array_equal(read["cells"][1], NUMBERS[9] / 3)
    assert read["none"].shape == (0, 3)
    assert read["text"] is None
    for i, (one,) in enumerate(read["groundTruth"]):
        assert list(one) == ["Segmentation", "Boundaries"]
        np.testing.assert_array_equal(one["Segmentation"], NUMBERS[2] + i)
        np.testing.assert_array_equal(one["Boundaries"], NUMBERS[0])


def test_matlab_s_other_order_of_bytes(tmp_path):
    path = tmp_path / "a.mat"
    array = [struct.pack(">IIII", 6, 8, 12, 0), struct.pack(">IIii", 5, 8, 1, 2)]
    array += [struct.pack(">HH4s", 1, 1, b"x"), struct.pack(">HHhh", 4, 3, 7, -2)]
    content = b"".join(array)
    header = bytes(124) + b"\1\0MI" + struct.pack(">II", 14, len(content))
    path.write_bytes(header + content)
    np.testing.assert_array_equal(read_mat(path)["x"], [[7, -2]])


def test_other_versions_are_refused(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"a": NUMBERS[0]}, format="4")
    with pytest.raises(UserError, match="of version 5 to 7.2; save it"):
        read_mat(tmp_path / "a.mat")


def test_a_variable_that_expands_without_end_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a": np.zeros(2**16, np.uint8)}, do_compression=True)
    monkeypatch.setattr(mat_files, "MAX_SMALL_ARCHIVE", 2**16)
    with pytest.raises(UserError, match="ends too early or is too large"):
        read_mat(path)


def test_every_file_cut_short_or_with_other_sizes_is_refused_or_read(tmp_path):
    data = write(tmp_path / "a.mat").read_bytes()
    damaged = tmp_path / "b.mat"
    for at in range(128, len(data), 4):
        for content in (data[:at], data[:at] + b"\xff\xff\xff\x7f" + data[at + 4 :]):
            damaged.write_bytes(content)
            with contextlib.suppress(*REFUSED):
                read_mat(damaged)
