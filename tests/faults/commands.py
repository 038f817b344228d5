"""Commands as a user gives them, on disks that may be full; for `ends.py`."""

import contextlib
import dataclasses
import pathlib
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from kills import launch, settings

TRAIN = "jaxssl.train --config configs/quickstart.py:simclr --workdir"
SECONDS = 600  # of a command


@dataclasses.dataclass
class Place:
    """Where a case runs its commands, and what they said."""

    scratch: pathlib.Path
    said: list[str] = dataclasses.field(default_factory=list)
    started: list[subprocess.Popen[bytes]] = dataclasses.field(default_factory=list)

    def start(self, words: str, shell: str = "") -> "Command":
        """`python -m` and these words; with `shell`, what follows them on a line of bash."""
        command = [sys.executable, "-m", *shlex.split(words)]
        if shell:
            command = ["bash", "-c", f"set -o pipefail; {shlex.join(command)} {shell}"]
        log = f"{self.scratch.name}-{len(self.started)}.log"
        self.started.append(launch(command, self.scratch.parent, log))
        return Command(self.started[-1], self.scratch.parent / log, self.said)

    def train(self, name: str = "run", shell: str = "", **options: object) -> "Command":
        """A training in a folder of that name; `data__source` is the option data.source."""
        given = settings({key.replace("__", "."): value for key, value in options.items()})
        return self.start(f"{TRAIN} {self.scratch / name} {shlex.join(given)}", shell)

    def export(self, name: str, source: object = "scenes:72") -> "Command":
        options = "--segmenter fh --shards 12 --workers 2"
        out = self.scratch / name
        return self.start(f"mask_tools.export --source {source} {options} --out {out}")

    @contextlib.contextmanager
    def disk(self) -> Iterator[pathlib.Path]:
        """A small disk."""
        folder = self.scratch / "disk"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "x", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@dataclasses.dataclass
class Command:
    process: subprocess.Popen[bytes]
    log: pathlib.Path
    said: list[str]

    def until(self, condition: Callable[[], object]) -> None:
        """Waits for it, while the command runs."""
        while not condition():
            assert self.process.poll() is None, f"ended before: {self.log.read_text()[-2000:]}"
            time.sleep(0.001)

    def ends(self, *words: object, status: int = 0) -> None:
        """With this status and, in its last line, these words; if it is 1, in one line of error."""
        try:
            code = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = -1
        printed = self.log.read_text()
        lines = printed.splitlines() or [""]
        assert code == status, f"status {code}, not {status}: {printed[-2000:]}"
        assert "Traceback" not in printed, printed
        errors = [line for line in lines if "error" in line.lower()]
        assert len(errors) == (status == 1), printed[-2000:]
        assert all(str(word) in lines[-1] for word in words), f"{words} not in {lines[-1]}"
        if words:
            self.said.append(lines[-1])


def fill(disk: pathlib.Path, leave: int = 0) -> pathlib.Path:
    """A file that takes what is free on a disk, but for so many bytes."""
    path = disk / "filler"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while shutil.disk_usage(disk).free > leave:
            file.write(bytes(4096))
    return path
