"""The offline half: segment a data set once, write images and regions to TFRecords.

    import mask_tools

    segmenter = mask_tools.Felzenszwalb(scale=(500,), min_size=(2000,))
    print(mask_tools.segment_dataset("folder:photos", segmenter, "data/photos_fh"))
    report = mask_tools.inspect_regions("data/photos_fh")
    report.statistics.regions.mean                     # regions per image
    mask_tools.draw_preview("data/photos_fh").save("preview.png")

The commands `python -m mask_tools.export` and `python -m mask_tools.inspect` do the same. What is
named here is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mask_tools.dataset_export import segment_dataset as segment_dataset
    from mask_tools.record_preview import draw_preview as draw_preview
    from mask_tools.region_report import inspect_regions as inspect_regions
    from mask_tools.segmenters import Annotation as Annotation
    from mask_tools.segmenters import Felzenszwalb as Felzenszwalb
    from mask_tools.segmenters import Grid as Grid
    from mask_tools.segmenters import HqSam as HqSam
    from mask_tools.segmenters import Proposals as Proposals
    from mask_tools.segmenters import Sam as Sam

_PLACES = {
    "segment_dataset": "dataset_export",
    "inspect_regions": "region_report",
    "draw_preview": "record_preview",
    "Annotation": "segmenters",
    "Felzenszwalb": "segmenters",
    "Grid": "segmenters",
    "HqSam": "segmenters",
    "Proposals": "segmenters",
    "Sam": "segmenters",
}
__all__ = [*_PLACES]

if not TYPE_CHECKING:  # who checks types should find a name that does not exist

    def __getattr__(name: str) -> Any:
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
