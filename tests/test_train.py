"""The command from end to end, on eight devices: what it writes, resumes and refuses."""

import contextlib
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
from PIL import Image

from jaxssl import evaluate, sharding, train
from jaxssl.data.pipeline import Pipeline
from jaxssl.training.checkpoint import Checkpoints
from jaxssl.training.loop import Loop
from jaxssl.training.workdir import locked

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "quickstart.py"
SMALL = {
    "epochs": 2,
    "batch_size": 16,
    "log_every": 2,
    "data.source": "scenes:70",  # four steps an epoch
    "data.pixels": 1024,
    "views.size": 16,
    "method.hidden": "(8,)",
    "method.dim": 8,
    "encoder.name": "tiny",
    "eval.datasets": "objects:60",
    "eval.knn_k": 5,
    "eval.every": 1,
    "eval.batch_size": 20,
    "eval.health": 0,
    "eval.linear_epochs": 3,
    "checkpoint.every": 3,
}


pytestmark = pytest.mark.usefixtures("small_encoders")


def run(workdir, *more, **changes):
    """Runs the command in this process; returns its exit status."""
    options = SMALL | {k.replace("__", "."): v for k, v in changes.items()}
    overrides = [f"--config.{k}={v}" for k, v in options.items() if v is not None]
    return train.main(["--config", str(CONFIG), "--workdir", str(workdir), *more, *overrides])


def final_state(workdir):
    """All leaves of the newest checkpoint, as numpy arrays."""
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        state = checkpoints.read(checkpoints.newest(), "state")
    return jax.tree.map(np.asarray, state)


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses(workdir):
    return {line["step"]: line["loss"] for line in lines(workdir) if "loss" in line}


@pytest.fixture(scope="module")
def finished(small_encoders, tmp_path_factory):
    """A run that nothing disturbed: its workdir, and what it printed and logged."""
    workdir, printed, logged = tmp_path_factory.mktemp("undisturbed"), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(logged):
        assert run(workdir, data__input="device", eval__health=16) == 0
    return workdir, printed.getvalue(), logged.getvalue()


@pytest.fixture
def undisturbed(finished):
    return finished[0]


def assert_same_run(a, b):
    jax.tree.map(np.testing.assert_array_equal, final_state(a), final_state(b))


def test_run_writes_what_it_promises(finished):
    undisturbed, table, _ = finished
    names = {p.name for p in undisturbed.iterdir()}
    assert names == {
        ".lock", "config.json", "environment.json", "metrics.jsonl", "tensorboard", "checkpoints"
    }  # fmt: skip
    training = [line for line in lines(undisturbed) if "loss" in line]
    assert {
        "step", "epoch", "loss", "learning_rate", "images_per_sec", "data_wait", "grad_norm",
        "embedding_std", "fallback_fraction",
    } <= set(training[-1])  # fmt: skip
    evaluations = [line for line in lines(undisturbed) if "eval/objects/knn_top1" in line]
    assert [line["step"] for line in evaluations] == [0, 4, 8]
    assert "eval/objects/linear_top1" in evaluations[-1]
    assert all(1 <= line["health/rank_me"] <= 12 for line in evaluations)
    assert all(line["health/regions_per_image"] > line["health/no_region"] for line in evaluations)
    shares = {k: v for k, v in evaluations[-1].items() if k.startswith("time/")}
    names = {"steps", "compiling", "input", "checkpoints", "evaluation"}
    assert set(shares) == {f"time/{name}" for name in names}
    assert sum(shares.values()) == pytest.approx(1)
    assert [line["compile_seconds"] > 0 for line in training if "compile_seconds" in line] == [True]
    assert "kNN untrained" in table
    assert f"{evaluations[-1]['eval/objects/knn_top1']:.1%}" in table
    assert int(final_state(undisturbed)["step"]) == 8


def test_says_first_what_is_trained_and_on_what(finished):
    workdir, _, logged = finished
    lines = logged.splitlines()
    assert f"jax {jax.__version__}, jaxlib {jaxlib.__version__}, 8 x cpu" in lines
    params = final_state(workdir)["params"]
    sizes = {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in params.items()}
    encoder = sizes.pop("encoder")
    heads = sum(sizes.values())
    assert f"parameters: {encoder:,} in the encoder, {heads:,} in heads" in lines


