"""The command mask_tools.inspect."""

import numpy as np
import pytest
from PIL import Image
from small_export import make_photos, run_export, the_error

from jaxssl.data import tfrecord
from jaxssl.errors import UserError
from mask_tools import draw_preview, export, inspect
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


def _rewrite(folder, damage):
    """Changes the second record of a file; `info.json` has its new length."""
    (file,) = folder.glob("*.tfrecord")
    records = [tfrecord.decode_features(data) for data in tfrecord.read_all(file)]
    damage(records[1])
    data = [tfrecord.frame(tfrecord.encode_features(record)) for record in records]
    before, now = file.stat().st_size, sum(map(len, data))
    file.write_bytes(b"".join(data))
    info = folder / "info.json"
    info.write_text(info.read_text().replace(f'"bytes": {before}', f'"bytes": {now}'))
    return f"{file}: the record at byte {len(data[0]) + 12}"


@pytest.mark.parametrize(
    ("feature", "values", "message"),
    [
        ("label", np.zeros(0, int), "its label holds something else"),
        ("regions/box", np.full(16, 999.0), "is empty or not in the image"),
        ("regions/rle", [b"zz"] * 4, "its run lengths are damaged"),
    ],
)
def test_a_record_that_is_not_as_it_should_be_is_named(tmp_path, feature, values, message):
    run_export(tmp_path / "out", "scenes:3", "grid", "--rows", 2, "--cols", 2, "--workers", 0)
    where = _rewrite(tmp_path / "out", lambda record: record.update({feature: values}))
    for look in (inspect_regions, draw_preview):
        with pytest.raises(UserError, match=message) as refused:
            look(tmp_path / "out")
        assert where in str(refused.value)


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
