"""Training on an accelerator: images per second, memory, where the time goes, what is learned.

    benchmarks/gpu.sh --out benchmarks/results/gpu.json --minutes 7

Each case is a process of its own, so that its peak of memory is its own and one that fails costs no
other. `measure.py` says what its rows are. What does not fit in the time is left out, and said so.
With `--cifar10 DIR`, class folders under `train` and `test`, the time that the cases leave, or
`--cifar10-minutes` if that is more, goes into a pre-training on it.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import cifar10
import compare
import jax
import jax.numpy as jnp
from cases import CASES, make_config
from measure import images_per_second

from jaxssl.config import build_method
from jaxssl.evaluation.datasets import open_datasets
from jaxssl.terminal import format_table
from jaxssl.training.images import open_data, open_images
from jaxssl.training.metrics import read_metrics
from jaxssl.training.workdir import environment

HERE = pathlib.Path(__file__).parent
ROWS = ("network", "step", "views", "loop")
LAST = 20.0  # seconds for what comes after the cases and the pre-training


def prepare(args: argparse.Namespace) -> None:
    """Draws and decodes what the cases and the pre-training read, while the accelerator is busy."""
    for name in args.cases:
        config = make_config(name, args.scratch, args.images, args.small)
        open_data(config, *open_images(config, build_method(config)[0]), 0)
    if args.cifar10:
        config = cifar10.get_config()
        config.data.source = f"folder:{args.cifar10}"
        config.data.cache_dir = str(args.scratch / "cache")
        open_data(config, *open_images(config, build_method(config)[0]), 0)
        (data,) = open_datasets([config.data.source], 32, config.data.cache_dir)
        _ = data.labeled


def ceilings() -> dict[str, float]:
    """What the chip does at best: a bfloat16 product of random matrices, a pass over memory."""
    size = 8192 if jax.default_backend() == "gpu" else 512
    a = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
    big = jax.random.normal(jax.random.key(1), (size * 2, size, 2))
    product, copy = jax.jit(lambda a: a @ a.T), jax.jit(lambda x: x + 1)
    products = max(images_per_second(lambda: product(a), 1, 0.5))
    copies = max(images_per_second(lambda: copy(big), 1, 0.5))
    return {
        "bfloat16_tflop_per_second": products * 2 * size**3 / 1e12,
        "memory_gb_per_second": copies * 2 * big.nbytes / 1e9,
    }


def card() -> str:
    """Name, memory and driver, as nvidia-smi says."""
    query = "--query-gpu=name,memory.total,driver_version,clocks.max.sm"
    command = ["nvidia-smi", query, "--format=csv,noheader"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return "no nvidia-smi"


def run(command: list[str], end: float) -> int | str:
    """Exit status; a process that is not done at `end` is asked to stop, then killed."""
    process = subprocess.Popen(command)
    for patience, number in ((end - time.monotonic(), signal.SIGTERM), (5, signal.SIGKILL)):
        try:
            return process.wait(max(patience, 0))
        except subprocess.TimeoutExpired:
            process.send_signal(number)
    process.wait()
    return "out of time"


def run_cases(args: argparse.Namespace, end: float) -> dict[str, Any]:
    """Case after case; one that the time ends has the rows it came to."""
    cases = {}
    for name in args.cases:
        start, command = time.monotonic(), [sys.executable, str(HERE / "measure.py"), name]
        if start + 30 > end:
            cases[name] = {"exit": "no time"}
            continue
        command += ["--scratch", str(args.scratch), "--images", str(args.images)]
        command += ["--rows", *args.rows, *(["--small"] if args.small else [])]
        status, path = run(command, end), args.scratch / f"{name}.json"
        figures = json.loads(path.read_text()) if path.exists() else {}
        cases[name] = {"exit": status, "seconds": time.monotonic() - start} | figures
    return cases


def run_cifar10(args: argparse.Namespace, end: float) -> dict[str, Any]:
    """kNN on CIFAR-10 while SimCLR trains on it."""
    workdir, source, start = args.scratch / "cifar10", f"folder:{args.cifar10}", time.monotonic()
    command = [sys.executable, "-m", "jaxssl.train", "--config", str(HERE / "cifar10.py")]
    command += ["--workdir", str(workdir), f"--config.data.source={source}"]
    command += [f"--config.eval.datasets={source}", f"--config.epochs={args.epochs}"]
    command += [f"--config.data.cache_dir={args.scratch / 'cache'}"]
    if args.small:
        command += ["--config.dtype=float32", "--config.encoder.width=0.125"]
    status, lines = run(command, end), read_metrics(workdir)
    speeds = [line["images_per_sec"] for line in lines if "images_per_sec" in line]
    knn = {
        line["epoch"]: value
        for line in lines
        for key, value in line.items()
        if key.endswith("knn_top1")
    }
    return {
        "exit": status,
        "seconds": time.monotonic() - start,
        "epochs": args.epochs,
        "reached": max((line["epoch"] for line in lines), default=0),
        "images_per_second": sorted(speeds)[len(speeds) // 2] if speeds else None,
        "knn_top1": knn,
    }


def table(cases: dict[str, Any]) -> str:
    """A line a case."""
    rows = [["images per second", *ROWS, "loop / network", "peak GiB", "compiling s", "exit"]]
    for name, case in cases.items():
        rates = {row: case[row]["images_per_second"] for row in ROWS if row in case}
        cells = [f"{rates[row]:.0f}" if row in rates else "-" for row in ROWS]
        both = "loop" in rates and "network" in rates
        cells.append(f"{rates['loop'] / rates['network']:.2f}" if both else "-")
        cells.append(f"{case.get('step', {}).get('peak_gib', 0):.1f}")
        cells.append(f"{sum(case[row].get('compile_seconds', 0) for row in rates):.0f}")
        rows.append([name, *cells, str(case["exit"])])
    return format_table(rows)


def main() -> None:
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument(
        "--rows", nargs="+", default=["network", "step", "profile", "loop", "views"]
    )
    parser.add_argument("--minutes", type=float, default=7.0, help="for all of it")
    parser.add_argument("--images", type=int, default=512, help="scenes, of which a case trains")
    parser.add_argument("--cifar10", type=pathlib.Path, help="folder with train and test")
    parser.add_argument("--cifar10-minutes", type=float, default=3.0)
    parser.add_argument("--epochs", type=int, default=60, help="of the pre-training on CIFAR-10")
    parser.add_argument("--small", action="store_true", help="tiny, to try the script out")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("gpu.json"))
    parser.add_argument("--scratch", type=pathlib.Path, help="for traces and what else is kept")
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.scratch = args.scratch or pathlib.Path(tempfile.mkdtemp())
    args.scratch.mkdir(parents=True, exist_ok=True)
    if args.prepare:
        return prepare(args)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(args.scratch / "programs"))
    preparing = subprocess.Popen(
        [sys.executable, *sys.argv, "--prepare", "--scratch", str(args.scratch)],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    end = start + 60 * args.minutes - LAST
    content: dict[str, Any] = {"measured": time.strftime("%Y-%m-%d"), "card": card()}
    content["cases"] = run_cases(args, end - 60 * args.cifar10_minutes * bool(args.cifar10))
    if args.cifar10:
        content["cifar10"] = run_cifar10(args, end)
        print("CIFAR-10:", content["cifar10"])
    preparing.kill()
    content |= {"environment": environment(), "ceilings": ceilings()}
    content["seconds"] = time.monotonic() - start
    compare.warn(args.out, content)
    args.out.write_text(json.dumps(content, indent=1) + "\n")
    print(table(content["cases"]))


if __name__ == "__main__":
    main()
