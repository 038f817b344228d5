"""Photographs of any shape and size train and are evaluated by the commands."""

import json

import numpy as np
import pytest
from PIL import Image
from small_run import lines, run

from jaxssl import evaluate

SIZES = [(1, 2000), (5000, 40), (2, 2), (1, 1), (30, 44), (10_000, 10_000)]  # height, width


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes, each with an image of every size to learn from and to test on."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        pixels = rng.integers(0, 256, (min(height, 500), min(width, 500), 3), dtype=np.uint8)
        small = Image.fromarray(pixels)
        image = small.resize((width, height), Image.Resampling.NEAREST)
        for part in ("train", "val"):
            for name in ("a", "b"):
                path = root / part / name / f"{height}x{width}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
    return root


# Pillow warns of images as large as the largest of them; pytest undoes the filter of `decode`.
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.usefixtures("small_encoders")
@pytest.mark.parametrize("mode", ["device", "stream"])
def test_images_of_any_shape_train_and_are_evaluated(folder, tmp_path, mode, capsys):
    changes = {
        "data__source": f"folder:{folder}",
        "data__pixels": 20_000_000,  # the largest image has more
        "data__input": mode,
        "eval__datasets": "()",
        "sampler__name": "random_crop",
        "sampler__min_area": None,
        "sampler__expand": None,
        "batch_size": 8,
        "log_every": 1,
    }
    assert run(tmp_path, **changes) == 0, capsys.readouterr().err
    losses = [line["loss"] for line in lines(tmp_path) if "loss" in line]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    command = ["--workdir", str(tmp_path), "--datasets", f"folder:{folder}"]
    assert evaluate.main([*command, "--tasks", "knn", "--set", "knn.k=3"]) == 0
    (result,) = json.loads((tmp_path / "eval.json").read_text())
    assert 0 <= result["results"]["top1"] <= 1
