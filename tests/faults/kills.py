"""Commands killed at random moments, again and again, and then left to end.

    python tests/faults/kills.py
    python tests/faults/kills.py --kinds export,filling --kills 20

Prints a row for each kind: how often it was killed; parameters, metrics and files that differ from
those of a run that was let be; processes left 5 s after a kill; tracebacks. The status is 0 if
there are none of these. A kill of a training takes a quarter of a minute of two cores.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import logging
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import StandardCheckpointHandler

from jaxssl.training.checkpoint import Checkpoints
from jaxssl.training.metrics import read_metrics

ROOT = pathlib.Path(__file__).parents[2]
TIMES = ("images_per_sec", "data_wait", "compile_seconds", "peak_memory_gib")  # of each run its own
GRACE = 5.0  # seconds within which the processes that a killed one has started have to end
PEER_GRACE = 150.0  # and the one that trained with it, whose heart JAX lets miss beats for 100
TINY = {
    "data.source": "scenes:64", "data.pixels": 576, "views.size": 16, "encoder.width": 0.0625,
    "method.hidden": "(32,)", "method.dim": 16, "batch_size": 16, "epochs": 8, "log_every": 1,
    "eval.datasets": "()", "eval.health": 0, "checkpoint.every": 3,
}  # fmt: skip
TRAININGS = {
    "simclr": ("simclr", {"checkpoint.every": 1}),
    "evaluations": ("simclr", {"eval.datasets": "objects:64", "eval.every": 1, "eval.health": 32,
                               "eval.knn_k": 5, "eval.linear": False}),
    "moco": ("moco", {"method.queue_size": 64}),
    "detcon_b": ("detcon_b", {"views.size": 40, "data.pixels": 2304}),
    "contrastive_crop": ("simclr", {"sampler.name": "contrastive_crop", "sampler.warmup_epochs": 1,
                                    "sampler.interval_epochs": 1}),
    "stream": ("simclr", {"data.input": "stream", "data.workers": 2}),
    "host": ("samclr", {"data.input": "host"}),
    "two_processes": ("simclr", {"data.input": "host"}),
}  # fmt: skip
FILL = """
import sys
from jaxssl.data import open_source, store
from jaxssl.data.canvas import CanvasSpec
store.CHUNK = 4
store.open_store(open_source("scenes:300"), CanvasSpec(9216, (8, 32)), sys.argv[1], show=False)
"""


@dataclasses.dataclass
class Kind:
    """What is killed: the commands of its processes, given a folder, and what they leave there."""

    commands: Callable[[pathlib.Path], list[list[str]]]
    result: Callable[[pathlib.Path], dict[str, str]]


def settings(options: Mapping[str, object]) -> list[str]:
    """The flags of a training that is small but for these options."""
    return [f"--config.{key}={value}" for key, value in (TINY | options).items()]


def train(name: str, workdir: pathlib.Path) -> list[list[str]]:
    variant, options = TRAININGS[name]
    command = ["-m", "jaxssl.train", "--config", f"configs/quickstart.py:{variant}"]
    command += ["--workdir", str(workdir), *settings(options)]
    if name != "two_processes":
        return [command]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meet = ["--coordinator", f"localhost:{free.getsockname()[1]}", "--num-processes", "2"]
    return [[*command, *meet, "--process-id", str(number)] for number in range(2)]


def trained(workdir: pathlib.Path) -> dict[str, str]:
    """Every number of the last state, and every line of metrics but for times."""
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.newest()
        saved = StandardCheckpointHandler().metadata(workdir / "checkpoints" / str(step) / "state")
        here = SingleDeviceSharding(jax.devices()[0])
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), saved)
        state = checkpoints.read(step, "state", like)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    found = {
        name: f"{a.dtype} {a.shape} {hashlib.sha256(a.tobytes()).hexdigest()}"
        for name, a in arrays.items()
    }
    for number, line in enumerate(read_metrics(workdir)):
        line = {k: v for k, v in line.items() if k not in TIMES and not k.startswith("time/")}
        found[f"line {number}"] = repr(sorted(line.items()))
    return found


def export(folder: pathlib.Path) -> list[list[str]]:
    options = ["--segmenter", "fh", "--shards", "12", "--workers", "2", "--out", str(folder)]
    return [["-m", "mask_tools.export", "--source", "scenes:72", *options]]


def files(folder: pathlib.Path) -> dict[str, str]:
    """What is in all files but those in which the order of threads shows."""
    paths = [
        p
        for p in folder.rglob("*")
        if p.is_file() and p.name not in ("journal", ".lock", ".writer.lock")
    ]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


KINDS = {
    **{name: Kind(lambda folder, name=name: train(name, folder), trained) for name in TRAININGS},
    "export": Kind(export, files),
    "filling": Kind(lambda folder: [["-c", FILL, str(folder)]], files),
}


def launch(command: Sequence[str], scratch: pathlib.Path, log: str) -> subprocess.Popen[bytes]:
    """Starts a command whose caches are in `scratch`; what it prints is added to `log` there."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAXSSL_CACHE": str(scratch / "cache"),
        "JAX_COMPILATION_CACHE_DIR": str(scratch / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_PLATFORMS": "cpu",
    }
    with (scratch / log).open("a") as file:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
        )


