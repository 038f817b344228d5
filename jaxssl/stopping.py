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

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignal:
    """Receives Ctrl-C, SIGTERM and SIGHUP, which a closing terminal sends, while it is entered.

    The first one raises a KeyboardInterrupt that holds its number, or is only noted. A second
    Ctrl-C or SIGTERM ends the program at once; of SIGHUP several may come. What is ignored, as
    under nohup, stays so.
    """

    def __init__(self, *, raises: bool):
        self.received = False
        self._raises, self._first = raises, 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():  # others get no signals
            ours = [n for n in _SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._receive) for number in ours}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Within, a signal raises instead of being noted; one that came before does so, too."""
        self._raises = True
        try:
            if self.received:
                raise KeyboardInterrupt(self._first)
            yield
        finally:
            self._raises = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGHUP:
            signal.signal(number, signal.SIG_DFL)
        if not self.received:
            self.received, self._first = True, number
            if self._raises:
                raise KeyboardInterrupt(number)


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
