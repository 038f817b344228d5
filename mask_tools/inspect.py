"""Says what regions a folder of records holds, in numbers and in a picture.

example:
  python -m mask_tools.inspect data/photos_fh --preview preview.png
  python -m mask_tools.inspect data/bsds_fh --annotations bsds:data/BSDS500/labels
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxssl.data.record_codec import decode_example
from jaxssl.data.records import Info, ShardInfo, describe_shard, read_info
from jaxssl.data.rle import mask_areas, mask_boxes
from jaxssl.data.source import BrokenImage, Example
from jaxssl.data.tfrecord import read_all
from jaxssl.errors import UserError
from jaxssl.progress import progress
from jaxssl.terminal import Parser, one_line_errors
from mask_tools.cli import positive
from mask_tools.collect import collect
from mask_tools.gallery import draw_gallery
from mask_tools.quality import Quality, compare, compare_levels, summarise
from mask_tools.segmenters.annotation import Annotation
from mask_tools.statistics import MIN_AREA, Row, as_array, format_table, measure, table

PREVIEWED = 6  # images in the picture, spread over the split
AREAS = (1, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 10**12)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    with one_line_errors("stopped; nothing written") as status:
        inspect(_parse(argv))
    return status.code


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m mask_tools.inspect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", type=pathlib.Path, metavar="DIR", help="what mask_tools.export wrote")
    add("--split", help="the split to look at (default: the first)")
    add("--preview", type=pathlib.Path, metavar="FILE.png", help="draw some images' regions there")
    add(
        "--min-area",
        type=positive,
        default=MIN_AREA,
        metavar="PIXELS",
        help=f"of an object that gives views in training (default: {MIN_AREA})",
    )
    add(
        "--annotations",
        metavar="FORMAT[:PATH]",
        help="compare the regions with these, as --format and --path of mask_tools.export "
        "--segmenter annotation name them; of classes, with their connected parts (default: "
        "source, the label maps in the records, if they have any)",
    )
    add("--verify", action="store_true", help="check files, checksums, boxes and areas first")
    return parser.parse_args(argv)


def inspect(options: argparse.Namespace) -> None:
    """Prints the table of one split, and draws its picture if that is asked for."""
    info = read_info(options.folder)
    split = options.split or next(iter(info.splits))
    if split not in info.splits:
        raise UserError(
            f"{options.folder} has no split {split!r}; choose from {', '.join(info.splits)}"
        )
    shards = info.splits[split]
    if options.verify:
        _verify(options.folder, shards)
    count = sum(shard.count for shard in shards)
    shown = set(np.linspace(0, count - 1, min(PREVIEWED, count)).round().astype(int).tolist())
    rows: list[Row] = []
    examples: list[Example] = []
    areas = np.zeros(len(AREAS) - 1, int)
    with progress(count, "inspecting") as advance:
        for index, example in enumerate(_read(options.folder, shards)):
            rows.append(measure(example, min_area=options.min_area))
            if example.regions is not None:
                areas += np.histogram(example.regions.area, AREAS)[0]
            if index in shown:
                examples.append(example)
            advance(1)
    quality = _compare(options, info, shards)
    title = f"{options.folder.name}, split {split}: {_describe(info.segmenter)}"
    print(
        title,
        f"made from {info.source}",
        format_table(table(as_array(rows), min_area=options.min_area) | quality),
        _histogram(areas),
        sep="\n",
    )
    if options.preview:
        draw_gallery(examples, title=title, min_area=options.min_area).save(options.preview)
        print(f"Drew {len(examples)} images in {options.preview}")


def _compare(
    options: argparse.Namespace, info: Info, shards: Sequence[ShardInfo]
) -> dict[str, str]:
    """Lines for the table on how the regions meet annotations; {} where there are none."""
    given = options.annotations or ("source" if info.has_semantic else None)
    if given:
        return {"compared with": given} | _compare_with(given, options.folder, shards)
    if (info.segmenter or {}).get("parameters", {}).get("format") != "bsds":
        return {}
    each = (example.regions for example in _read(options.folder, shards))
    found = [compare_levels(regions) for regions in each if regions is not None]
    return {"compared with": "annotators, each against the others"} | summarise(found)


def _compare_with(given: str, folder: pathlib.Path, shards: Sequence[ShardInfo]) -> dict[str, str]:
    kind, _, path = given.partition(":")
    annotate = Annotation(format=kind, path=path, components=kind in ("semantic", "source"))
    found: list[Quality] = []
    missing = 0
    for example in _read(folder, shards):
        try:
            annotated = collect(annotate(example), example.image.shape[:2])
        except BrokenImage:
            missing += 1
        else:
            found.append(compare(annotated, example.regions or collect([], annotated.size)))
    return summarise(found) | ({"images without annotation": f"{missing}"} if missing else {})


def _read(folder: pathlib.Path, shards: Sequence[ShardInfo]) -> Iterator[Example]:
    for shard in shards:
        yield from map(decode_example, read_all(folder / shard.file))


def _describe(segmenter: dict[str, Any] | None) -> str:
    if segmenter is None:
        return "no regions"
    parameters = [
        f"{name} {str(value).strip('[]')}"
        for name, value in segmenter["parameters"].items()
        if value not in ("", [], False)
    ]
    return ", ".join([segmenter["name"], *parameters])


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


def _verify(folder: pathlib.Path, shards: Sequence[ShardInfo]) -> None:
    """Raises UserError at the first thing that is not as it should be."""
    for shard in shards:
        if describe_shard(folder / shard.file) != shard:
            raise UserError(f"{folder / shard.file} is not as info.json says; repeat the export")
    for example in _read(folder, shards):
        regions = example.regions
        if regions is None or not len(regions):
            continue
        if not np.array_equal(mask_areas(regions.rle), regions.area):
            raise UserError(f"{folder}: {example.key}: areas differ from the masks'")
        if not np.array_equal(mask_boxes(regions.rle, regions.size), regions.box):
            raise UserError(f"{folder}: {example.key}: boxes differ from the masks'")
        if (regions.box < 0).any() or (regions.box[:, 2:] > regions.size).any():
            raise UserError(f"{folder}: {example.key}: boxes reach out of the image")


if __name__ == "__main__":
    sys.exit(main())
