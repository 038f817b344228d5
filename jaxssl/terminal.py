"""What commands share on a terminal: options, errors of one line, tables."""

import argparse
import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from jaxssl.errors import UserError


class Parser(argparse.ArgumentParser):
    """Reports a mistake as a one-line error, like any other."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def positive(text: str) -> int:
    """An option's whole number above 0."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


class Status:
    """The exit status of a command."""

    code = 0


@contextlib.contextmanager
def one_line_errors(
    interrupted: str = "interrupted; the same command continues",
) -> Iterator[Status]:
    """Prints a user's mistake as one line and sets status 1; JAXSSL_TRACEBACK=1 shows where.

    Mistakes are `UserError`s and the `OSError`s that name a file. Any other exception is a bug, and
    passes with its traceback. On Ctrl-C `interrupted` is printed, and the status 130.
    """
    _log_plain_lines()
    status = Status()
    try:
        yield status
    except UserError as error:
        _report(error, str(error), status)
    except OSError as error:
        if error.filename is None:
            raise
        advice = "; free some space and give the same command again"
        full = error.errno == errno.ENOSPC
        _report(error, f"{error.strerror}: {error.filename}{advice if full else ''}", status)
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        advice = "lower batch_size, set --config.remat=True or --config.data.input=host"
        _report(error, f"the device is out of memory; {advice}", status)
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        status.code = 130


def _report(error: Exception, message: str, status: Status) -> None:
    if os.environ.get("JAXSSL_TRACEBACK"):
        raise error
    print("error:", *message.split(), "(JAXSSL_TRACEBACK=1 shows where)", file=sys.stderr)
    status.code = 1


def _log_plain_lines() -> None:
    """What `jaxssl` logs goes to stderr as it is; other libraries keep to their own ways."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax remarks on what was asked of it
    logger = logging.getLogger("jaxssl")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [logging.StreamHandler(sys.stderr)]


def format_table(rows: Sequence[Sequence[str]], *, heading: bool = True) -> str:
    """Rows of cells as aligned text; the first column holds the names.

    With a heading, which is the first row, the other cells are numbers and stand to the right;
    without one they are text and stand to the left.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if heading and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    lines = [line(row) for row in rows]
    return "\n".join(
        [lines[0], "  ".join("-" * w for w in widths), *lines[1:]] if heading else lines
    )
