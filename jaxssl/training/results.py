"""What a run has come to: its encoder, and what was measured of it."""

import json
import pathlib
from typing import Any

import flax.linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxssl import sharding
from jaxssl.config import build_method
from jaxssl.errors import UserError
from jaxssl.models import variable_shapes
from jaxssl.renamed import current_result
from jaxssl.training.checkpoint import Checkpoints
from jaxssl.training.metrics import read_metrics
from jaxssl.types import Tree


def restore_encoder(
    config: ConfigDict, workdir: pathlib.Path, mesh: Mesh
) -> tuple[nn.Module, Tree, int]:
    """The encoder of a run, its newest variables on all devices, and their step.

    Raises:
      UserError: one line, if there is no checkpoint that can be read.
    """
    _, network = build_method(config)
    shapes = sharding.replicated_specs(variable_shapes(network, config.views.size), mesh)
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        variables = checkpoints.restore("encoder", shapes)
        if variables is None:
            raise UserError(f"no checkpoint in {workdir} yet; train it first")
        return network, variables, checkpoints.restored


def read_eval_records(path: pathlib.Path) -> list[dict[str, Any]]:
    """The entries of an `eval.json`, results by their names of today; [] if there is no file.

    Raises:
      UserError: the file is not JSON.
    """
    try:
        records: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    except json.JSONDecodeError as error:
        raise UserError(f"{path} cannot be read: {error}; move it away") from None
    for record in records:
        if "results" in record:
            record["results"] = {current_result(k): v for k, v in record["results"].items()}
    return records


def read_results(workdir: pathlib.Path, step: int) -> list[tuple[str, float]]:
    """What was measured of the weights of a step: during training, and by `jaxssl.evaluate`."""
    found: dict[str, float] = {}
    for line in read_metrics(workdir):
        if line["step"] == step:
            found |= {k: v for k, v in line.items() if k.startswith("eval/")}
    for entry in read_eval_records(workdir / "eval.json"):
        if entry["step"] == step:
            name = f"{entry['dataset']}/{entry['task']}, seed {entry['seed']}"
            found |= {f"{name}: {k}": v for k, v in entry["results"].items()}
    return list(found.items())
