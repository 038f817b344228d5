"""Runs that are continued: with which other configs and images."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from jaxssl.config import base
from jaxssl.data import open_source
from jaxssl.errors import UserError
from jaxssl.training import workdir as workdir_module
from jaxssl.training.workdir import (
    Environment,
    check_images,
    check_workdir,
    create_workdir,
    environment,
    read_environment,
)


@pytest.fixture
def photos(tmp_path):
    """A folder of bitmaps, which are all of one size."""
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (9, 7), (i, 0, 0)).save(folder / "a" / f"{i}.bmp")
    return folder


def start(workdir, **changes):
    """What `pretrain` does with the folder of a run."""
    config = base()
    config.update_from_flattened_dict(changes)
    changed = check_workdir(workdir, config)
    images = check_images(workdir, config, open_source(config.data.source))
    create_workdir(workdir, config, images, changed)


def test_images_may_move_and_not_change(tmp_path, photos):
    run = tmp_path / "run"
    start(run, **{"data.source": f"folder:{photos}"})
    shutil.copytree(photos, tmp_path / "elsewhere", copy_function=shutil.copy)  # written now
    moved = {"data.source": f"folder:{tmp_path / 'elsewhere'}"}
    run = run.rename(tmp_path / "moved run")
    start(run, **moved)
    assert json.loads((run / "config.json").read_text())["data"]["source"] == moved["data.source"]
    with pytest.raises(UserError, match=r"another config \(batch_size: 256 -> 8\)"):
        start(run, **moved, batch_size=8)

    Image.new("RGB", (9, 7), (200, 0, 0)).save(tmp_path / "elsewhere" / "a" / "1.bmp")
    with pytest.raises(UserError, match="begun on 3 images and .*elsewhere has other ones"):
        start(run, **moved)
    with pytest.raises(UserError, match="begun on 3 images and scenes:3 has other ones"):
        start(run, **{"data.source": "scenes:3"})
    (tmp_path / "elsewhere" / "a" / "1.bmp").unlink()
    with pytest.raises(UserError, match="begun on 3 images and .*elsewhere now has 2"):
        start(run, **moved)
    start(run, **{"data.source": f"folder:{photos}"})  # those of before
    (photos / "a" / "0.bmp").rename(photos / "a" / "9.bmp")
    with pytest.raises(UserError, match="photos has other ones"):
        start(run, **{"data.source": f"folder:{photos}"})


def test_label_maps_are_none_of_the_images_of_a_run(tmp_path, photos):
    tree = tmp_path / "tree"
    shutil.copytree(photos / "a", tree / "images" / "train")
    (tree / "labels" / "train").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(np.zeros((7, 9), np.uint8)).save(tree / "labels" / "train" / f"{i}.png")
    start(tmp_path / "run", **{"data.source": f"folder:{tree}"})
    Image.fromarray(np.ones((7, 9), np.uint8)).save(tree / "labels" / "train" / "0.png")
    start(tmp_path / "run", **{"data.source": f"folder:{tree}"})
    shutil.copy(tree / "images" / "train" / "0.bmp", tree / "images" / "train" / "1.bmp")
    with pytest.raises(UserError, match="has other ones"):
        start(tmp_path / "run", **{"data.source": f"folder:{tree}"})


def test_runs_without_a_word_on_their_images_take_those_of_now_for_theirs(tmp_path):
    start(tmp_path, **{"data.source": "scenes:3"})
    environment = json.loads((tmp_path / "environment.json").read_text())
    del environment["data"]
    (tmp_path / "environment.json").write_text(json.dumps(environment))
    with pytest.raises(UserError, match="data.source: 'scenes:3' -> 'objects:3'"):
        start(tmp_path, **{"data.source": "objects:3"})
    start(tmp_path, **{"data.source": "scenes:3"})
    assert json.loads((tmp_path / "environment.json").read_text())["data"]


def test_nothing_of_the_environment_that_may_be_secret_is_saved(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "a-secret-key")
    start(tmp_path, **{"data.source": "scenes:3"})
    assert set(read_environment(tmp_path)) == set(Environment.__annotations__) - {"changes"}
    assert not any("a-secret-key" in path.read_text() for path in tmp_path.iterdir())


def test_the_learning_rate_may_be_lowered(tmp_path):
    start(tmp_path, **{"optim.lr": 0.3})
    start(tmp_path, **{"optim.lr": 0.1})
    with pytest.raises(UserError, match=r"another config \(optim.lr: 0.1 -> 0.3\)"):
        start(tmp_path, **{"optim.lr": 0.3})


def test_what_changes_under_way_is_noted_and_a_finished_run_has_no_other_rate(tmp_path):
    run, epoch = {"data.source": "scenes:6", "batch_size": 2, "epochs": 2}, 3
    start(tmp_path, **run, **{"optim.lr": 0.4})
    start(tmp_path, **run, **{"optim.lr": 0.3})
    assert "changes" not in read_environment(tmp_path)  # before the first checkpoint
    (tmp_path / "checkpoints" / str(epoch)).mkdir(parents=True)
    start(tmp_path, **run, **{"optim.lr": 0.2})
    start(tmp_path, **run, **{"optim.lr": 0.2})
    (tmp_path / "checkpoints" / str(2 * epoch)).mkdir()
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(UserError, match=r"a finished run with another config \(optim.lr: 0.2 -> 0"):
        start(tmp_path, **run, **{"optim.lr": 0.1})
    assert (tmp_path / "config.json").read_text() == before
    start(tmp_path, **run | {"epochs": 3}, **{"optim.lr": 0.1})
    assert read_environment(tmp_path)["changes"] == [
        "after step 3, optim.lr: 0.3 -> 0.2",
        "after step 6, epochs: 2 -> 3",
        "after step 6, optim.lr: 0.2 -> 0.1",
    ]


def test_another_evaluation_under_way_is_noted(tmp_path):
    """Lines of metrics before it and after it have one name and other protocols."""
    start(tmp_path, **{"data.source": "scenes:6"})
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    now = {"eval.datasets": ("objects:60",), "eval.knn_k": 20, "eval.size": 64}
    start(tmp_path, **{"data.source": "scenes:6"}, **now, **{"eval.batch_size": 8, "log_every": 7})
    assert read_environment(tmp_path)["changes"] == [
        "after step 3, eval.datasets: () -> ('objects:60',)",
        "after step 3, eval.knn_k: 200 -> 20",
        "after step 3, eval.size: 0 -> 64",
    ]


def test_a_run_goes_on_in_less_memory(tmp_path):
    """As those of `detcon.py` do that were begun before the encoder had `remat_expansions`."""
    run, encoder = tmp_path / "run", {"encoder.name": "resnet50", "data.source": "scenes:3"}
    start(run, **encoder)
    saved = json.loads((run / "config.json").read_text())
    del saved["encoder"]["remat_expansions"]
    (run / "config.json").write_text(json.dumps(saved))
    start(run, **encoder, **{"encoder.remat_expansions": True, "remat": True})
    with pytest.raises(UserError, match=r"encoder.width: 1.0 -> 0.5"):
        start(run, **encoder, **{"encoder.width": 0.5})


def test_the_revision_is_that_of_the_code_alone(tmp_path, monkeypatch):
    """Not that of the user's repository, in which an environment may lie."""

    def git(*words):
        named = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *named, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    for folder in ("venv/jaxssl", "jaxssl"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(workdir_module.__file__, tmp_path / folder)
    (tmp_path / ".gitignore").write_text("venv/")
    git("add", ".")
    git("commit", "-m", "first")
    git("tag", "-m", "one", "v1")
    for folder, revision in (("venv/jaxssl", None), ("jaxssl", "v1")):
        monkeypatch.setattr(workdir_module, "__file__", str(tmp_path / folder / "workdir.py"))
        assert environment()["git"] == revision
