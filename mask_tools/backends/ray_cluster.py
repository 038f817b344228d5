"""Shards made on a Ray cluster (the extra `ray`), by the same code and to the same bytes.

An actor makes one shard after another, so that it loads a network once. Networks have an actor on
each GPU of the cluster; without any, and for other segmenters, there is one on each CPU.
All nodes must see the folders of the records and of the images, and the one in which the command
was given, under the same paths.
"""

import os
import socket
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from jaxssl.errors import UserError
from mask_tools.segmenters import is_network
from mask_tools.shards import Finished, Job, make

_SECONDS_TO_ANSWER = 10


class _Maker:
    """The class of the actors."""

    def __init__(self, job: Job, folder: str) -> None:
        self._job, self._folder = job, folder

    def make(self, number: int) -> Finished:
        os.chdir(self._folder)  # in which the command was given: paths may start from there
        return make(self._job, number, lambda: None)


def make_on_ray(
    job: Job, numbers: Sequence[int], address: str, advance: Callable[[int], object]
) -> Generator[Finished, None, None]:
    """Makes shards on a Ray cluster.

    Args:
      job: the split to make.
      numbers: of its shards.
      address: auto, HOST:PORT, or local for a cluster of this machine alone.
      advance: called with the number of images of each shard that is complete.

    Returns:
      The shards as they are completed, in any order.

    Raises:
      UserError: there is no such cluster, Ray is not installed, or an actor was lost.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("--ray needs the package: pip install 'jaxssl[ray]'") from error
    was_connected = ray.is_initialized()
    if not was_connected:
        _connect(ray, address)
    try:
        yield from _collect(ray, job, numbers, advance)
    finally:
        if not was_connected:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), _SECONDS_TO_ANSWER).close()
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"--ray {address}: no cluster there ({reason}); start one with ray start --head, "
            "or give local"
        ) from error


def share(resources: Mapping[str, float], job: Job, shards: int) -> tuple[int, int]:
    """The number of actors for a cluster with these resources, and the GPUs of each."""
    gpus = int(resources.get("GPU", 0)) if is_network(job.segmenter) else 0
    return min(gpus or max(1, int(resources.get("CPU", 1))), shards), min(gpus, 1)


def _collect(
    ray: Any, job: Job, numbers: Sequence[int], advance: Callable[[int], object]
) -> Generator[Finished, None, None]:
    count, gpus = share(ray.cluster_resources(), job, len(numbers))
    kind = ray.remote(num_cpus=1, num_gpus=gpus)(_Maker)
    job_everywhere = ray.put(job)
    makers = ray.util.ActorPool([kind.remote(job_everywhere, os.getcwd()) for _ in range(count)])
    try:
        for finished in makers.map_unordered(lambda maker, n: maker.make.remote(n), numbers):
            advance(len(finished.rows) + len(finished.broken))
            yield finished
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error  # what the code of the shard raised; Ray's tells where
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"a Ray actor was lost ({type(error).__name__}: {reason}); the same command "
            "continues from the complete shards"
        ) from error
