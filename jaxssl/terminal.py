"""The parts that commands share on a terminal: options, one-line errors, tables."""

import argparse
import atexit
import contextlib
import errno
import io
import logging
import os
import pathlib
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, TextIO

from jaxssl.errors import UserError
from jaxssl.files import is_full
from jaxssl.stopping import StopSignal

_STDOUT, _STDERR = 1, 2


class Parser(argparse.ArgumentParser):
    """Reports a mistake as a one-line error, like any other.

    It is called what the user called it: `prog`, `python -m` and a module, or the script of it that
    installing writes, `jaxssl-train` and the like.
    """

    def __init__(self, prog: str, **options: Any) -> None:
        script = pathlib.Path(sys.argv[0]).stem
        super().__init__(prog=script if script.startswith("jaxssl-") else prog, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def given_path(text: str) -> pathlib.Path:
    """An option's path: of "", as a variable that is not set gives, the folder here would come."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return pathlib.Path(text)


def records_folder(text: str) -> pathlib.Path:
    """An option's folder of records, which may be given as the source records:DIR."""
    return given_path(text.removeprefix("records:"))


def positive(text: str) -> int:
    """An option's whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def zero_or_more(text: str) -> int:
    """An option's whole number, which may be 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 0 or more")
    return int(text)


def whole_numbers(text: str) -> tuple[int, ...]:
    """An option's list of whole numbers, such as 0,11."""
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        message = f"{text!r} is no list of whole numbers like 0,11"
        raise argparse.ArgumentTypeError(message) from None


class Status:
    """The exit status of a command."""

    code = 0


@contextlib.contextmanager
def one_line_errors(
    interrupted: str = "interrupted; the same command continues",
    *,
    saves: bool = False,
    less_memory: str = "stop what else is running on it, or set JAX_PLATFORMS=cpu",
) -> Iterator[Status]:
    """Prints a user's mistake as one line and sets status 1; JAXSSL_TRACEBACK=1 shows where.

    Mistakes are `UserError`s and the `OSError`s that name a file. Any other exception is a bug, and
    passes with its traceback.

    Args:
      interrupted: printed on Ctrl-C and the other signals of `StopSignal`. The status is 128 and
        the signal's number.
      saves: of a command that is complete in itself whenever it is stopped: its status is 0 on all
        of them but Ctrl-C.
      less_memory: what to do where the device has too little, by the command's own options.
    """
    status = Status()
    with _quiet_output(), _plain_log_lines(), StopSignal(raises=True):
        try:
            yield status
            sys.stdout.flush()
        except UserError as error:
            _report(error, str(error), status)
        except OSError as error:
            if error.filename is None:
                raise
            advice = "; free some space and give the same command again"
            message = f"{error.strerror}: {error.filename}{advice if is_full(error) else ''}"
            _report(error, message, status)
        except RuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            _report(error, f"the device is out of memory; {less_memory}", status)
        except KeyboardInterrupt as interrupt:
            print(interrupted, file=sys.stderr)
            number = interrupt.args[0] if interrupt.args else signal.SIGINT
            status.code = 0 if saves and number != signal.SIGINT else 128 + number
        finally:
            # While JAX cleans up, Ctrl-C would be a traceback.
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)


def _report(error: Exception, message: str, status: Status) -> None:
    if os.environ.get("JAXSSL_TRACEBACK"):
        raise error
    print("error:", *message.split(), "(JAXSSL_TRACEBACK=1 shows where)", file=sys.stderr)
    status.code = 1


class _Lasting(io.FileIO):
    """A standard stream whose reader may end, as `head` does, or a terminal that may be closed."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            gone = error.errno in (errno.EPIPE, errno.EIO)
            if self.fileno() == _STDOUT and not gone:
                raise OSError(error.errno, error.strerror, "standard output") from error
            return len(data)  # messages must not end what they tell of


@contextlib.contextmanager
def _quiet_output() -> Iterator[None]:
    """Lets a command go on when nobody reads what it prints; not where it prints into a program.

    A failed write of a checkpoint is raised; that threads of TensorStore then miss the event loop
    which Orbax has closed is not printed as well.
    """
    before, print_error = (sys.stdout, sys.stderr), sys.unraisablehook

    def print_others(error: "sys.UnraisableHookArgs") -> None:
        if str(error.exc_value) != "Event loop is closed":
            print_error(error)

    sys.unraisablehook = print_others
    if sys.stdout is sys.__stdout__:
        sys.stdout = _lasting(sys.stdout, _STDOUT)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _lasting(sys.stderr, _STDERR)
    try:
        yield
    finally:
        (sys.stdout, sys.stderr), sys.unraisablehook = before, print_error


def _lasting(stream: TextIO | None, descriptor: int) -> io.TextIOWrapper:
    if stream is None:  # it was closed when the program began
        return open(os.devnull, "w")
    stream.flush()
    file = io.BufferedWriter(_Lasting(descriptor, "w", closefd=False))
    line_buffering = stream.isatty() or descriptor == _STDERR
    # The name of a file may be no text in any encoding, and must not end what tells of it.
    return io.TextIOWrapper(
        file, stream.encoding, "backslashreplace", line_buffering=line_buffering
    )


@contextlib.contextmanager
def _plain_log_lines() -> Iterator[None]:
    """Prints the log messages of `jaxssl` to stderr as they are, and silences some of Orbax."""
    # Orbax remarks on what was asked of it, and reports what it raises as well.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    logger = logging.getLogger("jaxssl")
    before = logger.level, logger.propagate, logger.handlers
    logger.setLevel(logging.INFO)
    logger.propagate, logger.handlers = False, [logging.StreamHandler(sys.stderr)]
    try:
        yield
    finally:
        logger.setLevel(before[0])
        _, logger.propagate, logger.handlers = before


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
