"""What commands share on a terminal: errors of one line, tables."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence

MISTAKES = (ValueError, OSError, FloatingPointError)  # what a user can mend


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
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        status.code = 1
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        status.code = 130


def _log_plain_lines() -> None:
    """What `jaxssl` logs goes to stderr as it is; other libraries keep to their own ways."""
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
