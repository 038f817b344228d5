"""Do regions help, with which method, and is it the regions? Every run by one command.

    python benchmarks/regions.py --workdir runs/regions --studies quickstart regions --jobs 2 \
        --seeds 401 402 403 --out benchmarks/results/regions.json
    python benchmarks/regions.py --workdir runs/regions --studies dense --seeds 201 202 203 \
        --photographs data/photos --evaluate folder:data/camvid --ignore-labels 11 --jobs 2

The arms of each study (`region_studies.py`) are trained with each seed and compared, seed by seed,
with the last arm before them that cuts random crops. Stopped, the same command goes on. Results
are added to `--out`, whose runs of other studies and seeds stay and are not repeated where the
command is the same: give a new file after a change of the setting. `--table` only prints what is
there, as Markdown.
"""

import argparse
import concurrent.futures
import json
import pathlib
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from region_studies import STUDIES, Arms, Inputs, Words

from jaxssl.training.metrics import read_metrics
from jaxssl.training.workdir import environment

Run = dict[str, object]
BASELINES = ("random_crop", "simclr")  # ends of the names of arms


def command_of(words: Words, seed: int) -> list[str]:
    variant, *overrides = words
    overrides += ["--config.eval.every=0", "--config.eval.health=0", f"--config.seed={seed}"]
    return ["--config", f"configs/quickstart.py:{variant}", *overrides]


def train(study: str, arm: str, seed: int, command: list[str], workdir: pathlib.Path) -> Run:
    """One run, unless it is finished; its numbers."""
    numbers, words = workdir / "numbers.json", shlex.join(command)
    if numbers.exists():
        run = json.loads(numbers.read_text())
        if run["command"] != words:
            raise SystemExit(f"{workdir} has a run of {run['command']}; give another --workdir")
        return run
    workdir.mkdir(parents=True, exist_ok=True)
    start = time.time()
    with (workdir / "printed.txt").open("a") as printed:
        subprocess.run(
            [sys.executable, "-m", "jaxssl.train", "--workdir", str(workdir), *command],
            check=True,
            stdout=printed,
            stderr=printed,
        )
    run = {"study": study, "arm": arm, "seed": seed, "command": words}
    made_by = json.loads((workdir / "environment.json").read_text())
    run |= {"seconds": round(time.time() - start), "revision": made_by["git"], **read(workdir)}
    numbers.write_text(json.dumps(run) + "\n")
    return run


def train_all(study: str, arms: Arms, args: argparse.Namespace) -> list[Run]:
    """All arms of a study with all seeds, `--jobs` at a time. What another study ran is taken."""
    known = {run["command"]: run for run in read_results(args.out)["runs"]}

    def work(seed: int, arm: str) -> Run:
        command = command_of(arms[arm], seed)
        if other := known.get(shlex.join(command)):
            made_by = f"from study {other['study']}, revision {other['revision']}"
            run = other | {"study": study, "arm": arm}
        else:
            made_by = "trained"
            folder = args.workdir / study / f"{arm.replace(' ', '_').replace(',', '')}-{seed}"
            run = train(study, arm, seed, command, folder)
        print(f"{study}: {arm}, seed {seed}: {run['trained']} ({made_by})", flush=True)
        return run

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        runs = [pool.submit(work, seed, arm) for seed in args.seeds for arm in arms]
        return [run.result() for run in runs]


def read(workdir: pathlib.Path) -> Run:
    """Results before and after a finished run."""
    lines = [line for line in read_metrics(workdir) if any(k.startswith("eval/") for k in line)]
    first, last = (
        {k.removeprefix("eval/"): v for k, v in line.items() if k.startswith("eval/")}
        for line in (lines[0], lines[-1])
    )
    return {"untrained": first, "trained": last}


def spread(values: list[float], sign: str = "") -> str:
    """Mean and standard deviation, in percent."""
    some = [100 * value for value in values]
    deviation = f" ± {statistics.stdev(some):.1f}" if len(some) > 1 else ""
    return f"{statistics.mean(some):{sign}.1f}{deviation}"


