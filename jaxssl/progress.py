"""How far long work is, with rate and time left: a bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def progress(
    total: int, task: str, *, done: int = 0, unit: str = "images", show: bool = True
) -> Iterator[Callable[[int], object]]:
    """Shows on stderr how far a task is; yields the function to call with each count just done.

    Args:
        total: how many there are, `done` of them from an earlier run.
        task: what is being done, such as "decoding".
        show: False for nothing at all.
    """
    if not show:
        yield lambda count: None
        return
    if sys.stderr.isatty():
        with tqdm(total=total, initial=done, desc=task, unit=f" {unit}", unit_scale=True) as bar:
            yield bar.update
        return
    lines = _Lines(total, task, done, unit)
    yield lines.advance
    lines.write()


class _Lines:
    """Writes a line at most every few seconds."""

    def __init__(self, total: int, task: str, done: int, unit: str) -> None:
        self._total, self._task, self._unit = total, task, unit
        self._first, self._done = done, done
        self._started = self._written = time.monotonic()

    def advance(self, count: int) -> None:
        self._done += count
        if time.monotonic() - self._written >= _SECONDS_BETWEEN_LINES:
            self.write()

    def write(self) -> None:
        self._written = time.monotonic()
        rate = (self._done - self._first) / max(self._written - self._started, 1e-9)
        left = (self._total - self._done) / rate if rate else float("inf")
        print(
            f"{self._task}: {self._done}/{self._total} {self._unit}, "
            f"{rate:.3g} a second, {_duration(left)} left",
            file=sys.stderr,
            flush=True,
        )


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
