"""The command mask_tools.inspect."""

import pytest
from PIL import Image
from small_export import make_photos, run_export, the_error

from mask_tools import export, inspect
from mask_tools.region_report import inspect_regions


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path)


def test_records_may_be_named_as_a_source(tmp_path, capsys):
    words = ["--source", "scenes:4", "--segmenter", "exact", "--out", f"records:{tmp_path}/out"]
    assert export.main(words) == 0
    assert inspect.main([f"records:{tmp_path}/out"]) == 0
    assert f"data.source=records:{tmp_path}/out" in capsys.readouterr().out


def test_inspect_counts_and_draws(tmp_path, photos, capsys):
    run_export(tmp_path / "out", f"folder:{photos}", "grid", "--rows", 2, "--cols", 2)
    capsys.readouterr()
    picture = tmp_path / "preview.png"
    words = [str(tmp_path / "out"), "--min-area", "500", "--config", "configs/quickstart.py"]
    assert inspect.main(words) == 1
    assert "give --preview FILE.png" in the_error(capsys)
    assert inspect.main([*words, "--preview", "preview"]) == 1
    assert "--preview preview: give a name in .png, .jpg" in the_error(capsys)
    assert inspect.main([*words, "--verify", "--preview", str(picture)]) == 0
    text = capsys.readouterr().out
    assert "regions per image          3.2 (1 to 4)\n" in text
    assert "verified: checksums, boxes and areas of 4 images are right\n" in text
    assert "  of 500 px or more        2.0 (0 to 4)\n" in text
    assert "covered pixels             100.0 %\n" in text
    assert "  images without any       2 (50.0 %)\n" in text
    assert "300 to 1,000            8 ██" in text
    with Image.open(picture) as image:
        assert image.width > 900


def test_parameters_that_are_zero_are_named(tmp_path, photos):
    options = ("--scale", "100", "--min-size", "100", "--sigma", "0")
    run_export(tmp_path / "out", f"folder:{photos}", "fh", *options)
    title = inspect_regions(tmp_path / "out").title
    assert title == "out, split train: fh, scale 100, min_size 100, sigma 0.0"


def test_inspect_says_what_is_wrong(tmp_path, capsys):
    run_export(tmp_path / "out", "scenes:4", "grid")
    capsys.readouterr()
    assert inspect.main([str(tmp_path / "out"), "--split", "val"]) == 1
    assert "has no split 'val'; choose from train" in the_error(capsys)
    (shard,) = (tmp_path / "out").glob("*.tfrecord")
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    assert inspect.main([str(tmp_path / "out"), "--verify"]) == 1
    printed = capsys.readouterr()
    assert "does not match its checksum" in printed.err
    assert "verified" not in printed.out
