"""Segments a data set once: writes its images with their regions as records.

example:

    python -m mask_tools.export --source folder:photos --segmenter fh --out data/photos_fh
    python -m mask_tools.export --source folder:photos --segmenter annotation --path masks --dry-run

Other commands read the records as `records:data/photos_fh`. An export that was stopped or killed
continues when the same command is given again, and writes the same bytes.
"""

import argparse
import dataclasses
import inspect
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from jaxssl.data.loading import MAX_BROKEN
from jaxssl.data.records import read_info
from jaxssl.data.splits import choose_splits
from jaxssl.errors import PartError, UserError
from jaxssl.own_parts import import_dataclass
from jaxssl.terminal import Parser, one_line_errors, positive, records_folder
from mask_tools.dataset_export import segment_dataset
from mask_tools.dry_run import check_dataset
from mask_tools.matching import MIN_MATCHED
from mask_tools.segmenters import EXACT, SEGMENTERS, Segmenter

CONFIG = "configs/samclr_ade20k.py"  # to train with next


PROG = "python -m mask_tools.export"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    # Which options there are depends on the segmenter, which may be one of the user's own.
    first = Parser(prog=PROG, add_help=False, allow_abbrev=False)
    first.add_argument("--segmenter", default="")
    known = _offered(first.parse_known_args(argv)[0].segmenter)
    parser = Parser(
        prog=PROG, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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
        choices=(EXACT, *known),
        help=f"what finds the regions; {EXACT} keeps those that the source has; MODULE:CLASS is "
        "one of your own",
    )
    add("--out", type=records_folder, metavar="DIR", help="folder of the records")
    add(
        "--dry-run",
        action="store_true",
        help="write nothing, and print which images and annotations there are, and which match",
    )
    add("--split", default="train", help="name of the split to write (default: train)")
    add(
        "--part",
        default="all",
        choices=("all", "train", "test"),
        help="part of the source; all is its train split if it has one, else everything (default)",
    )
    add("--shards", type=positive, metavar="N", help="files to write (default: 64 images each)")
    add("--max-side", type=positive, metavar="PIXELS", help="shrink images that are larger")
    _add_limits(parser)
    _add_workers(parser)
    _add_segmenters(parser, known)
    return parser.parse_args(argv)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--max-broken",
        type=float,
        default=MAX_BROKEN,
        metavar="FRACTION",
        help="fraction of the images that may be unreadable before the export fails; one image "
        f"may anyway, unless it is 0 (default: {MAX_BROKEN})",
    )
    add(
        "--unannotated",
        default="skip",
        choices=("skip", "error"),
        help="what to do with images without an annotation (default: skip)",
    )
    add(
        "--min-matched",
        type=float,
        default=MIN_MATCHED,
        metavar="FRACTION",
        help="fraction of images and annotations that must match, and of images with annotations "
        f"that must get a region (default: {MIN_MATCHED})",
    )


