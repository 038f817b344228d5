"""Exports and their numbers from Python, and bugs in a segmenter: they keep their traceback."""

import dataclasses
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from small_export import contents, make_photos

import mask_tools
from jaxssl.data import decode, open_source
from jaxssl.data.records import Records, read_info
from jaxssl.errors import UserError
from mask_tools import export, record_preview
from mask_tools.segmenters import SEGMENTERS


@dataclasses.dataclass(frozen=True)
class Buggy(mask_tools.Grid):
    """Fails on the fourth scene."""

    def __call__(self, example):
        if example.key.endswith("3"):
            _, _ = example.image.shape  # three values
        return super().__call__(example)


MISTAKES = {
    "segmenter='fh'": "segmenter 'fh': give one such as mask_tools.Felzenszwalb(",
    "segmenter=mask_tools.Grid": "give one such as mask_tools.Felzenszwalb(",
    "segmenter=lambda example: []": "give one such as mask_tools.Felzenszwalb(",
    "max_side=0": "--max-side 0: give a whole number of pixels above 0, or None",
    "max_side=-5": "--max-side -5: give",
    "max_side='32'": "--max-side '32': give",
    "unannotated='errors'": "--unannotated 'errors': give skip or error",
    "source=None": "a source is a text such as folder:photos, not None",
    "source=b'scenes:3'": "a source is a text such as folder:photos, not b'scenes:3'",
}


def test_arguments_of_another_kind_are_refused(tmp_path):
    calls = [
        "try: mask_tools.segment_dataset(**{'source': 'scenes:3', 'segmenter': mask_tools.Grid(), "
        f"'out': 'out', 'workers': 1}} | dict({given}))\n"
        "except UserError as error: print(error)"
        for given in MISTAKES
    ]  # in another process, in which nothing else looks at their types
    program = "\n".join(["import mask_tools", "from jaxssl.errors import UserError", *calls])
    command, root = [sys.executable, "-c", program], os.path.dirname(os.path.dirname(__file__))
    env = os.environ | {"PYTHONPATH": root}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for line, message in zip(lines, MISTAKES.values(), strict=True):
        assert message in line
    assert not (tmp_path / "out").exists()


def test_a_call_writes_what_the_command_writes(tmp_path):
    words = ["--source", "scenes:10", "--segmenter", "grid", "--rows", "2", "--shards", "3"]
    assert export.main([*words, "--out", str(tmp_path / "command"), "--workers", "0"]) == 0
    out, segmenter = tmp_path / "call", mask_tools.Grid(rows=2)
    result = mask_tools.segment_dataset("scenes:10", segmenter, out, shards=3, workers=0)
    assert contents(out) == contents(tmp_path / "command")
    assert result.is_complete
    assert result.bytes == sum(path.stat().st_size for path in out.glob("*.tfrecord"))
    assert result.statistics.regions == (10, 10, 10)
    again = mask_tools.segment_dataset("scenes:10", segmenter, out, shards=3, workers=0)
    assert str(again).endswith("already: nothing to do.")
    with pytest.raises(ValueError, match=r"another rows \(2 before, 5 now\)"):
        mask_tools.segment_dataset("scenes:10", mask_tools.Grid(), out, shards=3, workers=0)


def test_jobs_of_an_array_from_python(tmp_path):
    def run(index):
        return mask_tools.segment_dataset(
            "scenes:4", None, tmp_path, shards=2, workers=0, num_shards=2, shard_index=index
        )

    assert not run(0).is_complete
    assert run(1).is_complete


@pytest.mark.parametrize("change", [b"", b"\xff", b"[]", b'"rows": [', b'"file": "', b'"count": 1'])
def test_a_shard_with_a_damaged_note_is_made_again(tmp_path, change, caplog):
    def run(out, index):
        return mask_tools.segment_dataset(
            "scenes:4", None, out, shards=2, workers=0, num_shards=2, shard_index=index
        )

    for out in ("good", "bad"):
        run(tmp_path / out, 0)
    (note,) = (tmp_path / "bad" / ".work").glob("*-00000-of-*.json")
    content = note.read_bytes()
    note.write_bytes(content.replace(change, change + b"1", 1) if change in content[1:] else change)
    assert run(tmp_path / "good", 1).is_complete
    assert not run(tmp_path / "bad", 1).is_complete
    assert run(tmp_path / "bad", 0).is_complete
    assert contents(tmp_path / "bad") == contents(tmp_path / "good")


