"""Commands that find the disk full, are told to stop, lose their terminal, or meet another.

    python tests/faults/ends.py
    python tests/faults/ends.py --cases full_cache,two_exports

Prints a row for each case: what a user read. The status is 0 if every command ended in one line,
and the same command again gave what one gives that was let be. Full disks are file systems in
memory that this process alone sees, so none is left however it ends (Linux, with `unshare`).
"""

import argparse
import functools
import logging
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable

import numpy as np
from commands import SECONDS, Place, fill
from kills import files, trained
from PIL import Image

LONG = {"epochs": 20}  # long enough to be met
SLOW = {  # to be met while it decodes
        "data__source": "scenes:2000", "data__pixels": 9216, "data__input": "host", "epochs": 1,
        "batch_size": 200, "log_every": 10, "checkpoint__every": 100}  # fmt: skip
EVALUATE = "jaxssl.evaluate --tasks knn --datasets objects:64 --set knn.k=5 --workdir"


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


def full_tensorboard(place: Place) -> None:
    (place.scratch / "run").mkdir()
    (place.scratch / "run" / "tensorboard").symlink_to("../disk")
    meets_a_full_disk(place, "run", 0, "run/tensorboard")


def full_cache(place: Place) -> None:
    with place.disk() as disk:
        given = SLOW | {"data__cache_dir": disk}
        place.train(**given).ends("canvases cannot be kept in", "GB are free", status=1)
        subprocess.run(["mount", "-o", "remount,size=500m", disk], check=True)
        training = place.train(**given)
        training.until(lambda: any(path.stat().st_size for path in disk.glob("*/journal")))
        filler = fill(disk)
        training.ends("canvases cannot be kept in", "No space left on device", status=1)
        filler.unlink()
        place.train(**given).ends()


def finds_no_room(place: Place, words: str, name: str) -> None:
    """A command that writes a file of this name, of what is in `run`, on a full disk."""
    with place.disk() as disk:
        run = disk if name == "eval.json" else place.scratch / "run"
        place.train(str(run)).ends()
        words, filler = words.format(run=run, out=disk / name), fill(disk)
        place.start(words).ends("No space left on device", disk, status=1)
        assert not (disk / name).is_file(), "a file that is not whole has its name"
        filler.unlink()
        place.start(words).ends()
        assert (disk / name).is_file()


def exports_as_whole(place: Place, name: str = "records", source: str = "scenes:72") -> None:
    for folder in (name, "whole"):
        place.export(folder, source).ends()
    assert files(place.scratch / name) == files(place.scratch / "whole"), "other records"


def full_records(place: Place) -> None:
    with place.disk() as disk:
        filler = fill(disk, 2**16)
        place.export("disk/records").ends("No space left on device", disk, status=1)
        filler.unlink()
        exports_as_whole(place, "disk/records")


def two_fill_a_cache(place: Place) -> None:
    options = {"data__input": "host", "data__cache_dir": place.scratch / "cache"}
    trainings = [place.train(name, **options) for name in ("run", "other")]
    for training in trainings:
        training.ends()
    assert trained(place.scratch / "run") == trained(place.scratch / "other")
    assert len(list((place.scratch / "cache").iterdir())) == 1


def two_exports(place: Place) -> None:
    both = [place.export("records") for _ in range(2)]
    codes = sorted(one.process.wait(SECONDS) for one in both)
    place.said.append(f"statuses {codes}")
    for one in both:
        one.ends(status=one.process.returncode)
    assert codes[0] == 0
    exports_as_whole(place)


def two_trainings(place: Place) -> None:
    first = place.train(**LONG)
    first.until((place.scratch / "run" / "checkpoints").is_dir)
    place.train(**LONG).ends("another run is writing to", first.process.pid, status=1)
    first.ends()


