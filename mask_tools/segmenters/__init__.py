"""Where regions come from. A segmenter is a frozen dataclass of parameters, called on an image.

To add one: a file here, and a line in `SEGMENTERS`; its fields become options of
`mask_tools.export` and its values are written into the records' `info.json`.
"""

from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from mask_tools.regions import Region
from mask_tools.segmenters.felzenszwalb import Felzenszwalb
from mask_tools.segmenters.grid import Grid


@runtime_checkable
class Segmenter(Protocol):
    """What finds the regions of an image."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __call__(self, image: np.ndarray) -> list[Region]:
        """The regions of an upright image u8[h, w, 3]: any number, overlapping or not."""
        ...


SEGMENTERS: dict[str, Any] = {"grid": Grid, "fh": Felzenszwalb}
