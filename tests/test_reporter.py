"""What a terminal or a log file shows of a training."""

import itertools
import time
import types

from jaxssl import progress
from jaxssl.config import base
from jaxssl.training.reporter import open_reporter


def test_training_shows_how_far_it_is(tmp_path, capsys, monkeypatch):
    clock = itertools.count(step=6.0)  # seconds, of which ten are to pass between two lines
    monkeypatch.setattr(
        progress,
        "time",
        types.SimpleNamespace(
            monotonic=lambda: next(clock),
            time=lambda: 0.0,
            localtime=time.gmtime,
            strftime=time.strftime,
        ),
    )
    config = base()
    config.epochs, config.batch_size = 4, 10
    means = {"loss": 1.5, "images_per_sec": 100.0, "data_wait": 0.25}
    with open_reporter(config, tmp_path, steps_per_epoch=50, start=0) as reporter:
        for step in (50, 60, 200):
            reporter.report_training(step, means)
    first, *_, last = capsys.readouterr().err.splitlines()
    told = "loss 1.5000, 100 images/s, data wait 25%"
    assert first in (
        f"training: 50/200 steps, epoch 1.00/4, {told}, 150 steps left, 0:15 to go, ends 00:00",
        f"training: 60/200 steps, epoch 1.20/4, {told}, 140 steps left, 0:14 to go, ends 00:00",
    )
    assert last.startswith(f"training: 200/200 steps, epoch 4.00/4, {told}, done in 0:")
