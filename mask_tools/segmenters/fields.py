"""The fields of segmenters, as the command line or Python gives them."""

import dataclasses
import math
import numbers
import os
from collections.abc import Iterable
from typing import Any, get_args

import numpy as np

from jaxssl.errors import UserError

_WANTED = {
    bool: "True or False",
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    tuple: "a list, such as (500, 1000) for numbers",
}


def take_fields(segmenter: Any) -> None:
    """Brings each field of a segmenter to the type of its default: that of records' `info.json`.

    A path becomes its text, a number alone the only one of its list. Raises `UserError` where a
    field is of another type, or no finite number.
    """
    for field in dataclasses.fields(segmenter):
        given, kind = getattr(segmenter, field.name), type(field.default)
        if kind is tuple:
            taken = _take_list(given, get_args(field.type)[0] is str)
        else:
            taken = _take(given, kind) if kind in _WANTED else given
        if taken is None:
            option = f"--{field.name.replace('_', '-')}"
            raise UserError(f"{option} {given!r}: give {_WANTED[kind]}")
        object.__setattr__(segmenter, field.name, taken)


def _take(given: Any, kind: type) -> Any:
    """The value in that type; None if it is of another."""
    if kind is str:
        given = os.fspath(given) if isinstance(given, os.PathLike) else given
        return given if isinstance(given, str) else None
    if kind is bool:
        return given if isinstance(given, bool) else None
    wanted = numbers.Integral if kind is int else numbers.Real
    known = isinstance(given, wanted) and _is_number(given) and math.isfinite(given)
    return kind(given) if known else None


def _take_list(given: Any, of_texts: bool) -> tuple[Any, ...] | None:
    """The values of a list; a value alone counts as one of them. None if some are of other types.

    What numbers may be there the segmenter knows.
    """
    few = given if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    few = [value.item() if isinstance(value, np.generic) else value for value in few]
    known = all(isinstance(value, str) if of_texts else _is_number(value) for value in few)
    return tuple(few) if known else None


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
