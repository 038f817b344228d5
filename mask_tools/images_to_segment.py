"""The images to segment: without files that are annotations, and where the user says so without
images that have none."""

import dataclasses
import os
import pathlib
from collections.abc import Collection, Mapping

from jaxssl.data import Source, open_source
from jaxssl.data.identity import InFiles, LabeledInFiles, identify
from jaxssl.data.source import Example, keys_of
from jaxssl.errors import UserError
from mask_tools.mask_files import MaskFiles
from mask_tools.matching import Annotated, MatchReport, Opened, check_fraction, match
from mask_tools.segmenters import SEGMENTERS, Segmenter


def open_matched(
    source: str,
    segmenter: Segmenter | None,
    part: str,
    *,
    unannotated: str,
    min_matched: float,
) -> tuple[Source, MatchReport | None]:
    """The images to segment, and what annotations there are of them if the segmenter reads some.

    Args:
      source: as for `segment_dataset`, like the others.
      segmenter: finds the regions.
      part: of the source.
      unannotated: "skip" images that have no annotation, or "error".
      min_matched: fraction of images and annotations that must match.

    Raises:
      UserError: the source cannot be opened or has no regions to keep, or annotations do not match.
    """
    check_fraction("--min-matched", min_matched)
    if segmenter is not None and (
        isinstance(segmenter, type) or not isinstance(segmenter, Segmenter)
    ):
        raise UserError(
            f"segmenter {segmenter!r}: give one such as mask_tools.Felzenszwalb(scale=(500,)), or "
            "None to keep the regions of the source"
        )
    if unannotated not in ("skip", "error"):
        raise UserError(f"--unannotated {unannotated!r}: give skip or error")
    opened = open_source(source, None if part == "all" else part)
    if segmenter is None and not opened.has_regions:
        choices = " or ".join(SEGMENTERS)
        raise UserError(f"{source} carries no regions; choose --segmenter {choices}")
    annotations = segmenter.opened() if isinstance(segmenter, Annotated) else None
    if annotations is None:
        return opened, None
    opened = without_annotations(opened, annotations)
    report = match(opened, annotations, min_matched=min_matched)
    if report.lonely_images and unannotated == "error":
        raise UserError(
            f"{len(report.lonely_images)} of {report.images} images have no annotation in "
            f"{annotations.path}: {report.lonely_images[0]!r} is one; --unannotated skip leaves "
            "them out"
        )
    if annotations.omits_empty:
        return opened, report
    return choose(opened, report.matches.number_of), report


def without_annotations(source: Source, opened: Opened) -> Source:
    """The images without those files that are annotations: these may lie beside the images."""
    if not (isinstance(source, InFiles) and isinstance(opened, MaskFiles)):
        return source
    maps = {os.path.abspath(file) for files in opened.files for file in files}
    # Not all files are images: those of tensorflow-datasets hold many.
    dropped = {key for key, file in source.files() if os.path.abspath(file) in maps}
    if not dropped:
        return source
    kept = set(keys_of(source)) - dropped
    if not kept:
        raise UserError(
            f"all images of {source.spec} are among the {opened.kind} in {opened.path}; give the "
            "folder of the images and that of the annotations"
        )
    return choose(source, kept)


@dataclasses.dataclass
class Chosen:
    """Some images of a source, as a source."""

    source: Source
    indices: tuple[int, ...]
    spec: str
    class_names: tuple[str, ...]
    has_regions: bool

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        return self.source[self.indices[index]]

    def keys(self) -> list[str]:
        """The keys of the images."""
        keys = keys_of(self.source)
        return [keys[index] for index in self.indices]

    def fingerprint(self) -> str:
        """The fingerprint of the whole source: the annotations decide which images are chosen."""
        return self.source.fingerprint()


def choose(source: Source, keys: Collection[str] | Mapping[str, int]) -> Source:
    """The images of these keys; the source itself if that is all."""
    indices = tuple(i for i, key in enumerate(keys_of(source)) if key in keys)
    if len(indices) == len(source):
        return source
    return Chosen(source, indices, source.spec, source.class_names, source.has_regions)


def identify_images(source: Source) -> str:
    """The identity of a source, the whole one of chosen images; see `identify`."""
    return identify(_whole(source))


def label_files(source: Source) -> list[pathlib.Path]:
    """The files, if there are any, that say what the images of a source are of."""
    whole = _whole(source)
    return whole.label_files() if isinstance(whole, LabeledInFiles) else []


def annotation_files(matched: MatchReport | None) -> tuple[pathlib.Path, ...]:
    """The files of the annotations of single images."""
    if matched is None:
        return ()
    numbers = sorted({*matched.matches.number_of.values()})
    return tuple(pathlib.Path(p) for number in numbers for p in matched.opened.paths(number))


def _whole(source: Source) -> Source:
    """The source, of chosen images that from which they are, perhaps in several steps."""
    while isinstance(source, Chosen):
        source = source.source
    return source
