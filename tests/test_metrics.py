"""What a run reports: each step once, whatever happened to the run before."""

import io
import json
import subprocess
import sys
import types

from jaxssl.training.metrics import MetricsWriter, ProgressLine, read_metrics


def test_a_run_that_continues_drops_what_came_after(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        for step in range(5):
            writer.write(step, step / 4, {"loss": float(step), "eval/a/knn_top1": 0.5})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # killed while it wrote
    with MetricsWriter(tmp_path, step=3) as writer:
        writer.write(4, 1.0, {"loss": 7.0})
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [
        (0, 0), (1, 1), (2, 2), (3, 3), (4, 7)
    ]  # fmt: skip
    assert read_metrics(tmp_path)[4] == {"step": 4, "epoch": 1.0, "loss": 7.0}
    assert list((tmp_path / "tensorboard").iterdir())


def test_torch_stays_out(tmp_path):
    """It is installed here, and would take seconds of every start; a later import still works."""
    program = (
        "import pathlib, sys; from jaxssl.training.metrics import MetricsWriter\n"
        f"with MetricsWriter(pathlib.Path({str(tmp_path)!r})) as writer:\n"
        "    writer.write(1, 0.5, {'loss': 1.0})\n"
        "assert 'torch' not in sys.modules; import torch"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_wandb_gets_the_same_lines(tmp_path, monkeypatch):
    calls = []
    fake = types.SimpleNamespace(
        log=lambda line, step: calls.append((step, line)), finish=lambda: calls.append("end")
    )
    fake.init = lambda **options: calls.append(options) or fake
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with MetricsWriter(tmp_path, wandb="scenes") as writer:
        writer.write(2, 0.5, {"loss": 1.0})
    assert calls[0]["project"] == "scenes"
    assert calls[1:] == [(2, {"step": 2, "epoch": 0.5, "loss": 1.0}), "end"]
    json.dumps(calls[1])


def test_progress_lines():
    values = {"loss": 1.5, "images_per_sec": 100.0, "data_wait": 0.25}
    file = io.StringIO()
    progress = ProgressLine(200, 50, 10, file)
    progress.show(50, values)
    progress.show(60, values)  # too soon for a log file
    progress.show(200, values)
    lines = file.getvalue().splitlines()
    assert len(lines) == 2
    assert "loss 1.5000  100 images/s  data wait 25%  0:00:15 left" in lines[0]
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    progress = ProgressLine(200, 50, 10, terminal)
    progress.show(50, values)
    progress.show(60, values)
    progress.end()
    assert terminal.getvalue().count("\r") == 2
    assert terminal.getvalue().count("\n") == 1
