"""Pre-trains an encoder: `python -m jaxssl.train --config configs/quickstart.py`.

Running the same command again continues where the run stopped, at any step, bit for bit.
"""

import dataclasses
import functools
import logging
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxssl import distributed, sharding
from jaxssl.config import build, build_method, canvas_for, load_config
from jaxssl.data import open_source
from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.pipeline import Pipeline, open_pipeline
from jaxssl.data.source import Source
from jaxssl.data.store import cache_folder
from jaxssl.errors import UserError
from jaxssl.evaluation.datasets import open_datasets
from jaxssl.evaluation.features import FrozenEncoder
from jaxssl.evaluation.suite import choose_tasks, evaluate, match, with_config
from jaxssl.methods import Method
from jaxssl.models import variable_shapes
from jaxssl.pretrained.encoder import load_init_variables
from jaxssl.samplers import Sampler
from jaxssl.terminal import Parser, format_table, one_line_errors
from jaxssl.training.checkpoint import has_checkpoint
from jaxssl.training.health_monitor import HealthMonitor
from jaxssl.training.loop import Loop
from jaxssl.training.metrics import read_metrics
from jaxssl.training.sampler_refresh import Refresh
from jaxssl.training.step import init_state, make_train_step, with_pretrained_encoder
from jaxssl.training.workdir import check_workdir, open_workdir
from jaxssl.types import Batch, TrainState, Tree
from jaxssl.views import ViewConfig

