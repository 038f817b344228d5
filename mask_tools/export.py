"""Segments a data set once: writes its images with their regions as records.

example:
  python -m mask_tools.export --source folder:photos --segmenter fh --out data/photos_fh

The records are read as `records:data/photos_fh`. A run that was stopped, however it was, continues
when the same command is given again, and ends with the same bytes.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from jaxssl.terminal import Parser, one_line_errors
from mask_tools.cli import add_segmenters, build_segmenter, positive
from mask_tools.dataset_export import MAX_BROKEN, segment_dataset
from mask_tools.segmenters import EXACT, SEGMENTERS


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m mask_tools.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--source",
        required=True,
        help="folder:PATH, records:PATH, scenes:N, objects:N or tfds:NAME/SPLIT",
    )
    add(
        "--segmenter",
        required=True,
        choices=(EXACT, *SEGMENTERS),
        help=f"finds the regions; {EXACT}: keep those that the source carries",
    )
    add("--out", required=True, type=pathlib.Path, metavar="DIR", help="folder of the records")
    add("--split", default="train", help="name of the split to write (default: train)")
    add(
        "--part",
        default="all",
        choices=("all", "train", "test"),
        help="of the source; all: its train split if it has one, else everything (default)",
    )
    add("--shards", type=positive, metavar="N", help="files to write (default: 64 images each)")
    add("--max-side", type=positive, metavar="PIXELS", help="shrink images that are larger")
    add(
        "--max-broken",
        type=float,
        default=MAX_BROKEN,
        metavar="FRACTION",
        help="of the images that may be unreadable before the export fails "
        f"(default: {MAX_BROKEN})",
    )
    _add_workers(parser)
    add_segmenters(parser)
    return parser.parse_args(argv)


def _add_workers(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("processes, jobs, clusters").add_argument
    add(
        "--workers",
        type=int,
        metavar="N",
        help="processes (default: one for each CPU core; for sam and hq_sam one)",
    )
    add("--num-shards", type=positive, default=1, metavar="N", help="jobs that share the files")
    add(
        "--shard-index",
        type=int,
        default=0,
        metavar="I",
        help="number of this job, from 0 on: it makes every N-th file; the last to end writes "
        "info.json",
    )
    add(
        "--ray",
        metavar="ADDRESS",
        help="make the files on a Ray cluster: auto, HOST:PORT, or local for all GPUs of this "
        "machine; nodes must see the images, DIR and the current folder under the same paths",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    with one_line_errors() as status:
        options = _parse(argv)
        result = segment_dataset(
            options.source,
            build_segmenter(options),
            options.out,
            split=options.split,
            part=options.part,
            shards=options.shards,
            max_side=options.max_side,
            max_broken=options.max_broken,
            workers=options.workers,
            num_shards=options.num_shards,
            shard_index=options.shard_index,
            ray=options.ray,
        )
        print(result)
        if result.is_complete:
            print(
                "\nNext, look at the regions, then learn from them:\n"
                f"  python -m mask_tools.inspect {result.folder} --preview preview.png\n"
                "  python -m jaxssl.train --config configs/samclr_ade20k.py"
                f" --config.data.source=records:{result.folder}"
            )
    return status.code


if __name__ == "__main__":
    sys.exit(main())
