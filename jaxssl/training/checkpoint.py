"""Checkpoints: the whole training state, at a step. Written aside, then renamed, by Orbax.

The order of the data and all randomness are functions of seed and step, so a state restored
continues bit for bit. A checkpoint that a kill left unfinished has no final name and is not seen;
one that cannot be read, or is not as it was written, is skipped for the one before it.
"""

import contextlib
import dataclasses
import errno
import functools
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import orbax.checkpoint as ocp
from crc32c import crc32c

from jaxssl import distributed
from jaxssl.checked_files import read_json
from jaxssl.errors import UserError
from jaxssl.files import naming, write_text
from jaxssl.renamed import STATE_FIELDS
from jaxssl.types import TrainState, Tree

log = logging.getLogger("jaxssl")
T = TypeVar("T")
_MARGIN = 2**20  # bytes, for what goes with the arrays
_CHECKSUMS = "checksums.json"  # of each item; checkpoints of earlier versions have none


def _checksum(item: pathlib.Path) -> int:
    """CRC-32C of the names and contents of all files in a folder."""
    checksum = 0
    for path in sorted(path for path in item.rglob("*") if path.is_file()):
        checksum = crc32c(str(path.relative_to(item)).encode(), checksum)
        with path.open("rb") as file:
            while block := file.read(2**20):
                checksum = crc32c(block, checksum)
    return checksum


def _passes(error: Exception) -> bool:
    """Whether an error may come from the disk or the memory of now, not from what a file holds."""
    of_disk = isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)
    return of_disk or isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _together(read: Callable[[], T]) -> tuple[T | None, UserError | None]:
    """What a function reads, and why that fails, if it does in any process."""
    found, failed = None, None
    try:
        found = read()
    except Exception as error:  # whatever a damaged file makes the reader raise
        if _passes(error):
            raise
        # Without its traceback, which holds what was read.
        failed = UserError(" ".join(str(error).split())[:200] or repr(error))
    if distributed.any_process(failed is not None) and not failed:
        failed = UserError("by another process")
    return found, failed


