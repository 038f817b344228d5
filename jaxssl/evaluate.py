"""Evaluates a pre-trained encoder: `python -m jaxssl.evaluate --workdir runs/quickstart`."""

import argparse
import dataclasses
import io
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from ml_collections import ConfigDict

from jaxssl import sharding, terminal
from jaxssl.config import base
from jaxssl.data import split_sources
from jaxssl.errors import UserError
from jaxssl.evaluation import TASKS
from jaxssl.evaluation.comparison import (
    compare,
    comparison_table,
    load_others,
    plan_comparison,
)
from jaxssl.evaluation.run import EvalRecord, plan, run_tasks
from jaxssl.evaluation.shown import show
from jaxssl.files import atomic_write, check_writable
from jaxssl.image.augment import NORMALIZE
from jaxssl.pretrained.encoder import Encoder, load_encoder
from jaxssl.reporting.published import anchors
from jaxssl.training.results import (
    Details,
    append_entry,
    as_entry,
    read_eval_records,
    restore_encoder,
)
from jaxssl.training.workdir import read_config


def _comma_separated(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


DEFAULT_TASKS = ("knn", "linear")
LESS_MEMORY = "lower --batch-size, or the batch of a task that trains: --set TASK.batch_size=8"
_PRESETS = [f"{name}={preset}" for name, task in TASKS.items() for preset in task.presets]
FLAGS: dict[str, dict[str, Any]] = {
    "--tasks": {
        "action": "extend",
        "type": _comma_separated,
        "help": f"separated by commas (default: knn,linear): {', '.join(TASKS)}, or MODULE:TASK "
        "of your own",
    },
    "--datasets": {
        "action": "extend",
        "type": split_sources,
        "help": "sources, separated by commas (default: the run's)",
    },
    "--size": {
        "type": terminal.zero_or_more,
        "help": "side of the images in pixels (default: the run's); images with label maps or "
        "depth keep their shape, and it is their shorter side (default, or 0: their own)",
    },
    "--batch-size": {"type": terminal.positive, "help": "images at once (default: the run's)"},
    "--seeds": {
        "type": terminal.positive,
        "default": 1,
        "help": "number of seeds, 0, 1, ... (default: 1)",
    },
    "--ignore-labels": {
        "type": terminal.whole_numbers,
        "metavar": "VALUE,VALUE",
        "help": "values of label maps that are not classes, besides 255 (default: the run's; of "
        "records what --ignore said when they were exported)",
    },
    # its former name
    "--void": {"dest": "ignore_labels", "type": terminal.whole_numbers, "help": argparse.SUPPRESS},
    "--from-scratch": {
        "action": "store_true",
        "help": "fine-tune from random weights as well, and report the results as scratch_...",
    },
    "--set": {
        "action": "extend",
        "nargs": "+",
        "default": [],
        "metavar": "TASK.KEY=VALUE",
        "help": "change a protocol, as in knn.k=20,200 knn.temperature=0.07 finetune.epochs=10",
    },
    "--preset": {
        "action": "extend",
        "nargs": "+",
        "default": [],
        "metavar": "TASK=NAME",
        "help": f"protocols of papers: {', '.join(_PRESETS)}; TASK= may be left out where only one "
        "task has the preset",
    },
    "--compare": {
        "action": "extend",
        "type": _comma_separated,
        "metavar": "random,FILE",
        "help": "instead of --tasks: compare this encoder with random weights and those of files, "
        "by few-shot, linear and segmentation with 100, 10 and 1 %% of the labels",
    },
    "--out": {
        "type": pathlib.Path,
        "metavar": "FILE",
        "help": "where results are saved (default: WORKDIR/eval.json or FILE.eval.json; with "
        "--compare compare.json)",
    },
    "--bn-adapt": {
        "action": "store_true",
        "help": "first recompute the statistics of batch norm on each data set, as lightly 1.4.14 "
        "and SAMCLR do",
    },
}


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags of this command."""
    parser = terminal.Parser(
        prog="python -m jaxssl.evaluate",
        description="Evaluates the newest checkpoint of a run, or an exported encoder; appends to "
        "WORKDIR/eval.json or FILE.eval.json.",
        epilog="example: python -m jaxssl.evaluate --workdir runs/quickstart --tasks knn,linear "
        "--datasets folder:photos,objects:2000 --set knn.k=20 --seeds 3",
        allow_abbrev=False,
    )
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument(
        "--workdir", type=terminal.given_path, metavar="DIR", help="folder of a run"
    )
    subject.add_argument(
        "--encoder",
        type=pathlib.Path,
        metavar="FILE",
        help="weights, by jaxssl.export or of another project",
    )
    parser.add_argument(
        "--encoder-name",
        default="",
        metavar="NAME",
        help="network of another project's weights, such as resnet50 (default: found in the file)",
    )
    parser.add_argument(
        "--encoder-prefix",
        default="",
        metavar="PREFIX",
        help="of the names of its weights, in a file of several networks",
    )
    parser.add_argument(
        "--encoder-normalize",
        default="",
        choices=NORMALIZE,
        help="of the images of another project's weights (default: imagenet)",
    )
    for flag, options in FLAGS.items():
        parser.add_argument(flag, **options)
    return parser.parse_args(argv)


def load_subject(args: argparse.Namespace) -> tuple[ConfigDict, Encoder | None]:
    """The config by which to evaluate; and the encoder, if it is of a file."""
    loaded = None
    told = {key: getattr(args, f"encoder_{key}") for key in ("name", "prefix", "normalize")}
    if args.workdir and (given := [key for key, value in told.items() if value]):
        raise UserError(f"--encoder-{given[0]} is of --encoder, not of --workdir; leave it out")
    if args.encoder:  # the default config, with images as the encoder takes them
        loaded = load_encoder(args.encoder, **told)
        config = base()
        config.views.size, config.views.normalize = loaded.size, loaded.normalization
    else:
        config = read_config(args.workdir)
    for key in ("size", "batch_size", "datasets", "ignore_labels"):
        if (value := getattr(args, key)) is not None:
            config.eval[key] = tuple(value) if isinstance(value, list) else value
    if not config.eval.datasets:
        raise UserError("nothing to evaluate on: give --datasets, such as folder:PATH")
    return config, loaded


def restore(
    args: argparse.Namespace, config: ConfigDict, loaded: Encoder | None
) -> tuple[Encoder, int]:
    """The encoder to evaluate, and its step."""
    if loaded:
        encoder, step = loaded, loaded.metadata.step if loaded.metadata else 0
    else:
        encoder, step = restore_encoder(config, args.workdir, sharding.make_mesh())
    return dataclasses.replace(encoder, batch_size=config.eval.batch_size, show=True), step


def run(args: argparse.Namespace, path: pathlib.Path) -> None:
    """Runs the tasks on the data sets; each result is saved in `path` as soon as it is there.

    Prints the table of those there are, whatever ends it.
    """
    config, loaded = load_subject(args)
    check_writable(path)
    tasks = args.tasks or DEFAULT_TASKS
    pairs = plan(config, tasks, args.preset, args.set, from_scratch=args.from_scratch)
    read_eval_records(path)  # a damaged one is found before the work, too
    encoder, step = restore(args, config, loaded)
    records: list[EvalRecord] = []
    try:
        for record in run_tasks(encoder, pairs, range(args.seeds), bn_adapt=args.bn_adapt):
            records.append(record)
            save(path, step, record, file_of(args))
    finally:
        if records:
            print(results_table(records))


def run_comparison(args: argparse.Namespace, path: pathlib.Path) -> None:
    """`run` for `--compare`: several encoders, a column of the table each."""
    for flag in ("--tasks", "--preset", "--from-scratch"):
        if getattr(args, flag.strip("-").replace("-", "_")):
            raise UserError(
                "--compare has tasks and protocols of its own, which only --set changes; "
                f"leave out {flag}"
            )
    config, loaded = load_subject(args)
    check_writable(path)
    pairs = plan_comparison(config, args.set)
    read_eval_records(path)
    encoder, step = restore(args, config, loaded)
    encoders = {"this": encoder} | load_others(args.compare, encoder)
    found: list[tuple[str, EvalRecord]] = []
    try:
        for name, record in compare(encoders, pairs, range(args.seeds), bn_adapt=args.bn_adapt):
            found.append((name, record))
            is_this = name == "this"
            entry = as_entry(step if is_this else 0, record, file_of(args) if is_this else "")
            append_entry(path, {"encoder": name, **entry})
    finally:
        if found:
            print(comparison_table(found))


def file_of(args: argparse.Namespace) -> str:
    """The name of the file that the encoder is of; "": it is a run's."""
    return args.encoder.name if args.encoder else ""


def save(path: pathlib.Path, step: int, record: EvalRecord, file: str = "") -> None:
    """Adds a result to the list in the file; predicted maps go to `predictions/` beside it.

    Their names begin with that of the encoder's `file`, for there may be several in a folder.
    """
    result = record.result
    new = as_entry(step, record, file)
    if result.details:
        new["details"] = cast(Details, result.details)
    append_entry(path, new)
    if result.predictions:
        folder = path.with_name("predictions")
        folder.mkdir(exist_ok=True)
        name = "_".join(filter(None, (file, record.dataset, record.task)))
        with atomic_write(folder / f"{name}.npz") as maps:
            archive = io.BytesIO()  # a zip goes back to its headers, which that file cannot
            np.savez_compressed(archive, allow_pickle=False, **result.predictions)
            maps.write(archive.getvalue())


def results_table(records: Sequence[EvalRecord]) -> str:
    """A row for each result of a task on a data set, with its spread over seeds; papers' below."""
    groups: dict[tuple[str, str], list[dict[str, float]]] = {}
    for record in records:
        groups.setdefault((record.dataset, record.task), []).append(record.result.results)
    rows, beside = [], []
    for (dataset, task), results in groups.items():
        for name in results[0]:
            beside += anchors(dataset, f"{task}_{name}")
            rows.append([dataset, task, name, show(name, *(r[name] for r in results))])
    table = terminal.format_table([["data set", "task", "result", "value"], *rows])
    return "\n".join([table, *(f"compare {line}" for line in beside)])


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one line that says what to do."""
    with terminal.one_line_errors(less_memory=LESS_MEMORY) as status:
        args = parse_arguments(argv)
        kind = "compare" if args.compare else "eval"
        path = args.out or (
            args.workdir / f"{kind}.json"
            if args.workdir
            else args.encoder.parent / f"{args.encoder.stem}.{kind}.json"
        )
        (run_comparison if args.compare else run)(args, path)
        print(f"written to {path}, with the protocol of each")
    return status.code


if __name__ == "__main__":
    sys.exit(main())
