"""SIGKILL in the middle of a real run; the same command ends with the same parameters."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
from small_run import final_state

from jaxssl.training.metrics import read_metrics

ROOT = pathlib.Path(__file__).parents[1]
OPTIONS = {
    "epochs": 6,
    "batch_size": 8,
    "log_every": 1,
    "data.source": "scenes:40",
    "data.pixels": 1024,
    "views.size": 16,
    "encoder.width": 0.0625,
    "method.dim": 8,
    "eval.datasets": "()",
    "eval.health": 0,
    "checkpoint.every": 4,
}


def start(workdir, cache):
    command = [sys.executable, "-m", "jaxssl.train", "--config", "configs/quickstart.py"]
    command += ["--workdir", str(workdir), *(f"--config.{k}={v}" for k, v in OPTIONS.items())]
    # As users compile: the flags of conftest.py are for speed, and round otherwise.
    environment = os.environ | {"JAXSSL_CACHE": str(cache), "XLA_FLAGS": ""}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def test_killed_and_started_again(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    victim = start(killed, tmp_path / "cache")
    deadline = time.monotonic() + 200
    while len(read_metrics(killed)) < 11:
        assert victim.poll() is None, victim.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert len(read_metrics(killed)) < 30  # it was not over
    for again in (start(whole, tmp_path / "cache"), start(killed, tmp_path / "cache")):
        finish(again)
    states = final_state(whole), final_state(killed)
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert int(states[0]["step"]) == 30
    a, b = ({m["step"]: m["loss"] for m in read_metrics(d) if "loss" in m} for d in (whole, killed))
    assert a == b
    assert sorted(a) == list(range(1, 31))
