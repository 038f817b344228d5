"""The training loop: step, report, save, evaluate, refresh. Knows neither method nor data."""

import contextlib
import io
import logging
import pathlib
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxssl import distributed, sharding
from jaxssl.data.pipeline import Pipeline
from jaxssl.errors import DivergenceError
from jaxssl.training.checkpoint import Checkpoints
from jaxssl.training.metrics import MetricsWriter, ProgressLine, read_metrics
from jaxssl.training.sampler_refresh import Refresh
from jaxssl.types import TrainState, Tree

log = logging.getLogger("jaxssl")
# Queued on the device: enough to keep it busy, few enough to bound memory.
STEPS_IN_FLIGHT = distributed.STEPS_BEHIND


class Interval:
    """The steps since the last line of metrics. Metrics stay on the device until it ends."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._metrics: list[dict[str, Any]] = []
        self._ended = time.monotonic()
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
          DivergenceError: a loss or gradient is not finite; names its step.
        """
        fetched = jax.device_get(self._metrics)
        for i, metrics in enumerate(fetched):
            for name in ("loss", "grad_norm"):
                if not np.isfinite(metrics[name]):
                    bad = step - len(fetched) + i + 1
                    raise DivergenceError(f"the {name} is {metrics[name]} at step {bad}")
        now = time.monotonic()
        means = {k: float(np.mean([m[k] for m in fetched])) for k in fetched[0]}
        means["learning_rate"] = float(fetched[-1]["learning_rate"])
        # A first step that is reported alone is reported with the time it took to compile.
        timed, seconds = self._timed, now - self._start
        if not timed:
            timed, seconds = len(fetched), now - self._ended
        means["images_per_sec"] = timed * self._batch_size / seconds
        means["data_wait"] = min(self._waited / seconds, 1.0)
        self._metrics, self._ended = [], now
        self.restart()
        return means


class StopSignal:
    """Set by SIGTERM or the first Ctrl-C while it is entered: the loop then saves and ends."""

    def __enter__(self) -> "StopSignal":
        self.received = False
        self._before = {
            number: signal.signal(number, self._receive)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        signal.signal(number, signal.SIG_DFL)  # a second one ends the program at once


class Loop:
    """Trains from where the newest checkpoint in the workdir left off."""

    def __init__(
        self,
        config: ConfigDict,
        workdir: pathlib.Path,
        mesh: Mesh,
        *,
        pipeline: Pipeline,
        train_step: Callable[[TrainState, Any], tuple[TrainState, dict[str, Any]]],
        encoder_of: Callable[[TrainState], Tree],
        evaluate: Callable[[Tree, bool], dict[str, float]],
        checkup: Callable[[Tree, int], dict[str, float]],
        refresh: Refresh,
    ):
        self._config, self._workdir, self._mesh = config, workdir, mesh
        self._pipeline, self._train_step = pipeline, train_step
        self._encoder_of, self._evaluate, self._refresh = encoder_of, evaluate, refresh
        self._checkup = checkup
        self._per_epoch = pipeline.steps_per_epoch
        self._total = config.epochs * self._per_epoch

    def run(self, state: TrainState) -> bool:
        """Trains from `state` or the newest checkpoint; returns whether it came to the end."""
        folder, keep = self._workdir / "checkpoints", self._config.checkpoint.keep
        with Checkpoints(folder, keep) as checkpoints:
            state = checkpoints.restore("state", state) or state
            start = int(state.step)
            distributed.check_same(checkpoint=start)
            with self._open_writer(start) as writer:
                if 0 < start < self._total:
                    log.info("continuing at step %d of %d", start, self._total)
                if self._is_evaluation_due(start) and not self._is_evaluated(start):
                    self._report_evaluation(writer, start, state)
                with StopSignal() as stop:
                    try:
                        return self._steps(state, start, checkpoints, writer, stop=stop)
                    except DivergenceError as error:
                        raise DivergenceError(
                            f"{error}; the newest checkpoint is of step {checkpoints.newest()}. "
                            "Try a lower optim.lr, optim.clip_norm or dtype float32"
                        ) from error

    def _steps(
        self,
        state: TrainState,
        start: int,
        checkpoints: Checkpoints,
        writer: MetricsWriter | None,
        *,
        stop: StopSignal,
    ) -> bool:
        interval = Interval(self._config.batch_size)
        stream = None if distributed.is_first() else io.StringIO()  # which nobody reads
        progress = ProgressLine(self._total, self._per_epoch, self._config.batch_size, stream)
        agreement = distributed.StopConsensus(self._mesh)
        batches = sharding.prefetch(self._pipeline.batches(start), self._mesh)
        for step in range(start + 1, self._total + 1):
            if self._refresh.is_due(step - 1):
                progress.end()
                state = self._refresh(state, lambda: stop.received)
                if distributed.any_process(stop.received):
                    break
                interval.restart()
            state, metrics = self._train_step(state, interval.next_batch(batches))
            interval.add(metrics)
            if step == start + 1:  # its time went into compiling
                jax.block_until_ready(metrics)
                interval.restart()
            stopping, evaluate = agreement.reached(stop.received), self._is_evaluation_due(step)
            save = stopping or step == self._total or step % self._config.checkpoint.every == 0
            save = save or self._refresh.is_due(step)
            if save or evaluate or step % self._config.log_every == 0:
                means = interval.end(step)
                if writer:
                    writer.write(step, step / self._per_epoch, means)
                progress.show(step, means)
            if save:  # before evaluation and refresh: a run that continues makes up for them
                checkpoints.save(step, state, self._encoder_of(state))
            if stopping:
                break
            if evaluate:
                progress.end()
                self._report_evaluation(writer, step, state)
            if save or evaluate:
                interval.restart()
        else:
            return True
        progress.end()
        log.info("stopped at step %d; the same command continues from here", state.step)
        return int(state.step) == self._total

    def _open_writer(self, step: int) -> contextlib.AbstractContextManager[MetricsWriter | None]:
        if distributed.is_first():
            return MetricsWriter(self._workdir, step, wandb=self._config.wandb)
        return contextlib.nullcontext()

    def _is_evaluation_due(self, step: int) -> bool:
        every = self._config.eval.every * self._per_epoch
        return step in (0, self._total) or (every > 0 and step % every == 0)

    def _is_evaluated(self, step: int) -> bool:
        lines = read_metrics(self._workdir) if distributed.is_first() else []
        return distributed.any_process(any(x["step"] == step and "loss" not in x for x in lines))

    def _report_evaluation(
        self, writer: MetricsWriter | None, step: int, state: TrainState
    ) -> None:
        variables = self._encoder_of(state)
        results = self._evaluate(variables, step == self._total) | self._checkup(variables, step)
        if results and writer:
            writer.write(step, step / self._per_epoch, results)
            shown = [f"{k} {v:.3f}" for k, v in results.items() if not k.startswith("health/")]
            log.info("step %d: %s", step, "  ".join(shown) or "health measured")
