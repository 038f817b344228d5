"""Errors that are a user's to mend. Any other exception is a bug and keeps its traceback."""

import re

_LONG = re.compile(r"([^\s/]{100})[^\s/]{200,}")  # what is longer than any name of a file


class UserError(ValueError):
    """A user's mistake: what was given, what is allowed, what to do; commands print it as one line.

    Long values, which may come from a damaged file, are cut.
    """

    def __init__(self, message: object) -> None:
        super().__init__(_LONG.sub(r"\1...", str(message)))


class DivergenceError(UserError, FloatingPointError):
    """A loss or gradient that is not finite."""
