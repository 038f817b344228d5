"""Canvases decoded as they are needed, by grain: its threads in this process, or its processes."""

import os
import sys
from collections.abc import Iterator

import grain
import numpy as np
from absl import flags

from jaxssl.data.batch_order import Order
from jaxssl.data.loading import ArraySpec, load_arrays
from jaxssl.data.source import Source


class _Canvases:
    """What grain reads: the endless sequence of canvases in the order of training, from a step."""

    def __init__(self, source: Source, spec: ArraySpec, order: Order, start_step: int) -> None:
        self._source, self._spec, self._order = source, spec, order
        self._start = start_step * order.rows

    def __len__(self) -> int:
        return sys.maxsize - self._start

    def __getitem__(self, position: int) -> dict[str, np.ndarray]:
        step, row = divmod(self._start + position, self._order.rows)
        index = self._order.indices(step)[row]
        return load_arrays(self._source, int(index), self._spec) | {"index": np.asarray(index)}


def stream(
    source: Source, spec: ArraySpec, order: Order, start_step: int, *, workers: int
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches from `start_step` on; `workers` processes decode, or threads if it is 0."""
    canvases = grain.MapDataset.source(_Canvases(source, spec, order, start_step))
    size = order.rows
    if workers:
        if not flags.FLAGS.is_parsed():  # grain reads some of its own, notebooks parse none
            flags.FLAGS.mark_as_parsed()
        # Batched before they are shared out: each process makes every n-th batch as a whole.
        one_ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        dataset = canvases.batch(size).to_iter_dataset(one_ahead)
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    else:
        threads = os.cpu_count() or 1
        options = grain.ReadOptions(threads, prefetch_buffer_size=max(threads, 2 * size))
        dataset = canvases.to_iter_dataset(options).batch(size)
    batches = iter(dataset)
    try:
        for batch in batches:
            # Processes hand over shared memory, which goes when grain's own array does: copy it.
            yield {n: np.array(a) for n, a in batch.items()} if workers else batch
    finally:
        batches.close()
