"""Two processes of one device each train as one process does with two, to the last bit."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from one_of_two import arguments

from jaxssl import distributed, sharding, train
from jaxssl.training.checkpoint import Checkpoints
from jaxssl.training.metrics import read_metrics
from jaxssl.training.workdir import wait_for

TESTS = pathlib.Path(__file__).parent
TIMEOUT = 600  # seconds: of a deadlock, not of a slow machine


@pytest.fixture(scope="module")
def one_process(small_encoders):
    """Runs the command in this process on two of its devices; returns the exit status."""
    two_devices = Mesh(np.array(jax.devices()[:2]), ("data",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "make_mesh", lambda: two_devices)
        yield lambda workdir: train.main(arguments(workdir))


@pytest.fixture(scope="module")
def folder(one_process, tmp_path_factory):
    """The workdirs: `one` of one process, the others of two."""
    folder = tmp_path_factory.mktemp("hosts")
    assert one_process(folder / "one") == 0
    # As if it had been killed in the second epoch, and its newest checkpoint damaged.
    as_of(folder / "one", 6, folder / "handed_over")
    # One that no process can read, and one with a file more, which no reader minds: of that only
    # the first process knows, by its checksums.
    unreadable = folder / "handed_over" / "checkpoints" / "6"
    (unreadable / "checksums.json").unlink()
    for path in (unreadable / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (folder / "handed_over" / "checkpoints" / "4" / "state" / "more").write_text("x")
    return folder


@pytest.fixture(scope="module")
def finished(folder):
    """Of each of the two processes: name and exit status of its runs, and what it said."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(TESTS / "one_of_two.py")]
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    two = [
        subprocess.Popen(
            [*command, str(process), str(port), str(folder)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=TIMEOUT)[1] for process in two]
    finally:
        for process in two:
            process.kill()
    assert [process.returncode for process in two] == [1, 1], said[0] + said[1]
    statuses = [folder / f"statuses_{i}.json" for i in (0, 1)]
    assert all(path.exists() for path in statuses), said[0] + said[1]
    return [(json.loads(path.read_text()), text) for path, text in zip(statuses, said, strict=True)]


def as_of(workdir, step, copy):
    """A copy of a workdir, as it was when the run had come to a step."""
    shutil.copytree(workdir, copy)
    for path in (copy / "checkpoints").iterdir():
        if int(path.name) > step:
            shutil.rmtree(path)


def final_state(workdir, like=None):
    """All leaves of the newest checkpoint, as numpy arrays."""
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        state = checkpoints.read(checkpoints.newest(), "state", like)
    assert int(state["step"]) == 8
    return jax.tree.map(np.asarray, state) if like else state


def reported(workdir):
    """The lines of metrics, less what tells the time."""
    times = ("images_per_sec", "data_wait", "compile_seconds", "time/")
    return [{k: v for k, v in x.items() if not k.startswith(times)} for x in read_metrics(workdir)]


def assert_same_run(folder, name, other):
    assert reported(folder / name) == reported(folder / other)
    expected = final_state(folder / name)
    found = final_state(folder / other, like=expected)
    jax.tree.map(np.testing.assert_array_equal, expected, found)


def test_two_processes_train_as_one(folder, finished):
    """Although a signal to one of them stopped both in between, at the same step."""
    assert_same_run(folder, "one", "two")
    steps = [(x["step"], "loss" in x) for x in reported(folder / "two")]
    assert steps == [(0, False), *((step, True) for step in range(1, 9)), (8, False)]
    names = [{p.name for p in (folder / run).iterdir()} for run in ("one", "two")]
    assert names[0] == names[1]


def test_a_run_handed_from_one_to_two_and_back(folder, finished, one_process):
    """Two go on from the checkpoint before a damaged one, until one of them fails."""
    assert max(line["step"] for line in reported(folder / "handed_over")) == 6
    assert one_process(folder / "handed_over") == 0
    assert_same_run(folder, "one", "handed_over")


def test_what_goes_wrong_in_one_ends_both(finished):
    for statuses, _ in finished:
        assert statuses == [["mistake", 1], ["different", 1], ["two", 0], ["two", 0]]
    first, second = (
        [
            line.removesuffix(" (JAXSSL_TRACEBACK=1 shows where)")
            for line in said.splitlines()
            if line.startswith("error:")
        ]
        for _, said in finished
    )
    another_config = "error: process 1 has another config than process 0"
    assert first[:2] == ["error: process 1 has failed; its own error says why", another_config]
    assert second == [
        "error: /nowhere does not exist; give the folder that holds the images",
        another_config,
        "error: no such batch",
    ]
    assert len(first) == 3
    assert first[2].startswith("error: a process or its network has failed")


def test_only_the_first_process_tells_how_far_it_is(finished):
    first, second = (said for _, said in finished)
    for words in (
        "writing to", "epoch ", "refreshing the sampler", "stopped at step 4",
        "continuing at step 4 of 8", "continuing at step 3 of 8",
    ):  # fmt: skip
        assert words in first
        assert words not in second
    assert "checkpoint 4 cannot be read" in first
    assert "checkpoint 4 cannot be read" in second


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((None, None, None), "finds neither SLURM nor Open MPI nor a TPU pod"),
        (("host:1234", 2, None), "go together"),
        ((None, 2, 0), "go together"),
        (("host", 2, 0), "give HOST:PORT"),
        (("host:port", 2, 0), "give HOST:PORT"),
        (("host:99999", 2, 0), "give HOST:PORT"),
        (("host:1234", 2, 2), "--process-id 2 of --num-processes 2: give 0 to 1"),
    ],
)
def test_processes_that_cannot_meet(given, message, monkeypatch):
    def initialize(*args):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(ValueError, match=message):
        distributed.initialize(*given)


def test_a_workdir_that_is_not_shared(tmp_path):
    wait_for(tmp_path, seconds=0.0)
    with pytest.raises(ValueError, match="--workdir must be on a disk that all processes share"):
        wait_for(tmp_path / "config.json", seconds=0.0)