def test_a_damaged_note_on_the_settings_is_named(tmp_path):
    def run(index):
        return mask_tools.segment_dataset(
            "scenes:4", None, tmp_path, shards=2, workers=0, num_shards=2, shard_index=index
        )

    run(0)
    (tmp_path / ".work" / "train.json").write_bytes(b"[]")
    with pytest.raises(UserError, match=r"\.work/train\.json is damaged: .*; delete .*\.work to"):
        run(1)


def test_a_segmenter_of_one_s_own_is_named(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Halves(mask_tools.Grid):
        rows: int = 1
        cols: int = 2

    mask_tools.segment_dataset("scenes:2", Halves(), tmp_path, workers=0)
    assert read_info(tmp_path).segmenter["name"] == "Halves"
    assert len(Records(tmp_path)[0].regions) == 2


def test_inspect_returns_numbers(tmp_path):
    mask_tools.segment_dataset("scenes:6", None, tmp_path, workers=0)
    report = mask_tools.inspect_regions(str(tmp_path), min_area=64, verify=True)
    regions = [open_source("scenes:6")[i].regions for i in range(6)]
    counts = [len(r) for r in regions]
    assert report.statistics.images == 6
    assert report.statistics.regions == (np.mean(counts), min(counts), max(counts))
    assert report.statistics.usable.mean == np.mean([(r.area >= 64).sum() for r in regions])
    assert report.areas.sum() == sum(counts)
    assert report.compared_with == "source"  # the label maps of scenes
    assert report.match.images == 6
    assert "regions per image          " in str(report)


def test_preview_draws_the_views_of_a_config(tmp_path, monkeypatch):
    mask_tools.segment_dataset("scenes:5", None, tmp_path, shards=2, workers=0)
    seen = {}

    def draw_gallery(examples, views, **options):
        seen.update(options, examples=examples, views=views)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(record_preview, "_draw_gallery", draw_gallery)
    mask_tools.draw_preview(tmp_path, images=1)
    assert seen["subtitle"].startswith("views by jaxssl's defaults (--config FILE.py draws those ")
    mask_tools.draw_preview(tmp_path, config="configs/quickstart.py", images=3)
    source = open_source("scenes:5")
    assert [e.key for e in seen["examples"]] == [source[i].key for i in (0, 2, 4)]
    assert list(seen["views"]) == ["two views by random_crop", "two views by region_crop"]
    assert seen["subtitle"].startswith("views by configs/quickstart.py: 32 px, area 0.08 to 1 of")
    assert seen["min_area"] == 64
    for column in seen["views"].values():
        for view in (view for views in column for view in views):
            assert view.image.shape == (32, 32, 3)
            assert (view.box >= 0).all()
            assert (view.box <= 1).all()
            assert (view.box[2:] > view.box[:2]).all()


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_an_image_too_large_to_be_decoded_whole_is_shrunk_meanwhile(ending, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    monkeypatch.setattr(decode, "MAX_DECODED", 1000)
    monkeypatch.setattr(decode, "MAX_TO_SHRINK", 4000)
    (tmp_path / "images").mkdir()
    ramp = np.resize(np.arange(80, dtype=np.uint8) * 3, (40, 80))
    Image.fromarray(ramp).save(tmp_path / "images" / f"panorama.{ending}")
    arguments = (f"folder:{tmp_path}/images", mask_tools.Grid(rows=2, cols=2))
    with pytest.raises(UserError, match="40 x 80 pixels exceeds limit .* --max-side"):
        mask_tools.segment_dataset(*arguments, tmp_path / "whole", workers=0)
    mask_tools.segment_dataset(*arguments, tmp_path / "out", workers=0, max_side=24)
    (example,) = Records(tmp_path / "out")
    assert example.image.shape == (12, 24, 3)
    assert example.encoded.startswith(b"\xff\xd8" if ending == "jpg" else b"\x89PNG")
    expected = Image.fromarray(ramp).resize((24, 12), Image.Resampling.BOX)
    assert abs(example.image[..., 0] - np.asarray(expected).astype(int)).max() < 12
    assert len(example.regions) == 4


@pytest.mark.parametrize(("ending", "tolerance"), [("jpg", 9), ("png", 0)])
def test_images_in_records_are_upright(ending, tolerance, tmp_path):
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    ramp = np.resize(np.arange(60, dtype=np.uint8) * 4, (30, 60))
    Image.fromarray(ramp).save(tmp_path / "images" / f"phone.{ending}", exif=exif)
    grid = mask_tools.Grid(rows=2, cols=1)
    mask_tools.segment_dataset(f"folder:{tmp_path}/images", grid, tmp_path / "out", workers=0)
    (example,) = Records(tmp_path / "out")
    stored = Image.open(io.BytesIO(example.encoded))  # as readers see it that know no EXIF
    assert not stored.getexif()
    upright = np.rot90(ramp, -1).astype(int)
    assert abs(np.asarray(stored.convert("L")) - upright).max() <= tolerance
    np.testing.assert_array_equal(example.image, np.asarray(stored.convert("RGB")))
    assert example.regions.box.tolist() == [[0, 0, 30, 30], [30, 0, 60, 30]]


def test_a_bug_in_a_segmenter_keeps_its_traceback(tmp_path, monkeypatch):
    monkeypatch.setitem(SEGMENTERS, "grid", Buggy)
    words = ["--source", "scenes:8", "--segmenter", "grid", "--out", str(tmp_path)]
    with pytest.raises(ValueError, match="too many values") as error:
        export.main([*words, "--workers", "0"])
    assert error.value.__notes__ == ["Raised for the image scenes-0/train/0000003 of scenes:8."]
    assert error.traceback[-1].path.name == "test_dataset_export.py"


def test_a_bug_in_a_worker_process_keeps_its_traceback(tmp_path):
    with pytest.raises(ValueError, match="too many values") as error:
        mask_tools.segment_dataset("scenes:8", Buggy(), tmp_path, shards=2, workers=2)
    assert error.value.__notes__ == ["Raised for the image scenes-0/train/0000003 of scenes:8."]
    assert "test_dataset_export.py" in str(error.value.__cause__)


@pytest.mark.parametrize("asked", [False, True])
def test_a_mistake_shows_its_traceback_when_asked_to(tmp_path, asked):
    words = ["--source", "folder:/nowhere", "--segmenter", "fh", "--out", str(tmp_path / "x")]
    done = subprocess.run(
        [sys.executable, "-m", "mask_tools.export", *words],
        env=os.environ | {"JAXSSL_TRACEBACK": "1" if asked else ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    if asked:
        assert "Traceback" in done.stderr
        assert "in segment_dataset" in done.stderr
    else:
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: /nowhere does not exist")
        assert line.endswith("(JAXSSL_TRACEBACK=1 shows where)")


def half(source, segmenter, out, index):
    """One of two jobs that make a file each."""
    return mask_tools.segment_dataset(
        source, segmenter, out, shards=2, workers=0, num_shards=2, shard_index=index
    )


def test_files_are_made_again_where_masks_have_changed(tmp_path):
    (tmp_path / "masks").mkdir()
    out, masks = tmp_path / "out", mask_tools.Proposals(path=str(tmp_path / "masks"))
    for rows in (3, 6):
        for i in range(4):
            path = tmp_path / "masks" / f"{i:07}.npz"  # of the same size
            np.savez(path, masks=np.arange(192)[None, :, None].repeat(192, 2) < rows)
            os.utime(path, (rows, rows))
        made = half("scenes:4", masks, out, index=rows // 6)
    assert (made.complete_shards, made.is_complete) == (1, False)
    assert half("scenes:4", masks, out, index=0).is_complete
    assert {example.regions.area.item() for example in Records(out)} == {6 * 192}


def test_of_two_exports_into_a_folder_the_first_ends(tmp_path):
    class Beside(mask_tools.Grid):
        def __call__(self, example):
            half("scenes:4", mask_tools.Grid(rows=2), tmp_path, index=0)
            return super().__call__(example)

    with pytest.raises(UserError, match="another run has begun or completed 'train' in"):
        half("scenes:4", Beside(), tmp_path, index=1)
    assert half("scenes:4", mask_tools.Grid(rows=2), tmp_path, index=1).is_complete
    assert {len(example.regions) for example in Records(tmp_path)} == {10}


def test_a_complete_export_is_not_one_of_other_images(tmp_path):
    photos = make_photos(tmp_path)

    def run():
        grid = mask_tools.Grid()
        return mask_tools.segment_dataset(f"folder:{photos}", grid, tmp_path / "out", workers=0)

    assert run().statistics
    for path in photos.rglob("*.*"):  # copied to where it was
        os.utime(path, (1, 1))
    assert run().statistics is None
    Image.new("RGB", (9, 9)).save(photos / "a" / "2.png")
    with pytest.raises(UserError, match="was exported with another content"):
        run()
    info = json.loads((tmp_path / "out" / "info.json").read_text())
    del info["segmenter"]["content"]  # as earlier versions wrote it
    (tmp_path / "out" / "info.json").write_text(json.dumps(info))
    assert run().statistics is None
