"""What each method learns in the quickstart's budget: kNN before and after, over seeds.

    python benchmarks/learning.py --workdir runs/learning --seeds 1 2 3 --jobs 2 \
        --out benchmarks/results/learning.json

Runs `configs/quickstart.py:METHOD` with each sampler and seed. Stopped, the same command goes on.
The table is Markdown; seconds of an epoch are those while `--jobs` runs share the machine.
"""

import argparse
import concurrent.futures
import json
import pathlib
import statistics
import subprocess
import sys

from jaxssl.training.metrics import read_metrics

METHODS = ("simclr", "moco", "byol", "simsiam", "dino", "swav", "detcon_s", "detcon_b")
SAMPLERS = {
    "random_crop": [],
    "region_crop": ["--config.sampler.name=region_crop", "--config.sampler.min_area=64"],
}
# Only what the table holds.
LESS = ["--config.eval.every=0", "--config.eval.linear=False", "--config.eval.health=0"]


def train(method: str, sampler: str, seed: int, args: argparse.Namespace) -> dict[str, object]:
    """One run, unless it is finished; its numbers."""
    workdir = args.workdir / f"{method}-{sampler}-{seed}"
    numbers = workdir / "numbers.json"
    if numbers.exists():
        return json.loads(numbers.read_text())
    program = [sys.executable, "-m", "jaxssl.train", "--workdir", str(workdir)]
    config = ["--config", f"configs/quickstart.py:{method}", f"--config.seed={seed}"]
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "printed.txt").open("a") as printed:
        subprocess.run(
            [*program, *config, *SAMPLERS[sampler], *LESS, *args.overrides],
            check=True,
            stdout=printed,
            stderr=printed,
        )
    result = {"method": method, "sampler": sampler, "seed": seed} | read(workdir)
    numbers.write_text(json.dumps(result) + "\n")
    return result


def read(workdir: pathlib.Path) -> dict[str, object]:
    """Numbers of a finished run."""
    config = json.loads((workdir / "config.json").read_text())
    lines = read_metrics(workdir)
    knn = [v for line in lines for k, v in line.items() if k.endswith("knn_top1")]
    speeds = [line["images_per_sec"] for line in lines if "images_per_sec" in line]
    stds = [line["embedding_std"] for line in lines if "embedding_std" in line]
    images = int(config["data"]["source"].partition(":")[2])
    return {
        "untrained": knn[0],
        "knn": knn[-1],
        "embedding_std": stds[-1],
        "seconds_per_epoch": images / statistics.median(speeds),
    }


def spread(values: list[float]) -> str:
    """Mean and standard deviation, in percent."""
    some = [100 * value for value in values]
    deviation = f" ± {statistics.stdev(some):.1f}" if len(some) > 1 else ""
    return f"{statistics.mean(some):.1f}{deviation}"


def table(runs: list[dict[str, object]], methods: list[str], samplers: list[str]) -> str:
    """Markdown: methods x samplers."""
    columns = [f"`{sampler}` | std | s an epoch" for sampler in samplers]
    lines = ["| method | untrained | " + " | ".join(columns) + " |"]
    lines.append("| --- " * (2 + 3 * len(samplers)) + "|")
    for method in methods:
        mine = [run for run in runs if run["method"] == method]
        first = [run for run in mine if run["sampler"] == samplers[0]]
        cells = [f"`{method}`", spread([run["untrained"] for run in first])]
        for sampler in samplers:
            some = [run for run in mine if run["sampler"] == sampler]
            cells.append(spread([run["knn"] for run in some]))
            cells.append(f"{statistics.mean(run['embedding_std'] for run in some):.2f}")
            cells.append(f"{statistics.median(run['seconds_per_epoch'] for run in some):.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/learning"))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=pathlib.Path, help="a JSON file of all runs")
    args, args.overrides = parser.parse_known_args()  # --config.KEY=VALUE, for every run
    jobs = [(m, p, s) for s in args.seeds for m in args.methods for p in args.samplers]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        runs = list(pool.map(lambda job: train(*job, args), jobs))
    print(table(runs, args.methods, args.samplers))
    if args.out:
        args.out.write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
