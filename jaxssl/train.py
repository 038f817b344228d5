"""Pre-trains an encoder: `python -m jaxssl.train --config configs/quickstart.py`.

Running the same command again continues where the run stopped, at any step, bit for bit.
"""

import functools
import logging
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxssl import sharding
from jaxssl.checkpoint import is_begun
from jaxssl.config import build, build_method, load_config
from jaxssl.data import open_source
from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.example import Source
from jaxssl.data.pipeline import Pipeline, open_pipeline
from jaxssl.data.store import cache_folder
from jaxssl.evaluation.datasets import DataSet, open_datasets
from jaxssl.evaluation.features import FrozenEncoder
from jaxssl.evaluation.suite import choose_tasks, evaluate, match, with_config
from jaxssl.loop import Loop
from jaxssl.methods import Method
from jaxssl.metrics import read_metrics
from jaxssl.models import variable_shapes
from jaxssl.pretrained import start_variables
from jaxssl.refresh import Refresh
from jaxssl.samplers import Sampler
from jaxssl.step import init_state, make_train_step, start_from
from jaxssl.terminal import Parser, format_table, one_line_errors
from jaxssl.types import Batch, TrainState, Tree
from jaxssl.views import Views
from jaxssl.workdir import check_workdir, create_workdir, locked

log = logging.getLogger("jaxssl")


def train(config: ConfigDict, workdir: pathlib.Path) -> bool:
    """Checks what is cheap to check, sets up, trains; returns whether it came to the end."""
    sharding.keep_programs(cache_folder(config.data.cache_dir) / "programs")
    mesh = sharding.make_mesh()
    sharding.check_batch_size(config.batch_size, mesh)
    check_workdir(workdir, config)
    method, encoder = build_method(config)
    check_sizes(config, encoder)
    start = None
    if config.encoder.init and not is_begun(workdir / "checkpoints"):
        start = start_variables(config, encoder)
    sampler, views = build("sampler", config.sampler), Views(**config.views.to_dict())
    source = open_source(config.data.source, seed=config.seed)
    check_regions({"sampler": sampler, "method": method}, source)
    method.check(batch_size=config.batch_size, num_examples=len(source), views=views.specs())
    datasets = open_datasets(
        config.eval.datasets, config.eval.size or config.views.size, config.data.cache_dir or None
    )
    evaluation = make_evaluation(config, mesh, encoder, datasets)
    pipeline = open_data(config, source, sampler, method)
    resident = sharding.put_everywhere(pipeline.resident or {}, mesh)
    state, train_step = make_training(
        config, mesh, pipeline, resident, method=method, sampler=sampler, views=views
    )

    if start is not None:
        state = start_from(state, start)

    def encoder_of(state: TrainState) -> Tree:
        return method.encoder_variables(state.params, state.method)

    create_workdir(workdir, config, pipeline.num_examples)
    log.info(
        "writing to %s; compiling for %d %s device(s)", workdir, mesh.size, jax.default_backend()
    )
    loop = Loop(
        config,
        workdir,
        mesh,
        pipeline=pipeline,
        train_step=train_step,
        encoder_of=encoder_of,
        evaluate=evaluation,
        refresh=Refresh(
            sampler,
            views,
            mesh,
            epochs=config.epochs,
            pipeline=pipeline,
            resident=resident,
            encoder=encoder,
            encoder_of=encoder_of,
        ),
    )
    with locked(workdir):
        return loop.run(state)


def check_sizes(config: ConfigDict, encoder: Any) -> None:
    """Raises ValueError if the encoder takes no images of a size that it will get."""
    sizes = {"views.size": config.views.size, "eval.size": config.eval.size or config.views.size}
    if config.views.num_local:
        sizes["views.local_size"] = config.views.local_size
    for key, size in sizes.items():
        try:
            variable_shapes(encoder, size)
        except ValueError as error:
            raise ValueError(f"{key} is {size}: {error}") from error


def check_regions(parts: dict[str, Sampler | Method], source: Source) -> None:
    """Raises ValueError if a part needs regions and the source has none."""
    needing = [f"{name} {type(p).__name__}" for name, p in parts.items() if p.needs_regions]
    if needing and not source.has_regions:
        raise ValueError(
            f"{' and '.join(needing)} cannot do without regions and {source.spec} has none; make "
            f"them: python -m mask_tools.export --source {source.spec} --segmenter fh --out "
            "data/regions, then train with --config.data.source=records:data/regions"
        )


def open_data(config: ConfigDict, source: Source, sampler: Sampler, method: Method) -> Pipeline:
    """The pipeline that yields batches of canvases."""
    objects = config.data.max_objects if sampler.needs_regions else 0
    planes = config.data.region_planes if method.needs_regions else 0
    pipeline = open_pipeline(
        source,
        CanvasSpec(size=config.data.canvas, objects=objects, planes=planes),
        batch_size=config.batch_size,
        seed=config.seed,
        mode=config.data.input,
        workers=config.data.workers,
        cache_dir=config.data.cache_dir or None,
        device_bytes=sharding.memory_per_device(),
    )
    log.info("%s: %d images; %s", source.spec, pipeline.num_examples, pipeline.reason)
    return pipeline


def make_training(
    config: ConfigDict,
    mesh: Mesh,
    pipeline: Pipeline,
    resident: Batch,
    *,
    method: Method,
    sampler: Sampler,
    views: Views,
) -> tuple[TrainState, Callable]:
    """The state to start from and `train_step(state, batch)`, on all devices."""
    optim = build("optim", config.optim)
    length = (config.batch_size, pipeline.steps_per_epoch, config.epochs)
    parts = {
        "method": method,
        "sampler": sampler,
        "views": views,
        "optimizer": optim.transform(*length),
    }
    key_init, key_steps = jax.random.split(jax.random.key(config.seed))
    state = sharding.compile_init(
        functools.partial(init_state, num_examples=pipeline.num_examples, **parts), mesh
    )(key_init, pipeline.example_batch())
    step = sharding.compile_step(
        make_train_step(
            **parts,
            learning_rate=optim.schedule(*length),
            total_steps=config.epochs * pipeline.steps_per_epoch,
        ),
        mesh,
    )
    return state, lambda state, batch: step(state, batch, resident, key_steps)


def make_evaluation(
    config: ConfigDict, mesh: Mesh, encoder: Any, datasets: Sequence[DataSet]
) -> Callable[[Tree, bool], dict[str, float]]:
    """`evaluate(variables, last)`: results by key; a linear probe only after the last step.

    Finds fault with the data sets now.
    """
    tasks = with_config(choose_tasks(("knn", "linear")), config.eval)
    pairs = match(tasks, datasets) if datasets else []

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
    rows = [["data set", "chance", "kNN untrained", "kNN trained", "linear trained"]]
    for name in dict.fromkeys(k.split("/")[1] for k in last if k.startswith("eval/")):
        keys = (("chance", last), ("knn_top1", first), ("knn_top1", last), ("linear_top1", last))
        values = [line.get(f"eval/{name}/{key}") for key, line in keys]
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
    with one_line_errors() as status:
        args, overrides = parser.parse_known_args(argv)
        config = load_config(args.config, overrides)
        path, _, variant = args.config.partition(":")
        name = "_".join(filter(None, (pathlib.Path(path).stem, variant)))
        workdir = args.workdir or pathlib.Path("runs", name)
        if train(config, workdir):
            print(results_table(workdir))
            print(f"{workdir}: config.json, metrics.jsonl, tensorboard/, checkpoints/")
    return status.code


if __name__ == "__main__":
    sys.exit(main())
