"""Metrics of a run, in JSON lines, TensorBoard and Weights & Biases."""

import json
import logging
import os
import pathlib
import secrets
import socket
import time
from collections.abc import Mapping
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from jaxssl.checked_files import parse_json
from jaxssl.errors import UserError
from jaxssl.files import naming, write_text
from jaxssl.renamed import current_result

log = logging.getLogger("jaxssl")


class MetricsWriter:
    """Appends to `metrics.jsonl` and to TensorBoard events in the workdir.

    Opened for a run that continues at `step`, it first drops what a killed run wrote after that
    step, so that every step is reported once.
    """

    def __init__(self, workdir: pathlib.Path, step: int = 0, *, wandb: str = ""):
        """`wandb` names a Weights & Biases project that gets the same numbers; "": none."""
        self._path = workdir / "metrics.jsonl"
        kept = [line for line in read_metrics(workdir) if line["step"] <= step]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        self._wandb = _start_wandb(wandb, workdir) if wandb else None
        with naming(self._path):
            self._file = self._path.open("a")
        self._events = TensorBoardEvents(workdir / "tensorboard", first_step=step + 1)

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *error: object) -> None:
        if self._wandb:
            self._wandb.finish()
        with naming(self._path):
            self._file.close()
        self._events.close()

    def write(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """One line: `step`, `epoch` and the values. On disk when this returns."""
        line = {"step": step, "epoch": round(epoch, 4)} | {k: float(v) for k, v in values.items()}
        tagged = {k if "/" in k else f"train/{k}": float(v) for k, v in values.items()}
        with naming(self._path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self._events.write(step, tagged)
        if self._wandb:
            self._wandb.log(line, step=step)


class TensorBoardEvents:
    """Scalars in a file of events, which TensorBoard reads.

    Its own `EventFileWriter` imports TensorFlow where that is installed, for seconds of every
    start; the messages and the format of the file need none.
    """

    def __init__(self, folder: pathlib.Path, first_step: int):
        """TensorBoard drops what other files in the folder say of `first_step` and later."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # Files of one run are read in the order of their names.
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._writer = RecordWriter((folder / name).open("wb"))
        started = SessionLog(status=SessionLog.START)
        self._add({"file_version": "brain.Event:2"}, {"step": first_step, "session_log": started})

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to the curve of each tag."""
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._add({"step": step, "summary": Summary(value=scalars)})

    def close(self) -> None:
        with naming(self._folder):
            self._writer.close()

    def _add(self, *events: Mapping[str, Any]) -> None:
        with naming(self._folder):
            for event in events:
                self._writer.write(Event(wall_time=time.time(), **event).SerializeToString())
            self._writer.flush()


def import_wandb() -> Any:
    """The package, which is an extra; `UserError` if it is not installed."""
    try:
        import wandb
    except ImportError:
        raise UserError("config.wandb needs: pip install 'jaxssl[wandb]'") from None
    return wandb


def _start_wandb(project: str, workdir: pathlib.Path) -> Any:
    # One run there for each workdir, continued when the workdir is; folders may share their name.
    path = workdir / "wandb_id"
    if not path.exists():
        write_text(path, secrets.token_hex(4))
    return import_wandb().init(
        project=project, name=workdir.name, id=path.read_text(), resume="allow"
    )


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`; one that a kill cut short is left out.

    Damaged ones among the others are left out with a warning.
    """
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    texts, lines, damaged = path.read_bytes().splitlines(), [], []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(_parse(text, f"{path}, line {number}"))
        except UserError as error:
            damaged.append((number, error))
    if damaged and damaged != [(len(texts), damaged[0][1])]:
        others = f"; so are {len(damaged) - 1} other lines of it" if damaged[1:] else ""
        log.warning("%s%s", damaged[0][1], others)
    return lines


def _parse(text: bytes, where: str) -> dict[str, Any]:
    """A line: `step`, `epoch` and numbers, those of evaluations called eval/<dataset>/<name>."""
    values = parse_json(text, dict[str, float], where, advice="it is left out")
    step, names = values.get("step", 0.5), [key for key in values if key.startswith("eval/")]
    if not step.is_integer() or "epoch" not in values or any(n.count("/") != 2 for n in names):
        raise UserError(f"{where} is damaged: it has no step, epoch and results; it is left out")
    return {current_result(key): value for key, value in values.items()} | {"step": int(step)}