def start(kind: Kind, folder: pathlib.Path, scratch: pathlib.Path) -> list[subprocess.Popen[bytes]]:
    commands = kind.commands(folder)
    return [launch([sys.executable, *command], scratch, "log") for command in commands]


def look(folder: pathlib.Path) -> frozenset[tuple[str, int]]:
    """The names and sizes in a folder and those in it: what changes as a command gets on."""
    found = set()
    for path in (*folder.glob("*"), *folder.glob("*/*")):
        with contextlib.suppress(OSError):
            found.add((str(path), path.stat().st_size))
    return frozenset(found)


def left(groups: Iterable[int], seconds: float) -> list[int]:
    """The processes of these groups that still run after so long; they are ended."""
    deadline, running = time.monotonic() + seconds, [0]
    while running and time.monotonic() < deadline:
        time.sleep(0.05)
        listed = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True)
        fields = [line.split() for line in listed.stdout.splitlines()]
        running = [int(p) for p, of, state in fields if int(of) in groups and state[0] != "Z"]
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return running


def kill_once(
    kind: Kind, folder: pathlib.Path, scratch: pathlib.Path, rng: random.Random, *, whole: float
) -> int | None:
    """How many processes a kill leaves; None if the command, of `whole` seconds, ended before."""
    processes = start(kind, folder, scratch)
    changes = rng.randint(1, 12) if rng.random() < 0.7 else 10**9
    until, seen = time.monotonic() + rng.uniform(0, whole), {look(folder)}
    if changes < 10**9:
        until += 10 * whole
    while len(seen) <= changes and time.monotonic() < until:
        if all(process.poll() is not None for process in processes):
            return None
        time.sleep(0.002)
        seen.add(look(folder))
    time.sleep(rng.choice([0, 0, 0.001, 0.01, 0.05]))
    victim = rng.choice(processes)
    victim.kill()
    running = left([victim.pid], GRACE)
    running += left([process.pid for process in processes], PEER_GRACE)
    for process in processes:
        process.wait()
    return len(running)


def try_out(name: str, kills: int, seed: int, scratch: pathlib.Path) -> tuple[int, int, int, int]:
    """How often it was killed; what differs at the end; processes left; tracebacks."""
    kind, rng, begun = KINDS[name], random.Random(f"{name} {seed}"), time.monotonic()
    whole, killed = scratch / "whole", scratch / "killed"
    statuses = [process.wait() for process in start(kind, whole, scratch)]
    if any(statuses):
        return 0, len(statuses), 0, (scratch / "log").read_text().count("Traceback")
    seconds, good = time.monotonic() - begun, kind.result(whole)
    done = orphans = different = 0
    while done < kills:
        running = kill_once(kind, killed, scratch, rng, whole=seconds)
        if running is None:
            different += kind.result(killed) != good
            shutil.rmtree(killed)
        else:
            done, orphans = done + 1, orphans + running
    statuses += [process.wait() for process in start(kind, killed, scratch)]
    found = kind.result(killed)
    different += sum(found.get(key) != good.get(key) for key in {*found, *good})
    different += sum(status != 0 for status in statuses)
    return done, different, orphans, (scratch / "log").read_text().count("Traceback")


def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--kills", type=int, default=12, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.disable()
    print("| kind | kills | differences | processes left | tracebacks |\n|", "--- |" * 5)
    wrong = 0
    for name in args.kinds.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            row = try_out(name, args.kills, args.seed, pathlib.Path(scratch))
            if any(row[1:]):
                shutil.copy(pathlib.Path(scratch, "log"), f"{name}.log")
        print(f"| {name} |", " | ".join(map(str, row)), "|", flush=True)
        wrong += sum(row[1:])
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