def evaluated_meanwhile(place: Place) -> None:
    options = LONG | {"checkpoint__every": 1}
    training = place.train(**options)
    training.until(lambda: any(p.name.isdigit() for p in place.scratch.glob("run/checkpoints/*")))
    place.start(f"{EVALUATE} {place.scratch / 'run'}").ends()
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
    folder, away = images(place), place.scratch / "away"
    options = LONG | {"data__source": f"folder:{folder}", "data__input": "stream"}
    training = place.train(**options, data__workers=2)
    metrics = place.scratch / "run" / "metrics.jsonl"
    training.until(lambda: metrics.is_file() and metrics.read_text().count("\n") > 2)
    folder.rename(away)
    training.ends(f"{folder} is gone; put it back to continue", status=1)
    away.rename(folder)
    is_as_whole(place, **options)


def renamed_under_an_export(place: Place) -> None:
    folder, away = images(place), place.scratch / "away"
    exporting = place.export("records", f"folder:{folder}")
    exporting.until(lambda: any(place.scratch.glob("records/*.tfrecord")))
    folder.rename(away)
    exporting.ends(f"{folder} is gone; put it back to continue", status=1)
    away.rename(folder)
    exports_as_whole(place, source=f"folder:{folder}")


def stopped_while_filling(place: Place, number: int) -> None:
    options = SLOW | {"data__cache_dir": place.scratch / "cache"}
    training = place.train(**options)
    cache = place.scratch / "cache"
    training.until(lambda: any(path.stat().st_size for path in cache.glob("*/journal")))
    training.process.send_signal(number)
    training.ends("interrupted; the same command continues")
    (journal,) = cache.glob("*/journal")
    assert journal.stat().st_size
    assert not journal.with_name("store.json").exists()
    place.train(**options).ends()


def nobody_reads(place: Place) -> None:
    for number, shell in enumerate(("2>&1 | head -1", "2>&-", ">&- 2>&-", "2>/dev/full")):
        place.train(f"run{number}", shell=shell).ends()
        assert trained(place.scratch / f"run{number}") == whole(place.scratch.parent)


CASES: dict[str, Callable[[Place], None]] = {
    "full_checkpoint": lambda place: meets_a_full_disk(
        place, "disk/run", 2**16, "run/checkpoints", checkpoint__every=3),
    "full_metrics": lambda place: meets_a_full_disk(
        place, "disk/run", 0, "run/metrics.jsonl", checkpoint__every=10**6),
    "full_page": lambda place: finds_no_room(
        place, "jaxssl.report {run} --out {out}", "report.html"),
    "full_weights": lambda place: finds_no_room(
        place, "jaxssl.export --workdir {run} --format flax --out {out}", "w.safetensors"),
    "full_evaluation": lambda place: finds_no_room(place, f"{EVALUATE} {{run}}", "eval.json"),
    "sigterm_while_filling": lambda place: stopped_while_filling(place, signal.SIGTERM),
    "sighup_while_filling": lambda place: stopped_while_filling(place, signal.SIGHUP),
    **{case.__name__: case for case in (
        full_tensorboard, full_cache, full_records, two_fill_a_cache, two_exports, two_trainings,
        evaluated_meanwhile, renamed_under_a_training, renamed_under_an_export, nobody_reads)},
}  # fmt: skip


def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--inside", action="store_true", help="has file systems of its own")
    args = parser.parse_args()
    if not args.inside:
        own = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
        os.execvp(own[0], [*own, sys.executable, *sys.argv, "--inside"])
    logging.disable()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which whoever has started this may ignore
    print("| case | as it should | what a user read |\n|", "--- |" * 3)
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.cases.split(","):
            place = Place(pathlib.Path(scratch, name))
            place.scratch.mkdir()
            try:
                CASES[name](place)
                verdict = "yes"
            except AssertionError as error:
                verdict, wrong = f"no: {error}", wrong + 1
            finally:
                for process in place.started:
                    process.kill()
            said = "; ".join(f"`{line.replace(scratch, '...')}`" for line in place.said)
            print(f"| {name} | {verdict} | {said} |", flush=True)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
