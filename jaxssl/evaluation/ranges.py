"""What the numbers of a protocol must be, whatever the data."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from jaxssl.errors import UserError

RANGES: dict[str, Callable[[float], bool]] = {
    "0 or more": lambda x: x >= 0,
    "1 or more": lambda x: x >= 1,
    "2 or more": lambda x: x >= 2,
    "above 0": lambda x: x > 0,
    "from 0 to 1": lambda x: 0 <= x <= 1,
    "from 0 to 3": lambda x: 0 <= x <= 3,
    "in (0, 1]": lambda x: 0 < x <= 1,
    "in [0, 1)": lambda x: 0 <= x < 1,
}
MAY_BE_EMPTY = ("milestones",)


def check_numbers(protocol: Any, fields: Mapping[str, str]) -> None:
    """Raises UserError unless the numbers of a protocol are finite and in their ranges.

    Args:
      protocol: with fields that are numbers, or several each.
      fields: names of fields, separated by spaces, by their range, a key of `RANGES`.
    """
    for what, names in fields.items():
        for name in names.split():
            value = getattr(protocol, name)
            numbers = value if isinstance(value, tuple | list) else (value,)
            if not (numbers or name in MAY_BE_EMPTY):
                raise UserError(f"{name} is (); give one or more numbers")
            if not all(number < math.inf and RANGES[what](number) for number in numbers):
                raise UserError(f"{name} is {value}; it must be {what}")
