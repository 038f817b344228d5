"""What the command refuses, prints and compares, on eight devices."""

import os
import re
import shutil
import subprocess
import sys

import jax
import pytest
from PIL import Image
from small_run import CONFIG, SMALL, lines, run

from jaxssl import evaluate, sharding, train

pytestmark = pytest.mark.usefixtures("small_encoders")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method__temprature": 1}, "Did you mean 'method.temperature'?"),
        ({"epochs": "x"}, "epochs is 'x'; it takes integers"),
        ({"batch_size": 12}, "batch_size 12 does not divide over 8 devices; take 8 or 16"),
        ({"batch_size": 80}, "there are 70 images: set --config.batch_size=70 or less"),
        ({"data__source": "folder:/nowhere"}, "/nowhere"),
        ({"data__source": "nothing"}, "unknown source 'nothing'"),
        ({"data__source": "folder:{empty}"}, "no image"),
        ({"data__source": "folder:{photos}"}, "--segmenter fh"),
        (
            {"data__source": "folder:{photos}", "method__name": "detcon_b"},
            "sampler RegionCrop and method DetConB cannot do without regions",
        ),
        ({"data__region_planes": 0}, "data.region_planes is 0"),
        ({"eval__datasets": "folder:{photos}"}, "task knn needs labels and none"),
        ({"eval__knn_k": 61}, "objects:60 has 60 labeled images in its training part"),
        ({"eval__linear_epochs": 0}, "eval.linear_epochs is 0"),
        ({"eval__datasets": "('objects:60', 'objects:70')"}, "the same name"),
        ({"method__final_batch_norm": "afine"}, "choose one of none, affine"),
        ({"optim__warmup_epochs": 3.0}, "optim.warmup_epochs is 3.0 of 2 epochs"),
        ({"views__num_global": 1}, "views.num_global + num_local >= 2"),
        ({"method__name": "moco"}, "set --config.method.queue_size=64"),
        ({"checkpoint__keep": 0}, "checkpoint.keep is 0"),
        ({"views__recipe": "simcrl"}, "choose one of"),
        ({"encoder__name": "vit", "views__size": 24}, "views.size is 24: images of 24 x 24 pixels"),
        ({"encoder__name": "vit", "eval__size": 24}, "eval.size is 24: images of 24 x 24 pixels"),
        (
            {"encoder__name": "vit", "views__num_local": 1, "views__local_size": 8},
            "views.local_size is 8: images of 8 x 8 pixels do not divide into patches of 16",
        ),
        ({"encoder__name": "vit", "encoder__image_size": 24}, "encoder.image_size 24 does not"),
        ({"views__num_local": 6}, "views.local_size is 64, more than views.size, 16: set"),
        ({"optim__scale_lr_by_batch": "x"}, "optim.scale_lr_by_batch is 'x'"),
        ({"optim__constant_lr_for": "('predictor',)"}, "names predictor, which the method has not"),
        ({"epochs": 999999999}, "epochs is 999999999, 3999999996 steps: train for less than 2**31"),
        ({"wandb": "scenes"}, "config.wandb needs: pip install"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys, monkeypatch, changes, message):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    (tmp_path / "empty").mkdir()
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(70):
        Image.new("RGB", (40, 40), (i, 0, 0)).save(photos / f"{i}.png")
    paths = {"empty": tmp_path / "empty", "photos": photos}
    changes = {k: v.format(**paths) if isinstance(v, str) else v for k, v in changes.items()}
    assert run(tmp_path / "run", data__cache_dir=tmp_path / "cache", **changes) == 1
    printed = capsys.readouterr().err
    assert "decoding" not in printed or any(key.startswith("eval") for key in changes)
    (error,) = [line for line in printed.splitlines() if line.startswith("error:")]
    assert message in error
    assert not (tmp_path / "run").exists()