log = logging.getLogger("jaxssl")


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a training is made of."""

    method: Method
    sampler: Sampler
    views: ViewConfig
    encoder: Any
    start: Tree | None  # variables of the encoder to start from
    pipeline: Pipeline
    evaluate: Callable[[Tree, bool], dict[str, float]]


def pretrain(config: ConfigDict, workdir: pathlib.Path | str) -> bool:
    """Trains, or continues what was begun in `workdir`; returns whether it came to the end.

    It stops before on SIGTERM or Ctrl-C, once a checkpoint is saved. What can be checked is checked
    before anything is compiled or written: a UserError of one line.
    """
    workdir = pathlib.Path(workdir)
    sharding.enable_compilation_cache(cache_folder(config.data.cache_dir) / "programs")
    mesh = sharding.make_mesh()
    if not distributed.is_first():
        log.setLevel(logging.WARNING)
    device_bytes = distributed.process_min(sharding.memory_per_device())
    with distributed.raise_together():
        parts = open_parts(config, workdir, mesh, device_bytes)
    pipeline = parts.pipeline
    distributed.check_same(config=config.to_json(), images=pipeline.num_examples)
    resident = sharding.replicate(pipeline.resident or {}, mesh)
    state, train_step = make_training(config, mesh, parts, resident)

    def encoder_of(state: TrainState) -> Tree:
        return parts.method.encoder_variables(state.params, state.method)

    refresh = Refresh(
        parts.sampler,
        parts.views,
        mesh,
        epochs=config.epochs,
        pipeline=pipeline,
        resident=resident,
        encoder=parts.encoder,
        encoder_of=encoder_of,
    )
    checkup = HealthMonitor(
        config, mesh, pipeline=pipeline, encoder=parts.encoder, sampler=parts.sampler
    )
    with open_workdir(workdir, config, pipeline.num_examples), distributed.exit_on_peer_failure():
        backend = jax.default_backend()
        log.info("writing to %s; compiling for %d %s device(s)", workdir, mesh.size, backend)
        return Loop(
            config,
            workdir,
            mesh,
            pipeline=pipeline,
            train_step=train_step,
            encoder_of=encoder_of,
            evaluate=parts.evaluate,
            checkup=checkup,
            refresh=refresh,
        ).run(state)


def open_parts(config: ConfigDict, workdir: pathlib.Path, mesh: Mesh, device_bytes: int) -> Parts:
    """All that `config` names; UserError, one line, if anything in it cannot be had."""
    sharding.check_batch_size(config.batch_size, mesh)
    check_workdir(workdir, config)
    method, encoder = build_method(config)
    check_sizes(config, encoder)
    begun = has_checkpoint(workdir / "checkpoints")
    start = load_init_variables(config, encoder) if config.encoder.init and not begun else None
    sampler, views = build("sampler", config.sampler), ViewConfig(**config.views.to_dict())
    source = open_source(config.data.source, seed=config.seed)
    canvas = canvas_for(config, source, sampler, method)
    method.check(batch_size=config.batch_size, num_examples=len(source), views=views.specs())
    evaluate = make_evaluation(config, mesh, encoder)
    pipeline = open_data(config, source, canvas, device_bytes)
    return Parts(method, sampler, views, encoder, start, pipeline, evaluate)


def check_sizes(config: ConfigDict, encoder: Any) -> None:
    """Raises UserError if the encoder takes no images of a size that it will get."""
    sizes = {"views.size": config.views.size, "eval.size": config.eval.size or config.views.size}
    if config.views.num_local:
        sizes["views.local_size"] = config.views.local_size
    for key, size in sizes.items():
        try:
            variable_shapes(encoder, size)
        except UserError as error:
            raise UserError(f"{key} is {size}: {error}") from error


def open_data(
    config: ConfigDict, source: Source, canvas: CanvasSpec, device_bytes: int
) -> Pipeline:
    """The pipeline that yields batches of canvases."""
    pipeline = open_pipeline(
        source,
        canvas,
        batch_size=config.batch_size,
        seed=config.seed,
        mode=config.data.input,
        workers=config.data.workers,
        cache_dir=config.data.cache_dir or None,
        device_bytes=device_bytes,
        share=sharding.share(),
        progress=distributed.is_first(),
    )
    log.info("%s: %d images; %s", source.spec, pipeline.num_examples, pipeline.reason)
    return pipeline


def make_training(
    config: ConfigDict, mesh: Mesh, parts: Parts, resident: Batch
) -> tuple[TrainState, Callable]:
    """The state to start from and `train_step(state, batch)`, on all devices."""
    pipeline, optim = parts.pipeline, build("optim", config.optim)
    length = (config.batch_size, pipeline.steps_per_epoch, config.epochs)
    used = {
        "method": parts.method,
        "sampler": parts.sampler,
        "views": parts.views,
        "optimizer": optim.transform(*length),
    }
    key_init, key_steps = jax.random.split(jax.random.key(config.seed))
    state = sharding.jit_init(
        functools.partial(init_state, num_examples=pipeline.num_examples, **used), mesh
    )(key_init, pipeline.example_batch())
    if parts.start is not None:
        state = with_pretrained_encoder(state, parts.start)
    step = sharding.jit_step(
        make_train_step(
            **used,
            learning_rate=optim.schedule(*length),
            total_steps=config.epochs * pipeline.steps_per_epoch,
        ),
        mesh,
    )
    return state, lambda state, batch: step(state, batch, resident, key_steps)


def make_evaluation(
    config: ConfigDict, mesh: Mesh, encoder: Any
) -> Callable[[Tree, bool], dict[str, float]]:
    """`evaluate(variables, last)`: results by key; a linear probe only after the last step.

    Opens the data sets now, and finds fault with them.
    """
    size = config.eval.size or config.views.size
    cache_dir = config.data.cache_dir or None
    datasets = open_datasets(
        config.eval.datasets, size, cache_dir, ignore_labels=config.eval.ignore_labels
    )
    offered = frozenset().union(*(data.offers for data in datasets))
    labelled = "labels" in offered or "label maps" not in offered
    names = ["knn", "linear"] if labelled else []
    names += ["segmentation"] if "label maps" in offered else []
    names += ["retrieval"] if "labelled regions" in offered else []
    pairs = match(with_config(choose_tasks(names), config.eval), datasets) if datasets else []

    def run(variables: Tree, last: bool) -> dict[str, float]:
        now = [p for p in pairs if p[0] != "linear" or (last and config.eval.linear)]
        frozen = FrozenEncoder(
            encoder, variables, config.views.normalize, mesh, config.eval.batch_size, show=False
        )
        return {k: v for entry in evaluate(frozen, now) for k, v in entry.as_metrics().items()}

    return run


def results_table(workdir: pathlib.Path) -> str:
    """Accuracy before and after training, by data set, from what the run has reported."""
    lines = [line for line in read_metrics(workdir) if any(k.startswith("eval/") for k in line)]
    if not lines:
        return ""
    last = lines[-1]
    first = lines[0] if lines[0]["step"] == 0 else {}  # evaluation may have been off at first
    keys = {
        "majority baseline": ("majority_baseline", last),
        "kNN untrained": ("knn_top1", first),
        "kNN trained": ("knn_top1", last),
        "linear trained": ("linear_top1", last),
        "mIoU untrained": ("miou", first),
        "mIoU trained": ("miou", last),
    }
    if not any(key.endswith("/miou") for key in last):
        keys = {header: key for header, key in keys.items() if key[0] != "miou"}
    rows = [["data set", *keys]]
    for name in dict.fromkeys(k.split("/")[1] for k in last if k.startswith("eval/")):
        values = [line.get(f"eval/{name}/{key}") for key, line in keys.values()]
        rows.append([name, *("-" if v is None else f"{v:.1%}" for v in values)])
    return format_table(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one line that says what to do."""
    parser = Parser(
        prog="python -m jaxssl.train",
        description="Pre-trains an encoder. The same command again continues the run.",
        epilog="example: python -m jaxssl.train --config configs/quickstart.py:simclr "
        "--workdir runs/try --config.epochs=5 --config.eval.datasets=objects:1000",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="FILE.py or FILE.py:variant")
    parser.add_argument("--workdir", type=pathlib.Path, help="default: runs/<config name>")
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes, as SLURM, Open MPI or a TPU pod say, or these three:",
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0")
    parser.add_argument("--num-processes", type=int, metavar="N")
    parser.add_argument("--process-id", type=int, metavar="I", help="0 to N - 1")
    with one_line_errors() as status:
        args, overrides = parser.parse_known_args(argv)
        meeting = (args.coordinator, args.num_processes, args.process_id)
        if args.distributed or any(m is not None for m in meeting):
            distributed.initialize(*meeting)
        config = load_config(args.config, overrides)
        path, _, variant = args.config.partition(":")
        name = "_".join(filter(None, (pathlib.Path(path).stem, variant)))
        workdir = args.workdir or pathlib.Path("runs", name)
        if pretrain(config, workdir) and distributed.is_first():
            print(results_table(workdir))
            print(f"{workdir}: config.json, metrics.jsonl, tensorboard/, checkpoints/")
    return status.code


if __name__ == "__main__":
    sys.exit(main())
