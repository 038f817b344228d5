"""Commands that find the disk full, are told to stop, lose their terminal, or meet another.

    python tests/faults/ends.py
    python tests/faults/ends.py --cases full_cache,two_exports

Prints a row for each case: what a user read. The status is 0 if every command ended in one line,
and the same command again gave what one gives that was let be. Full disks are file systems in
memory that this process alone sees, so none is left however it ends (Linux, with `unshare`).
"""

import argparse
import contextlib
import dataclasses
import functools
import logging
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
from kills import files, launch, settings, trained
from PIL import Image

TRAIN = ["jaxssl.train", "--config", "configs/quickstart.py:simclr"]
LONG = {"epochs": 20}  # long enough to be met
SLOW = {
    "data.source": "scenes:2000",
    "data.pixels": 9216,
    "data.input": "host",
    "epochs": 1,
    "batch_size": 200,
    "log_every": 10,
    "checkpoint.every": 100,
}  # to be met while it decodes
SECONDS = 600  # of a command
GOES_ON = "interrupted; the same command continues"


@dataclasses.dataclass
class Place:
    """Where a case runs its commands, and what they said."""

    scratch: pathlib.Path
    said: list[str] = dataclasses.field(default_factory=list)
    _started: int = 0

    def start(self, *words: object, shell: str = "") -> "Command":
        """`python -m` and these words; with `shell`, what follows them on a line of bash."""
        self._started += 1
        command = [sys.executable, "-m", *map(str, words)]
        if shell:
            command = ["bash", "-c", f"set -o pipefail; {shlex.join(command)} {shell}"]
        log = f"{self.scratch.name}-{self._started}.log"
        process = launch(command, self.scratch.parent, log)
        return Command(process, self.scratch.parent / log, self.said)

    def train(self, name: str = "run", shell: str = "", **options: object) -> "Command":
        """A training in a folder of that name; `data__source` is the option data.source."""
        given = {key.replace("__", "."): value for key, value in options.items()}
        return self.start(*TRAIN, "--workdir", self.scratch / name, *settings(given), shell=shell)

    @contextlib.contextmanager
    def disk(self, megabytes: int = 16) -> Iterator[pathlib.Path]:
        """A small disk."""
        folder = self.scratch / "disk"
        folder.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "x", folder], check=True
        )
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


@functools.cache
def whole(scratch: pathlib.Path, **options: object) -> dict[str, str]:
    """What a training gives that is let be."""
    place = Place(scratch / f"whole{len(list(scratch.glob('whole*')))}")
    place.train(**options).ends()
    return trained(place.scratch / "run")


def is_as_whole(place: Place, workdir: str = "run", **options: object) -> None:
    place.train(workdir, **options).ends()
    good = whole(place.scratch.parent, **options)
    assert trained(place.scratch / workdir) == good, "other parameters or metrics"


def meets_a_full_disk(place: Place, workdir: str, leave: int, names: str, **options: int) -> None:
    with place.disk() as disk:
        training = place.train(workdir, **LONG, **options)
        metrics = place.scratch / workdir / "metrics.jsonl"
        training.until(lambda: metrics.is_file() and metrics.read_text().count("\n") > 5)
        filler = fill(disk, leave)
        training.ends("No space left on device", names, status=1)
        filler.unlink()
        is_as_whole(place, workdir, **LONG, **options)


def full_checkpoint(place: Place) -> None:
    meets_a_full_disk(place, "disk/run", 2**16, "run/checkpoints", checkpoint__every=3)


def full_metrics(place: Place) -> None:
    meets_a_full_disk(place, "disk/run", 0, "run/metrics.jsonl", checkpoint__every=10**6)


def full_tensorboard(place: Place) -> None:
    (place.scratch / "run").mkdir()
    (place.scratch / "run" / "tensorboard").symlink_to("../disk")
    meets_a_full_disk(place, "run", 0, "run/tensorboard")


