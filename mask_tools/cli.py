"""Options of the commands: the fields of every segmenter, and numbers."""

import argparse
import dataclasses
import inspect
from typing import Any

from jaxssl.errors import UserError
from mask_tools.segmenters import EXACT, SEGMENTERS, Segmenter


def add_segmenters(parser: argparse.ArgumentParser) -> None:
    """Adds the fields of every segmenter."""
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
            settings = {"type": type(field.default), "metavar": "X"}
        if isinstance(field.default, tuple):
            settings = {"type": _numbers, "metavar": "A,B,..."}
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
    fields = {field_name: getattr(options, field_name) for field_name in given}
    segmenter: Segmenter = SEGMENTERS[options.segmenter](**fields)
    return segmenter


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _numbers(text: str) -> tuple[float | int, ...]:
    try:
        return tuple(int(part) if part.isdigit() else float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list like 500,1000") from None