def by_arm(runs: list[Run], study: str) -> Iterator[tuple[str, dict[int, Run], dict[int, Run]]]:
    """Each arm's name, its runs by seed, and those of its baseline: the arm's own, if it is one."""
    arms: dict[str, dict[int, Run]] = {}
    for run in runs:
        if run["study"] == study:
            arms.setdefault(run["arm"], {})[run["seed"]] = run
    base = next(iter(arms.values()), {})
    for arm, by_seed in arms.items():
        if arm.endswith(BASELINES):
            base = by_seed
        yield arm, by_seed, base


def differences(by_seed: dict[int, Run], base: dict[int, Run], name: str) -> list[float]:
    """How much larger a result is than the baseline's, for each seed that both have."""
    return [
        run["trained"][name] - base[seed]["trained"][name]
        for seed, run in by_seed.items()
        if seed in base and by_seed is not base
    ]


def measures(run: Run) -> list[str]:
    """Names of a run's results."""
    return [name for name in run["trained"] if "baseline" not in name]


def table(runs: list[Run], study: str) -> str:
    """Markdown: a row for each arm, and how far it is from its baseline with the same seeds."""
    arms = [*by_arm(runs, study)]
    if not arms:
        return ""
    names = measures(next(iter(arms[0][1].values())))
    heads = ["", "seeds", *(f"{n}, untrained | trained | difference (least)" for n in names)]
    lines = [f"**{study}**", "", "| " + " | ".join(heads) + " |"]
    lines.append("| --- " * (2 + 3 * len(names)) + "|")
    for arm, by_seed, base in arms:
        cells = [arm, str(len(by_seed))]
        for name in names:
            before = [r["untrained"][name] for r in by_seed.values() if name in r["untrained"]]
            cells.append(spread(before) if before else "-")
            cells.append(spread([run["trained"][name] for run in by_seed.values()]))
            more = differences(by_seed, base, name)
            cells.append(f"{spread(more, '+')} ({100 * min(more):+.1f})" if more else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def read_results(out: pathlib.Path) -> dict[str, Any]:
    """The file of results, or what it has before the first run."""
    return json.loads(out.read_text()) if out.exists() else {"machine": environment(), "runs": []}


def merge(out: pathlib.Path, new: list[Run]) -> list[Run]:
    """Adds runs to the file of results, in place of those of the same study, arm and seed."""
    before = read_results(out)
    key = ("study", "arm", "seed")
    runs = {tuple(run[k] for k in key): run for run in [*before["runs"], *new]}
    before["runs"] = [*runs.values()]
    out.write_text(json.dumps(before, indent=1) + "\n")
    return before["runs"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/regions"))
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=["quickstart"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[101, 102, 103])
    parser.add_argument("--arms", nargs="+", help="names of arms (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--labeled", type=pathlib.Path, help="class folders to make mosaics of")
    parser.add_argument("--photographs", type=pathlib.Path, help="a folder to pre-train on")
    parser.add_argument("--annotations", type=pathlib.Path, help="of them: BSDS500's, CamVid's")
    parser.add_argument("--evaluate", nargs="+", default=(), help="sources: photographs, dense")
    parser.add_argument("--ignore-labels", default="", help="of --evaluate: 11 of CamVid")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("regions.json"))
    parser.add_argument("--table", action="store_true", help="only print what --out holds")
    args = parser.parse_args()
    runs = read_results(args.out)["runs"]
    inputs = Inputs(
        args.workdir / "data",
        args.labeled,
        args.photographs,
        args.annotations,
        tuple(args.evaluate),
        args.ignore_labels,
    )
    for study in () if args.table else args.studies:
        arms = STUDIES[study](inputs)
        chosen = {name: arms[name] for name in args.arms or arms}
        runs = merge(args.out, train_all(study, chosen, args))
    for study in args.studies:
        print(table(runs, study))


if __name__ == "__main__":
    main()