def test_a_data_set_with_label_maps_is_segmented(tmp_path, capsys):
    assert run(tmp_path, epochs=1, eval__datasets="scenes:40", eval__in_context=4096) == 0
    evaluations = [line for line in lines(tmp_path) if "eval/scenes/miou" in line]
    assert [line["step"] for line in evaluations] == [0, 4]
    assert all("eval/scenes/in_context_miou" in line for line in evaluations)
    assert "mIoU untrained" in capsys.readouterr().out
    options = ["--tasks", "fcn", "--from-scratch", "--void", "0", "--size", "32", "--seeds", "2"]
    small = ["fcn.epochs=1", "fcn.batch_size=8", "fcn.head_channels=8", "fcn.crop=16"]
    assert evaluate.main(["--workdir", str(tmp_path), *options, "--set", *small]) == 0
    assert "scratch_miou" in capsys.readouterr().out
    entries = json.loads((tmp_path / "eval.json").read_text())
    assert [(e["task"], e["dataset"], e["seed"]) for e in entries] == [
        ("fcn", "scenes", 0),
        ("fcn", "scenes", 1),
    ]
    assert entries[0]["protocol"] | {"crop": 16, "ignore_labels": [0]} == entries[0]["protocol"]
    assert len(entries[0]["details"]["classes"]) == 10  # the ground is left out
    with np.load(tmp_path / "predictions" / "scenes_fcn.npz") as shown:
        assert shown["predicted"].shape == shown["truth"].shape == (8, 192, 192)  # in full
    assert evaluate.main(["--workdir", str(tmp_path), "--tasks", "depth"]) == 1
    assert "task depth needs depth and none of the data sets" in capsys.readouterr().err


def test_a_method_on_regions_gets_them(tmp_path):
    options = {"method__name": "detcon_s", "sampler__name": "random_crop", "method__num_regions": 4}
    assert run(tmp_path, "--profile=2", **options, eval__datasets="()", epochs=1) == 0
    training = [line for line in lines(tmp_path) if "loss" in line]
    assert all(1 < line["regions_per_view"] <= 4 for line in training)
    assert list(tmp_path.glob("profile/**/*.xplane.pb"))


@pytest.mark.parametrize("mode", ["host", "stream"])
def test_input_modes_give_the_same_run(undisturbed, tmp_path, mode):
    assert run(tmp_path, data__input=mode) == 0
    assert_same_run(undisturbed, tmp_path)
    assert losses(tmp_path) == losses(undisturbed)


@pytest.mark.parametrize("stop_at", [1, 5])
def test_sigterm_saves_and_the_same_command_continues(undisturbed, tmp_path, monkeypatch, stop_at):
    batches = Pipeline.batches

    def interrupted(self, start):
        for step, batch in enumerate(batches(self, start), start=start + 1):
            if step == stop_at + 2:  # two are fetched ahead
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(Pipeline, "batches", interrupted)
    assert run(tmp_path) == 0
    assert 0 < int(final_state(tmp_path)["step"]) < 8
    monkeypatch.setattr(Pipeline, "batches", batches)
    assert run(tmp_path) == 0
    assert_same_run(undisturbed, tmp_path)
    steps = [line["step"] for line in lines(tmp_path) if "eval/objects/knn_top1" in line]
    assert steps == [0, 4, 8]
    assert losses(tmp_path)[8] == losses(undisturbed)[8]


def test_a_damaged_checkpoint_is_passed_over(undisturbed, tmp_path, capsys):
    assert run(tmp_path) == 0
    newest = max((tmp_path / "checkpoints").iterdir(), key=lambda p: int(p.name))
    for path in newest.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert run(tmp_path) == 0
    assert "checkpoint 8 cannot be read" in capsys.readouterr().err
    assert_same_run(undisturbed, tmp_path)


def test_more_epochs_continue_a_finished_run(tmp_path):
    assert run(tmp_path, epochs=1) == 0
    assert run(tmp_path, epochs=2) == 0
    assert int(final_state(tmp_path)["step"]) == 8


def test_evaluate_agrees_with_training(undisturbed, capsys):
    command = ["--workdir", str(undisturbed), "--tasks", "knn,linear", "--seeds", "2"]
    assert evaluate.main([*command, "--set", "linear.nesterov=true"]) == 0
    entries = json.loads((undisturbed / "eval.json").read_text())
    last = lines(undisturbed)[-1]
    assert [(e["task"], e["seed"]) for e in entries] == [("knn", 0), ("linear", 0), ("linear", 1)]
    for entry in entries[:2]:
        assert (entry["dataset"], entry["step"]) == ("objects", 8)
        assert entry["results"]["top1"] == last[f"eval/objects/{entry['task']}_top1"]
    assert entries[0]["protocol"]["k"] == [5]
    assert entries[1]["protocol"]["epochs"] == 3
    assert "±" in capsys.readouterr().out
    assert evaluate.main([*command, "--preset", "s3same", "--set", "linear.epoch=1"]) == 1
    assert "did you mean 'linear.epochs'?" in capsys.readouterr().err


