"""A run from end to end, on eight devices: what it writes, and how it resumes."""

import contextlib
import io
import json
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
from small_run import final_state, lines, losses, run

from jaxssl import evaluate
from jaxssl.data.pipeline import Pipeline
from jaxssl.training.loop import Loop
from jaxssl.training.trainer import Trainer
from jaxssl.training.workdir import occupied

pytestmark = pytest.mark.usefixtures("small_encoders")


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
    undisturbed, table, logged = finished
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
    accuracy = f"{100 * evaluations[-1]['eval/objects/knn_top1']:.1f} %"
    assert accuracy in table
    assert f"step 8: eval/objects/knn_top1 {accuracy}" in logged
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


def test_a_method_on_regions_gets_them(tmp_path, capsys):
    options = {"method__name": "detcon_s", "sampler__name": "random_crop", "method__num_regions": 4}
    assert run(tmp_path, "--profile=2", **options, eval__datasets="()", epochs=1) == 0
    training = [line for line in lines(tmp_path) if "loss" in line]
    assert all(1 < line["regions_per_view"] <= 4 for line in training)
    assert list(tmp_path.glob("profile/**/*.xplane.pb"))
    said = capsys.readouterr()
    assert said.out.startswith(f"{tmp_path}: config.json")  # nothing was measured: no table
    assert "step 0" not in said.err


@pytest.mark.parametrize("mode", ["host", "stream"])
def test_input_modes_give_the_same_run(undisturbed, tmp_path, mode):
    assert run(tmp_path, data__input=mode) == 0
    assert_same_run(undisturbed, tmp_path)
    assert losses(tmp_path) == losses(undisturbed)


@pytest.mark.parametrize(
    ("stop_at", "number", "status"),
    [(1, signal.SIGTERM, 0), (5, signal.SIGINT, 130), (8, signal.SIGTERM, 0)],
)
def test_a_signal_saves_and_the_same_command_continues(
    undisturbed, tmp_path, monkeypatch, capsys, stop_at, number, status
):
    batches = Pipeline.batches

    def interrupted(self, start):
        for step, batch in enumerate(batches(self, start), start=start + 1):
            if step == stop_at + 2:  # two are fetched ahead
                os.kill(os.getpid(), number)
            yield batch

    monkeypatch.setattr(Pipeline, "batches", interrupted)
    assert run(tmp_path) == status
    assert int(final_state(tmp_path)["step"]) in range(stop_at, 9)
    assert not capsys.readouterr().out  # no table of a run that has not come to its end
    monkeypatch.setattr(Pipeline, "batches", batches)
    monkeypatch.delattr(Trainer, "init")  # what goes on makes no first state
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


def test_more_epochs_continue_a_finished_run(tmp_path, capsys):
    assert run(tmp_path, epochs=1) == 0
    shutil.rmtree(tmp_path / "checkpoints")
    capsys.readouterr()
    assert run(tmp_path, epochs=1) == 0
    again = capsys.readouterr().err
    assert "no checkpoint yet, one is saved every 3 steps: starting over" in again
    assert "4 steps are done" not in again
    assert run(tmp_path, epochs=1) == 0
    finished = capsys.readouterr().err
    assert "all 4 steps are done; to go on, set a larger --config.epochs; what else" in finished
    assert "time used" in again
    assert "time used" not in finished
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


def test_the_step_is_compiled_before_it_is_timed(tmp_path, monkeypatch, caplog):
    plain = Trainer.__call__

    def logged(self, *args):
        with jax.log_compiles():
            return plain(self, *args)

    monkeypatch.setattr(Trainer, "__call__", logged)
    assert run(tmp_path, epochs=1, eval__datasets="()") == 0
    assert not [text for text in caplog.messages if text.startswith("Compiling")]


@pytest.mark.parametrize("mode", ["device", "host"])
def test_the_loop_moves_arrays_only_where_it_says_so(tmp_path, monkeypatch, mode):
    """To and from the devices; for the signs of a collapse and the sampler's refresh too."""
    plain, guarded = Loop.run, []

    def run_guarded(self, *args):
        with jax.transfer_guard("disallow"):
            with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed"):
                jnp.add(np.ones(3), 1)
            guarded.append(plain(self, *args))
        return guarded[-1]

    monkeypatch.setattr(Loop, "run", run_guarded)
    sampler = {"sampler__name": "contrastive_crop", "sampler__warmup_epochs": 1}
    options = sampler | {"data__input": mode, "eval__health": 20, "eval__datasets": "()"}
    assert run(tmp_path, **options) == 0
    assert guarded == [0]


def test_a_workdir_with_another_config_is_refused(undisturbed, capsys):
    before = (undisturbed / "config.json").read_text()
    assert run(undisturbed, seed=1, views__size=24) == 1
    error = capsys.readouterr().err
    assert "seed: 0 -> 1; views.size: 16 -> 24" in error
    assert (undisturbed / "config.json").read_text() == before


def test_two_runs_in_one_workdir(undisturbed, capsys):
    before = (undisturbed / "config.json").read_text()
    with occupied(undisturbed):
        assert run(undisturbed, epochs=3) == 1
    assert "another run is writing to" in capsys.readouterr().err
    assert (undisturbed / "config.json").read_text() == before
