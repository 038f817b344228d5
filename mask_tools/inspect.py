"""Says what regions a folder of records holds, in numbers and in a picture.

example:
  python -m mask_tools.inspect data/photos_fh --preview preview.png
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from jaxssl.data.codec import decode_example
from jaxssl.data.example import Example
from jaxssl.data.progress import progress
from jaxssl.data.records import ShardInfo, describe_shard, read_info
from jaxssl.data.tfrecord import read_all
from jaxssl.terminal import Parser
from mask_tools.command import positive, run
from mask_tools.preview import draw_gallery
from mask_tools.statistics import MIN_AREA, Row, as_array, format_table, measure, table

PREVIEWED = 6  # images in the picture, spread over the split
AREAS = (1, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 10**12)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return run(
        "mask_tools.inspect", lambda: inspect(_parse(argv)), interrupted="stopped; nothing written"
    )


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
    add("--verify", action="store_true", help="check files, checksums, boxes and areas first")
    return parser.parse_args(argv)


def inspect(options: argparse.Namespace) -> None:
    """Prints the table of one split, and draws its picture if that is asked for."""
    info = read_info(options.folder)
    split = options.split or next(iter(info.splits))
    if split not in info.splits:
        raise ValueError(
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
    title = f"{options.folder.name}, split {split}: {_describe(info.segmenter)}"
    print(
        title,
        f"made from {info.source}",
        format_table(table(as_array(rows), min_area=options.min_area)),
        _histogram(areas),
        sep="\n",
    )
    if options.preview:
        draw_gallery(examples, title=title, min_area=options.min_area).save(options.preview)
        print(f"Drew {len(examples)} images in {options.preview}")


def _read(folder: pathlib.Path, shards: Sequence[ShardInfo]) -> Iterator[Example]:
    for shard in shards:
        yield from map(decode_example, read_all(folder / shard.file))


def _describe(segmenter: dict[str, Any] | None) -> str:
    if segmenter is None:
        return "no regions"
    parameters = [
        name + " " + str(value).strip("[]") for name, value in segmenter["parameters"].items()
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
    """Raises ValueError at the first thing that is not as it should be."""
    for shard in shards:
        if describe_shard(folder / shard.file) != shard:
            raise ValueError(f"{folder / shard.file} is not as info.json says; repeat the export")
    for example in _read(folder, shards):
        regions = example.regions
        if regions is None or not len(regions):
            continue
        height, width = regions.size
        coded = [{"size": [height, width], "counts": rle} for rle in regions.rle]
        x0, y0, w, h = coco_mask.toBbox(coded).T
        if not np.array_equal(coco_mask.area(coded), regions.area):
            raise ValueError(f"{folder}: {example.key}: areas differ from the masks'")
        if not np.array_equal(np.stack([y0, x0, y0 + h, x0 + w], axis=1), regions.box):
            raise ValueError(f"{folder}: {example.key}: boxes differ from the masks'")


if __name__ == "__main__":
    sys.exit(main())
