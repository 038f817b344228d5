"""Pre-trains an encoder: `python -m jaxssl.train --config configs/quickstart.py`.

Running the same command again continues where the run stopped, at any step, bit for bit.
"""

import argparse
import functools
import logging
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxssl import sharding
from jaxssl.checkpoint import Checkpoints
from jaxssl.config import build, build_method, load_config
from jaxssl.data import open_source
from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.example import Source
from jaxssl.data.pipeline import Pipeline, open_pipeline
from jaxssl.evaluation.datasets import load_datasets
from jaxssl.evaluation.features import make_encode
from jaxssl.evaluation.suite import LabelledImages, Protocol, evaluate
from jaxssl.methods import Method
from jaxssl.metrics import MetricsWriter, ProgressLine, read_metrics
from jaxssl.samplers import Sampler
from jaxssl.step import init_state, make_train_step
from jaxssl.terminal import format_table, one_line_errors
from jaxssl.types import TrainState, Tree
from jaxssl.views import Views
from jaxssl.workdir import check_workdir, create_workdir

log = logging.getLogger("jaxssl")
STEPS_IN_FLIGHT = 3  # queued on the device: enough to keep it busy, few enough to bound memory


class Interval:
    """The steps since the last line of metrics. Metrics stay on the device until it ends."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._metrics: list[dict[str, Any]] = []
        self.restart()

    def restart(self) -> None:
        """Starts the clock again: after a pause, or when the first step has been compiled."""
        self._start, self._timed, self._waited = time.monotonic(), 0, 0.0

    def next_batch(self, batches: Iterator[Any]) -> Any:
        """The next batch; the time until it is there counts as waiting for data."""
        before = time.monotonic()
        batch = next(batches)
        self._waited += time.monotonic() - before
        return batch

    def add(self, metrics: dict[str, Any]) -> None:
        """Metrics of one more step. Waits only for the step `STEPS_IN_FLIGHT` before it."""
        self._metrics.append(metrics)
        self._timed += 1
        if len(self._metrics) > STEPS_IN_FLIGHT:
            jax.block_until_ready(self._metrics[-1 - STEPS_IN_FLIGHT]["loss"])

    def end(self, step: int) -> dict[str, float]:
        """Means over the steps up to `step`, and how fast they were.

        Raises:
          FloatingPointError: a loss is not finite; names its step.
        """
        fetched = jax.device_get(self._metrics)
        for i, metrics in enumerate(fetched):
            if not np.isfinite(metrics["loss"]):
                bad = step - len(fetched) + i + 1
                raise FloatingPointError(f"the loss is {metrics['loss']} at step {bad}")
        seconds = time.monotonic() - self._start
        means = {k: float(np.mean([m[k] for m in fetched])) for k in fetched[0]}
        means["learning_rate"] = float(fetched[-1]["learning_rate"])
        if self._timed:
            means["images_per_sec"] = self._timed * self._batch_size / seconds
            means["data_wait"] = self._waited / seconds
        self._metrics = []
        self.restart()
        return means


class StopSignal:
    """Set by SIGTERM or the first Ctrl-C: the loop then saves a checkpoint and ends."""

    def __init__(self) -> None:
        self.received = False
        signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGINT, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        signal.signal(number, signal.SIG_DFL)  # a second one ends the program at once


class Trainer:
    """The loop: step, report, evaluate, save."""

    def __init__(
        self,
        config: ConfigDict,
        workdir: pathlib.Path,
        *,
        pipeline: Pipeline,
        train_step: Callable[[TrainState, Any], tuple[TrainState, dict[str, Any]]],
        evaluate: Callable[[Tree, bool], dict[str, float]],
        encoder_of: Callable[[TrainState], Tree],
        mesh: Mesh,
    ):
        self._config, self._workdir, self._mesh = config, workdir, mesh
        self._pipeline, self._train_step = pipeline, train_step
        self._evaluate, self._encoder_of = evaluate, encoder_of
        self._per_epoch = pipeline.steps_per_epoch
        self._total = config.epochs * self._per_epoch

    def run(self, state: TrainState) -> bool:
        """Trains from `state` or the newest checkpoint; returns whether it came to the end."""
        folder, keep = self._workdir / "checkpoints", self._config.checkpoint.keep
        with Checkpoints(folder, keep) as checkpoints:
            state = checkpoints.restore("state", state) or state
            start = int(state.step)
            with MetricsWriter(self._workdir, start) as writer:
                if start == 0:
                    self._report_evaluation(writer, 0, state)
                elif start < self._total:
                    log.info("continuing at step %d of %d", start, self._total)
                return self._loop(state, start, checkpoints, writer) == self._total

    def _loop(
        self, state: TrainState, start: int, checkpoints: Checkpoints, writer: MetricsWriter
    ) -> int:
        """Trains; returns the last step done."""
        stop, interval = StopSignal(), Interval(self._config.batch_size)
        progress = ProgressLine(self._total, self._per_epoch, self._config.batch_size)
        batches = sharding.prefetch(self._pipeline.batches(start), self._mesh)
        for step in range(start + 1, self._total + 1):
            state, metrics = self._train_step(state, interval.next_batch(batches))
            interval.add(metrics)
            if step == start + 1:  # its time went into compiling
                jax.block_until_ready(metrics)
                interval.restart()
            evaluate = self._is_evaluation_due(step)
            save = step % self._config.checkpoint.every == 0 or step == self._total or stop.received
            if evaluate or save or step % self._config.log_every == 0:
                means = interval.end(step)
                writer.write(step, step / self._per_epoch, means)
                progress.show(step, means)
            if evaluate:
                progress.end()
                self._report_evaluation(writer, step, state)
                interval.restart()
            if save:  # after the evaluation: one that a kill cuts short is made again
                checkpoints.save(step, state, self._encoder_of(state))
            if stop.received:
                log.info("stopped at step %d; the same command continues from here", step)
                return step
        progress.end()
        return self._total

    def _is_evaluation_due(self, step: int) -> bool:
        every = self._config.eval.every * self._per_epoch
        return step == self._total or (every > 0 and step % every == 0)

    def _report_evaluation(self, writer: MetricsWriter, step: int, state: TrainState) -> None:
        if results := self._evaluate(self._encoder_of(state), step == self._total):
            writer.write(step, step / self._per_epoch, results)
            log.info("step %d: %s", step, "  ".join(f"{k} {v:.3f}" for k, v in results.items()))


def train(config: ConfigDict, workdir: pathlib.Path) -> bool:
    """Checks what is cheap to check, sets up, trains; returns whether it came to the end."""
    mesh = sharding.make_mesh()
    sharding.check_batch_size(config.batch_size, mesh)
    check_workdir(workdir, config)
    method, encoder = build_method(config)
    sampler, views = build("sampler", config.sampler), Views(**config.views.to_dict())
    source = open_source(config.data.source, seed=config.seed)
    check_regions(sampler, source)
    datasets = load_datasets(config)
    pipeline = open_data(config, source, sampler)
    create_workdir(workdir, config)
    state, train_step = make_training(
        config, mesh, pipeline, method=method, sampler=sampler, views=views
    )
    return Trainer(
        config,
        workdir,
        pipeline=pipeline,
        train_step=train_step,
        evaluate=make_evaluation(config, mesh, encoder, datasets),
        encoder_of=lambda state: method.encoder_variables(state.params, state.method),
        mesh=mesh,
    ).run(state)


def check_regions(sampler: Sampler, source: Source) -> None:
    """Raises ValueError if the sampler needs regions and the source has none."""
    if sampler.needs_regions and not source.has_regions:
        raise ValueError(
            f"sampler {type(sampler).__name__} needs regions and {source.spec} has none; make "
            f"them: python -m mask_tools.export --source {source.spec} --segmenter fh --out "
            "data/regions, then train with --config.data.source=records:data/regions"
        )


def open_data(config: ConfigDict, source: Source, sampler: Sampler) -> Pipeline:
    """The pipeline that yields batches of canvases."""
    objects = config.data.max_objects if sampler.needs_regions else 0
    pipeline = open_pipeline(
        source,
        CanvasSpec(size=config.data.canvas, objects=objects),
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
    resident = sharding.put_everywhere(pipeline.resident or {}, mesh)
    return state, lambda state, batch: step(state, batch, resident, key_steps)


def make_evaluation(
    config: ConfigDict, mesh: Mesh, encoder: Any, datasets: list[LabelledImages]
) -> Callable[[Tree, bool], dict[str, float]]:
    """`evaluate(variables, last)`: results by key; a linear probe only after the last step."""
    encode = sharding.compile_rows(make_encode(encoder, config.views.normalize), mesh)
    protocol = Protocol.of(config.eval)

    def run(variables: Tree, last: bool) -> dict[str, float]:
        tasks = ("knn", "linear") if last and config.eval.linear else ("knn",)
        return {
            f"eval/{data.name}/{name}": value
            for data in datasets
            for name, value in evaluate(
                functools.partial(encode, variables), data, protocol, tasks
            ).items()
        }

    return run


def results_table(workdir: pathlib.Path) -> str:
    """Accuracy before and after training, by data set, from what the run has reported."""
    lines = [line for line in read_metrics(workdir) if any(k.startswith("eval/") for k in line)]
    if not lines:
        return ""
    first, last = lines[0], lines[-1]
    rows = [["data set", "chance", "kNN untrained", "kNN trained", "linear trained"]]
    for name in dict.fromkeys(k.split("/")[1] for k in last if k.startswith("eval/")):
        keys = (("chance", last), ("knn_top1", first), ("knn_top1", last), ("linear_top1", last))
        values = [line.get(f"eval/{name}/{key}") for key, line in keys]
        rows.append([name, *("-" if v is None else f"{v:.1%}" for v in values)])
    return format_table(rows)


def parse_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags of this command, and the overrides of the config."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxssl.train",
        description="Pre-trains an encoder. The same command again continues the run.",
        epilog="example: python -m jaxssl.train --config configs/quickstart.py:simclr "
        "--workdir runs/try --config.epochs=5 --config.eval.datasets=objects:1000",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="FILE.py or FILE.py:variant")
    parser.add_argument("--workdir", type=pathlib.Path, help="default: runs/<config name>")
    return parser.parse_known_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one line that says what to do."""
    args, overrides = parse_arguments(sys.argv[1:] if argv is None else argv)
    with one_line_errors() as status:
        config = load_config(args.config, overrides)
        name = pathlib.Path(args.config.partition(":")[0]).stem
        variant = args.config.partition(":")[2]
        workdir = args.workdir or pathlib.Path("runs", "_".join(filter(None, (name, variant))))
        if train(config, workdir):
            print(results_table(workdir))
            print(f"{workdir}: config.json, metrics.jsonl, tensorboard/, checkpoints/")
    return status.code


if __name__ == "__main__":
    sys.exit(main())
