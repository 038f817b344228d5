"""SIGKILL in the middle of a run; the same command ends with the same parameters."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
from small_run import arguments, final_state

from jaxssl.training.metrics import read_metrics

TRAIN = pathlib.Path(__file__).parent / "tiny_encoder.py"
STEPS = 100 * 4  # several seconds: one that kills late, on a busy machine, is in time


def start(workdir, cache):
    changes = {"epochs": 100, "log_every": 1, "checkpoint.every": 15, "eval.datasets": "()"}
    command = [sys.executable, str(TRAIN), *arguments(workdir, **changes)]
    # As users compile: the flags of conftest.py are for speed, and round otherwise.
    environment = os.environ | {"JAXSSL_CACHE": str(cache), "XLA_FLAGS": ""}
    environment["PYTHONPATH"] = str(TRAIN.parents[1])
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def test_killed_and_started_again(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    victim = start(killed, tmp_path / "cache")
    deadline = time.monotonic() + 200
    while len(read_metrics(killed)) < STEPS // 10:
        assert victim.poll() is None, victim.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert len(read_metrics(killed)) < STEPS  # it was not over
    both = [start(folder, tmp_path / "cache") for folder in (whole, killed)]
    assert ["continuing at step" in finish(process) for process in both] == [False, True]
    states = final_state(whole), final_state(killed)
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert int(states[0]["step"]) == STEPS
    a, b = ({m["step"]: m["loss"] for m in read_metrics(d) if "loss" in m} for d in (whole, killed))
    assert a == b
    assert sorted(a) == list(range(1, STEPS + 1))
