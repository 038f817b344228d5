"""The quickstart, small enough for a test: what several tests start and read."""

import json
import pathlib

import jax
import numpy as np

from jaxssl import train
from jaxssl.training.checkpoint import Checkpoints

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "quickstart.py"
SMALL = {
    "epochs": 2,
    "batch_size": 16,
    "log_every": 2,
    "data.source": "scenes:70",  # four steps an epoch
    "data.pixels": 1024,
    "views.size": 16,
    "method.hidden": "(8,)",
    "method.dim": 8,
    "encoder.name": "tiny",
    "eval.datasets": "objects:60",
    "eval.knn_k": 5,
    "eval.every": 1,
    "eval.batch_size": 20,
    "eval.health": 0,
    "eval.linear_epochs": 3,
    "checkpoint.every": 3,
}


def arguments(workdir, *more, variant="samclr", **changes):
    """What a user types."""
    options = SMALL | {k.replace("__", "."): v for k, v in changes.items()}
    overrides = [f"--config.{k}={v}" for k, v in options.items() if v is not None]
    return ["--config", f"{CONFIG}:{variant}", "--workdir", str(workdir), *more, *overrides]


def run(workdir, *more, **changes):
    """Runs the command in this process; returns its exit status."""
    return train.main(arguments(workdir, *more, **changes))


def final_state(workdir):
    """All leaves of the newest checkpoint, as numpy arrays."""
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        state = checkpoints.read(checkpoints.newest(), "state")
    return jax.tree.map(np.asarray, state)


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses(workdir):
    return {line["step"]: line["loss"] for line in lines(workdir) if "loss" in line}
