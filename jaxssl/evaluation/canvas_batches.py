"""Canvases of a training part in batches, to cut from on the device.

They lie on the devices if they fit, else a batch is gathered on the host.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from jax.sharding import Mesh

from jaxssl import sharding
from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.packing import DEVICE_SHARE, pack_varying
from jaxssl.types import Batch, Tree


class CanvasBatches:
    """The canvases of a part; `resident` are those on the devices, {} if they do not fit."""

    def __init__(self, spec: CanvasSpec, arrays: Mapping[str, np.ndarray], mesh: Mesh):
        self._arrays, self._mesh = arrays, mesh
        packed = pack_varying(arrays, spec.used(dict(arrays)))
        size = sum(values.nbytes for values in packed.values())
        self.resident: Tree = {}
        if size <= DEVICE_SHARE * sharding.memory_per_device():
            self.resident = sharding.make_resident(packed, mesh, split_pages=False)

    def of(self, rows: Iterable[np.ndarray]) -> Iterator[Batch]:
        """A batch on the devices for each array of rows."""

        def gather(index: np.ndarray) -> Batch:
            if self.resident:
                return {"index": index.astype(np.int32)}
            return {name: array.take(index, axis=0) for name, array in self._arrays.items()}

        return sharding.prefetch(map(gather, rows), self._mesh)
