"""Progress of long work, its rate and when it ends: a bar on a terminal, plain lines elsewhere."""

import sys
import time

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit}{postfix}"


class Progress:
    """Shows on stderr how far a task is: a context manager, called with each count just done."""

    def __init__(
        self, total: int, task: str, *, done: int = 0, unit: str = "images", show: bool = True
    ):
        """The progress of a task before its first, or next, count.

        Args:
          total: how many there are.
          task: what is being done, such as "decoding".
          done: how many of them are from an earlier run.
          unit: of what there are so many.
          show: False for nothing at all.
        """
        self._total, self._task, self._unit = total, task, unit
        self._first, self.done, self._show = done, done, show
        self._started = self._written = time.monotonic()
        self._shown = -1  # of the count, in the last line
        self._details: tuple[str, ...] = ()
        self._rate: float | None = None
        self._bar = None
        if show and sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, desc=task, unit=unit, bar_format=_BAR)

    def __call__(self, count: int, *details: str, rate: float | None = None) -> None:
        """Shows that `count` more are done, with details such as "loss 0.5" instead of the rate.

        The time left follows from the rate a second; by default that since the beginning.
        """
        self.done += count
        self._details, self._rate = details, rate
        if self._bar is not None:
            self._bar.set_postfix_str(self._text(), refresh=False)
            self._bar.update(count)
        elif self.done >= self._total or time.monotonic() - self._written >= SECONDS_BETWEEN_LINES:
            self._write()

    def pause(self) -> None:
        """Clears the line for other messages; the next call shows the bar again."""
        if self._bar is not None:
            self._bar.clear()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None and self._shown != self.done:
            self._write()

    def _write(self) -> None:
        self._written, self._shown = time.monotonic(), self.done
        if self._show:
            line = f"{self._task}: {self.done}/{self._total} {self._unit}, {self._text()}"
            print(line, file=sys.stderr, flush=True)

    def _text(self) -> str:
        passed, rate = time.monotonic() - self._started, self._rate
        if rate is None:
            rate = (self.done - self._first) / max(passed, 1e-9)
        details = self._details or (f"{rate:{'.0f' if rate >= 100 else '.3g'}} {self._unit}/s",)
        left = self._total - self.done
        if left <= 0:
            return ", ".join([*details, f"done in {_duration(passed)}"])
        counts = [] if self._bar is not None else [f"{left} {self._unit} left"]
        times = [f"{_duration(left / rate)} to go", f"ends {_clock(left / rate)}"] if rate else []
        return ", ".join([*details, *counts, *times])


def _clock(seconds: float) -> str:
    """The time of day so many seconds from now, with the date if that is not today's."""
    now = time.time()
    today, then = time.localtime(now), time.localtime(now + seconds)
    return time.strftime("%H:%M" if then[:3] == today[:3] else "%b %d %H:%M", then)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
