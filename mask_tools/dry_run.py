"""Tries out an export: images, annotations, and those of either that have no match."""

import dataclasses
import pathlib
from collections import Counter

import numpy as np

from jaxssl.data.loading import too_many
from jaxssl.data.source import BrokenImage, keys_of
from jaxssl.errors import UserError
from jaxssl.terminal import format_table
from mask_tools.images_to_segment import open_matched
from mask_tools.matching import (
    MIN_MATCHED,
    Annotated,
    Faults,
    Matched,
    MatchReport,
    check_fraction,
)
from mask_tools.region_statistics import Spread
from mask_tools.segmenters import Segmenter

TRIED = 20  # images


@dataclasses.dataclass(frozen=True)
class DryRun:
    """The images and annotations that an export would find; as text, a table."""

    source: str
    endings: dict[str, int]  # of the images: how many have each
    matched: MatchReport | None
    images: int = 0  # to be segmented
    tried: int = 0  # images whose annotations were read
    regions: Spread | None = None  # in each of them
    faults: Faults = dataclasses.field(default_factory=Faults)
    broken: tuple[str, ...] = ()

    def check(self, min_matched: float, max_broken: float) -> str:
        """A warning if an export of images like those that were tried stops, "" if it does not.

        `UserError` if these are all images, or `max_broken` is no fraction.
        """
        check_fraction("--max-broken", max_broken)
        reason, empty = "", self.faults.empty_images
        expected = len(self.broken) * self.images // max(1, self.tried)  # of all images
        if too_many(expected, self.images, max_broken):
            reason = f"{len(self.broken)} are broken, more than --max-broken {max_broken:g}"
        elif empty > (1 - min_matched) * self.tried:
            reason = f"{empty} have annotations and no region, less than --min-matched "
            reason += f"{min_matched:g} have one{self.faults.advice()}"
        if not reason:
            return ""
        if self.tried == self.images:
            raise UserError(f"the export would stop: of {self.tried} images {reason}")
        return f"warning: the export may stop: of {self.tried} images tried {reason}"

    def __str__(self) -> str:
        kinds = ", ".join(f"{ending} {count}" for ending, count in self.endings.items())
        texts = {"images": f"{sum(self.endings.values())} in {self.source} ({kinds})"}
        texts |= self.matched.texts() if self.matched else {}
        if self.tried:
            texts[f"regions of {self.tried} images tried"] = str(self.regions or "none")
        texts |= self.faults.texts()
        if self.broken:
            texts["broken"] = f"{len(self.broken)}; first: {self.broken[0]}"
        return format_table([*texts.items()], heading=False)


def check_dataset(
    source: str,
    segmenter: Segmenter | None,
    *,
    part: str = "all",
    unannotated: str = "skip",
    min_matched: float = MIN_MATCHED,
) -> DryRun:
    """Opens a source and its annotations as an export would, and reads those of a few images.

    Args:
      source: as for `segment_dataset`, like the others.
      segmenter: finds the regions.
      part: of the source.
      unannotated: "skip" images that have no annotation, or "error".
      min_matched: fraction of images and annotations that must belong together.

    Raises:
      UserError: the source cannot be opened, or annotations do not match.
    """
    images, matched = open_matched(
        source, segmenter, part, unannotated=unannotated, min_matched=min_matched
    )
    keys = [*matched.matches.number_of, *matched.lonely_images] if matched else keys_of(images)
    endings = Counter(pathlib.PurePath(key).suffix.lower() or "no ending" for key in keys)
    if not isinstance(segmenter, Annotated):
        return DryRun(source, dict(endings), None)
    read = Matched(segmenter, matched.matches.number_of if matched else None)
    counts, broken = [], []
    tried = np.unique(np.linspace(0, len(images) - 1, min(TRIED, len(images))).astype(int))
    for index in tried.tolist():
        try:
            counts.append(sum(not region.fault for region in read(images[index])))
        except BrokenImage as error:
            broken.append(str(error))
    regions = Spread(float(np.mean(counts)), min(counts), max(counts)) if counts else None
    return DryRun(
        *(source, dict(endings), matched, len(images)),
        *(len(tried), regions, read.faults, tuple(broken)),
    )
