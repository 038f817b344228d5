"""What a run reports: each step once, whatever happened to the run before."""

import json
import subprocess
import sys
import types

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jaxssl.training.metrics import MetricsWriter, read_metrics


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


def test_torch_and_tensorflow_stay_out(tmp_path):
    """They are installed here, and would take seconds of every start."""
    program = (
        "import pathlib, sys; from jaxssl.training.metrics import MetricsWriter\n"
        f"with MetricsWriter(pathlib.Path({str(tmp_path)!r})) as writer:\n"
        "    writer.write(1, 0.5, {'loss': 1.0})\n"
        "assert not {'torch', 'tensorflow'} & set(sys.modules); import torch"
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


def test_wandb_has_a_run_for_each_workdir(tmp_path, monkeypatch):
    """Whatever it is called: runs/seed0/simclr and runs/seed1/simclr are two."""
    started = []
    fake = types.SimpleNamespace(finish=lambda: None)
    fake.init = lambda **options: started.append((options["name"], options["id"])) or fake
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for folder in ("seed0", "seed1", "seed0"):
        (tmp_path / folder / "simclr").mkdir(parents=True, exist_ok=True)
        with MetricsWriter(tmp_path / folder / "simclr", wandb="scenes"):
            pass
    first, second, again = started
    assert first == again
    assert first != second
    assert {name for name, _ in started} == {"simclr"}


def test_tensorboard_reads_the_events_and_forgets_what_a_killed_run_wrote(tmp_path):
    for first, last, loss in ((0, 5, 1.0), (3, 6, 2.0)):  # the second continues at step 3
        with MetricsWriter(tmp_path, step=first) as writer:
            for step in range(first + 1, last + 1):
                writer.write(step, step / 4, {"loss": loss * step, "eval/a/knn_top1": 0.5})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"train/loss", "eval/a/knn_top1"}
    points = [(point.step, point.value) for point in events.Scalars("train/loss")]
    assert points == [(1, 1), (2, 2), (3, 3), (4, 8), (5, 10), (6, 12)]
