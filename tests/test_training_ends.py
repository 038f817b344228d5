"""A training that is stopped, or finds the disk full, says so in a line and can be continued."""

import os
import shutil
import signal

import pytest
from small_run import final_state, lines, run

from jaxssl.data import store
from jaxssl.training.periodic_evaluation import PeriodicEvaluation

pytestmark = pytest.mark.usefixtures("small_encoders")


def newest(workdir):
    return int(final_state(workdir)["step"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_stopped_while_canvases_are_filled(tmp_path, monkeypatch, capsys, number):
    decode, decoded = store._decode, []

    def interrupted(folder, source, spec, chunk, **options):
        decoded.append(chunk)
        done = decode(folder, source, spec, chunk, **options)
        if chunk == 1:
            os.kill(os.getpid(), number)
        return done

    monkeypatch.setattr(store, "CHUNK", 8)
    monkeypatch.setattr(store, "_decode", interrupted)
    options = {"data__cache_dir": str(tmp_path / "cache"), "epochs": 1, "eval__datasets": "()"}
    assert run(tmp_path / "run", **options) == 0
    assert "interrupted; the same command continues" in capsys.readouterr().err.splitlines()[-1]
    (journal,) = tmp_path.glob("cache/*/journal")
    kept = len(journal.read_text().splitlines())
    assert 1 <= kept < 9

    def counted(*args, **options):
        decoded.append(None)
        return decode(*args, **options)

    monkeypatch.setattr(store, "_decode", counted)
    decoded.clear()
    assert run(tmp_path / "run", **options) == 0
    assert len(decoded) == 9 - kept
    assert newest(tmp_path / "run") == 4


def test_stopped_while_it_measures(tmp_path, monkeypatch, capsys):
    measure = PeriodicEvaluation.__call__

    def interrupted(self, step, state):
        if step:
            os.kill(os.getpid(), signal.SIGHUP)
        return measure(self, step, state)

    with monkeypatch.context() as patch:
        patch.setattr(PeriodicEvaluation, "__call__", interrupted)
        assert run(tmp_path, checkpoint__every=100) == 0
    said = capsys.readouterr().err.splitlines()
    assert "stopped at step 4" in said
    assert said[-1] == "interrupted; the same command continues"
    assert newest(tmp_path) == 4  # which is none of those that would be saved
    assert run(tmp_path, checkpoint__every=100) == 0
    measured = [line["step"] for line in lines(tmp_path) if "eval/objects/knn_top1" in line]
    assert measured == [0, 4, 8]


def test_a_full_disk_at_a_checkpoint(tmp_path, monkeypatch, capsys):
    options = {"eval__datasets": "()", "checkpoint__every": 2}
    assert run(tmp_path, **options, epochs=1) == 0
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        assert run(tmp_path, **options) == 1
    said = capsys.readouterr().err.splitlines()
    (error,) = [line for line in said if "error" in line.lower()]
    checkpoints = tmp_path / "checkpoints"
    assert error.startswith(f"error: No space left on device: {checkpoints}; free some space")
    assert [path.name for path in checkpoints.iterdir()] == ["4"]  # all but the newest gave way
    assert f"the disk of {checkpoints} is full: checkpoint 2 is deleted" in said
    assert run(tmp_path, **options) == 0
    assert newest(tmp_path) == 8
