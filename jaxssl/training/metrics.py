"""One writer for what a run reports: JSON lines, TensorBoard, a progress line."""

import io
import json
import os
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

from jaxssl.errors import UserError
from jaxssl.files import atomic_write
from jaxssl.renamed import current_result


class MetricsWriter:
    """Appends to `metrics.jsonl` and to TensorBoard events in the workdir.

    Opened for a run that continues at `step`, it first drops what a killed run wrote after that
    step, so that every step is reported once.
    """

    def __init__(self, workdir: pathlib.Path, step: int = 0, *, wandb: str = ""):
        """`wandb` names a Weights & Biases project that gets the same numbers; "": none."""
        path = workdir / "metrics.jsonl"
        _keep_until(path, step)
        self._file = path.open("a")
        self._wandb = _start_wandb(wandb, workdir) if wandb else None
        self._events = _summary_writer()(str(workdir / "tensorboard"), purge_step=step + 1)

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        if self._wandb:
            self._wandb.finish()
        self._events.close()

    def write(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """One line: `step`, `epoch` and the values. On disk when this returns."""
        line = {"step": step, "epoch": round(epoch, 4)} | {k: float(v) for k, v in values.items()}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._wandb:
            self._wandb.log(line, step=step)
        for name, value in values.items():
            tag = name if "/" in name else f"train/{name}"
            self._events.add_scalar(tag, float(value), step)


def _summary_writer() -> Any:
    """That of tensorboardX, which would import torch wherever that is installed: for seconds."""
    hide = "torch" not in sys.modules
    if hide:
        sys.modules["torch"] = None  # type: ignore[assignment]  # to import it fails
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hide:
            del sys.modules["torch"]
    return SummaryWriter


def _start_wandb(project: str, workdir: pathlib.Path) -> Any:
    try:
        import wandb  # an extra: imported when asked for
    except ImportError:
        raise UserError("config.wandb needs: pip install 'jaxssl[wandb]'") from None
    # One run there for each workdir, continued when the workdir is.
    return wandb.init(project=project, name=workdir.name, id=workdir.name, resume="allow")


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """All whole lines of `metrics.jsonl`; a line cut short by a kill is left out."""
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    lines = []
    for line in path.read_text().splitlines():
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            continue
        lines.append({current_result(key): value for key, value in values.items()})
    return lines


def _keep_until(path: pathlib.Path, step: int) -> None:
    kept = [line for line in read_metrics(path.parent) if line["step"] <= step]
    with atomic_write(path) as file:
        file.write("".join(json.dumps(line) + "\n" for line in kept).encode())


class ProgressLine:
    """One line that is rewritten on a terminal, and plain lines elsewhere."""

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        batch_size: int,
        stream: io.TextIOBase | None = None,
    ):
        self._total, self._per_epoch, self._batch = total_steps, steps_per_epoch, batch_size
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._last = float("-inf")

    def show(self, step: int, values: Mapping[str, float]) -> None:
        """Loss, images/s, time left, share of time waiting for data."""
        now = time.monotonic()
        if "images_per_sec" not in values:
            return  # nothing has been timed yet
        if not self._live and step < self._total and now - self._last < 10:
            return  # a log file wants fewer lines than a terminal
        self._last = now
        left = int((self._total - step) * self._batch / values["images_per_sec"])
        text = (
            f"epoch {step / self._per_epoch:7.2f}/{self._total // self._per_epoch}  "
            f"step {step}/{self._total}  loss {values['loss']:.4f}  "
            f"{values['images_per_sec']:.0f} images/s  data wait {values['data_wait']:.0%}  "
            f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
        )
        print(f"\r\x1b[K{text}" if self._live else text, end="" if self._live else "\n",
              file=self._stream, flush=True)  # fmt: skip

    def end(self) -> None:
        """Leaves the line."""
        if self._live:
            print(file=self._stream, flush=True)
