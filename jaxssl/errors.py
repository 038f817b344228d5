"""Errors that are a user's to mend. Any other exception is a bug and keeps its traceback."""

import math
import re
from collections.abc import Callable, Collection
from typing import Any

_LONG = re.compile(r"([^\s/]{100})[^\s/]{200,}")  # what is longer than any name of a file


class UserError(ValueError):
    """A user's mistake: what was given, what is allowed, what to do; commands print it as one line.

    Long values, which may come from a damaged file, are cut.
    """

    def __init__(self, message: object) -> None:
        super().__init__(_LONG.sub(r"\1...", str(message)))


class DivergenceError(UserError, FloatingPointError):
    """A loss or gradient that is not finite."""


class PartError(UserError):
    """A part that is not jaxssl's own is not there or lacks something."""


RANGES: dict[str, Callable[[float], bool]] = {
    "0 or more": lambda x: x >= 0,
    "1 or more": lambda x: x >= 1,
    "2 or more": lambda x: x >= 2,
    "above 0": lambda x: x > 0,
    "from 0 to 1": lambda x: 0 <= x <= 1,
    "from 0 to 3": lambda x: 0 <= x <= 3,
    "from 0 to 2**32 - 1": lambda x: 0 <= x < 2**32,
    "in (0, 1]": lambda x: 0 < x <= 1,
    "in [0, 1)": lambda x: 0 <= x < 1,
}


def check_range(name: str, value: Any, allowed: str) -> None:
    """Raises UserError unless a number, or each of several, is finite and in a range.

    Args:
      name: of the number, as the user knows it.
      value: a number or a tuple of numbers.
      allowed: a key of `RANGES`.
    """
    numbers = value if isinstance(value, tuple | list) else (value,)
    if not all(number < math.inf and RANGES[allowed](number) for number in numbers):
        raise UserError(f"{name} is {value}; it must be {allowed}")


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Raises UserError unless a value is one of the choices."""
    if value not in choices:
        raise UserError(f"{name} is {value!r}; choose one of {', '.join(map(str, choices))}")
