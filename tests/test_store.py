"""Stores: filled once, continued when stopped, never used when damaged."""

import concurrent.futures
import errno
import fcntl
import json
import os
import pathlib
import shutil
import stat
import threading
import time

import numpy as np
import pytest
from crc32c import crc32c

from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.source import BrokenImage, Example, report
from jaxssl.data.squares import SquareSpec
from jaxssl.data.store import CHUNK, cache_folder, open_store, store_folder
from jaxssl.errors import UserError
from jaxssl.files import locked
from jaxssl.progress import Progress

SPEC = SquareSpec(4, "squash")
COUNT = 4 * CHUNK + 9


class Counted:
    """Gray images that know how often they were read; some broken, one that ends the run."""

    spec, class_names, has_regions = "counted:1", (), False

    def __init__(
        self,
        broken: tuple[int, ...] = (),
        fatal: int | None = None,
        until: pathlib.Path | None = None,
    ) -> None:
        self.broken, self.fatal, self.until = broken, fatal, until
        self.reads, self._lock = 0, threading.Lock()

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Example:
        with self._lock:
            self.reads += 1
        if index in self.broken:
            raise BrokenImage(f"{index}.jpg: torn")
        if index == self.fatal:
            while not self.until.read_text():  # the first chunk is in the journal
                time.sleep(0.001)
            raise RuntimeError("killed")
        return Example(str(index), np.full((3, 3, 3), index % 256, np.uint8), label=index)

    def fingerprint(self) -> str:
        return f"broken: {self.broken}"


def opened(source, folder, **options) -> dict[str, np.ndarray]:
    return open_store(source, SPEC, folder, show=False, **options)


def assert_right(arrays: dict[str, np.ndarray]) -> None:
    assert set(arrays) == {"image", "hw", "label"}
    np.testing.assert_array_equal(arrays["label"], np.arange(COUNT))
    np.testing.assert_array_equal(arrays["image"][:, 1, 2, 0], np.arange(COUNT) % 256)
    np.testing.assert_array_equal(arrays["hw"], np.full((COUNT, 2), 3))


def test_a_store_is_filled_once(tmp_path):
    source = Counted()
    assert_right(opened(source, tmp_path))
    assert source.reads == COUNT
    arrays = opened(source, tmp_path)
    assert_right(arrays)
    assert source.reads == COUNT
    assert not arrays["image"].flags.writeable


def test_stores_are_named_for_their_content(tmp_path):
    folders = {
        store_folder(source, spec, tmp_path)
        for source in (Counted(), Counted(broken=(1,)))
        for spec in (SPEC, SquareSpec(8, "squash"), SquareSpec(4))
    }
    assert len(folders) == 6
    assert store_folder(Counted(), SPEC, tmp_path) in folders


def test_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("JAXSSL_CACHE", raising=False)
    assert cache_folder(None) == pathlib.Path("/home/someone/.cache/jaxssl")
    monkeypatch.setenv("JAXSSL_CACHE", "/scratch")
    assert cache_folder(None) == pathlib.Path("/scratch")
    assert cache_folder("~/here") == pathlib.Path("/home/someone/here")


