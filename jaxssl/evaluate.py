"""Evaluates a pre-trained encoder: `python -m jaxssl.evaluate --workdir runs/quickstart`."""

import argparse
import dataclasses
import functools
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxssl import sharding
from jaxssl.checkpoint import Checkpoints
from jaxssl.config import build_method
from jaxssl.data.files import written_aside
from jaxssl.evaluation.datasets import load_datasets
from jaxssl.evaluation.features import make_encode
from jaxssl.evaluation.suite import TASKS, Protocol, check_tasks, evaluate
from jaxssl.models import variable_shapes
from jaxssl.terminal import Parser, format_table, one_line_errors
from jaxssl.types import Tree
from jaxssl.workdir import read_config


def _comma_separated(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags of this command."""
    parser = Parser(
        prog="python -m jaxssl.evaluate",
        description="Evaluates the newest checkpoint of a run; appends to WORKDIR/eval.json.",
        epilog="example: python -m jaxssl.evaluate --workdir runs/quickstart --tasks knn,linear "
        "--datasets folder:photos,objects:2000",
        allow_abbrev=False,
    )
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--tasks", type=_comma_separated, default=TASKS, help=",".join(TASKS))
    parser.add_argument(
        "--datasets",
        type=_comma_separated,
        help="sources, separated by commas (default: the run's)",
    )
    parser.add_argument("--knn-k", type=int, help="neighbours (default: the run's)")
    parser.add_argument("--knn-temperature", type=float, help="(default: the run's)")
    return parser.parse_args(argv)


def restore_encoder(config: ConfigDict, workdir: pathlib.Path, mesh: Mesh) -> tuple[Any, Tree, int]:
    """The encoder of a run, its newest variables and their step."""
    _, encoder = build_method(config)
    shapes = variable_shapes(encoder, config.views.size)
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        variables = checkpoints.restore("encoder", sharding.place_everywhere(shapes, mesh))
        if variables is None:
            raise ValueError(f"no checkpoint in {workdir} yet; train it first")
        return encoder, variables, checkpoints.restored


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Results by data set, each with its whole protocol."""
    config = read_config(args.workdir)
    for key in ("knn_k", "knn_temperature", "datasets"):
        if (value := getattr(args, key)) is not None:
            config.eval[key] = value
    if not config.eval.datasets:
        raise ValueError("nothing to evaluate on: give --datasets, such as folder:PATH")
    check_tasks(args.tasks)
    mesh = sharding.make_mesh()
    encoder, variables, step = restore_encoder(config, args.workdir, mesh)
    encode = functools.partial(
        sharding.compile_rows(make_encode(encoder, config.views.normalize), mesh), variables
    )
    protocol = Protocol.of(config.eval)
    return [
        {"step": step, "dataset": data.name, **evaluate(encode, data, protocol, args.tasks)}
        | {"size": config.eval.size or config.views.size, **dataclasses.asdict(protocol)}
        for data in load_datasets(config)
    ]


def append_results(path: pathlib.Path, results: list[dict[str, Any]]) -> None:
    """Adds to the list in `eval.json`."""
    earlier = json.loads(path.read_text()) if path.exists() else []
    with written_aside(path) as file:
        file.write((json.dumps(earlier + results, indent=2) + "\n").encode())


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one line that says what to do."""
    with one_line_errors() as status:
        args = parse_arguments(argv)
        results = run(args)
        append_results(args.workdir / "eval.json", results)
        scores = ("chance", *(f"{task}_top1" for task in args.tasks))
        rows = [[r["dataset"], *(f"{r[s]:.1%}" for s in scores)] for r in results]
        print(format_table([["data set", *scores], *rows]))
    return status.code


if __name__ == "__main__":
    sys.exit(main())
