"""The command line of `mask_tools.export`: its own options, and the fields of every segmenter."""

import argparse
import dataclasses
import inspect
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from jaxssl.terminal import Parser
from mask_tools.command import positive
from mask_tools.segmenters import SEGMENTERS, Segmenter

EXACT = "exact"  # no segmenter: the regions that the source carries

_DESCRIPTION = """Segments a data set once: writes its images with their regions as records.

example:
  python -m mask_tools.export --source folder:photos --segmenter fh --out data/photos_fh

The records are read as `records:data/photos_fh`. A run that was stopped, however it was, continues
when the same command is given again, and ends with the same bytes.
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; `ValueError` if they are not understood."""
    parser = Parser(
        prog="python -m mask_tools.export",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--source",
        required=True,
        help="folder:PATH, records:PATH, scenes:N, objects:N or tfds:NAME",
    )
    add(
        "--segmenter",
        required=True,
        choices=(EXACT, *SEGMENTERS),
        help=f"what finds the regions; {EXACT}: keep those that the source carries",
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
    add(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: one for each CPU core)",
    )
    add("--max-side", type=positive, metavar="PIXELS", help="shrink images that are larger")
    add(
        "--max-broken",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="of images that cannot be read, before the export fails (default: 0.01)",
    )
    _add_segmenters(parser)
    return parser.parse_args(argv)


def _add_segmenters(parser: argparse.ArgumentParser) -> None:
    for name, kind in SEGMENTERS.items():
        group = parser.add_argument_group(f"--segmenter {name}", inspect.getdoc(kind))
        for field in dataclasses.fields(kind):
            group.add_argument(
                _flag(field.name),
                type=_reader(field.default),
                default=argparse.SUPPRESS,
                metavar="A,B,..." if isinstance(field.default, tuple) else "X",
                help=f"default: {field.default}".replace("()", "none").strip("(,)"),
            )


def build_segmenter(options: argparse.Namespace) -> Segmenter | None:
    """The segmenter that the options describe; None for `exact`."""
    given = {
        field.name: (name, getattr(options, field.name))
        for name, kind in SEGMENTERS.items()
        for field in dataclasses.fields(kind)
        if field.name in options
    }
    for field_name, (name, _) in given.items():
        if name != options.segmenter:
            raise ValueError(
                f"{_flag(field_name)} is an option of --segmenter {name}, "
                f"not of {options.segmenter}; leave it out"
            )
    if options.segmenter == EXACT:
        return None
    segmenter: Segmenter = SEGMENTERS[options.segmenter](
        **{field_name: value for field_name, (_, value) in given.items()}
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
