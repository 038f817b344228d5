"""One bar for all long work: on a terminal, and in plain lines."""

import io
import sys

import pytest

from jaxssl import progress as progress_module
from jaxssl.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only where a test says so."""
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress_module.time, "time", lambda: now[0])
    monkeypatch.setattr(progress_module.time, "localtime", progress_module.time.gmtime)
    return now


def test_plain_lines_are_seconds_apart_and_the_last_is_there(capsys, clock):
    with Progress(8000, "decoding", done=2000) as advance:
        for _ in range(5):
            clock[0] += 4
            advance(1000)
        clock[0] += 4
        advance(1000, "loss 0.5", rate=10.0)
    assert capsys.readouterr().err.splitlines() == [
        "decoding: 5000/8000 images, 250 images/s, 3000 images left, 0:12 to go, ends 00:00",
        "decoding: 8000/8000 images, loss 0.5, done in 0:24",
    ]


def test_work_that_ends_early_has_a_last_line_unless_it_failed(capsys, clock):
    with Progress(8, "decoding") as advance:
        clock[0] += 2
        advance(4)
    told = "2 images/s, 4 images left, 0:02 to go, ends 00:00"
    assert capsys.readouterr().err == f"decoding: 4/8 images, {told}\n"
    with pytest.raises(ValueError, match="broken"), Progress(8, "decoding"):
        raise ValueError("broken")
    with Progress(8, "decoding", show=False) as advance:
        advance(8)
    assert not capsys.readouterr().err


def test_the_end_has_a_date_if_it_is_on_another_day(capsys, clock):
    with Progress(49, "training", unit="steps") as advance:
        clock[0] += 3600
        advance(1)
    assert capsys.readouterr().err.endswith(", 48 steps left, 48:00:00 to go, ends Jan 03 01:00\n")


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(4, "training", unit="steps") as advance:
        advance(1, "loss 0.5", rate=1.0)
        advance.pause()
        advance(3, "loss 0.25", rate=1.0)
    shown = terminal.getvalue()
    assert "training: 100%" in shown
    assert "4/4 steps, loss 0.25, done in 0:00" in shown
    assert shown.count("\n") == 1
