"""What commands share on a terminal: errors of one line, tables."""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

MISTAKES = (ValueError, OSError, FloatingPointError)  # what a user can mend


class Parser(argparse.ArgumentParser):
    """Reports a mistake as an error of one line, like any other."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


class Status:
    """The exit status of a command."""

    code = 0


@contextlib.contextmanager
def one_line_errors() -> Iterator[Status]:
    """Prints a user's mistake as one line and sets status 1; JAXSSL_TRACEBACK=1 shows where."""
    _log_plain_lines()
    status = Status()
    try:
        yield status
    except MISTAKES as error:
        if os.environ.get("JAXSSL_TRACEBACK"):
            raise
        _report(str(error), status)
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        _report(
            "the device is out of memory; lower batch_size, set --config.remat=True or "
            "--config.data.input=host",
            status,
        )
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        status.code = 130


def _report(message: str, status: Status) -> None:
    print("error:", *message.split(), file=sys.stderr)
    status.code = 1


def _log_plain_lines() -> None:
    """What `jaxssl` logs goes to stderr as it is; other libraries keep to their own ways."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax remarks on what was asked of it
    logger = logging.getLogger("jaxssl")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [logging.StreamHandler(sys.stderr)]


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned text; the first row is the heading, the first column the names."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(c.rjust(w) for c, w in rest)])

    return "\n".join([line(rows[0]), "  ".join("-" * w for w in widths), *map(line, rows[1:])])
