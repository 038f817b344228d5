"""Errors that are a user's to mend. Any other exception is a bug and keeps its traceback."""


class UserError(ValueError):
    """What was given, what is allowed, what to do: commands print it as one line."""


class DivergenceError(UserError, FloatingPointError):
    """A loss or gradient that is not finite."""
