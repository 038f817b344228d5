"""The flags of both commands; `mask_tools.export` has the fields of every segmenter, too."""

import argparse
import dataclasses
import inspect
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from jaxssl.errors import UserError
from jaxssl.terminal import Parser
from mask_tools.dataset_export import MAX_BROKEN
from mask_tools.region_statistics import MIN_AREA
from mask_tools.segmenters import EXACT, SEGMENTERS, Segmenter

_EXPORT = """Segments a data set once: writes its images with their regions as records.

example:
  python -m mask_tools.export --source folder:photos --segmenter fh --out data/photos_fh

The records are read as `records:data/photos_fh`. A run that was stopped, however it was, continues
when the same command is given again, and ends with the same bytes.
"""

_INSPECT = """Shows the regions in a folder of records, in numbers and in a picture.

example:
  python -m mask_tools.inspect data/photos_fh --preview preview.png
  python -m mask_tools.inspect data/bsds_fh --annotations bsds:data/BSDS500/labels
"""
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def parse_inspect(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of `mask_tools.inspect`; `UserError` if they are not understood."""
    parser = Parser(
        prog="python -m mask_tools.inspect",
        description=_INSPECT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", type=pathlib.Path, metavar="DIR", help="records written by mask_tools.export")
    add("--split", help="the split to look at (default: the first)")
    add(
        "--preview",
        type=pathlib.Path,
        metavar="FILE.png",
        help="draw some images there, with their regions and with views as training cuts them",
    )
    add(
        "--config",
        default="",
        metavar="FILE.py[:VARIANT]",
        help="whose views to draw (default: SAMCLR's, with the defaults of region_crop)",
    )
    add(
        "--min-area",
        type=positive,
        metavar="PIXELS",
        help="of the largest region of an object that gives views "
        f"(default: {MIN_AREA}; for views, the config's)",
    )
    add(
        "--annotations",
        metavar="FORMAT[:PATH]",
        help="compare the regions with these, as --format and --path of mask_tools.export "
        "--segmenter annotation name them; of classes, with their connected parts (default: "
        "source, the label maps in the records, if they have any)",
    )
    add("--verify", action="store_true", help="check files, checksums, boxes and areas first")
    options = parser.parse_args(argv)
    if options.preview and options.preview.suffix.lower() not in _PICTURES:
        raise UserError(f"--preview {options.preview}: give a name in {', '.join(_PICTURES)}")
    if options.config and not options.preview:
        raise UserError("--config says which views --preview draws; give --preview FILE.png, too")
    return options


def parse_export(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of `mask_tools.export`; `UserError` if they are not understood."""
    parser = Parser(
        prog="python -m mask_tools.export",
        description=_EXPORT,
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
    _add_segmenters(parser)
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


def _add_segmenters(parser: argparse.ArgumentParser) -> None:
    groups = {
        name: parser.add_argument_group(f"--segmenter {name}", inspect.getdoc(kind))
        for name, kind in SEGMENTERS.items()
    }
    for field_name, names in _owners().items():
        field = SEGMENTERS[names[0]].__dataclass_fields__[field_name]
        default = str(field.default).replace("()", "none").strip("(,)") or "none"
        also = f"; also of {', '.join(names[1:])}" if names[1:] else ""
        settings: dict[str, Any] = {"action": "store_true"}
        if not isinstance(field.default, bool):
            metavar = "A,B,..." if isinstance(field.default, tuple) else "X"
            settings = {"type": _reader(field.default), "metavar": metavar}
        groups[names[0]].add_argument(
            _flag(field_name),
            default=argparse.SUPPRESS,
            help=f"default: {default}{also}",
            **settings,
        )


def _owners() -> dict[str, list[str]]:
    """For each option the segmenters that have it."""
    owners: dict[str, list[str]] = {}
    for name, kind in SEGMENTERS.items():
        for field in dataclasses.fields(kind):
            owners.setdefault(field.name, []).append(name)
    return owners


def positive(text: str) -> int:
    """An option's whole number above 0."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def build_segmenter(options: argparse.Namespace) -> Segmenter | None:
    """The segmenter that the options describe; None for `exact`."""
    given = {field_name: names for field_name, names in _owners().items() if field_name in options}
    for field_name, names in given.items():
        if options.segmenter not in names:
            raise UserError(
                f"{_flag(field_name)} is an option of --segmenter {' and '.join(names)}, "
                f"not of {options.segmenter}; leave it out"
            )
    if options.segmenter == EXACT:
        return None
    segmenter: Segmenter = SEGMENTERS[options.segmenter](
        **{field_name: getattr(options, field_name) for field_name in given}
    )
    return segmenter


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _reader(default: object) -> Callable[[str], Any]:
    return _numbers if isinstance(default, tuple) else type(default)


def _numbers(text: str) -> tuple[float | int, ...]:
    try:
        return tuple(int(part) if part.isdigit() else float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list like 500,1000") from None