def test_what_a_later_variant_cannot_do_is_known_before_the_first_is_trained(tmp_path, capsys):
    assert run(tmp_path / "runs", variant="simclr,moco") == 1
    assert "more than the 128 keys of an epoch" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_written_is_known_before_images_are_decoded(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(tmp_path / "file" / "run", data__cache_dir=tmp_path / "cache") == 1
    printed = capsys.readouterr().err
    assert "cannot write to --workdir" in printed
    assert "decoding scenes" not in printed


def test_what_stops_while_images_are_decoded_has_begun_no_run(tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(70):
        Image.new("RGB", (40, 40), (i, 0, 0)).save(photos / f"{i}.png")
    changes = {"sampler__name": "random_crop", "eval__datasets": "()", "epochs": 1}
    changes |= {"data__source": f"folder:{photos}", "sampler__min_area": None}
    for i in range(3):
        (photos / f"{i}.png").write_bytes(b"broken")
    assert run(tmp_path / "run", **changes) == 1
    assert "3 of 70 images cannot be read" in capsys.readouterr().err
    for i in range(3):
        (photos / f"{i}.png").unlink()
    assert run(tmp_path / "run", **changes, batch_size=8) == 0


def command(*words, cwd):
    """Runs the command in a process of its own, in a folder."""
    environment = os.environ | {"JAXSSL_CACHE": str(cwd / "cache")}
    program = [sys.executable, "-m", "jaxssl.train", *words]
    return subprocess.run(
        program, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_a_bug_in_a_loss_keeps_its_traceback(tmp_path):
    """A wrong unpacking, put into SimCLR in a copy of the package: no user can mend that."""
    shutil.copytree(CONFIG.parents[1] / "jaxssl", tmp_path / "jaxssl")
    planted = tmp_path / "jaxssl" / "methods" / "simclr.py"
    source, line = planted.read_text(), "        z = stack_views(projections)"
    assert line in source
    planted.write_text(source.replace(line, f"        one, two = *projections, key\n{line}"))
    small = {"batch_size": 8, "data.source": "scenes:16", "encoder.width": 0.0625}
    small |= {"eval.datasets": "()", "eval.health": 0}
    overrides = [f"--config.{key}={value}" for key, value in small.items()]
    ended = command("--config", str(CONFIG), "--workdir", "run", *overrides, cwd=tmp_path)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert str(planted) in ended.stderr
    assert "\nValueError: too many values to unpack (expected 2)" in ended.stderr
    assert "\nerror: " not in ended.stderr


def test_printing_a_config_needs_neither_data_nor_devices(tmp_path, monkeypatch):
    """Its source is missing, and there is no such platform."""
    monkeypatch.setenv("JAX_PLATFORMS", "none")
    monkeypatch.setenv("PYTHONPATH", str(CONFIG.parents[1]))
    path = str(CONFIG.with_name("samclr_ade20k.py"))
    ended = command("--config", path, "--print-config", "--config.epochs=3", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    printed = ended.stdout.splitlines()
    assert "epochs = 3" in printed
    assert "method.temperature = 0.07" in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("backend", "chosen", "kept"),
    [("gpu", None, True), ("gpu", "elsewhere", False), ("cpu", None, False)],
)
def test_programs_are_kept_for_accelerators(tmp_path, monkeypatch, backend, chosen, kept):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", chosen)
    try:
        sharding.enable_compilation_cache(tmp_path)
        folder = jax.config.jax_compilation_cache_dir
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert folder == (str(tmp_path) if kept else chosen)


def test_evaluate_without_a_run(tmp_path, capsys):
    assert evaluate.main(["--workdir", str(tmp_path)]) == 1
    assert "config.json is missing" in capsys.readouterr().err


def test_a_variant_without_a_name_is_no_variant(tmp_path, capsys):
    """A comma too many would train the default one in the folder that holds the others."""
    for variant in ("simclr,", ",simclr", "simclr,,byol"):
        assert run(tmp_path, variant=variant) == 1
        assert "a variant without a name; separate names by one comma" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_two_variants_are_trained_and_compared(tmp_path, capsys):
    words = [f"--config.{k}={v}" for k, v in (SMALL | {"epochs": 1}).items()]
    command = ["--config", f"{CONFIG}:simclr,samclr", "--workdir", str(tmp_path), *words]
    assert train.main(command) == 0
    rows = [re.split("  +", line) for line in capsys.readouterr().out.splitlines()]
    (one,) = [row for row in rows if "simclr" in row]
    (other,) = [row for row in rows if "samclr" in row]
    (difference,) = [row for row in rows if "difference" in row]
    for name, row in (("simclr", one), ("samclr", other)):
        last = lines(tmp_path / name)[-1]
        assert row[-2] == f"{100 * last['eval/objects/knn_top1']:.1f} %"
    gap = float(other[-2].strip(" %")) - float(one[-2].strip(" %"))
    assert float(difference[-2]) == pytest.approx(gap, abs=0.11)
