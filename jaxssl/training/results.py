"""Results of a run: its encoder, and what was measured of it."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxssl import sharding
from jaxssl.checked_files import read_json
from jaxssl.config import build_method
from jaxssl.errors import UserError
from jaxssl.evaluation.run import EvalRecord
from jaxssl.evaluation.shown import percent, show
from jaxssl.files import locked, write_text
from jaxssl.models import variable_shapes
from jaxssl.pretrained.encoder import Encoder
from jaxssl.renamed import PROTOCOLS, current_result
from jaxssl.terminal import format_table
from jaxssl.training.checkpoint import Checkpoints
from jaxssl.training.metrics import read_metrics

# Heading: result, and whether it is of before training, 0, or after, 1.
COLUMNS = {
    "majority baseline": ("majority_baseline", 1),
    "kNN untrained": ("knn_top1", 0),
    "kNN trained": ("knn_top1", 1),
    "linear trained": ("linear_top1", 1),
    "mIoU untrained": ("miou", 0),
    "mIoU trained": ("miou", 1),
}


class Details(TypedDict, total=False):
    """Results of each class, which only a report shows."""

    classes: list[str]
    per_class: list[float | None]
    confusion: list[list[float]]  # [true, predicted]


class EvalEntry(TypedDict):
    """The result of one task on one data set, as `eval.json` has it."""

    step: int
    task: str
    dataset: str
    seed: int
    results: dict[str, float]
    protocol: NotRequired[dict[str, Any]]
    details: NotRequired[Details]
    file: NotRequired[str]  # the encoder's, if it is of one and not of a run


def restore_encoder(config: ConfigDict, workdir: pathlib.Path, mesh: Mesh) -> tuple[Encoder, int]:
    """The encoder of a run with its newest variables, on all devices, and their step."""
    _, network = build_method(config)
    shapes = sharding.replicated_specs(variable_shapes(network, config.views.size), mesh)
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        variables = checkpoints.restore("encoder", shapes)
        if variables is None:
            raise UserError(f"no checkpoint in {workdir} yet; train it first")
    size, normalization = config.eval.size or config.views.size, config.views.normalize
    encoder = Encoder(network, variables, normalization, mesh, show=False, size=size)
    return encoder, checkpoints.restored


def read_eval_records(path: pathlib.Path) -> list[EvalEntry]:
    """The entries of an `eval.json`, results by their names of today; [] if there is no file."""
    advice = "move it away and run python -m jaxssl.evaluate again"
    entries = read_json(path, list[EvalEntry], advice=advice) if path.exists() else []
    for entry in entries:
        entry["results"] = {current_result(k): v for k, v in entry["results"].items()}
        if "protocol" in entry:
            entry["protocol"] = {PROTOCOLS.get(k, k): v for k, v in entry["protocol"].items()}
    return entries


def as_entry(step: int, record: EvalRecord, file: str = "") -> EvalEntry:
    """A result as `eval.json` has it; `file` is the name of the encoder's, if it is of one."""
    named: EvalEntry = {
        "step": step,
        "task": record.task,
        "dataset": record.dataset,
        "seed": record.seed,
        "results": record.result.results,
        "protocol": record.protocol,
    }
    if file:
        named["file"] = file
    return named


def append_entry(path: pathlib.Path, entry: Mapping[str, Any]) -> None:
    """Adds an entry to an `eval.json`, also while others do."""
    with locked(path.parent, "saves results in"):
        write_text(path, json.dumps([*read_eval_records(path), entry], indent=2) + "\n")


def read_results(workdir: pathlib.Path, step: int) -> list[tuple[str, str]]:
    """Results of the weights of a step as they are shown: of training and of `jaxssl.evaluate`.

    Names of the latter have what differs in the protocols of one task: `k [20]`. The last result
    of a protocol counts.
    """
    found: dict[str, str] = {}
    for line in read_metrics(workdir):
        if line["step"] == step:
            found |= {k: show(k, v) for k, v in line.items() if k.startswith("eval/")}
    entries = [e for e in read_eval_records(workdir / "eval.json") if e["step"] == step]
    for entry in entries:
        same = [
            e for e in entries if (e["dataset"], e["task"]) == (entry["dataset"], entry["task"])
        ]
        own, others = entry.get("protocol", {}), [e.get("protocol", {}) for e in same]
        apart = [f", {k} {v}" for k, v in own.items() if any(o.get(k) != v for o in others)]
        name = f"{entry['dataset']}/{entry['task']}{''.join(apart)}, seed {entry['seed']}"
        found |= {f"{name}: {k}": show(k, v) for k, v in entry["results"].items()}
    return list(found.items())


def accuracy_table(workdirs: Sequence[pathlib.Path]) -> str:
    """Accuracy before and after training, by data set and run, from what the runs have reported.

    Of several runs the last line of a data set has the difference of the last from the first.
    """
    rows, columns = [], COLUMNS
    found = {workdir: _first_and_last(workdir) for workdir in workdirs}
    if not any(key.endswith("/miou") for _, last in found.values() for key in last):
        columns = {header: column for header, column in columns.items() if column[0] != "miou"}
    sets = [k.split("/")[1] for _, last in found.values() for k in last if k.startswith("eval/")]
    for name in dict.fromkeys(sets):
        table = [
            [lines[when].get(f"eval/{name}/{key}") for key, when in columns.values()]
            for lines in found.values()
        ]
        for workdir, values in zip(found, table, strict=True):
            texts = ["-" if v is None else percent(v) for v in values]
            rows.append([name, *([workdir.name] if len(found) > 1 else []), *texts])
        if len(found) > 1:
            texts = [
                "-" if one is None or other is None else f"{100 * (other - one):+.1f}"
                for one, other in zip(table[0], table[-1], strict=True)
            ]
            rows.append([name, "difference", *texts])
    heads = ["data set", *(["run"] if len(found) > 1 else []), *columns]
    return format_table([heads, *rows]) if rows else ""


def _first_and_last(workdir: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The results that a run reported before training, {} if it did not, and the last ones."""
    lines = [line for line in read_metrics(workdir) if any(k.startswith("eval/") for k in line)]
    if not lines:
        return {}, {}
    return (lines[0] if lines[0]["step"] == 0 else {}), lines[-1]
