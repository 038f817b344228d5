"""What tests of the commands of mask_tools run and read."""

import numpy as np
from PIL import Image

from mask_tools import export


def run_export(out, source, segmenter, *options):
    words = ["--source", source, "--segmenter", segmenter, "--out", out, *options]
    return export.main(["--workers", "0", *map(str, words)])


def contents(folder):
    """Every file under a folder, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def the_error(capsys):
    """The one line that a command leaves on stderr, progress aside."""
    lines = [
        x for x in capsys.readouterr().err.splitlines() if x and x.split(":")[0] != "exporting"
    ]
    assert len(lines) == 1, lines
    return lines[0]


def make_photos(tmp_path):
    """Two classes of noise: JPEG, PNG, and an image of one pixel."""
    rng = np.random.default_rng(0)
    root = tmp_path / "photos"
    sizes = {"a/1.jpg": (40, 60), "a/2.png": (30, 20), "b/3.jpg": (50, 50), "b/4.png": (1, 1)}
    for name, size in sizes.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (*(-(-n // 10) for n in size), 3)).astype(np.uint8)
        image = coarse.repeat(10, axis=0).repeat(10, axis=1)[: size[0], : size[1]]
        Image.fromarray(image).save(root / name)
    return root