def full_cache(place: Place) -> None:
    with place.disk() as disk:
        options = SLOW | {"data.cache_dir": disk}
        given = {key.replace(".", "__"): value for key, value in options.items()}
        place.train(**given).ends("canvases cannot be kept in", "GB are free", status=1)
        subprocess.run(["mount", "-o", "remount,size=500m", disk], check=True)
        training = place.train(**given)
        training.until(lambda: any(path.stat().st_size for path in disk.glob("*/journal")))
        filler = fill(disk)
        training.ends("canvases cannot be kept in", "No space left on device", status=1)
        filler.unlink()
        place.train(**given).ends()


def finds_no_room(place: Place, disk: pathlib.Path, name: str, *words: object) -> None:
    filler = fill(disk)
    place.start(*words).ends("No space left on device", disk, status=1)
    assert not (disk / name).is_file(), "a file that is not whole has its name"
    filler.unlink()
    place.start(*words).ends()
    assert (disk / name).is_file()


def full_page(place: Place) -> None:
    place.train().ends()
    with place.disk() as disk:
        words = [place.scratch / "run", "--out", disk / "report.html"]
        finds_no_room(place, disk, "report.html", "jaxssl.report", *words)


def full_weights(place: Place) -> None:
    place.train().ends()
    with place.disk() as disk:
        words = [
            "--workdir",
            place.scratch / "run",
            "--format",
            "flax",
            "--out",
            disk / "w.safetensors",
        ]
        finds_no_room(place, disk, "w.safetensors", "jaxssl.export", *words)


def full_evaluation(place: Place) -> None:
    with place.disk() as disk:
        place.train("disk").ends()
        words = [
            "--workdir",
            disk,
            "--tasks",
            "knn",
            "--datasets",
            "objects:64",
            "--set",
            "knn.k=5",
        ]
        finds_no_room(place, disk, "eval.json", "jaxssl.evaluate", *words)


def export(place: Place, name: str, source: object = "scenes:72") -> Command:
    options = [
        "--segmenter",
        "fh",
        "--shards",
        "12",
        "--workers",
        "2",
        "--out",
        place.scratch / name,
    ]
    return place.start("mask_tools.export", "--source", source, *options)


def full_records(place: Place) -> None:
    export(place, "whole").ends()
    with place.disk() as disk:
        filler = fill(disk, 2**16)
        export(place, "disk/records").ends("No space left on device", disk, status=1)
        filler.unlink()
        export(place, "disk/records").ends()
        assert files(disk / "records") == files(place.scratch / "whole")


def two_fill_a_cache(place: Place) -> None:
    options = {"data__input": "host", "data__cache_dir": place.scratch / "cache"}
    trainings = [place.train(name, **options) for name in ("run", "other")]
    for training in trainings:
        training.ends()
    assert trained(place.scratch / "run") == trained(place.scratch / "other")
    assert len(list((place.scratch / "cache").iterdir())) == 1


def two_exports(place: Place) -> None:
    both = [export(place, "records") for _ in range(2)]
    codes = sorted(one.process.wait(SECONDS) for one in both)
    place.said.append(f"statuses {codes}")
    for one in both:
        one.ends(status=one.process.returncode)
    assert codes[0] == 0
    export(place, "whole").ends()
    assert files(place.scratch / "records") == files(place.scratch / "whole")


def two_trainings(place: Place) -> None:
    first = place.train(**LONG)
    first.until((place.scratch / "run" / "checkpoints").is_dir)
    place.train(**LONG).ends("another run is writing to", first.process.pid, status=1)
    first.ends()


def evaluated_meanwhile(place: Place) -> None:
    options = LONG | {"checkpoint__every": 1}
    training = place.train(**options)
    training.until(lambda: any(p.name.isdigit() for p in place.scratch.glob("run/checkpoints/*")))
    words = ["--tasks", "knn", "--datasets", "objects:64", "--set", "knn.k=5"]
    place.start("jaxssl.evaluate", "--workdir", place.scratch / "run", *words).ends()
    training.ends()
    is_as_whole(place, **options)


