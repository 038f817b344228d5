"""Signals that stop a process, and workers that end with the one that started them."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from jaxssl.stopping import StopSignal

ROOT = pathlib.Path(__file__).parents[1]
KINDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture(autouse=True)
def heeded():
    """Under nohup or in the background, a shell has the tests ignore some of them."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in KINDS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", KINDS)
def test_a_signal_is_noted_or_raises(number):
    before = signal.getsignal(number)
    with StopSignal(raises=False) as stop:
        assert not stop.received
        os.kill(os.getpid(), number)
        assert stop.received
        with pytest.raises(KeyboardInterrupt), stop.raising():
            pytest.fail("it came before")
    with StopSignal(raises=True):
        with StopSignal(raises=False) as inner:  # as the loop of a command has
            os.kill(os.getpid(), number)
            assert inner.received
        with pytest.raises(KeyboardInterrupt) as interrupt:
            os.kill(os.getpid(), number)
    assert interrupt.value.args == (number,)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_only_the_first_raises(number):
    with StopSignal(raises=False) as stop:
        with pytest.raises(KeyboardInterrupt), stop.raising():
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # shell and system both send it, or SLURM and its step
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.first == number


DEAF = """
import hashlib, sys, threading
from jaxssl.stopping import StopSignal
with StopSignal(raises=sys.argv[1] == "raises"):
    threading.Timer(0.5, print, ["deaf"], {"flush": True}).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


@pytest.mark.parametrize(
    ("mode", "line"),
    [
        (
            "raises",
            "stopping once the device has compiled or computed; press Ctrl-C again to quit at once",
        ),
        ("notes", "stopping after this step; press Ctrl-C again to quit without a checkpoint"),
    ],
)
def test_signals_are_answered_while_the_main_thread_hears_none(mode, line):
    """It is in a function of C for minutes, as when XLA compiles."""
    command = [sys.executable, "-c", DEAF, mode]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == f"{line}\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "quitting at once\n"
    assert process.returncode == 128 + signal.SIGINT


def test_signals_of_others_are_left_to_them(capfd):
    """torch, for one, handles the end of its workers."""
    heard, before = [], signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        with StopSignal(raises=False) as stop:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1] * 2
    assert not stop.received
    assert not capfd.readouterr().err


def test_what_is_ignored_stays_so(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal(raises=True) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.received
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_get_no_signals():
    def enter():
        with StopSignal(raises=True):
            entered.append(signal.getsignal(signal.SIGTERM))

    entered = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [signal.getsignal(signal.SIGTERM)]


STREAM = """
from jaxssl.data import open_source
from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.pipeline import open_pipeline
if __name__ == "__main__":
    options = dict(batch_size=4, seed=0, device_bytes=1, progress=False)
    spec = CanvasSpec(576, (8, 16))
    pipeline = open_pipeline(open_source("scenes:8"), spec, mode="stream", workers=2, **options)
    for step, batch in enumerate(pipeline.batches(0)):
        print(step, flush=True)
"""


def of_group(group):
    """The processes of a group that run."""
    listed = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True)
    fields = [line.split() for line in listed.stdout.splitlines()]
    return [int(pid) for pid, of, state in fields if int(of) == group and state[0] != "Z"]


def test_data_workers_end_when_the_trainer_is_killed(tmp_path):
    """And not by a signal that the whole group gets: the trainer still wants its batches."""
    (tmp_path / "stream.py").write_text(STREAM)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    trainer = subprocess.Popen(
        [sys.executable, tmp_path / "stream.py"],
        env=environment,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        trainer.stdout.readline()
        workers = [pid for pid in of_group(trainer.pid) if pid != trainer.pid]
        assert len(workers) >= 2
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        for _ in range(20):
            trainer.stdout.readline()
        assert trainer.poll() is None
        trainer.kill()
        trainer.communicate()
        deadline = time.monotonic() + 5
        while of_group(trainer.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not of_group(trainer.pid)
    finally:
        for pid in of_group(trainer.pid):
            os.kill(pid, signal.SIGKILL)


def test_what_workers_leave_in_shared_memory_is_cleaned_up_without_a_word():
    leaves = (
        "from multiprocessing import shared_memory\n"
        "from jaxssl.stopping import starting_workers\n"
        "with starting_workers():\n"
        "    print(shared_memory.SharedMemory(create=True, size=8).name)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", leaves], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stderr == ""
    assert not pathlib.Path("/dev/shm", ended.stdout.strip()).exists()
