"""A picture of a folder of records: `python -m mask_tools.inspect DIR --preview FILE.png`."""

import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from jaxssl.data.record_codec import decode_example
from jaxssl.data.records import ShardInfo
from jaxssl.data.source import Example
from jaxssl.data.tfrecord import read, scan
from mask_tools.gallery import FramedView, draw_gallery
from mask_tools.region_report import describe_split, open_split
from mask_tools.region_statistics import MIN_AREA

PREVIEWED = 6  # images


def draw_preview(
    folder: str | os.PathLike[str],
    *,
    split: str | None = None,
    config: str = "",
    min_area: int | None = None,
    images: int = PREVIEWED,
) -> Image.Image:
    """Some images with their regions and objects, and views as training cuts them.

    The views are those of the sampler `random_crop` and of the config's sampler, by the config's
    scale, size and augmentation.

    Args:
      folder: written by `mask_tools.export`.
      split: None: the first.
      config: a config file, or `path:variant`; "": the defaults of SAMCLR.
      min_area: pixels of the largest region of an object that gives views; None: the config's.
      images: how many, evenly spaced in the split.

    Raises:
      UserError: there are no such records or no such config.
    """
    from jaxssl.preview import cut_views, describe_views, preview_config  # loads JAX

    folder = pathlib.Path(folder)
    info, split, shards = open_split(folder, split)
    examples = _Shown(_spaced(folder, shards, images))
    examples.spec, examples.has_regions = f"records:{folder}", info.segmenter is not None
    own = preview_config(config, min_area=min_area)
    views: dict[str, list[list[FramedView]]] = {}
    for sampler in dict.fromkeys(("random_crop", own.sampler.name)):
        chosen = preview_config(config, sampler=sampler, min_area=min_area)
        cut = cut_views(chosen, examples, range(len(examples)))
        fractions = cut.boxes / np.tile(cut.hw, 2)[:, None]
        views[f"two views by {sampler}"] = [
            [FramedView(cut.views[v][i], fractions[i, v]) for v in range(min(2, len(cut.views)))]
            for i in range(len(examples))
        ]
    return draw_gallery(
        examples,
        views,
        title=describe_split(folder, split, info),
        subtitle=f"views by {config or 'the defaults of SAMCLR'}: {describe_views(own)}",
        min_area=own.sampler.get("min_area", min_area or MIN_AREA),
    )


class _Shown(list[Example]):
    """A source of a few examples in memory."""

    spec = ""
    class_names: tuple[str, ...] = ()
    has_regions = False

    def fingerprint(self) -> str:
        return self.spec


def _spaced(folder: pathlib.Path, shards: Sequence[ShardInfo], wanted: int) -> Iterator[Example]:
    """At most as many examples as wanted, evenly spaced; reads only the files that have them."""
    ends = np.cumsum([shard.count for shard in shards])
    for index in np.linspace(0, ends[-1] - 1, min(wanted, ends[-1])).round().astype(int):
        number = np.searchsorted(ends, index, side="right")
        path = folder / shards[number].file
        offset, length = scan(path)[index - ends[number]].tolist()
        yield decode_example(read(path, offset, length))
