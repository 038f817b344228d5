"""Segmenters find regions: frozen dataclasses of parameters, called on an example.

To add one: a file here, and a line in `SEGMENTERS`; its fields become options of
`mask_tools.export` and its values are written into the records' `info.json`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxssl.data.source import BrokenImage, Example
from mask_tools.regions import Region
from mask_tools.segmenters.annotation import Annotation
from mask_tools.segmenters.felzenszwalb import Felzenszwalb
from mask_tools.segmenters.grid import Grid
from mask_tools.segmenters.hugging_face import Transformers
from mask_tools.segmenters.network import Network
from mask_tools.segmenters.proposals import Proposals
from mask_tools.segmenters.sam import HqSam, Sam


@runtime_checkable
class Segmenter(Protocol):
    """Finds the regions of an image."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    needs_original_size: ClassVar[bool]  # its masks fit the image before --max-side shrinks it

    def __call__(self, example: Example) -> list[Region]:
        """The regions of the upright image of an example: any number, overlapping or not.

        Raises `BrokenImage` if what it needs for this image is not there.
        """


@runtime_checkable
class Batched(Protocol):
    """A segmenter that is faster with several images at once: a network."""

    images_per_batch: int

    def segment_all(self, examples: Sequence[Example]) -> Sequence[list[Region] | BrokenImage]:
        """The regions of each of the images, or what it lacks."""


def is_network(segmenter: object) -> bool:
    """Whether it takes all cores, or a GPU, by itself, while images are read beside it."""
    return isinstance(segmenter, Network | Batched)


EXACT = "exact"  # no segmenter: the regions that the source carries

SEGMENTERS: dict[str, Any] = {
    "grid": Grid,
    "fh": Felzenszwalb,
    "sam": Sam,
    "hq_sam": HqSam,
    "transformers": Transformers,
    "annotation": Annotation,
    "proposals": Proposals,
}
