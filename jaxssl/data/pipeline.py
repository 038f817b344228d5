"""Endless batches of the images of a source, in one of three modes that give the same batches.

stream  grain decodes the images of each batch when it is needed
host    every canvas is decoded once into a memory-mapped file; batches are gathered from it
device  the caller puts those arrays on the accelerator; a batch is the indices of its images
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import math
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator

import grain
import numpy as np
from absl import flags

from jaxssl.data.batch_order import Order
from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.loading import BrokenImages, find_arrays, sample_sizes
from jaxssl.data.packing import DEVICE_SHARE, Packing, pack_varying
from jaxssl.data.source import Source
from jaxssl.data.store import is_complete, open_store, store_folder
from jaxssl.errors import UserError
from jaxssl.stopping import follow_parent, starting_workers

_DISK_SHARE = 0.5  # of what is free
_GATHERED_AHEAD = 3  # batches
_ALIGNED = 64  # bytes


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Batches of canvases, the same in every mode, a function of seed and step alone."""

    mode: str  # device | host | stream
    reason: str  # one line: which mode, and why
    source: Source
    spec: CanvasSpec
    order: Order
    arrays: dict[str, np.ndarray] | None  # the whole store [n, ...]; None in mode "stream"
    workers: int
    broken: BrokenImages  # that were met in mode "stream"
    split_pages: bool = False  # in mode "device": whether each device is to hold a part of them

    @property
    def num_examples(self) -> int:
        return self.order.num_examples

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch; what remains is left out, another part in each epoch."""
        return self.order.steps_per_epoch

    @property
    def resident(self) -> dict[str, np.ndarray | Packing]:
        """The arrays, memory-mapped, to be put on the accelerator once, in mode "device".

        Those in which images have different lengths are packed; in other modes there are none.
        """
        if self.mode != "device" or self.arrays is None:
            return {}
        return pack_varying(self.arrays, self.spec.used(self.arrays))

    def batches(self, start_step: int) -> Iterator[dict[str, np.ndarray]]:
        """Endless batches from a step on, or its share of them: those of `canvas.py` with `index`.

        In mode "device" they hold the `index` i32[b] alone.
        """
        if self.arrays is None:
            canvases = _Canvases(self.source, self.spec, self.order, start_step)
            return _stream(canvases, self.order.rows, self.broken, workers=self.workers)
        if self.mode == "host":
            return _gather_ahead(self.arrays, self.spec, self.order, start_step)
        return ({"index": self.order.indices(step)} for step in itertools.count(start_step))

    @property
    def sweep_steps(self) -> int:
        """The number of batches in a sweep."""
        return -(-self.num_examples // self.order.batch_size)

    def sweep(self) -> Iterator[dict[str, np.ndarray]]:
        """Batches like those of `batches` with every image in its order, the remainder too.

        The last one is filled up with the first images.
        """
        order = dataclasses.replace(self.order, shuffle=False)
        return itertools.islice(dataclasses.replace(self, order=order).batches(0), self.sweep_steps)


def example_batch(spec: CanvasSpec, batch_size: int) -> dict[str, np.ndarray]:
    """Zeros of the shapes and types of a whole batch, as the step sees it in every mode."""
    arrays = spec.arrays() | {"index": ((), np.dtype(np.int32))}
    return {n: np.zeros((batch_size, *shape), dtype) for n, (shape, dtype) in arrays.items()}


def open_pipeline(
    source: Source,
    spec: CanvasSpec,
    *,
    batch_size: int,
    seed: int,
    mode: str = "auto",
    workers: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
    device_bytes: int,
    devices: int = 1,
    share: tuple[int, int] = (0, 1),
    progress: bool = True,
) -> Pipeline:
    """The batches of a source, once its canvases are decoded if the mode wants them so.

    Args:
      source: the images to learn from.
      spec: what is kept of each.
      batch_size: images a step, over all devices.
      seed: of their order.
      mode: "device", "host" or "stream", or "auto": by the size of all canvases.
      workers: processes that decode in mode "stream"; 0: threads in this one.
      cache_dir: where decoded canvases are kept; `None`: see `store.cache_folder`.
      device_bytes: memory of one accelerator, by which "auto" chooses.
      devices: how many there are.
      share: (i, n) for part i of n equal parts of every batch.
      progress: whether to show how far the decoding is.

    Raises:
      UserError: the canvases are to have regions and the source has none, or no such mode.
    """
    order = Order(len(source), batch_size, seed, share=share)
    if (spec.objects or spec.planes) and not source.has_regions:
        raise UserError(
            f"{source.spec} has no regions, which this training needs; segment it: python -m "
            f"mask_tools.export --source {source.spec} --segmenter fh --out DIR, "
            "then train on records:DIR"
        )
    sizes = sample_sizes(source)
    size = round(len(source) * spec.expected_bytes(sizes))
    whole = np.mean([spec.fit(s) == s for s in sizes])
    canvases = f"{_gigabytes(size)} of decoded images"
    canvases += f" (data.pixels {spec.pixels} keeps {whole:.0%} of them at full resolution)"
    folder = store_folder(source, spec, cache_dir)
    complete = is_complete(folder, spec, len(source))
    chosen, reason = _choose(mode, canvases, size, folder, complete, device_bytes * devices)
    arrays = None if chosen == "stream" else open_store(source, spec, cache_dir, show=progress)
    split = size > DEVICE_SHARE * device_bytes
    broken = BrokenImages(source, spec)
    return Pipeline(
        *(chosen, reason, source, spec, order, arrays, workers, broken), split and devices > 1
    )


def _choose(
    mode: str, canvases: str, size: int, folder: pathlib.Path, complete: bool, device_bytes: int
) -> tuple[str, str]:
    """The mode, and in one line why; `size` is of all canvases, `device_bytes` of all devices."""
    if mode in ("device", "host", "stream"):
        return mode, f"data.input is {mode}: {canvases}"
    if mode != "auto":
        raise UserError(f"no input mode {mode!r}; choose auto, device, host or stream")
    memory = f"{DEVICE_SHARE:.0%} of the devices' {_gigabytes(device_bytes)}"
    fit = size <= DEVICE_SHARE * device_bytes
    there = next(parent for parent in folder.parents if parent.exists())
    free = shutil.disk_usage(there).free
    disk = f"{_DISK_SHARE:.0%} of the {_gigabytes(free)} free for {folder.parent}"
    if not complete and size > _DISK_SHARE * free:  # in mode "device" they are kept there, too
        exceeded = disk if fit else f"{memory} and {disk}"
        return "stream", f"data.input auto is stream: {canvases} exceed {exceeded}"
    if fit:
        return "device", f"data.input auto is device: {canvases} fit in {memory}"
    place = f"and are in {folder}" if complete else f"but fit in {disk}"
    return "host", f"data.input auto is host: {canvases} exceed {memory} {place}"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB"


def _gather_ahead(
    arrays: dict[str, np.ndarray], spec: CanvasSpec, order: Order, start_step: int
) -> Iterator[dict[str, np.ndarray]]:
    """Whole batches, copied out of the arrays by threads while the device computes."""
    steps = itertools.count(start_step)
    gather = functools.partial(_gather, arrays, spec, order)
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        ahead = collections.deque(
            threads.submit(gather, step) for step in itertools.islice(steps, _GATHERED_AHEAD)
        )
        while True:
            batch = ahead.popleft().result()
            ahead.append(threads.submit(gather, next(steps)))
            yield batch


def _gather(
    arrays: dict[str, np.ndarray], spec: CanvasSpec, order: Order, step: int
) -> dict[str, np.ndarray]:
    """A batch; what is not in use is not read."""
    index = order.indices(step)
    varying = spec.used({name: array[:1] for name, array in arrays.items()}).keys()
    batch = {n: array[index] for n, array in arrays.items() if n not in varying}
    batch["index"] = index
    for name, used in spec.used(batch).items():
        rows = _aligned_zeros((len(index), *arrays[name].shape[1:]), arrays[name].dtype)
        for row, image, count in zip(rows, index, used, strict=True):
            row[:count] = arrays[name][image, :count]
        batch[name] = rows
    return batch


def _aligned_zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros where a CPU device takes them over without a copy."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + size].view(dtype).reshape(shape)


class _Canvases:
    """The endless sequence of canvases, in the order of training from a step on, for grain."""

    def __init__(self, source: Source, spec: CanvasSpec, order: Order, start_step: int) -> None:
        self._source, self._spec, self._order = source, spec, order
        self._start = start_step * order.rows

    def __len__(self) -> int:
        return sys.maxsize - self._start

    def __getitem__(self, position: int) -> dict[str, np.ndarray]:
        step, row = divmod(self._start + position, self._order.rows)
        index = self._order.indices(step)[row]
        arrays, broken = find_arrays(self._source, int(index), self._spec)
        skipped = np.array(len(broken), np.int32)
        return arrays | {"index": np.asarray(index), "skipped": skipped}


def _stream(
    source: _Canvases, size: int, broken: BrokenImages, *, workers: int
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches of `size` canvases; `workers` processes decode, or threads if it is 0."""
    canvases = grain.MapDataset.source(source)
    if workers:
        if not flags.FLAGS.is_parsed():  # grain reads some of its own, notebooks parse none
            flags.FLAGS.mark_as_parsed()
        # Batched before they are shared out: each process makes every n-th batch as a whole.
        one_ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        dataset = canvases.batch(size).to_iter_dataset(one_ahead)
        options = grain.MultiprocessingOptions(num_workers=workers)
        dataset = dataset.mp_prefetch(options, worker_init_fn=follow_parent)
    else:
        threads = os.cpu_count() or 1
        ahead = grain.ReadOptions(threads, prefetch_buffer_size=max(threads, 2 * size))
        dataset = canvases.to_iter_dataset(ahead).batch(size)
    batches = iter(dataset)
    try:
        with starting_workers() if workers else contextlib.nullcontext():
            begun = itertools.chain([next(batches)], batches)
        for batch in begun:
            broken.add(batch["index"], batch.pop("skipped"))
            # Processes hand over shared memory, which goes when grain's own array does: copy it.
            yield {n: np.array(a) for n, a in batch.items()} if workers else batch
    finally:
        batches.close()
