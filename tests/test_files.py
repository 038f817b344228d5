"""Writing: failures name the file, and who else is at it."""

import errno
import fcntl
import os
import pathlib
import resource
import tempfile

import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import files
from jaxssl.files import temporary_file, write_text
from jaxssl.pretrained import encoder as encoder_module
from jaxssl.pretrained.encoder import extract
from jaxssl.training.workdir import occupied


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(OSError, match="No space left on device") as error:  # noqa: SIM117
        with files.naming(path), pathlib.Path("/dev/full").open("w") as file:
            file.write("a line")
    assert error.value.filename == str(path)
    assert files.is_full(error.value)


@pytest.mark.parametrize("name", [".", "/", "folder"])
def test_a_folder_is_no_file_to_write(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as raised:
        write_text(pathlib.Path(name), "")
    assert raised.value.filename == name


def test_a_temporary_file_that_finds_no_room_says_where(monkeypatch):
    monkeypatch.setattr(encoder_module, "IN_MEMORY", 0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as written, temporary_file() as file:
            file.write(bytes(8192))
        with pytest.raises(OSError, match="File too large") as mapped:
            extract(jnp.asarray, np.zeros((3, 32, 32, 3), np.uint8), 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    for error in (written.value, mapped.value):
        assert error.filename == f"{tempfile.gettempdir()} (TMPDIR may name another folder)"


@pytest.mark.parametrize("kind", [ValueError, RuntimeError])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_so_is_what_libraries_make_of_it(tmp_path, kind, number):
    report = f"RESOURCE_EXHAUSTED: Failed writing: {os.strerror(number)} [os_error_code='28']\n..."
    with pytest.raises(OSError, match=os.strerror(number)) as error, files.naming(tmp_path):
        raise kind(report)
    assert (error.value.errno, error.value.filename) == (number, str(tmp_path))


def test_other_errors_stay_as_they_are(tmp_path):
    for given in (ValueError("no"), RuntimeError("RESOURCE_EXHAUSTED"), OSError(errno.EPERM, "no")):
        with pytest.raises(type(given)) as error, files.naming(tmp_path):
            raise given
        assert error.value is given


def test_who_has_a_lock(tmp_path, caplog):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    assert files.holder(descriptor) == ""
    with files.locked(tmp_path, "fills"):
        assert files.holder(descriptor) == f" (process {os.getpid()})"
    os.close(descriptor)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_disk_without_locks_is_written_to_after_a_warning(number, tmp_path, monkeypatch, caplog):
    def refuse(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(files, "_unlocked", set())
    with files.locked(tmp_path, "fills"), occupied(tmp_path):
        files.write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"
    (said,) = caplog.messages
    assert said.startswith(f"{tmp_path}: this disk locks no files ({os.strerror(number)}); let no")
