"""The folder of a run: its config, and the machine it ran on."""

import contextlib
import importlib.metadata
import json
import logging
import pathlib
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

import jax
from ml_collections import ConfigDict

from jaxssl import distributed
from jaxssl.checked_files import damage_of, read_json
from jaxssl.config import build_method
from jaxssl.config.checks import check, complete, flatten
from jaxssl.data.identity import identify
from jaxssl.data.source import Source
from jaxssl.errors import PartError, UserError
from jaxssl.files import holder, lock, write_text
from jaxssl.renamed import REMOVED_KEYS
from jaxssl.training.checkpoint import newest_step
from jaxssl.types import SavedConfig

# Keys that may differ from the saved config when a run is continued: they change how fast, how long
# and in how much memory it runs and what is reported, not what a step computes.
MAY_CHANGE = (
    *("log_every", "wandb", "remat", "encoder.remat_expansions"),
    *("data.input", "data.workers", "data.cache_dir"),
)
MAY_CHANGE_SECTIONS = ("eval.", "checkpoint.")
# Of these and of what else may change, what changes results, in the end or on the way.
TOLD = ("data.source", "epochs", "optim.lr", "eval.")
SECONDS_TO_APPEAR = 90.0  # network disks show new files late

log = logging.getLogger("jaxssl")


class Images(TypedDict):
    """The images of a run."""

    images: int  # how many
    data: str  # of `identify`


def check_workdir(workdir: pathlib.Path, config: ConfigDict) -> list[str]:
    """Raises UserError if the folder belongs to another config, naming the keys that differ.

    Returns what may differ and changes the results: `KEY: BEFORE -> NOW`.

    More `epochs` than saved are allowed: schedules are functions of the progress t in [0, 1], and
    t is then counted over the new length from the step reached so far. A lower `optim.lr` is
    allowed, after a loss that was not finite, while there are steps left for it, and another
    `data.source`: whether it has the same images is seen when it is open, by `check_images`.
    """
    if not (workdir / "config.json").exists():
        return []
    saved, now = flatten(read_config(workdir)), flatten(config)
    if removed := [key for key in REMOVED_KEYS if key in saved]:
        raise UserError(f"{workdir} holds a run with {removed[0]}: {REMOVED_KEYS[removed[0]]}")
    before = read_environment(workdir)
    movable = "data" in before
    length = now["epochs"] * (before.get("images", 0) // saved["batch_size"])
    over = 0 < length <= newest_step(workdir / "checkpoints")
    changed = {
        key: f"{key}: {saved.get(key, 'absent')!r} -> {now.get(key, 'absent')!r}"
        for key in sorted({*saved, *now})
        if saved.get(key) != now.get(key)
    }
    if differing := [
        text
        for key, text in changed.items()
        if not _may_change(key, saved, now, over) and not (movable and key == "data.source")
    ]:
        raise UserError(
            f"{workdir} holds a {'finished ' * over}run with another config "
            f"({'; '.join(differing)}); give another --workdir, or delete that folder to start over"
        )
    return [changed[k] for k in changed if k.startswith(TOLD) and k != "eval.batch_size"]


def check_images(workdir: pathlib.Path, config: ConfigDict, source: Source) -> Images:
    """The identity of a run's images; UserError if the run was begun on others.

    Of another number their order, and with it the position in the data, would differ, too.
    """
    now = Images(images=len(source), data=identify(source))
    before = now | read_environment(workdir)
    begun = f"{workdir} was begun on {before['images']} images and {config.data.source}"
    advice = (
        "give the images of before, by --config.data.source=folder:PATH if they were moved, or "
        "another --workdir"
    )
    if before["images"] != now["images"]:
        raise UserError(f"{begun} now has {now['images']}; {advice}")
    if before["data"] != now["data"]:
        raise UserError(f"{begun} has other ones: names, sizes or contents differ; {advice}")
    return now


def create_workdir(
    workdir: pathlib.Path, config: ConfigDict, images: Images, changed: Sequence[str] = ()
) -> None:
    """Writes `config.json` and `environment.json`, making the folder if need be.

    `changed` is what `check_workdir` returned: the latter has it with the step.
    """
    step = newest_step(workdir / "checkpoints")
    changes = read_environment(workdir).get("changes", [])
    changes += [f"after step {step}, {text}" for text in changed if step]
    with _writing(workdir):
        _write_json(workdir / "config.json", config.to_dict())
        noted: Environment = {"changes": changes} if changes else {}
        _write_json(workdir / "environment.json", environment() | images | noted)


@contextlib.contextmanager
def _writing(workdir: pathlib.Path) -> Iterator[None]:
    """Makes the folder if need be. Within, an `OSError` becomes a UserError."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"cannot write to --workdir {workdir}: {error.strerror}") from error


@contextlib.contextmanager
def open_workdir(workdir: pathlib.Path) -> Iterator[None]:
    """Makes the folder, if need be, and locks it; all processes of a run must share it."""
    with contextlib.ExitStack() as stack:
        with distributed.raise_together():
            if distributed.is_first():
                stack.enter_context(occupied(workdir))
        yield


def begin_run(workdir: pathlib.Path, config: ConfigDict, images: Images) -> None:
    """Notes in the folder what is trained there from now on."""
    with distributed.raise_together():
        if distributed.is_first():
            changed = check_workdir(workdir, config)  # by a run that has ended since, too
            for text in changed:
                log.info("%s goes on with %s", workdir, text)
            create_workdir(workdir, config, images, changed)
    with distributed.raise_together():
        wait_for(workdir / "config.json")


def wait_for(path: pathlib.Path, seconds: float = SECONDS_TO_APPEAR) -> None:
    """Waits for a file that another host has written; UserError if it does not appear."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            raise UserError(
                f"{path} is not where process 0 wrote it; --workdir must be on a disk that all "
                "processes share"
            )
        time.sleep(0.1)