def test_without_a_home_the_cache_folder_is_to_be_given(monkeypatch):
    def no_home(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("JAXSSL_CACHE", raising=False)
    monkeypatch.setattr(pathlib.Path, "expanduser", no_home)
    with pytest.raises(UserError, match=r"; set \$JAXSSL_CACHE, or --config.data.cache_dir"):
        cache_folder(None)


def stop_in_the_middle(folder: pathlib.Path) -> pathlib.Path:
    """A store as a killed run leaves it: some chunks written, of which the journal has some."""
    store = store_folder(Counted(), SPEC, folder)
    with pytest.raises(RuntimeError, match="killed"):
        opened(Counted(fatal=2 * CHUNK + 5, until=store / "journal"), folder)
    assert not (store / "store.json").exists()
    return store


def test_a_run_that_was_stopped_is_continued(tmp_path):
    store = stop_in_the_middle(tmp_path)
    journal = map(json.loads, (store / "journal").read_text().splitlines())
    there = sum(min(CHUNK, COUNT - CHUNK * number) for number, *_ in journal)  # the last is short
    source = Counted()
    assert_right(opened(source, tmp_path))
    assert source.reads == COUNT - there < COUNT


def test_a_line_of_the_journal_may_be_cut_short(tmp_path):
    store = stop_in_the_middle(tmp_path)
    journal = (store / "journal").read_text()
    first = journal.splitlines()[0]
    (store / "journal").write_text(first + "\n" + journal[:7])
    source = Counted()
    assert_right(opened(source, tmp_path))
    assert source.reads == COUNT - min(CHUNK, COUNT - CHUNK * json.loads(first)[0])


def test_chunks_that_changed_since_are_made_again(tmp_path):
    store = stop_in_the_middle(tmp_path)
    number = json.loads((store / "journal").read_text().splitlines()[0])[0]
    with (store / "label").open("r+b") as file:
        file.seek(4 * CHUNK * number)
        file.write(b"\xff")
    assert_right(opened(Counted(), tmp_path))


@pytest.mark.parametrize("array", ["image", "label"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_store_is_made_again(tmp_path, array, damage):
    source = Counted()
    opened(source, tmp_path)
    file = store_folder(source, SPEC, tmp_path) / array
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        file.unlink()
    assert_right(opened(source, tmp_path))
    assert source.reads == 2 * COUNT


@pytest.mark.parametrize("array", ["image", "label"])
@pytest.mark.parametrize("place", [0, -1])
def test_bytes_that_changed_in_a_complete_store_are_made_again(tmp_path, caplog, array, place):
    source = Counted()
    opened(source, tmp_path)
    file = store_folder(source, SPEC, tmp_path) / array
    content = bytearray(file.read_bytes())
    content[place] ^= 4
    file.write_bytes(content)
    assert_right(opened(source, tmp_path))
    assert source.reads == COUNT + (9 if place else CHUNK)
    (record,) = caplog.records
    assert f"1 of 5 parts of the canvases in {file.parent} are damaged" in record.message
    assert_right(opened(source, tmp_path))
    assert source.reads == COUNT + (9 if place else CHUNK)


def test_damage_behind_the_part_in_use_is_mended_once(tmp_path, caplog):
    spec, source = CanvasSpec(1024, (4, 4)), Counted()
    open_store(source, spec, tmp_path, show=False)
    with (store_folder(source, spec, tmp_path) / "image").open("r+b") as file:
        file.seek(-1, os.SEEK_END)  # of an image of 3 x 3 pixels, far behind its own
        assert file.read() == b"\0"
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    for _ in range(3):
        open_store(source, spec, tmp_path, show=False)
    assert [record.message.count("1 of 5 parts") for record in caplog.records] == [1]


JOURNALS = [
    b"", b"\xff\xfe\n", b"\0" * 90, b"3\n", b"[1]\n", b"[1, 2, 3]\n", b"[99999, 0, []]\n",
    b"[-5, 3, []]\n", b'[0, 0, [[1, 2]]]\n', b"[" * 10**5, b"[0, 1e400, []]\n",
]  # fmt: skip


@pytest.mark.parametrize("journal", JOURNALS, ids=lambda j: repr(j[:12]))
@pytest.mark.parametrize("kept", [0, 2])
def test_a_damaged_journal_costs_its_chunks(tmp_path, journal, kept):
    source = Counted(broken=(3, CHUNK))
    opened(source, tmp_path)
    path = store_folder(source, SPEC, tmp_path) / "journal"
    lines = sorted(path.read_bytes().splitlines(keepends=True))
    path.write_bytes(b"".join(lines[:kept]) + journal)
    (path.parent / "store.json").write_bytes(journal)
    source.reads = 0
    labels = opened(source, tmp_path)["label"].tolist()
    assert labels == [-1 if i in source.broken else i for i in range(COUNT)]
    assert json.loads((path.parent / "store.json").read_bytes())["broken"][0] == [3, "3.jpg: torn"]
    # Broken images of the chunks that are kept are tried again.
    assert source.reads == (COUNT + 2 if kept == 0 else COUNT - 2 * CHUNK + 2)


def test_reasons_have_a_checksum_too(tmp_path):
    source = Counted(broken=(3,))
    opened(source, tmp_path)
    path = store_folder(source, SPEC, tmp_path) / "journal"
    path.write_bytes(path.read_bytes().replace(b"torn", b"wont"))
    opened(source, tmp_path)
    assert b"wont" not in path.read_bytes()


def test_images_with_the_labels_of_others_are_made_again(tmp_path, monkeypatch):
    """As stores had them once, whose checksums are those of rows and reasons alone."""
    source = Counted(broken=(3,))

    def before(checksum, broken):
        return crc32c(json.dumps(broken).encode(), checksum) if broken else checksum

    with monkeypatch.context() as patch:
        patch.setattr("jaxssl.data.store.with_reasons", before)
        patch.setattr("jaxssl.data.loading._UNKNOWN", {})
        assert opened(source, tmp_path)["label"][3] == 4
    assert opened(source, tmp_path)["label"][3] == -1


def test_other_stores_of_a_source_are_named_once_with_their_size(tmp_path, caplog, monkeypatch):
    with caplog.at_level("INFO", "jaxssl.data"):
        for source in (Counted(), Counted(), Counted(broken=(4,))):
            opened(source, tmp_path)
        assert "other decoded" not in caplog.text  # a process needs what it has opened itself
        shutil.rmtree(store_folder(Counted(broken=(4,)), SPEC, tmp_path))
        monkeypatch.setattr("jaxssl.data.store._used", set())
        opened(Counted(broken=(3,)), tmp_path)
    other, size = store_folder(Counted(), SPEC, tmp_path), 0
    for name in ("image", "hw", "label", "journal", "store.json"):
        size += 512 * (other / name).stat().st_blocks
    (said,) = [message for message in caplog.messages if "other decoded" in message]
    assert said.startswith(f"counted:1: {tmp_path} has other decoded images of it, {other.name} (")
    assert f"({size / 1e9:.3g} GB); delete those that no run uses any more" in said
    caplog.clear()
    for damaged in (b"{}", b"[", b'{"location": "folder:x"}'):
        (other / "store.json").write_bytes(damaged)
        report.cache_clear()
        opened(Counted(broken=(4,)), tmp_path)
    assert "other decoded" not in caplog.text


def test_two_runs_fill_a_store_once(tmp_path):
    source = Counted()
    with concurrent.futures.ThreadPoolExecutor(4) as runs:
        for arrays in runs.map(lambda _: opened(source, tmp_path), range(4)):
            assert_right(arrays)
    assert source.reads == COUNT


def test_broken_images_are_replaced_and_named_in_one_warning(tmp_path, caplog):
    source = Counted(broken=(CHUNK, 20))
    for _ in range(2):
        caplog.clear()
        arrays = opened(source, tmp_path)
        for index in source.broken:
            np.testing.assert_array_equal(arrays["image"][index], arrays["image"][index + 1])
            assert arrays["label"][index] == -1  # or it would count as another of that class
        (record,) = caplog.records
        assert f"2 of {COUNT} images cannot be read: 20.jpg: torn; 64.jpg: torn" in record.message


@pytest.mark.parametrize("broken", [(20,), (CHUNK - 1, CHUNK)])
def test_images_that_can_be_read_again_are_no_longer_broken(tmp_path, caplog, broken):
    source = Counted(broken=(3 * CHUNK, *broken))
    opened(source, tmp_path, max_broken=0.02)
    source.broken, source.reads = (3 * CHUNK,), 0
    source.fingerprint = Counted(broken=(3 * CHUNK, *broken)).fingerprint
    caplog.clear()
    with caplog.at_level("INFO", "jaxssl.data"):
        labels = opened(source, tmp_path)["label"].tolist()
    assert labels == [-1 if i == 3 * CHUNK else i for i in range(COUNT)]
    assert source.reads == len(broken) * CHUNK + 2 * (1 + len(broken))
    said, warned = caplog.messages
    assert f"{len(broken)} images that could not be read before can be read now; their" in said
    assert f"1 of {COUNT} images cannot be read" in warned
    source.reads = 0
    opened(source, tmp_path)
    assert source.reads == 1  # the one that is still broken


def test_too_many_broken_images_are_an_error(tmp_path):
    source = Counted(broken=(3, 4, 5, 200))
    for _ in range(2):
        with pytest.raises(
            ValueError, match=rf"4 of {COUNT} .* 3\.jpg: torn; .*at most 1%"
        ) as error:
            opened(source, tmp_path)
        assert "\n" not in str(error.value)
    assert len(opened(source, tmp_path, max_broken=0.02)["label"]) == COUNT


def test_a_cache_that_cannot_be_written_is_refused_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="JAXSSL_CACHE") as error:
        opened(Counted(), tmp_path / "file")
    assert "\n" not in str(error.value)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match="of which 1e-06 GB are free") as error:
        opened(Counted(), tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_on_a_network_disk_is_locked_too(tmp_path, monkeypatch):
    flock = fcntl.flock

    def nfs(descriptor, operation):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", nfs)
    with locked(tmp_path, "fills"):
        (path,) = tmp_path.iterdir()
        assert path.name != ".lock"  # which a training holds as long as it runs
        with path.open("r+") as file, pytest.raises(BlockingIOError):
            flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with locked(tmp_path, "fills"):
        pass


def test_progress_writes_plain_lines_where_there_is_no_terminal(capsys):
    with Progress(8, "decoding", done=2) as advance:
        advance(4)
        advance(2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("decoding: 8/8 images, ")
    assert line.endswith(" images/s, done in 0:00")
    with Progress(8, "decoding", show=False) as advance:
        advance(8)
    assert not capsys.readouterr().err
