"""The training loop: step, report, save, evaluate, refresh. Knows neither method nor data."""

import concurrent.futures
import contextlib
import logging
import pathlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxssl import distributed, sharding
from jaxssl.errors import DivergenceError
from jaxssl.stopping import StopSignal
from jaxssl.training.checkpoint import Checkpoints
from jaxssl.training.metrics import read_metrics
from jaxssl.training.reporter import Reporter, open_reporter
from jaxssl.training.sampler_refresh import Refresh
from jaxssl.training.time_use import Profile, TimeUse
from jaxssl.training.trainer import Trainer
from jaxssl.types import TrainState

log = logging.getLogger("jaxssl")
# Queued on the device: enough to keep it busy, few enough to bound memory.
STEPS_IN_FLIGHT = distributed.STEPS_BEHIND
# Numbers by key, such as `eval/objects/knn_top1`, of a state after so many steps.
Measurement = Callable[[int, TrainState], dict[str, float]]


def _time_of(results: Any) -> float:
    """The time at which results had been computed."""
    jax.block_until_ready(results)
    return time.monotonic()


class Interval:
    """The steps since the last line of metrics. Metrics stay on the device until it ends."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._metrics: list[dict[str, Any]] = []
        self._watcher = concurrent.futures.ThreadPoolExecutor(1)
        self._computed = self._watcher.submit(time.monotonic)  # when the newest step was
        self.restart()

    def restart(self) -> None:
        """Starts the clock again: after a pause, or when the step has been compiled."""
        self._start, self._timed, self._waited = time.monotonic(), 0, 0.0

    def next_batch(self, batches: Iterator[Any]) -> tuple[Any, float]:
        """The next batch, and for how many seconds the devices had nothing to do but wait for it.

        While they compute steps that were queued before, nobody waits.
        """
        before = time.monotonic()
        batch, now = next(batches), time.monotonic()
        computed = self._computed.result() if self._computed.done() else now
        waited = now - max(before, computed)
        self._waited += waited
        return batch, waited

    def add(self, metrics: dict[str, Any]) -> None:
        """Metrics of one more step. Waits only for the step `STEPS_IN_FLIGHT` before it."""
        self._metrics.append(metrics)
        self._timed += 1
        self._computed = self._watcher.submit(_time_of, metrics)
        if len(self._metrics) > STEPS_IN_FLIGHT:
            jax.block_until_ready(self._metrics[-1 - STEPS_IN_FLIGHT]["loss"])

    def end(self, step: int) -> dict[str, float]:
        """Means over the steps up to `step`, and how fast they were.

        Raises a DivergenceError that names the step of a loss or gradient that is not finite.
        """
        fetched = jax.device_get(self._metrics)
        for i, metrics in enumerate(fetched):
            for name in ("loss", "grad_norm"):
                if not np.isfinite(metrics[name]):
                    bad = step - len(fetched) + i + 1
                    raise DivergenceError(f"the {name} is {metrics[name]} at step {bad}")
        means = {k: float(np.mean([m[k] for m in fetched])) for k in fetched[0]}
        means["learning_rate"] = float(fetched[-1]["learning_rate"])
        seconds = time.monotonic() - self._start
        means["images_per_sec"] = self._timed * self._batch_size / seconds
        means["data_wait"] = min(self._waited / seconds, 1.0)
        self._metrics = []
        self.restart()
        return means


class OpenRun(NamedTuple):
    """The files and the signals of a run that is under way."""

    checkpoints: Checkpoints
    reporter: Reporter
    stop: StopSignal


class Loop:
    """Trains from where the newest checkpoint in the workdir left off."""

    def __init__(
        self,
        config: ConfigDict,
        workdir: pathlib.Path,
        trainer: Trainer,
        measurements: Sequence[Measurement],
        refresh: Refresh,
        profile: int = 0,
    ):
        """Measurements, every `config.eval.every` epochs, are reported in one line.

        Args:
          config: of the run.
          workdir: where metrics and checkpoints go.
          trainer: computes the steps.
          measurements: read the state.
          refresh: renews the sampler's part of the state.
          profile: steps of which there is to be a trace.
        """
        self._config, self._workdir, self._trainer = config, workdir, trainer
        self._measurements, self._refresh = measurements, refresh
        self._per_epoch = trainer.pipeline.steps_per_epoch
        self._total: int = config.epochs * self._per_epoch
        self._time, self._once = TimeUse(), dict[str, float]()
        steps = profile if distributed.is_first() else 0
        self._profile = Profile(workdir / "profile", steps, self._total)

    def run(self, like: TrainState, init: Callable[[], TrainState]) -> int:
        """Trains from the newest checkpoint, or from `init()`, to the end or until a signal.

        Returns the signal's number, that of SIGTERM if another process got it; 0 at the end.
        `like` has the shapes and shardings of the state, which is on the devices but once.
        """
        folder, keep = self._workdir / "checkpoints", self._config.checkpoint.keep
        with StopSignal(raises=False) as stop, Checkpoints(folder, keep) as checkpoints:
            with self._interruptible(stop), self._time.of("checkpoints"):
                state = checkpoints.restore("state", like)
            if state is None:
                state = init()
            start = int(jax.device_get(state.step))
            distributed.check_same(checkpoint=start)
            self._log_begin(start)
            with (
                open_reporter(self._config, self._workdir, self._per_epoch, start) as reporter,
                self._profile,
            ):
                if self._is_due(start) and not self._is_measured(start):
                    with self._interruptible(stop):
                        self._measure(reporter, start, state)
                try:
                    ended = self._steps(state, start, OpenRun(checkpoints, reporter, stop))
                    return 0 if ended else stop.first or signal.SIGTERM
                except DivergenceError as error:
                    newest, earlier = checkpoints.newest(), ""
                    if newest:
                        before = "one before" if checkpoints.steps()[1:] else "start"
                        earlier = f" (or, without {folder / str(newest)}, from the {before})"
                    raise DivergenceError(
                        f"{error}; the newest checkpoint is of step {newest}. To go on from there"
                        f"{earlier} more slowly, give the same command with a "
                        f"lower rate, --config.optim.lr={self._config.optim.lr / 2:g}; "
                        "optim.clip_norm and dtype=float32 may help, too, in another --workdir"
                    ) from error

    def _steps(self, state: TrainState, start: int, run: OpenRun) -> bool:
        checkpoints, reporter, stop = run
        interval = Interval(self._config.batch_size)
        consensus = distributed.StopConsensus(self._trainer.mesh)
        batches = self._trainer.batches(start)
        for step in range(start + 1, self._total + 1):
            if self._refresh.is_due(step - 1):
                state = self._refreshed(state, run)
                if distributed.any_process(stop.received):
                    break
                interval.restart()
            state = self._step(state, step, batches, interval, first=step == start + 1)
            stopping, measure = consensus.reached(stop.received), self._is_due(step)
            save = stopping or self._is_saved(step)
            if save or measure or step % self._config.log_every == 0:
                reporter.report_training(step, interval.end(step) | self._machine())
            if save:  # before measurements and refresh: a run that continues makes up for them
                self._save(checkpoints, step, state)
            if stopping:
                break
            if measure and not self._measured(state, step, run):
                return False
            if save or measure:
                interval.restart()
        else:
            if start < self._total:
                log.info("time used: %s", self._time)
            return True
        self._log_stop(reporter, int(jax.device_get(state.step)))
        return False

    def _log_begin(self, start: int) -> None:
        if start == self._total:
            log.info(
                "all %d steps are done; to go on, set a larger --config.epochs; what else there is "
                "to measure, python -m jaxssl.evaluate does",
                start,
            )
        elif start:
            log.info("continuing at step %d of %d", start, self._total)
        elif (self._workdir / "metrics.jsonl").exists():
            every = self._config.checkpoint.every
            log.info("no checkpoint yet, one is saved every %d steps: starting over", every)

    def _log_stop(self, reporter: Reporter, step: int) -> None:
        reporter.pause()
        log.info("stopped at step %d", step)

    def _step(
        self,
        state: TrainState,
        step: int,
        batches: Iterator[Any],
        interval: Interval,
        *,
        first: bool,
    ) -> TrainState:
        """The state after one more step, which is compiled before the `first` one."""
        batch, waited = interval.next_batch(batches)
        self._time.add("input", waited)
        if first:
            with self._time.of("compiling"):
                self._trainer.compile(state, batch)
            self._once = {"compile_seconds": self._time.seconds("compiling")}
            interval.restart()
        with self._profile.step(step):
            state, metrics = self._trainer(state, batch)
        interval.add(metrics)
        self._profile.end(step, metrics)
        return state

    def _interruptible(self, stop: StopSignal) -> contextlib.AbstractContextManager[None]:
        """Lets a signal raise within, but in no one of several processes: the others would wait."""
        return stop.raising() if jax.process_count() == 1 else contextlib.nullcontext()

    def _save(self, checkpoints: Checkpoints, step: int, state: TrainState) -> None:
        with self._time.of("checkpoints"):
            checkpoints.save(step, state, self._trainer.step.encoder_variables(state))

    def _machine(self) -> dict[str, float]:
        """Peak memory, and once the time to compile, for a line of metrics."""
        once, self._once = self._once, {}
        peak = sharding.peak_memory()
        return once | ({"peak_memory_gib": peak / 2**30} if peak else {})

    def _refreshed(self, state: TrainState, run: OpenRun) -> TrainState:
        run.reporter.pause()
        with self._time.of("refresh"):
            return self._refresh(state, lambda: run.stop.received)

    def _is_saved(self, step: int) -> bool:
        """Whether to save a checkpoint after this step."""
        is_one = step == self._total or step % self._config.checkpoint.every == 0
        return is_one or self._refresh.is_due(step)

    def _is_due(self, step: int) -> bool:
        """Whether to measure after this step: before the first, after the last, and in between."""
        every = self._config.eval.every * self._per_epoch
        return step in (0, self._total) or (every > 0 and step % every == 0)

    def _is_measured(self, step: int) -> bool:
        lines = read_metrics(self._workdir) if distributed.is_first() else []
        return distributed.any_process(any(x["step"] == step and "loss" not in x for x in lines))

    def _measured(self, state: TrainState, step: int, run: OpenRun) -> bool:
        """Measures; returns whether no signal ended that early. After one the state is saved."""
        try:
            with self._interruptible(run.stop):
                self._measure(run.reporter, step, state)
        except KeyboardInterrupt:
            self._save(run.checkpoints, step, state)
            self._log_stop(run.reporter, step)
            return False
        return True

    def _measure(self, reporter: Reporter, step: int, state: TrainState) -> None:
        reporter.pause()
        with self._time.of("evaluation"):
            results = [measurement(step, state) for measurement in self._measurements]
        found = {k: v for result in results for k, v in result.items()}
        if step == self._total and self._time.seconds("compiling"):
            found |= {f"time/{name}": share for name, share in self._time.shares().items()}
        reporter.report_measurements(step, found)
