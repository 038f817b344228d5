"""Exports from end to end: what the records hold, and what happens when something goes wrong."""

import errno
import io
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from small_export import contents, make_photos, run_export, the_error

from jaxssl import files
from jaxssl.data import open_source
from jaxssl.data.records import Records, read_info
from mask_tools import inspect, shards
from mask_tools.hierarchy import objects
from mask_tools.segmenters import SEGMENTERS
from mask_tools.segmenters.felzenszwalb import Felzenszwalb
from mask_tools.segmenters.grid import Grid


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path)


def test_exact_regions_of_scenes_arrive_unchanged(tmp_path, capsys):
    assert run_export(tmp_path / "out", "scenes:10", "exact", "--shards", 3) == 0
    text = capsys.readouterr().out
    assert "images                     10\n" in text
    (hint,) = (line for line in text.splitlines() if "jaxssl.train" in line)
    for word in (f"data.source=records:{tmp_path / 'out'}", "batch_size=8"):
        assert f" --config.{word}" in hint
    assert " --workdir runs/out " in hint
    source, records = open_source("scenes:10"), Records(tmp_path / "out")
    assert len(records) == 10
    for i in range(10):
        given, written = source[i], records[i]
        assert written.key == given.key
        np.testing.assert_array_equal(written.image, given.image)
        assert written.regions.rle == given.regions.rle
        np.testing.assert_array_equal(written.regions.object, given.regions.object)
    names = {f"train-{n:05d}-of-00003.tfrecord" for n in range(3)}
    assert set(contents(tmp_path / "out")) == names | {"info.json"}


def test_files_of_a_folder_are_kept_as_they_are(tmp_path, photos):
    assert run_export(tmp_path / "out", f"folder:{photos}", "grid", "--rows", 2, "--cols", 3) == 0
    records = Records(tmp_path / "out")
    examples = [records[i] for i in range(len(records))]
    assert [e.key for e in examples] == ["a/1.jpg", "a/2.png", "b/3.jpg", "b/4.png"]
    assert [e.label for e in examples] == [0, 0, 1, 1]
    assert [e.encoded for e in examples] == [(photos / e.key).read_bytes() for e in examples]
    assert [len(e.regions) for e in examples] == [6, 6, 6, 1]
    info = read_info(tmp_path / "out")
    assert info.class_names == ("a", "b")
    assert info.source == f"folder:{photos}"
    assert info.segmenter["name"] == "grid"
    assert info.segmenter["parameters"] == {"rows": 2, "cols": 3}


def test_regions_too_small_for_views_are_a_warning(tmp_path, photos, capsys):
    assert run_export(tmp_path / "out", f"folder:{photos}", "grid") == 0
    warning = "warning: 4 of 4 images have no region of 1000 px or more"
    assert warning in the_error(capsys)
    assert inspect.main([str(tmp_path / "out")]) == 0
    assert warning in capsys.readouterr().err
    assert inspect.main([str(tmp_path / "out"), "--min-area", "50"]) == 0  # two have some
    assert "warning" not in capsys.readouterr().err


def test_several_scales_in_one_record(tmp_path, photos):
    options = ("--scale", "20,400", "--min-size", "10,100", "--sigma", "0.5")
    assert run_export(tmp_path / "out", f"folder:{photos}", "fh", *options) == 0
    records = Records(tmp_path / "out")
    segmenter = Felzenszwalb(scale=(20, 400), min_size=(10, 100), sigma=0.5)
    for i in range(len(records)):
        example = records[i]
        found = segmenter(example)
        assert example.regions.rle == tuple(region.rle for region in found)
        assert example.regions.level.tolist() == [region.level for region in found]
        np.testing.assert_array_equal(
            example.regions.object, objects(example.regions.rle, example.regions.size)
        )
    assert set(records[0].regions.level.tolist()) == {0, 1}


def test_large_images_are_shrunk_and_then_segmented(tmp_path, photos):
    assert run_export(tmp_path / "out", f"folder:{photos}", "grid", "--max-side", 30) == 0
    records = Records(tmp_path / "out")
    assert [records[i].image.shape[:2] for i in range(4)] == [(20, 30), (30, 20), (30, 30), (1, 1)]
    assert records[0].regions.size == (20, 30)
    assert records[0].regions.area.sum() == 600
    kinds = [Image.open(io.BytesIO(records[i].encoded)).format for i in range(4)]
    assert kinds == ["JPEG", "PNG", "JPEG", "PNG"]
    assert records[1].encoded == (photos / "a/2.png").read_bytes()


