"""Shards made by several processes at once, one thread each, none of which outlives the run."""

import concurrent.futures
import contextlib
import ctypes
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import Synchronized

from jaxssl.errors import UserError
from jaxssl.stopping import follow_parent, starting_workers
from mask_tools.segmenters import is_network
from mask_tools.shards import Finished, Job, make

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_POLL = 0.2  # seconds between two looks at how far the processes are


def make_all(
    job: Job, numbers: Sequence[int], workers: int | None, advance: Callable[[int], object]
) -> Generator[Finished, None, None]:
    """Makes shards.

    Args:
      job: the split to make.
      numbers: of its shards.
      workers: processes to start; below 2, all is done in this one; None: one for each CPU core,
        but for a network, which takes all cores, or a GPU, by itself.
      advance: called with the number of images done since the call before.

    Returns:
      The shards as they are completed, in any order.

    Raises:
      UserError: a process was killed.
    """
    if workers is None:
        workers = 1 if is_network(job.segmenter) else os.cpu_count() or 1
    if min(workers, len(numbers)) < 2:
        yield from (make(job, number, lambda: advance(1)) for number in numbers)
        return
    context = multiprocessing.get_context("spawn")
    done = context.Value(ctypes.c_int64)
    pool = concurrent.futures.ProcessPoolExecutor(
        min(workers, len(numbers)), context, _start, (job, done)
    )
    try:
        yield from _collect(pool, numbers, done, advance)
        pool.shutdown()
    except BaseException as error:  # an interrupt, too, and being closed by the caller
        processes = [*pool._processes.values()] if pool._processes else []  # forgets them next
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                "a worker process was killed, most likely for want of memory, or could not start; "
                f"the same command with fewer than --workers {workers} continues from the complete "
                "shards"
            ) from None
        raise


def _collect(
    pool: concurrent.futures.Executor,
    numbers: Sequence[int],
    done: "Synchronized[int]",
    advance: Callable[[int], object],
) -> Iterator[Finished]:
    with starting_workers(), _one_thread_each():
        waiting = {pool.submit(_make, number) for number in numbers}
    shown = 0
    while waiting:
        finished, waiting = concurrent.futures.wait(
            waiting, _POLL, concurrent.futures.FIRST_COMPLETED
        )
        count = done.value
        advance(count - shown)
        shown = count
        yield from (future.result() for future in finished)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Lets processes that are started within use one thread: they read it when they load numpy."""
    before = {name: os.environ[name] for name in _THREADS if name in os.environ}
    os.environ |= dict.fromkeys(_THREADS, "1")
    try:
        yield
    finally:
        for name in _THREADS:
            os.environ.pop(name, None)
        os.environ |= before


# What a worker process was started for: sent once, for a source may hold a million paths.
_assignment: tuple[Job, "Synchronized[int]"]


def _start(job: Job, done: "Synchronized[int]") -> None:
    global _assignment
    _assignment = job, done
    follow_parent()


def _make(number: int) -> Finished:
    job, done = _assignment

    def tick() -> None:
        with done.get_lock():
            done.value += 1

    return make(job, number, tick)
