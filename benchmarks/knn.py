"""kNN of many queries against a large bank: jaxssl beside lightly's `knn_predict` on torch.

    python benchmarks/knn.py --torch-python VENV/bin/python --out benchmarks/results/knn.json

Each side is a process of its own with the same features; they take turns, so that what else the
machine does hits both. Printed: seconds of wall clock and of CPU, their ratio round by round with
its spread, and the memory that the search needs on top of its features.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

K, TEMPERATURE, CLASSES, BATCH = 200, 0.1, 10, 256  # BATCH: queries that torch has at once


def make_features(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ten overlapping classes on the unit sphere: bank f32[n, d], labels i64[n], queries."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((CLASSES, args.dim), np.float32)
    labels = rng.integers(0, CLASSES, args.bank + args.queries)
    features = rng.standard_normal((len(labels), args.dim), np.float32)
    for i, label in enumerate(labels):
        features[i] += 0.3 * centers[label]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features[: args.bank], labels[: args.bank], features[args.bank :]


def searcher_jaxssl(bank, labels, queries):
    """Returns a function that predicts the class of every query."""
    from jaxssl import sharding
    from jaxssl.evaluation.classification.knn import Knn, knn

    protocol, mesh = Knn((K,), TEMPERATURE), sharding.make_mesh()
    return lambda: knn(bank, labels, queries, protocol, num_classes=CLASSES, mesh=mesh)[0].argmax(1)


def searcher_lightly(bank, labels, queries):
    """The same by lightly and torch, in batches as lightly's benchmarks have them."""
    import torch
    from lightly.utils.benchmarking.knn import knn_predict

    # As lightly keeps it: transposed.
    bank, labels = torch.from_numpy(bank).T.contiguous(), torch.from_numpy(labels)
    batches = torch.from_numpy(queries).split(BATCH)
    options = {"num_classes": CLASSES, "knn_k": K, "knn_t": TEMPERATURE}
    return lambda: np.concatenate(
        [knn_predict(batch, bank, labels, **options)[:, 0].numpy() for batch in batches]
    )


def serve(args: argparse.Namespace) -> None:
    """Searches once for each line on stdin; answers with a line of JSON."""
    make = {"jaxssl": searcher_jaxssl, "lightly": searcher_lightly}[args.side]
    search = make(*make_features(args))
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _memory("VmRSS")
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        predicted = search()
        answer = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        answer |= {"extra_mib": (_memory("VmHWM") - before) / 1024}
        print(json.dumps(answer | {"predicted": predicted.tolist()}), flush=True)


def _memory(name: str) -> int:
    """KiB, of this process."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def compare(args: argparse.Namespace) -> dict:
    """Both sides in turn: once to warm up, then `--rounds` times."""
    sizes = [f"--{name}={getattr(args, name)}" for name in ("bank", "dim", "queries")]
    pythons = {"jaxssl": sys.executable, "lightly": args.torch_python}
    sides = {
        side: subprocess.Popen(
            [python, __file__, "--side", side, *sizes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for side, python in pythons.items()
    }
    rounds = []
    for _ in range(args.rounds + 1):
        rounds.append({})
        for side, process in sides.items():
            process.stdin.write("\n")
            process.stdin.flush()
            if not (answer := process.stdout.readline()):
                raise SystemExit(f"the side of {side} ended; --torch-python has torch and lightly?")
            rounds[-1][side] = json.loads(answer)
        times = {s: f"{a['wall']:.1f} s, {a['cpu']:.1f} s of CPU" for s, a in rounds[-1].items()}
        print(times, file=sys.stderr)
    predicted = [np.array(answer.pop("predicted")) for r in rounds for answer in r.values()]
    from jaxssl.training.workdir import environment  # not where torch is alone

    result = {"environment": environment(), "bank": args.bank, "dim": args.dim}
    result |= {"queries": args.queries, "k": K}
    result |= {"cpus": os.cpu_count(), "load": os.getloadavg(), "rounds": rounds[1:]}
    result["agreement"] = float(np.mean(predicted[0] == predicted[1]))
    for side in sides:
        result[f"{side}_extra_mib"] = rounds[-1][side]["extra_mib"]
    for clock in ("wall", "cpu"):
        ratios = [r["jaxssl"][clock] / r["lightly"][clock] for r in rounds[1:]]
        spread = [min(ratios), max(ratios)]
        result[f"{clock}_ratio"] = {"median": statistics.median(ratios), "min_max": spread}
    return result


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--torch-python", default=sys.executable, help="has torch and lightly")
parser.add_argument("--bank", type=int, default=50_000)
parser.add_argument("--dim", type=int, default=512)
parser.add_argument("--queries", type=int, default=10_000)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--out", type=pathlib.Path)
parser.add_argument("--side", choices=("jaxssl", "lightly"), help=argparse.SUPPRESS)
args = parser.parse_args()
if args.side:
    serve(args)
else:
    text = json.dumps(compare(args), indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
