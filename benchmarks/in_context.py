"""Nearest cells in a memory of millions: the search of `in_context` beside plain torch.

    python benchmarks/in_context.py --cells 10000000 --out benchmarks/results/NAME.json

The memory lies in a file, f32[cells, dim] of random numbers. Each side is a process of its own and
they take turns. Plain torch reads the file through in parts of `--part` rows, keeps `topk` of each
part's cosines beside those before, and nothing else of it in memory. Printed: seconds, the most
memory that is not of the file (pages of a file are given back when they are needed), and how many
neighbors are the same.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

K = 30


def write_memory(path: pathlib.Path, cells: int, dim: int) -> None:
    """Random features; in parts, so that they are never in memory as a whole."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, cells, 2**16):
            rows = min(2**16, cells - start)
            file.write(rng.standard_normal((rows, dim), np.float32).tobytes())


def search_jaxssl(bank, queries):
    """Places i64[m, k] of the nearest."""
    from jaxssl import sharding
    from jaxssl.evaluation.neighbors import nearest

    (found,) = nearest(bank, queries, K, sharding.make_mesh())
    return np.asarray(found.place)[: len(queries)]


def search_torch(bank, queries, part):
    """The same, part by part of the bank."""
    import torch

    queries = torch.nn.functional.normalize(torch.from_numpy(queries), dim=1)
    best, place = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(bank), part):
        rows = torch.from_numpy(np.array(bank[start : start + part]))
        cosines = queries @ torch.nn.functional.normalize(rows, dim=1).T
        more, index = cosines.topk(K, dim=1)
        best, order = torch.cat([best, more], dim=1).topk(K, dim=1)
        place = torch.cat([place, index + start], dim=1).gather(1, order)
    return place.numpy()


def watch(largest: list[int], done: threading.Event) -> None:
    """Keeps the largest number of KiB of this process that are of no file."""
    while not done.wait(0.05):
        status = pathlib.Path("/proc/self/status").read_text().splitlines()
        (line,) = [line for line in status if line.startswith("RssAnon")]
        largest[0] = max(largest[0], int(line.split()[1]))


def serve(args: argparse.Namespace) -> None:
    """Searches once and prints a line of JSON."""
    bank = np.memmap(args.memory, np.float32, "r").reshape(-1, args.dim)
    queries = np.random.default_rng(1).standard_normal((args.queries, args.dim), np.float32)
    largest, done = [0], threading.Event()
    watcher = threading.Thread(target=watch, args=(largest, done), daemon=True)
    watcher.start()
    wall, cpu = time.perf_counter(), time.process_time()
    place = (
        search_jaxssl(bank, queries)
        if args.side == "jaxssl"
        else search_torch(bank, queries, args.part)
    )
    answer = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    done.set()
    watcher.join()
    print(json.dumps(answer | {"anonymous_mib": largest[0] / 1024, "place": place.tolist()}))


def compare(args: argparse.Namespace, memory: pathlib.Path) -> dict:
    """Both sides in turn."""
    sizes = [f"--{name}={getattr(args, name)}" for name in ("dim", "queries", "part")]
    rounds = []
    for _ in range(args.rounds):
        rounds.append({})
        for side in ("jaxssl", "torch"):
            command = [sys.executable, __file__, "--side", side, "--memory", str(memory), *sizes]
            ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rounds[-1][side] = json.loads(ended.stdout)
        print({side: round(one["wall"], 1) for side, one in rounds[-1].items()}, file=sys.stderr)
    places = [np.sort(rounds[0][side]["place"], axis=1) for side in ("jaxssl", "torch")]
    for one in rounds:
        for answer in one.values():
            del answer["place"]
    from jaxssl.training.workdir import environment  # not in a process of torch

    result = {"environment": environment(), "cells": args.cells, "dim": args.dim}
    result |= {"queries": args.queries, "k": K}
    result |= {"memory_gib": args.cells * args.dim * 4 / 2**30, "cpus": os.cpu_count()}
    return result | {
        "load": os.getloadavg(),
        "same_neighbors": float(np.mean(places[0] == places[1])),
        "rounds": rounds,
    }


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--cells", type=int, default=1_000_000)
parser.add_argument("--dim", type=int, default=384)
parser.add_argument("--queries", type=int, default=1024)
parser.add_argument("--part", type=int, default=2**16, help="rows of the memory that torch reads")
parser.add_argument("--rounds", type=int, default=2)
parser.add_argument("--out", type=pathlib.Path)
parser.add_argument("--side", choices=("jaxssl", "torch"), help=argparse.SUPPRESS)
parser.add_argument("--memory", help=argparse.SUPPRESS)
args = parser.parse_args()
if args.side:
    serve(args)
else:
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "memory")
        write_memory(file, args.cells, args.dim)
        text = json.dumps(compare(args, file), indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
