"""The use of a run's time: the share of each part, and a trace of some steps."""

import collections
import contextlib
import logging
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax

log = logging.getLogger("jaxssl")
WARM_UP = 5  # steps that no trace shows


class TimeUse:
    """Seconds of a run by what they were for; the rest are those of training steps."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._seconds: dict[str, float] = collections.defaultdict(float)

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Counts the time within as that of `name`."""
        before = time.monotonic()
        try:
            yield
        finally:
            self.add(name, time.monotonic() - before)

    def add(self, name: str, seconds: float) -> None:
        """Counts so many seconds as those of `name`."""
        self._seconds[name] += seconds

    def seconds(self, name: str) -> float:
        """The seconds counted so far."""
        return self._seconds[name]

    def shares(self) -> dict[str, float]:
        """Shares of the time since the start; `steps` first: the goodput of the run."""
        whole = time.monotonic() - self._start
        shares = {name: seconds / whole for name, seconds in self._seconds.items()}
        return {"steps": 1 - sum(shares.values())} | shares

    def __str__(self) -> str:
        return ", ".join(f"{name} {share:.1%}" for name, share in self.shares().items())


class Profile:
    """A trace of some steps in a folder, while it is entered; `xprof` shows it."""

    def __init__(self, folder: pathlib.Path, steps: int, total: int):
        """A trace of `steps` steps, if the run, of `total`, is long enough; 0: no trace."""
        self._folder, self._steps, self._total = folder, steps, total
        self._first = self._last = 0
        self._running = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    @contextlib.contextmanager
    def step(self, step: int) -> Iterator[None]:
        """The work of a step, which has a name in the trace."""
        if self._steps and not self._first:  # it begins once things run smoothly
            self._first = max(min(step + WARM_UP, self._total - self._steps + 1), step)
            self._last = self._first + self._steps - 1
        if self._steps and step == self._first:
            jax.profiler.start_trace(self._folder)
            self._running = True
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield

    def end(self, step: int, results: Any) -> None:
        """After a step: of the last one in the trace it waits for the results."""
        if self._running and step == self._last:
            jax.block_until_ready(results)
            self._stop()

    def _stop(self) -> None:
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            log.info(
                "trace in %s; to look at it: pip install xprof && xprof %s", *[self._folder] * 2
            )
