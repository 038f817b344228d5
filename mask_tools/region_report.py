"""The regions of a folder of records in numbers: what `python -m mask_tools.inspect` prints."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxssl.data.record_codec import decode_example, read_key
from jaxssl.data.records import Info, ShardInfo, describe_shard, read_info, read_records
from jaxssl.data.rle import mask_areas, mask_boxes
from jaxssl.data.source import BrokenImage, Example, Regions
from jaxssl.errors import UserError
from jaxssl.progress import Progress
from jaxssl.terminal import format_table
from mask_tools.matching import Faults, Matched, match_names
from mask_tools.region_statistics import (
    MIN_AREA,
    AnnotationMatch,
    Overlaps,
    RegionStatistics,
    Row,
    as_array,
    average,
    compare,
    compare_levels,
    measure,
    summarize,
)
from mask_tools.regions import collect
from mask_tools.segmenters.annotation import Annotation

AREAS = (1, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 10**12)


@dataclasses.dataclass(frozen=True)
class RegionReport:
    """The regions of one split of a folder of records; as text, a table and a histogram."""

    title: str  # the split and how it was segmented
    source: str  # that it was made from
    statistics: RegionStatistics
    areas: np.ndarray  # i64[n]: regions with `AREAS[i]` to `AREAS[i + 1]` pixels
    compared_with: str = ""  # the annotations; "": none
    match: AnnotationMatch | None = None
    unannotated_images: int = 0
    faults: Faults = dataclasses.field(default_factory=Faults)  # annotations that were left out

    def __str__(self) -> str:
        table = format_table([*self.texts().items()], heading=False)
        return "\n".join([self.title, f"made from {self.source}", table, _histogram(self.areas)])

    def texts(self) -> dict[str, str]:
        """The lines of the table: texts by their names."""
        texts = self.statistics.texts()
        if self.match is not None:
            texts |= {"compared with": self.compared_with} | self.match.texts()
        if self.unannotated_images:
            texts["images without annotation"] = f"{self.unannotated_images}"
        return texts | self.faults.texts()


def side_by_side(reports: Sequence[RegionReport]) -> str:
    """The numbers of several folders as a table, a column for each."""
    names = [chr(ord("A") + i) for i in range(len(reports))]
    columns = [report.texts() for report in reports]
    rows = {key: [column.get(key, "-") for column in columns] for texts in columns for key in texts}
    legend = [
        f"{name}: {report.title}; made from {report.source}"
        for name, report in zip(names, reports, strict=True)
    ]
    table = [["", *names], *([key, *cells] for key, cells in rows.items())]
    return "\n".join([*legend, format_table(table)])


def inspect_regions(
    folder: str | os.PathLike[str],
    *,
    split: str | None = None,
    min_area: int = MIN_AREA,
    annotations: str | None = None,
    ignore: tuple[int, ...] = (),
    verify: bool = False,
) -> RegionReport:
    """Counts the regions of records, and compares them with annotations.

    Args:
      folder: written by `mask_tools.export`.
      split: None: the first.
      min_area: pixels of the largest region of an object that gives views in training.
      annotations: FORMAT or FORMAT:PATH, as the options of the segmenter `annotation`; None: label
        maps in the records, if they have any; of records of BSDS, the annotators with one another.
      ignore: values of the annotations' label maps that are no region; (): those that the export
        left out, where it made regions of such maps.
      verify: check files, checksums, boxes and areas first.

    Raises:
      UserError: there are no such records or annotations, also if none is of any image or one
        is of two, or the records are damaged.
    """
    folder = pathlib.Path(folder)
    info, split, shards = open_split(folder, split)
    faults, missing = Faults(), []
    read_keys = functools.partial(_read_keys, folder, shards)
    compared_with, match = _matching(annotations, ignore, info, faults, read_keys)
    rows: list[Row] = []
    areas = np.zeros(len(AREAS) - 1, int)
    overlaps: list[Overlaps] = []
    with Progress(sum(shard.count for shard in shards), "inspecting") as advance:
        for example in _read(folder, shards, verify):
            rows.append(measure(example, min_area=min_area))
            if example.regions is not None:
                areas += np.histogram(example.regions.area, AREAS)[0]
            if match is not None:
                try:
                    overlaps.append(match(example))
                except BrokenImage as error:
                    missing.append(str(error))
            advance(1)
    if annotations and not any(image.masks for image in overlaps):
        why = str(faults) or "".join(missing[:1]) or "its masks are empty"
        raise UserError(
            f"no image of {folder} has an annotated mask in {annotations}: {why}; give annotations "
            "of the images as they are in the records"
        )
    return RegionReport(
        title=describe_split(folder, split, info),
        source=info.source,
        statistics=summarize(as_array(rows), min_area=min_area),
        areas=areas,
        compared_with=compared_with,
        match=None if match is None else average(overlaps),
        unannotated_images=len(missing),
        faults=faults,
    )


def open_split(folder: pathlib.Path, split: str | None) -> tuple[Info, str, Sequence[ShardInfo]]:
    """The folder's `info.json`, the name of the split (None: the first), and its files."""
    info = read_info(folder)
    split = split or next(iter(info.splits))
    if split not in info.splits:
        raise UserError(f"{folder} has no split {split!r}; choose from {', '.join(info.splits)}")
    return info, split, info.splits[split]