def _add_workers(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("processes, jobs, clusters").add_argument
    add(
        "--workers",
        type=int,
        metavar="N",
        help="number of processes (default: one per CPU core; one if the segmenter is a network)",
    )
    add("--num-shards", type=positive, default=1, metavar="N", help="number of jobs")
    add(
        "--shard-index",
        type=int,
        default=0,
        metavar="I",
        help="index of this job, from 0: it makes every N-th file; the last job to end writes "
        "info.json",
    )
    add(
        "--ray",
        metavar="ADDRESS",
        help="make the files on a Ray cluster: auto, HOST:PORT, or local for all GPUs of this "
        "machine; nodes must see the images, DIR and the current folder under the same paths",
    )


def _offered(name: str) -> dict[str, Any]:
    """The segmenters that have options: jaxssl's, or the one of the user's own that is named."""
    if ":" not in name:
        return {known: kind for known, kind in SEGMENTERS.items() if ":" not in known}
    if name not in SEGMENTERS:  # where `info.json` finds the name of a class
        described = "mask_tools/segmenters/__init__.py"
        members = ("__call__", "needs_original_size")
        SEGMENTERS[name] = import_dataclass("--segmenter", name, members, described)
    return {name: SEGMENTERS[name]}


def _add_segmenters(parser: argparse.ArgumentParser, known: Mapping[str, Any]) -> None:
    taken = {option for action in parser._actions for option in action.option_strings}
    groups = {
        name: parser.add_argument_group(f"--segmenter {name}", inspect.getdoc(kind))
        for name, kind in known.items()
    }
    for field_name, names in _owners(known).items():
        fields = [known[name].__dataclass_fields__[field_name] for name in names]
        if _flag(field_name) in taken:
            raise PartError(f"{names[0]}: {field_name} is an option of the command; rename it")
        if len({field.type for field in fields}) > 1:
            raise PartError(f"{' and '.join(names)}: {field_name} has several types; rename one")
        default = str(fields[0].default).replace("()", "none").strip("(,)") or "none"
        also = f"; also of {', '.join(names[1:])}" if names[1:] else ""
        groups[names[0]].add_argument(
            _flag(field_name),
            default=argparse.SUPPRESS,
            help=f"default: {default}{also}",
            **_reading(f"{names[0]}: {field_name}", fields[0]),
        )


def _reading(name: str, field: dataclasses.Field[Any]) -> dict[str, Any]:
    """How the command line gives a field."""
    if field.default is False:
        return {"action": "store_true"}
    if isinstance(field.default, tuple):
        kind = _texts if get_args(field.type)[0] is str else _numbers
        return {"type": kind, "metavar": "A,B,..."}
    if type(field.default) in (int, float, str):
        return {"type": type(field.default), "metavar": "X"}
    raise PartError(f"{name} needs a number, a text, a tuple of these, or False as its default")


def _owners(known: Mapping[str, Any]) -> dict[str, list[str]]:
    """The segmenters that have an option, by the name of the option."""
    owners: dict[str, list[str]] = {}
    for name, kind in known.items():
        given = [field for field in dataclasses.fields(kind) if field.init]
        for field in sorted(given, key=lambda field: bool(field.kw_only)):
            owners.setdefault(field.name, []).append(name)
    return owners


def _take_segmenter(options: dict[str, Any]) -> Segmenter | None:
    """The segmenter that some of the options describe, which are removed; None for `exact`."""
    name, fields = options.pop("segmenter"), {}
    known = _offered(name)
    for field_name, names in _owners(known).items():
        if field_name in options:
            fields[field_name] = options.pop(field_name)
            if name not in names:
                raise UserError(
                    f"{_flag(field_name)} is an option of --segmenter {' and '.join(names)}, "
                    f"not of {name}; leave it out"
                )
    return None if name == EXACT else known[name](**fields)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _numbers(text: str) -> tuple[float | int, ...]:
    try:
        return tuple(int(part) if part.isdigit() else float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list like 500,1000") from None


def _texts(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    with one_line_errors() as status:
        options = vars(_parse(argv))
        segmenter = _take_segmenter(options)
        if options.pop("dry_run"):
            names = ("source", "part", "unannotated", "min_matched")
            tried = check_dataset(segmenter=segmenter, **{name: options[name] for name in names})
            print(tried)
            if warning := tried.check(options["min_matched"], options["max_broken"]):
                print(warning, file=sys.stderr)
            return status.code
        if options["out"] is None:
            raise UserError("--out is missing: the folder of the records; see --help")
        result = segment_dataset(segmenter=segmenter, **options)  # the rest has its parameters
        print(result)
        if result.statistics and (warning := result.statistics.warning):
            print(warning, file=sys.stderr)
        if result.is_complete:
            print(_next_steps(result.folder))
    return status.code


def _next_steps(folder: pathlib.Path) -> str:
    """Commands that look at the records, and pre-train on them with batches that they fill."""
    splits = read_info(folder).splits
    learned_from, _ = choose_splits(tuple(splits), None)
    count = sum(shard.count for split in learned_from for shard in splits[split])
    batch_size = min(256, 2 ** (count.bit_length() - 1))  # a power of two, for several devices
    there, source = shlex.quote(str(folder)), shlex.quote(f"records:{folder}")
    workdir = shlex.quote(f"runs/{folder.resolve().name}")
    return (
        "\nNext, look at the regions and pre-train on them:\n"
        f"  python -m mask_tools.inspect {there} --preview preview.png --config {CONFIG}\n"
        f"  python -m jaxssl.train --config {CONFIG} --workdir {workdir}"
        f" --config.data.source={source} --config.batch_size={batch_size}\n"
        "On a CPU add --config.dtype=float32; with too little memory, lower the batch size."
    )


if __name__ == "__main__":
    sys.exit(main())