@contextlib.contextmanager
def occupied(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps a second run out of the folder; a run that dies leaves it open."""
    with _writing(workdir):
        file = (workdir / ".lock").open("w")
    with file:
        try:
            lock(file.fileno(), workdir)
        except BlockingIOError:
            other = f"another run is writing to {workdir}{holder(file.fileno())}"
            raise UserError(f"{other}; give another --workdir") from None
        yield


def _may_change(key: str, saved: Mapping[str, Any], now: Mapping[str, Any], over: bool) -> bool:
    if key == "epochs":
        return bool(now[key] >= saved[key])
    if key == "optim.lr":
        return bool(now[key] <= saved[key]) and not over
    return key in MAY_CHANGE or key.startswith(MAY_CHANGE_SECTIONS)


def _write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def find_runs(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folder; or the runs in it, if it is none itself, as those of several variants are."""
    inside = sorted(path.parent for path in folder.glob("*/config.json"))
    return inside if inside and not (folder / "config.json").exists() else [folder]


def read_config(workdir: pathlib.Path) -> ConfigDict:
    """The config of a run, complete: keys that came after it have their defaults."""
    path = workdir / "config.json"
    if not path.is_file():
        if (runs := find_runs(workdir)) != [workdir]:
            raise UserError(f"{workdir} holds several runs; give one: {', '.join(map(str, runs))}")
        raise UserError(
            f"no run in {workdir} (config.json is missing); "
            "start one with python -m jaxssl.train --config CONFIG --workdir DIR"
        )
    advice = "restore it from a copy, or give another --workdir"
    saved = read_json(path, SavedConfig, advice=advice)
    try:
        config = check(complete(saved))
        build_method(config)
    except PartError as error:
        raise PartError(f"{path}: {error}") from error
    except UserError as error:
        raise damage_of(path, error, advice) from error
    return config


class Environment(TypedDict, total=False):
    """The machine that a run was last on, and its images, as `environment.json` has them."""

    python: str
    platform: str
    versions: dict[str, str | None]
    devices: list[str]
    git: str | None
    images: int
    data: str
    changes: list[str]  # of the config, while the run was under way


def read_environment(workdir: pathlib.Path) -> Environment:
    """Reads `environment.json`; {} if it is not there."""
    path = workdir / "environment.json"
    advice = "delete it if the images are those that the run was begun on"
    return read_json(path, Environment, advice=advice) if path.exists() else {}


def environment() -> Environment:
    """Versions, devices and the git revision of the code."""
    packages = ("jaxssl", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in packages},
        "devices": [str(device) for device in jax.devices()],
        "git": _revision(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """The git revision of the code that runs, if it is a checkout and there is git."""
    file = pathlib.Path(__file__)

    def git(*words: str) -> str:
        command = ["git", *words]
        done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    try:
        # What is installed into an environment inside a repository is none of its files.
        return (git("ls-files", file.name) and git("describe", "--always", "--dirty")) or None
    except OSError:
        return None