def describe_split(folder: pathlib.Path, split: str, info: Info) -> str:
    """The heading of what is shown of a split: its folder and how it was segmented."""
    described = ["no regions"]
    if info.segmenter is not None:
        described = [info.segmenter["name"]]
        for name, value in info.segmenter["parameters"].items():
            if value not in ("", []) and value is not False:  # which 0 equals
                described.append(f"{name} {str(value).strip('[]')}")
    return f"{folder.name}, split {split}: {', '.join(described)}"


def _read(folder: pathlib.Path, shards: Sequence[ShardInfo], verify: bool) -> Iterator[Example]:
    """The examples; with `verify` raises UserError at the first thing that is not as it should."""
    if verify:
        for shard in shards:
            if describe_shard(folder / shard.file) != shard:
                raise UserError(
                    f"{folder / shard.file} is not as info.json says; repeat the export"
                )
    for shard in shards:
        for example in read_records(folder / shard.file, decode_example):
            if verify and example.regions and (wrong := _find_wrong(example.regions)):
                raise UserError(f"{folder}: {example.key}: {wrong}; repeat the export")
            yield example


def _read_keys(folder: pathlib.Path, shards: Sequence[ShardInfo]) -> list[str]:
    return [key for shard in shards for key in read_records(folder / shard.file, read_key)]


def _find_wrong(regions: Regions) -> str | None:
    if not np.array_equal(mask_areas(regions.rle), regions.area):
        return "areas differ from the masks'"
    if not np.array_equal(mask_boxes(regions.rle, regions.size), regions.box):
        return "boxes differ from the masks'"
    if (regions.box < 0).any() or (regions.box[:, 2:] > regions.size).any():
        return "boxes reach out of the image"
    return None


def _matching(
    annotations: str | None,
    ignore: tuple[int, ...],
    info: Info,
    faults: Faults,
    read_keys: Callable[[], list[str]],
) -> tuple[str, Callable[[Example], Overlaps] | None]:
    """A name for the annotations to compare with, and the comparison; "" and None without.

    It counts the annotations that are at fault.
    """
    if not annotations and info.has_semantic:
        annotations = "source"
    if not annotations:
        if not info.segmenter or info.segmenter["parameters"].get("format") != "bsds":
            return "", None
        return "annotators, each against the others", lambda e: compare_levels(e.regions)
    kind, _, path = annotations.partition(":")
    is_of_classes = kind in ("semantic", "source")
    ignore = ignore or (info.void if is_of_classes else ())
    annotate = Annotation(format=kind, path=path, ignore=ignore, components=is_of_classes)
    opened = annotate.opened()
    numbers = match_names(read_keys(), opened).number_of if opened else None
    read = Matched(annotate, numbers, faults)

    def match(example: Example) -> Overlaps:
        if numbers is not None and example.key not in numbers:
            raise BrokenImage(f"{example.key}: has no annotation in {path}")
        annotated = collect(read(example), example.size)
        return compare(annotated, example.regions or collect([], annotated.size))

    return annotations, match


def _histogram(areas: np.ndarray) -> str:
    """A bar for each range of areas, from the smallest that has a region to the largest."""
    used = np.flatnonzero(areas)
    lines = ["regions by area in pixels"]
    for i in range(used[0], used[-1] + 1) if used.size else ():
        limits = (
            f"{AREAS[i]:>9,} to {AREAS[i + 1]:<9,}" if i + 2 < len(AREAS) else f"over {AREAS[i]:,}"
        )
        bar = "█" * round(40 * areas[i] / areas.max())
        lines.append(f"  {limits} {areas[i]:>8} {bar}")
    return "\n".join(lines)