def test_regions_that_vanish_when_images_are_shrunk_are_counted(tmp_path, capsys):
    why = "covers no pixel once --max-side shrinks its image"
    source = open_source("scenes:4")
    for side, some in ((192, False), (6, True)):
        out = tmp_path / str(side)
        assert run_export(out, "scenes:4", "exact", "--max-side", side, "--shards", 2) == 0
        records = Records(out)
        lost = sum(len(source[i].regions) - len(records[i].regions) for i in range(4))
        assert (lost > 0) == some
        said = " ".join(capsys.readouterr().out.split())
        line = f"regions left out {why}: {lost} (first: a mask of {source[0].key})"
        assert (line in said, "left out" in said) == (some, some)
        assert read_info(out).segmenter["left_out"] == {"train": {why: lost} if some else {}}


def test_shrinking_keeps_a_source_s_objects(tmp_path):
    assert run_export(tmp_path / "out", "scenes:4", "exact", "--max-side", 96) == 0
    source, records = open_source("scenes:4"), Records(tmp_path / "out")
    for i in range(4):
        given, written = source[i].regions, records[i].regions
        kept = np.isin(given.object, written.object)
        np.testing.assert_array_equal(written.object, given.object[kept])
        every_second = given.masks()[kept][:, 1::2, 1::2]
        np.testing.assert_array_equal(written.masks(), every_second)


def interrupted_after(monkeypatch, count):
    """Makes the grid segmenter raise KeyboardInterrupt at its call number `count`."""
    calls = iter(range(count))

    class Interrupted(Grid):
        def __call__(self, example):
            if next(calls, None) is None:
                raise KeyboardInterrupt
            return super().__call__(example)

    monkeypatch.setitem(SEGMENTERS, "grid", Interrupted)


def test_interrupted_export_continues_to_the_same_bytes(tmp_path, monkeypatch, capsys):
    arguments = ("scenes:12", "grid", "--shards", 4)
    assert run_export(tmp_path / "whole", *arguments) == 0
    with monkeypatch.context() as patch:
        interrupted_after(patch, 8)
        assert run_export(tmp_path / "out", *arguments) == 130
    assert "the same command continues" in the_error(capsys)
    before = contents(tmp_path / "out")
    assert {name for name in before if name.endswith("tfrecord")} == {
        "train-00000-of-00004.tfrecord",
        "train-00001-of-00004.tfrecord",
    }
    interrupted_after(monkeypatch, 6)  # what is there is not made again
    assert run_export(tmp_path / "out", *arguments) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_killed_workers_leave_nothing_half_done(tmp_path):
    arguments = ("scenes:60", "fh", "--scale", "20,50", "--shards", 30)
    words = ["--source", arguments[0], "--segmenter", *arguments[1:], "--out", tmp_path / "out"]
    command = [sys.executable, "-m", "mask_tools.export", "--workers", "2", *map(str, words)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob("out/.work/*.tfrecord.json")):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*.tfrecord")}
    assert 0 < len(made) < 30
    noted = {path.stem for path in tmp_path.glob("out/.work/*.tfrecord.json")}
    assert run_export(tmp_path / "out", *arguments) == 0
    assert run_export(tmp_path / "whole", *arguments) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert all(p.stat().st_mtime_ns == when for p, when in made.items() if p.name in noted)


