"""What the numbers of a protocol must be, whatever the data."""

from collections.abc import Mapping
from typing import Any

from jaxssl.errors import UserError, check_range

MAY_BE_EMPTY = ("milestones",)


def check_numbers(protocol: Any, fields: Mapping[str, str]) -> None:
    """Raises UserError unless the numbers of a protocol are finite and in their ranges.

    Args:
      protocol: with fields that are numbers, or several each.
      fields: names of fields, separated by spaces, by their range, a key of `errors.RANGES`.
    """
    for what, names in fields.items():
        for name in names.split():
            if (value := getattr(protocol, name)) == () and name not in MAY_BE_EMPTY:
                raise UserError(f"{name} is (); give one or more numbers")
            check_range(name, value, what)