def test_a_vit_trains_continues_and_is_evaluated(tmp_path):
    vit = {"name": "vit", "patch": 8, "image_size": 24}
    changes = {f"encoder__{k}": v for k, v in vit.items()} | {"epochs": 1, "eval__linear": False}
    for _ in range(2):  # the second time only the checkpoint is read
        assert run(tmp_path, **changes) == 0
    assert evaluate.main(["--workdir", str(tmp_path), "--tasks", "knn"]) == 0
    (result,) = json.loads((tmp_path / "eval.json").read_text())
    assert result["step"] == 4
    assert result["results"]["top1"] == lines(tmp_path)[-1]["eval/objects/knn_top1"]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, capsys):
    assert run(tmp_path, optim__lr=1e30, optim__warmup_epochs=0.0, eval__datasets="()") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: the loss is nan at step")
    assert "with a lower rate, --config.optim.lr=5e+29; " in error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method__temprature": 1}, "Did you mean 'method.temperature'?"),
        ({"epochs": "x"}, "invalid literal for int()"),
        ({"batch_size": 12}, "batch_size 12 does not divide over 8 devices; take 8 or 16"),
        ({"batch_size": 80}, "batch_size 80 with 70 images"),
        ({"data__source": "folder:/nowhere"}, "/nowhere"),
        ({"data__source": "nothing"}, "unknown source 'nothing'"),
        ({"data__source": "folder:{empty}"}, "no image"),
        ({"data__source": "folder:{photos}"}, "--segmenter fh"),
        (
            {"data__source": "folder:{photos}", "method__name": "detcon_b"},
            "sampler RegionCrop and method DetConB cannot do without regions",
        ),
        ({"data__region_planes": 0}, "'data.region_planes' is 0"),
        ({"eval__datasets": "folder:{photos}"}, "task knn needs labels and none"),
        ({"eval__knn_k": 61}, "objects:60 has 60 labeled images in its training part"),
        ({"eval__linear_epochs": 0}, "'eval.linear_epochs' is 0"),
        ({"eval__datasets": "('objects:60', 'objects:70')"}, "the same name"),
        ({"method__final_batch_norm": "afine"}, "choose one of none, affine"),
        ({"optim__warmup_epochs": 3.0}, "optim.warmup_epochs is 3.0 of 2 epochs"),
        ({"views__num_global": 1}, "views.num_global + num_local >= 2"),
        ({"method__name": "moco"}, "set --config.method.queue_size=64"),
        ({"checkpoint__keep": 0}, "'checkpoint.keep' is 0"),
        ({"views__recipe": "simcrl"}, "choose one of"),
        ({"encoder__name": "vit", "views__size": 24}, "views.size is 24: images of 24 x 24 pixels"),
        ({"encoder__name": "vit", "eval__size": 24}, "eval.size is 24: images of 24 x 24 pixels"),
        (
            {"encoder__name": "vit", "views__num_local": 1, "views__local_size": 8},
            "views.local_size is 8: images of 8 x 8 pixels do not divide into patches of 16",
        ),
        ({"encoder__name": "vit", "encoder__image_size": 24}, "encoder.image_size 24 does not"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys, changes, message):
    (tmp_path / "empty").mkdir()
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(70):
        Image.new("RGB", (40, 40), (i, 0, 0)).save(photos / f"{i}.png")
    paths = {"empty": tmp_path / "empty", "photos": photos}
    changes = {k: v.format(**paths) if isinstance(v, str) else v for k, v in changes.items()}
    assert run(tmp_path / "run", **changes) == 1
    errors = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error:")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not (tmp_path / "run").exists()


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


@pytest.mark.parametrize("mode", ["device", "host"])
def test_the_loop_moves_arrays_only_where_it_says_so(tmp_path, monkeypatch, mode):
    """To and from the devices; for the signs of a collapse and the sampler's refresh too."""
    plain, guarded = Loop.run, []

    def run_guarded(self, state):
        with jax.transfer_guard("disallow"):
            with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed"):
                jnp.add(np.ones(3), 1)
            guarded.append(plain(self, state))
        return guarded[-1]

    monkeypatch.setattr(Loop, "run", run_guarded)
    sampler = {"sampler__name": "contrastive_crop", "sampler__warmup_epochs": 1}
    options = sampler | {"data__input": mode, "eval__health": 20, "eval__datasets": "()"}
    assert run(tmp_path, **options) == 0
    assert guarded == [True]


def test_a_workdir_with_another_config_is_refused(undisturbed, capsys):
    before = (undisturbed / "config.json").read_text()
    assert run(undisturbed, seed=1, views__size=24) == 1
    error = capsys.readouterr().err
    assert "seed: 0 -> 1; views.size: 16 -> 24" in error
    assert (undisturbed / "config.json").read_text() == before


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


def test_two_runs_in_one_workdir(undisturbed, capsys):
    with locked(undisturbed):
        assert run(undisturbed) == 1
    assert "another run is writing to" in capsys.readouterr().err


def test_evaluate_without_a_run(tmp_path, capsys):
    assert evaluate.main(["--workdir", str(tmp_path)]) == 1
    assert "config.json is missing" in capsys.readouterr().err


def test_two_variants_are_trained_and_compared(tmp_path, capsys):
    words = [f"--config.{k}={v}" for k, v in (SMALL | {"epochs": 1}).items()]
    command = ["--config", f"{CONFIG}:simclr,samclr", "--workdir", str(tmp_path), *words]
    assert train.main(command) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    (one,) = [row for row in rows if "simclr" in row]
    (other,) = [row for row in rows if "samclr" in row]
    (difference,) = [row for row in rows if "difference" in row]
    for name, row in (("simclr", one), ("samclr", other)):
        last = lines(tmp_path / name)[-1]
        assert row[-2] == f"{last['eval/objects/knn_top1']:.1%}"
    gap = float(other[-2].strip("%")) - float(one[-2].strip("%"))
    assert float(difference[-2]) == pytest.approx(gap, abs=0.11)
