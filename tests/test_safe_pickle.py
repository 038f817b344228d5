"""Files of torch that would fill the machine: refused before they do."""

import io
import pickle
import zipfile

import pytest
import torch

from jaxssl import checked_files
from jaxssl.errors import UserError
from jaxssl.pretrained.safe_pickle import LEGACY_TORCH
from jaxssl.pretrained.weight_files import read_weights


def refused(path, message):
    with pytest.raises(UserError, match="^[^\n]*$") as error:
        read_weights(path)
    assert str(error.value).startswith(f"{path} cannot be read as weights: ")
    assert message in str(error.value)


def nested(levels: int) -> bytes:
    """A pickle of a dictionary that holds one twice, which holds another twice, and so on."""
    made = b"\x80\x02}q\x00"
    for level in range(levels):
        made += b"}q%c(X\x01\0\0\0ah%cX\x01\0\0\0bh%cu" % (level + 1, level, level)
    return made + b"."


def views(count: int) -> bytes:
    """A pickle of many tensors, all of the same storage of 1000 numbers."""
    tensor = torch.zeros(1000)
    file = io.BytesIO()
    torch.save({str(i): tensor[:] for i in range(count)}, file)
    return file.getvalue()


def zipped(pickled: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
    return file.getvalue()


LEGACY = b"".join(pickle.dumps(x, 2) for x in (LEGACY_TORCH, 1001, {}))


@pytest.mark.parametrize("wrap", [zipped, lambda pickled: LEGACY + pickled + pickle.dumps([], 2)])
@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (nested(60), "it holds more than"),
        (b"\x80\x02}r\x00\xc2\xeb\x0b.", "its pickle makes more than"),  # place 2e8 of its table
        (b"\x80\x02" + b"]" * 1200 + b"0" * 1200 + b"}.", "its pickle makes more than"),
        (b"\x80\x04\x8e" + b"\xff" * 6 + b"\0\0x.", "cannot be read"),
        (b"\x80\x02}q\x00(X\x01\0\0\0ah\x00u.", "cannot be read"),  # holds itself
    ],
)
def test_pickles_that_expand_are_refused(tmp_path, monkeypatch, wrap, pickled, message):
    if b"]" * 1200 in pickled:
        monkeypatch.setattr(checked_files, "MAX_PICKLE_STEPS", 2000)
    (tmp_path / "a.pth").write_bytes(wrap(pickled))
    refused(tmp_path / "a.pth", message)


def test_a_storage_is_not_repeated_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(checked_files, "MAX_SMALL_ARCHIVE", 10**6)
    (tmp_path / "a.pth").write_bytes(views(100))
    assert len(read_weights(tmp_path / "a.pth").tensors) == 100
    (tmp_path / "a.pth").write_bytes(views(2000))
    refused(tmp_path / "a.pth", "it would take")
