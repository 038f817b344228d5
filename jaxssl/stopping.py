"""Stops processes: on a signal, and when the process that started them is gone."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

# Of schedulers, before the end of the time that a job has; a program may have its own use for them.
_FREE = (signal.SIGUSR1, signal.SIGUSR2)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, *_FREE)
SECONDS_TO_RAISE = 0.5  # in which the main thread raises, unless it compiles


class StopSignal:
    """Receives Ctrl-C, SIGTERM and SIGHUP, which a closing terminal sends, while it is entered.

    And SIGUSR1 and SIGUSR2, if nobody else does: `sbatch --signal=USR1@120` has SLURM send it.

    The first one raises a KeyboardInterrupt that holds its number, or is only noted. A second
    Ctrl-C or SIGTERM ends the program at once; of others several may come. What is ignored, as
    under nohup, stays so.

    The main thread hears of no signal while it compiles, so another one answers: it says what will
    happen, and ends the program.
    """

    def __init__(self, *, raises: bool):
        self.first = 0  # number of the first signal; 0: none has come
        self._raises, self._heard = raises, threading.Event()
        self._before: dict[int, Any] = {}
        self._seen = set[int]()

    @property
    def received(self) -> bool:
        return self.first > 0

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():  # others get no signals
            reader, self._pipe = os.pipe()
            os.set_blocking(self._pipe, False)
            self._pipe_before = signal.set_wakeup_fd(self._pipe)
            ours = [n for n in _SIGNALS if _is_ours(n)]
            self._before = {number: signal.signal(number, self._receive) for number in ours}
            self._hook_before, sys.unraisablehook = sys.unraisablehook, self._send_again
            threading.Thread(target=self._answer, args=(reader,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            signal.set_wakeup_fd(self._pipe_before)
            os.close(self._pipe)
            sys.unraisablehook = self._hook_before

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Within, a signal raises instead of being noted; one that came before does so, too."""
        self._raises = True
        try:
            if self.received:
                raise KeyboardInterrupt(self.first)
            yield
        finally:
            self._raises = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.first = number
            self._heard.set()
            if self._raises:
                raise KeyboardInterrupt(number)

    def _send_again(self, error: "sys.UnraisableHookArgs") -> None:
        """What is raised while garbage is collected, as it is after compiling, would be lost."""
        if not isinstance(error.exc_value, KeyboardInterrupt):
            self._hook_before(error)
            return
        number, self.first = self.first, 0

        def send() -> None:
            self._seen.clear()
            os.kill(os.getpid(), number)

        threading.Timer(0.1, send).start()

    def _answer(self, reader: int) -> None:
        while byte := os.read(reader, 1):  # the number of a signal; b"" once this is left
            number = byte[0]
            if number not in self._before:
                continue  # whoever handles it has heard of it
            if number in self._seen and number in (signal.SIGINT, signal.SIGTERM):
                _say("quitting at once")
                os._exit(128 + number)
            if not self._seen:
                self._say_what_follows(number)
            self._seen.add(number)
        os.close(reader)

    def _say_what_follows(self, number: int) -> None:
        if not self._raises:
            line, again = "stopping after this step", "quit without a checkpoint"
        elif self._heard.wait(SECONDS_TO_RAISE):
            return
        else:
            line, again = "stopping once the device has compiled or computed", "quit at once"
        _say(f"{line}; press Ctrl-C again to {again}" if number == signal.SIGINT else line)


def _is_ours(number: int) -> bool:
    """Whether to receive a signal: it is not ignored, nor one of `_FREE` that others receive."""
    handler = signal.getsignal(number)
    is_another = isinstance(getattr(handler, "__self__", None), StopSignal)  # an outer one
    return is_another or (
        handler == signal.SIG_DFL if number in _FREE else handler != signal.SIG_IGN
    )


def _say(line: str) -> None:
    """Prints from any thread, whoever else is printing, below a progress bar."""
    with contextlib.suppress(OSError):
        os.write(2, ("\n" * os.isatty(2) + line + "\n").encode())


@contextlib.contextmanager
def starting_workers() -> Iterator[None]:
    """Processes that are started within get no signals: what reaches both is left to this one.

    What they leave in shared memory when they end early is cleaned up silently.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    sys.warnoptions.append("ignore:resource_tracker")  # of the process that cleans up
    try:
        resource_tracker.ensure_running()  # the first time, this lets signals through
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        yield
    finally:
        sys.warnoptions.remove("ignore:resource_tracker")
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_parent(*_: int) -> None:
    """Ends this process once the one that started it is gone, even if that was killed."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
