"""The offline half: segment a data set once, write images and regions to TFRecords.

    import mask_tools

    segmenter = mask_tools.Felzenszwalb(scale=(500,), min_size=(2000,))
    print(mask_tools.segment_dataset("folder:photos", segmenter, "data/photos_fh"))
    report = mask_tools.inspect_regions("data/photos_fh")
    report.statistics.regions.mean                     # regions per image
    mask_tools.draw_preview("data/photos_fh").save("preview.png")

The commands `python -m mask_tools.export` and `python -m mask_tools.inspect` do the same.
"""

from mask_tools.dataset_export import segment_dataset
from mask_tools.record_preview import draw_preview
from mask_tools.region_report import inspect_regions
from mask_tools.segmenters import (
    Annotation,
    Felzenszwalb,
    Grid,
    HqSam,
    Proposals,
    Sam,
    Transformers,
)

__all__ = [
    "Annotation",
    "Felzenszwalb",
    "Grid",
    "HqSam",
    "Proposals",
    "Sam",
    "Transformers",
    "draw_preview",
    "inspect_regions",
    "segment_dataset",
]