def images(place: Place) -> pathlib.Path:
    folder = place.scratch / "images"
    folder.mkdir()
    for number in range(72):
        pixels = np.random.default_rng(number).integers(0, 256, (96, 96, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def renamed_under_a_training(place: Place) -> None:
    folder = images(place)
    options = LONG | {"data__source": f"folder:{folder}", "data__input": "stream"}
    training = place.train(**options, data__workers=2)
    metrics = place.scratch / "run" / "metrics.jsonl"
    training.until(lambda: metrics.is_file() and metrics.read_text().count("\n") > 2)
    folder.rename(place.scratch / "away")
    training.ends(f"{folder} is gone; put it back to continue", status=1)
    (place.scratch / "away").rename(folder)
    is_as_whole(place, **options)


def renamed_under_an_export(place: Place) -> None:
    folder = images(place)
    exporting = export(place, "records", f"folder:{folder}")
    exporting.until(lambda: any(place.scratch.glob("records/*.tfrecord")))
    folder.rename(place.scratch / "away")
    exporting.ends(f"{folder} is gone; put it back to continue", status=1)
    (place.scratch / "away").rename(folder)
    export(place, "records", f"folder:{folder}").ends()
    export(place, "whole", f"folder:{folder}").ends()
    assert files(place.scratch / "records") == files(place.scratch / "whole")


def stopped_while_filling(place: Place, number: int) -> None:
    options = {key.replace(".", "__"): value for key, value in SLOW.items()}
    options["data__cache_dir"] = place.scratch / "cache"
    training = place.train(**options)
    cache = place.scratch / "cache"
    training.until(lambda: any(path.stat().st_size for path in cache.glob("*/journal")))
    training.process.send_signal(number)
    training.ends(GOES_ON)
    (journal,) = cache.glob("*/journal")
    assert journal.stat().st_size
    assert not journal.with_name("store.json").exists()
    place.train(**options).ends()


def sigterm_while_filling(place: Place) -> None:
    stopped_while_filling(place, signal.SIGTERM)


def sighup_while_filling(place: Place) -> None:
    stopped_while_filling(place, signal.SIGHUP)


def nobody_reads(place: Place) -> None:
    for number, shell in enumerate(("2>&1 | head -1", "2>&-", ">&- 2>&-", "2>/dev/full")):
        place.train(f"run{number}", shell=shell).ends()
        assert trained(place.scratch / f"run{number}") == whole(place.scratch.parent)


CASES = [
    full_checkpoint, full_metrics, full_tensorboard, full_cache, full_page, full_weights,
    full_evaluation, full_records, two_fill_a_cache, two_exports, two_trainings,
    evaluated_meanwhile, renamed_under_a_training, renamed_under_an_export,
    sigterm_while_filling, sighup_while_filling, nobody_reads,
]  # fmt: skip


def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(case.__name__ for case in CASES))
    parser.add_argument("--inside", action="store_true", help="has file systems of its own")
    args = parser.parse_args()
    if not args.inside:
        own = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
        os.execvp(own[0], [*own, sys.executable, *sys.argv, "--inside"])
    logging.disable()
    print("| case | as it should | what a user read |\n|", "--- |" * 3)
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        for case in CASES:
            if case.__name__ not in args.cases.split(","):
                continue
            place = Place(pathlib.Path(scratch, case.__name__))
            place.scratch.mkdir()
            try:
                case(place)
                verdict = "yes"
            except AssertionError as error:
                verdict, wrong = f"no: {error}", wrong + 1
            said = "; ".join(f"`{line.replace(scratch, '...')}`" for line in place.said)
            print(f"| {case.__name__} | {verdict} | {said} |", flush=True)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
