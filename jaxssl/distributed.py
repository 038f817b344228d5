"""Several processes that train as one: how they meet, agree and end. A single one needs none of it.

Every process runs the same program and takes part in every step, save and evaluation; only the
first one writes what people read. What one of them alone learns (a signal, an error, the state of a
file) is told to all before any of them acts on it: one that acted alone would leave the others
waiting for it.
"""

import atexit
import collections
import contextlib
import itertools
import logging
import os
import signal
import sys
import zlib
from collections.abc import Iterator

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh

from jaxssl import sharding
from jaxssl.errors import DivergenceError, UserError

log = logging.getLogger("jaxssl")
STEPS_BEHIND = 3  # what was asked then has long been answered, as the loop waits for that step
SECONDS_TO_MEET = 24 * 3600  # one may have to decode a data set that the others have
_meetings = itertools.count()


def initialize(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Makes this process one of several, before it has touched a device.

    Without arguments from what SLURM, Open MPI or a TPU pod say in the environment. `coordinator`
    is HOST:PORT of process 0, free there and within reach of all.
    """
    if coordinator is None or num_processes is None or process_id is None:
        if (coordinator, num_processes, process_id) != (None, None, None):
            raise UserError("--coordinator, --num-processes and --process-id go together")
    else:
        _check(coordinator, num_processes, process_id)
        log.info("process %d of %d; meeting at %s", process_id, num_processes, coordinator)
    at_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except ValueError as error:
        raise UserError(
            f"--distributed finds neither SLURM nor Open MPI nor a TPU pod ({error}); give "
            "--coordinator HOST:PORT --num-processes N --process-id I"
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"--distributed: the processes do not meet: {error}") from error
    signal.signal(signal.SIGTERM, at_sigterm)  # JAX has put its own, which ends nothing


def _check(coordinator: str, num_processes: int, process_id: int) -> None:
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise UserError(f"--coordinator {coordinator!r}: give HOST:PORT, such as node1:1234")
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"--process-id {process_id} of --num-processes {num_processes}: give 0 to "
            f"{num_processes - 1}"
        )


@contextlib.contextmanager
def exit_on_peer_failure() -> Iterator[None]:
    """Ends this process at once after an error within, which takes all processes.

    JAX would first wait for the others, who wait for this one. The error of a computation or a
    checkpoint that has lost a process becomes a UserError.
    """
    if jax.process_count() == 1:
        yield
        return
    atexit.register(_end)
    try:
        yield
    except DivergenceError:  # all have the same numbers, so it ends all
        atexit.unregister(_end)
        raise
    except (jax.errors.JaxRuntimeError, TimeoutError, ValueError) as error:
        # A checkpoint waits in vain (TimeoutError), or gathers (ValueError with XLA's status).
        is_own = isinstance(error, ValueError) and not str(error).startswith("UNKNOWN: ")
        if is_own or "RESOURCE_EXHAUSTED" in str(error):
            raise
        raise UserError(
            f"a process or its network has failed; the same command in all continues: {error}"
        ) from error
    atexit.unregister(_end)


def _end() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def is_first() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether the flag is true in any process. All must call this, and wait for the last one."""
    return flag if jax.process_count() == 1 else bool(process_allgather(np.bool_(flag)).any())


def process_min(size: int) -> int:
    """The least of the processes' numbers of bytes, to a MiB if there are several."""
    if jax.process_count() == 1:
        return size
    return int(process_allgather(np.int32(size >> 20)).min()) << 20


def check_same(**values: object) -> None:
    """Raises UserError, in all processes, if any of these is not the same in all."""
    for name, value in values.items():
        marks = process_allgather(np.uint32(zlib.crc32(repr(value).encode())))
        if (different := np.flatnonzero(marks != marks[0])).size:
            raise UserError(f"process {different[0]} has another {name} than process 0")


@contextlib.contextmanager
def raise_together() -> Iterator[None]:
    """An error in one process becomes one in all, at the end. Within, none waits for another."""
    failed = True
    try:
        yield
        failed = False
    finally:
        if jax.process_count() > 1:
            # By no computation: one that waits may give up after minutes.
            meet = ocp.multihost.get_barrier_sync_fn()
            meet(key=f"jaxssl {next(_meetings)}", timeout_ms=SECONDS_TO_MEET * 1000)
            wrong = np.flatnonzero(process_allgather(np.bool_(failed)))
            if wrong.size and not failed:
                raise UserError(f"process {wrong[0]} has failed; its own error says why")


class StopConsensus:
    """Agrees on a wish of any process: all learn of it at the same step, and no step waits."""

    def __init__(self, mesh: Mesh):
        self._mesh = mesh
        self._any = jax.jit(
            lambda flags: flags.any(),
            in_shardings=sharding.split(mesh),
            out_shardings=sharding.replicated(mesh),
        )
        self._asked: collections.deque[jax.Array] = collections.deque()

    def reached(self, wish: bool) -> bool:
        """Whether any process wished it `STEPS_BEHIND` steps ago. All call this once a step."""
        if jax.process_count() == 1:
            return wish
        local = np.full(len(self._mesh.local_devices), wish)
        self._asked.append(self._any(sharding.make_global_batch(local, self._mesh)))
        return len(self._asked) > STEPS_BEHIND and bool(self._asked.popleft())
