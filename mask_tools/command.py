"""How a command ends: with status 0, or with one line that says what was wrong."""

import argparse
import errno
import sys
from collections.abc import Callable


def positive(text: str) -> int:
    """An option's whole number above 0."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def run(name: str, command: Callable[[], object], *, interrupted: str) -> int:
    """Runs a command; returns its exit status, after a line on stderr if it did not succeed."""
    try:
        command()
    except KeyboardInterrupt:
        print(f"\n{name}: {interrupted}", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"{name}:", *_explain(error).split(), file=sys.stderr)
        return 1
    return 0


def _explain(error: ValueError | OSError) -> str:
    if not isinstance(error, OSError):
        return str(error)
    text = error.strerror or str(error)
    if error.filename is not None:
        text += f": {error.filename}"
    if error.errno == errno.ENOSPC:
        text += "; free some space and give the same command again"
    return text
