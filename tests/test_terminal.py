"""Commands end in one line and a status, whoever reads what they print."""

import os
import pathlib
import signal
import subprocess
import sys
import time
import tomllib

import pytest

from jaxssl import evaluate, export, train
from jaxssl.errors import UserError
from jaxssl.terminal import Parser, one_line_errors

ROOT = pathlib.Path(__file__).parents[1]
CHATTY = """
import sys
from jaxssl.terminal import one_line_errors
with one_line_errors() as status:
    for number in range(20000):
        print("a result", number)
        print("a message", number, file=sys.stderr)
    open(sys.argv[1], "w").write("done")
sys.exit(status.code)
"""


@pytest.mark.parametrize(
    ("number", "saves", "code"),
    [
        (signal.SIGINT, False, 130),
        (signal.SIGINT, True, 130),
        (signal.SIGTERM, False, 143),
        (signal.SIGTERM, True, 0),
        (signal.SIGHUP, True, 0),
    ],
)
def test_a_signal_is_one_line(capsys, number, saves, code):
    with one_line_errors("stopped", saves=saves) as status:
        os.kill(os.getpid(), number)
    assert status.code == code
    assert capsys.readouterr().err == "stopped\n"


def test_ctrl_c_while_python_collects_garbage(capsys):
    class Garbage:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)

    with one_line_errors("stopped") as status:
        Garbage()  # where no exception can be raised
        time.sleep(60)
    assert capsys.readouterr().err == "stopped\n"
    assert status.code == 130


@pytest.mark.parametrize(
    ("last", "said"), [("os.kill(os.getpid(), signal.SIGINT)", "stopped\n"), ("pass", "")]
)
def test_ctrl_c_at_the_very_end_is_no_traceback(last, said):
    leaves = (
        "import atexit, os, signal\n"
        "from jaxssl.terminal import one_line_errors\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"  # as JAX cleans up
        "with one_line_errors('stopped'):\n"
        f"    {last}"
    )
    ended = subprocess.run([sys.executable, "-c", leaves], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, said)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (train, "lower --config.batch_size, set --config.remat=True or"),
        (evaluate, "lower --batch-size, or"),
        (export, "or set JAX_PLATFORMS=cpu"),
    ],
)
def test_commands_out_of_memory_name_options_of_their_own(monkeypatch, capsys, command, option):
    def parse(*words):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 4 bytes")

    monkeypatch.setattr(Parser, "parse_args", parse)
    monkeypatch.setattr(Parser, "parse_known_args", parse)
    assert command.main([]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: the device is out of memory; ")
    assert option in said


@pytest.mark.parametrize(
    "reader",
    [
        "| head -1",
        "2>&1 | head -1",
        "2> >(head -1)",
        "2>&-",
        ">&- 2>&-",
        "<&- >&- 2>&-",
        "2>/dev/full",
    ],
)
def test_a_command_goes_on_when_nobody_reads_it(tmp_path, reader):
    command = f"set -o pipefail; {sys.executable} -c '{CHATTY}' {tmp_path}/done {reader}"
    ended = subprocess.run(
        ["bash", "-c", command], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "done").read_text() == "done"
    assert b"rror" not in ended.stderr


def test_results_that_find_no_room_are_an_error(tmp_path):
    ended = subprocess.run(
        ["bash", "-c", f"{sys.executable} -c '{CHATTY}' {tmp_path}/done >/dev/full"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    error = "error: No space left on device: standard output; free some space"
    assert ended.stderr.splitlines()[-1].startswith(error)


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [("utf-8", "A Stra\\udcdfe.jpg 猫.jpg"), ("latin-1", "A Stra\\udcdfe.jpg \\u732b.jpg")],
)
def test_names_that_a_terminal_cannot_show_are_printed_all_the_same(encoding, printed):
    prints = (
        "from jaxssl.terminal import one_line_errors\n"
        "with one_line_errors():\n"
        '    print("A Stra\\udcdfe.jpg", "猫.jpg")'
    )
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": f"{encoding}:strict"}
    ended = subprocess.run([sys.executable, "-c", prints], env=env, capture_output=True, check=True)
    assert ended.stdout.decode(encoding).strip() == printed


@pytest.mark.parametrize(
    ("program", "name"),
    [("/env/bin/jaxssl-train", "jaxssl-train"), ("jaxssl/train.py", "python -m jaxssl.train")],
)
def test_help_names_the_command_as_it_was_given(monkeypatch, program, name):
    monkeypatch.setattr(sys, "argv", [program])
    with pytest.raises(UserError, match=f"see {name} --help"):
        Parser("python -m jaxssl.train").parse_args(["--no-such-option"])


def test_scripts_are_the_commands():
    """Each module that is a command has a script, and the script calls it."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    files = [path for name in ("jaxssl", "mask_tools") for path in (ROOT / name).glob("*.py")]
    commands = {
        f"{path.parent.name}.{path.stem}:main"
        for path in files
        if '\nif __name__ == "__main__"' in path.read_text()
    }
    assert set(scripts.values()) == commands
    assert all(name.startswith("jaxssl-") for name in scripts)