def newest_step(folder: pathlib.Path) -> int:
    """The step of the newest checkpoint in a folder, whole or not; 0 if there is none."""
    return max((int(path.name) for path in folder.glob("*") if path.name.isdigit()), default=0)


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """Within, Orbax does not warn that a folder is read-only, which it was told."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(max(before, logging.ERROR))
    try:
        yield
    finally:
        logger.setLevel(before)


class Checkpoints:
    """The checkpoints of one run, newest last. A context manager: leaving it waits for writes."""

    def __init__(self, folder: pathlib.Path, keep: int = 1, *, read_only: bool = False):
        self._read_only = read_only
        self.restored = 0  # step of the last state or encoder restored
        if read_only and not folder.is_dir():
            raise UserError(f"no checkpoints in {folder.parent} yet; train it first")
        self._folder = folder.resolve()  # Orbax wants absolute paths
        with _without_remarks():
            self._manager = ocp.CheckpointManager(
                self._folder,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=None if read_only else keep,
                    create=not read_only,
                    read_only=read_only,
                    cleanup_tmp_directories=not read_only,  # what a kill left unfinished
                    async_options=ocp.options.AsyncOptions(post_finalization_callback=self._note),
                ),
            )

    def steps(self) -> list[int]:
        """The steps that are saved, in order."""
        return sorted(self._manager.all_steps())

    def newest(self) -> int:
        """The newest step that is saved; 0 if there is none."""
        return max(self.steps(), default=0)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        with naming(self._folder):
            self._manager.close()

    def save(self, step: int, state: Tree, encoder: Tree) -> None:
        """Starts writing in the background. A step already saved is left alone.

        `encoder` holds the variables that evaluation and export load: the state has them too, but
        who wants only the encoder should need to know neither method nor optimizer.
        """
        if step in self.steps():
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), encoder=ocp.args.StandardSave(encoder)
        )
        with naming(self._folder):  # what fails may be the save before, in the background
            self._make_room(sum(x.nbytes for x in jax.tree.leaves((state, encoder))))
            self._manager.save(step, args=items)

    def _note(self) -> None:
        """Adds checksums to the checkpoint that is written, before it gets its name."""
        if distributed.is_first():
            (folder,) = self._folder.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}")
            checksums = {item.name: _checksum(item) for item in folder.iterdir() if item.is_dir()}
            write_text(folder / _CHECKSUMS, json.dumps(checksums))

    def _check(self, step: int, item: str) -> bool:
        """Whether the first process knows that an item is as it was written.

        There a `UserError` if it is not.
        """
        path = self._folder / str(step) / _CHECKSUMS
        if not distributed.is_first() or not path.is_file():
            return False
        checksums = read_json(path, dict[str, int], advice="it is skipped")
        if checksums.get(item) != _checksum(path.with_name(item)):
            raise UserError(f"{path.with_name(item)} is not as it was written")
        return True

    def _make_room(self, needed: int) -> None:
        """Deletes the oldest checkpoints, but for one, where the disk is too full for another.

        Raises `OSError` if that is not enough.
        """
        self._manager.wait_until_finished()  # as Orbax does before it writes
        while distributed.any_process(shutil.disk_usage(self._folder).free < needed + _MARGIN):
            oldest, *others = self.steps() or [0]
            if not others:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))
            log.warning("the disk of %s is full: checkpoint %d is deleted", self._folder, oldest)
            self._manager.delete(oldest)

    def restore(self, item: str, like: Tree) -> Tree | None:
        """The newest `state` or `encoder` that can be read; None if nothing was saved.

        `like`, a tree of arrays or of shapes with shardings, says what to expect and where to put
        it. Raises a UserError if there are checkpoints and none can be read. None but a damaged one
        is deleted: what the disk or a lack of memory raises is passed on.
        """
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        unreadable = []
        for step in reversed(self.steps()):
            # Checked before any process reads: they do that together, or none does.
            whole, error = _together(functools.partial(self._check, step, item))
            if not error:
                tree, error = _together(functools.partial(self._read, step, item, shapes))
                if error and distributed.any_process(bool(whole)) and not self._read_only:
                    raise UserError(  # one that is only read may vanish meanwhile
                        f"checkpoint {self._folder / str(step)} is as it was written and does not "
                        f"fit this run ({error}); go on with the jaxssl that wrote it, or give "
                        "another --workdir"
                    )
            if error:
                unreadable.append((step, error))
                log.warning("checkpoint %d cannot be read (%s); trying an older one", step, error)
                continue
            self.restored = step
            if not self._read_only:
                for damaged, _ in unreadable:  # Orbax saves no step before one that is there
                    self._manager.delete(damaged)
            return tree
        if self._read_only and unreadable:
            self._manager.reload()
            if self.newest() > unreadable[0][0]:  # a training put a newer one in its place
                return self.restore(item, like)
        if unreadable:
            raise UserError(
                f"no checkpoint in {self._folder} can be read; the newest, of step "
                f"{unreadable[0][0]}: {unreadable[0][1]}. Start again in a new --workdir"
            )
        return None

    def read(self, step: int, item: str, like: Tree | None = None) -> Tree:
        """The `state` or `encoder` of a step; without `like`, nested dictionaries of arrays."""
        args = ocp.args.Composite(**{item: ocp.args.StandardRestore(like)})
        return self._manager.restore(step, args=args)[item]

    def _read(self, step: int, item: str, like: Tree) -> Tree:
        """`read`; a state's fields may have their names of earlier versions."""
        if not isinstance(like, TrainState):
            return self.read(step, item, like)
        saved = set(ocp.StandardCheckpointHandler().metadata(self._folder / str(step) / item))
        former = {now: old for old, now in STATE_FIELDS.items() if old in saved}
        if not former:
            return self.read(step, item, like)
        names = {
            field.name: former.get(field.name, field.name) for field in dataclasses.fields(like)
        }
        fields = self.read(step, item, {old: getattr(like, now) for now, old in names.items()})
        return TrainState(**{now: fields[old] for now, old in names.items()})