def test_other_parameters_are_refused(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupted_after(patch, 3)
        run_export(out, "scenes:4", "grid", "--shards", 2)
    capsys.readouterr()
    assert run_export(out, "scenes:4", "grid", "--shards", 4, "--rows", 3) == 1
    assert "another rows (5 before, 3 now), another shards (2 before, 4 now)" in the_error(capsys)
    assert run_export(out, "scenes:4", "grid", "--shards", 2) == 0
    complete = contents(out)
    capsys.readouterr()
    assert run_export(out, "scenes:4", "fh") == 1
    assert "another segmenter (grid before, fh now)" in the_error(capsys)
    assert run_export(out, "scenes:5", "grid", "--shards", 2, "--split", "test", "--rows", 1) == 1
    assert "another rows (5 before, 1 now)" in the_error(capsys)
    assert run_export(out, "scenes:4", "grid", "--shards", 2) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert contents(out) == complete


def test_a_second_split_joins_the_first(tmp_path, capsys):
    out = tmp_path / "out"
    assert run_export(out, "objects:8", "grid", "--part", "train") == 0
    assert run_export(out, "objects:8", "grid", "--part", "test", "--split", "test") == 0
    info = read_info(out)
    assert list(info.splits) == ["train", "test"]
    assert capsys.readouterr().out.count(" --config.batch_size=8\n") == 2  # that of training
    assert info.source == "objects:8"
    assert (len(Records(out)), len(Records(out, "test"))) == (8, 2)
    capsys.readouterr()
    assert run_export(out, "scenes:8", "grid", "--split", "val") == 1
    assert "another classes" in the_error(capsys)


def test_broken_images_are_left_out_and_named(tmp_path, photos, capsys):
    for name in ("5.jpg", "6.jpg"):
        (photos / "b" / name).write_bytes((photos / "b" / "3.jpg").read_bytes()[:200])
    assert run_export(tmp_path / "out", f"folder:{photos}", "grid") == 1
    message = the_error(capsys)
    assert "2 of 6 images are broken so far, more than --max-broken 0.01 allows" in message
    assert "b/5.jpg" in message
    assert not (tmp_path / "out" / "info.json").exists()
    assert run_export(tmp_path / "out", f"folder:{photos}", "grid", "--max-broken", 0.4) == 0
    assert "2, named in info.json" in capsys.readouterr().out
    assert len(Records(tmp_path / "out")) == 4
    named = read_info(tmp_path / "out").segmenter["broken"]["train"]
    assert [line.partition(":")[0] for line in named] == ["b/5.jpg", "b/6.jpg"]


def test_one_image_may_be_broken_unless_none_may(tmp_path, photos, capsys):
    (photos / "b" / "5.jpg").write_bytes(b"broken")
    assert run_export(tmp_path / "none", f"folder:{photos}", "grid", "--max-broken", 0) == 1
    assert "1 of 5 images are broken so far, more than --max-broken 0 allows" in the_error(capsys)
    assert run_export(tmp_path / "out", f"folder:{photos}", "grid") == 0
    assert len(Records(tmp_path / "out")) == 4


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("scenes:4", ("fhh",), "invalid choice: 'fhh' (choose from"),
        ("folder:nowhere", ("grid",), "nowhere does not exist"),
        ("folder:PHOTOS", ("exact",), "carries no regions; choose --segmenter grid or fh or"),
        ("scenes:4", ("grid", "--scale", "5"), "--scale is an option of --segmenter fh, not of"),
        ("scenes:4", ("fh", "--scale", "5;6"), "'5;6' is no list like 500,1000"),
        ("scenes:4", ("fh", "--scale", "5,6", "--min-size", "5"), "2 scales and 1 minimum sizes"),
        ("scenes:4", ("grid", "--rows", "x"), "invalid int value: 'x'"),
        ("scenes:4", ("grid", "--shards", "5"), "--shards 5 for 4 images"),
        ("scenes:4", ("grid", "--out", "PHOTOS/a/1.jpg"), "a directory: PHOTOS/a/1.jpg"),
    ],
)
def test_mistakes_get_one_line(tmp_path, photos, capsys, source, options, message):
    words = [word.replace("PHOTOS", str(photos)) for word in (source, *options)]
    before = contents(tmp_path)
    assert run_export(tmp_path / "out", *words) == 1
    assert message.replace("PHOTOS", str(photos)) in the_error(capsys)
    assert contents(tmp_path) == before


def test_full_disk_gets_one_line(tmp_path, monkeypatch, capsys):
    def write_shard(path, examples):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(shards, "write_shard", write_shard)
    assert run_export(tmp_path / "out", "scenes:4", "grid") == 1
    assert ".tfrecord; free some space and give the same command again" in the_error(capsys)


def test_a_file_that_cannot_be_written_to_its_end_gets_no_name(tmp_path):
    """The kernel refuses files over 20 kB, as it refuses more on a full disk."""
    limit = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
    limit += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    words = ["--source", "scenes:12", "--segmenter", "grid", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-c", limit, "-B", "-m", "mask_tools.export", *words]
    command += ["--workers", "2", "--shards", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = [x for x in done.stderr.splitlines() if not x.startswith("exporting")]
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"error: File too large: {tmp_path / 'out'}")
    left = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {name for name in left if not name.endswith(".tmp")} == {"train.json"}


def test_read_only_target_gets_one_line(tmp_path, monkeypatch, capsys):
    def mkdir(path, *words, **named):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(pathlib.Path, "mkdir", mkdir)
    assert run_export(tmp_path / "out", "scenes:4", "grid") == 1
    assert f"Read-only file system: {tmp_path / 'out'}" in the_error(capsys)
    assert not (tmp_path / "out").exists()


def test_a_file_that_another_run_writes_is_left_to_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "_TRIES", 2)
    path = tmp_path / "out" / "train-00000-of-00001.tfrecord"
    path.parent.mkdir()
    with files.atomic_write(path) as file:
        file.write(b"half")
        file.flush()
        assert run_export(tmp_path / "out", "scenes:4", "grid") == 1
        other = f"another run (process {os.getpid()}) is writing the same file"
        assert f"{other}: {path}" in the_error(capsys)
    assert path.read_bytes() == b"half"


def test_regions_too_many_for_eight_bits(tmp_path):
    assert run_export(tmp_path / "out", "scenes:2", "grid", "--rows", 20, "--cols", 20) == 0
    assert inspect.main([str(tmp_path / "out"), "--verify"]) == 0
