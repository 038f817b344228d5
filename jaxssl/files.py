"""Files that appear under their name only when they are complete and on the disk."""

import contextlib
import errno
import fcntl
import logging
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import IO, BinaryIO

from jaxssl.errors import UserError

_TRIES, _WAIT = 50, 0.1  # seconds
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WRITE_ERRORS = (*_FULL, errno.EIO)  # others are not the file's
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # of Lustre with `noflock`, say
_unlocked: set[pathlib.Path] = set()  # what could not be locked
log = logging.getLogger("jaxssl.data")


@contextlib.contextmanager
def atomic_write(path: pathlib.Path) -> Iterator[BinaryIO]:
    """A file to write beside `path`, which takes that name at the end unless something raises.

    Raises `OSError` if `path` is a folder, and if another process goes on writing the file, on this
    machine or another.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    aside = path.with_name(f".{path.name}.tmp")
    with naming(path), _opened_alone(aside, path) as file:  # closing it writes, too
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def write_text(path: pathlib.Path, text: str) -> None:
    r"""Writes a file as `atomic_write` does. Names that are no UTF-8 are in it as `\udce9`."""
    with atomic_write(path) as file:
        file.write(text.encode(errors="backslashreplace"))


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
    """Turns what a failed write raises, as on a full disk, into an `OSError` with this name.

    Python's own names no file; TensorStore's is a long report that holds the system's words.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        named = isinstance(error, OSError) and error.filename is not None
        for number in _WRITE_ERRORS:
            if not named and os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), str(path)) from error
        raise


@contextlib.contextmanager
def temporary_file(size: int = 0) -> Iterator[IO[bytes]]:
    """A file without a name, with room for so many bytes; on a full disk the error says where.

    Room that is only promised, as a memory map would take it, ends the process where there is none.
    """
    place = pathlib.Path(f"{tempfile.gettempdir()} (TMPDIR may name another folder)")
    with naming(place), tempfile.TemporaryFile() as file:
        if size and hasattr(os, "posix_fallocate"):  # not on a Mac
            os.posix_fallocate(file.fileno(), 0, size)
        yield file


def is_full(error: OSError) -> bool:
    """Whether a write failed for want of space on the disk, or in the user's quota."""
    return error.errno in _FULL


def check_writable(path: pathlib.Path) -> None:
    """Raises `UserError` if no results can be saved at `path`: before the work, not after it."""
    if path.is_dir():
        raise UserError(f"results go to a file and {path} is a folder; give --out FILE")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(
            f"no results can be saved in {path.parent}: {error.strerror}; give --out FILE"
        ) from error


def _opened_alone(aside: pathlib.Path, path: pathlib.Path) -> BinaryIO:
    """The file, emptied once no other process has it. One that was killed may be a while dying."""
    other = ""
    for _ in range(_TRIES):
        file = aside.open("ab")
        try:
            lock(file.fileno(), aside)
            if os.path.samestat(os.fstat(file.fileno()), aside.stat()):
                file.truncate(0)
                return file
        except (BlockingIOError, FileNotFoundError):  # it is another's, or got its name just now
            other = holder(file.fileno())
        file.close()
        time.sleep(_WAIT)
    raise OSError(errno.EBUSY, f"another run{other} is writing the same file", str(path))


@contextlib.contextmanager
def locked(folder: pathlib.Path, purpose: str) -> Iterator[None]:
    """Holds back other processes that lock the same folder; ends with the process, however."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not _takes_locks(descriptor, folder):
            os.close(descriptor)
            descriptor = os.open(folder / ".writer.lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lock(descriptor, folder)
        except BlockingIOError:
            log.warning("waiting for another run that %s %s%s", purpose, folder, holder(descriptor))
            lock(descriptor, folder, wait=True)
        yield
    finally:
        os.close(descriptor)


def holder(descriptor: int) -> str:
    """ " (process 123)", of this machine and with the lock on a file; "" where that is not told."""
    place = f":{os.fstat(descriptor).st_ino}"
    with contextlib.suppress(OSError):  # only Linux tells
        for line in pathlib.Path("/proc/locks").read_text().splitlines():
            _, kind, _, _, process, inode, *_ = line.split()
            if kind == "FLOCK" and inode.endswith(place):
                return f" (process {process})"
    return ""


def lock(descriptor: int, path: pathlib.Path, *, wait: bool = False) -> None:
    """Locks an open file or folder, whose path is for a warning where its disk has no locks.

    Raises `BlockingIOError` if another process has the lock, unless it is to `wait` for it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if not _unlocked:
            log.warning(
                "%s: this disk locks no files (%s); let no two runs write to one folder",
                *(path, error.strerror),
            )
        _unlocked.add(path)


def _takes_locks(descriptor: int, folder: pathlib.Path) -> bool:
    """Whether a file can be locked, now or later: on NFS only one that is open for writing can."""
    try:
        lock(descriptor, folder)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return False
    return True


def sync_folder(folder: pathlib.Path) -> None:
    """Makes the names in a folder last through a power cut, as fsync does for what files hold."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
