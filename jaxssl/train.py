"""Pre-trains an encoder: `python -m jaxssl.train --config configs/quickstart.py`.

Running the same command again continues where the run stopped, at any step, bit for bit.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from ml_collections import ConfigDict

from jaxssl import distributed, sharding
from jaxssl.config.file import format_config, load_config
from jaxssl.errors import UserError
from jaxssl.terminal import Parser, given_path, one_line_errors
from jaxssl.training.pretrain import plan_run, pretrain
from jaxssl.training.results import accuracy_table

LESS_MEMORY = "lower --config.batch_size, set --config.remat=True or --config.data.input=host"


def choose_runs(
    where: str, workdir: pathlib.Path | None, overrides: Sequence[str]
) -> dict[pathlib.Path, ConfigDict]:
    """The config of each variant that is asked for, by the folder of its run."""
    path, _, variants = where.partition(":")
    names = variants.split(",")
    if variants and "" in names:
        raise UserError(f"--config {where}: a variant without a name; separate names by one comma")
    runs = {}
    for name in names:
        default = pathlib.Path("runs", "_".join(filter(None, (pathlib.Path(path).stem, name))))
        given = workdir / name if workdir and len(names) > 1 else workdir
        runs[given or default] = load_config(f"{path}:{name}" if name else path, overrides)
    return runs


def parse_arguments(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The flags of this command, and the overrides of the config."""
    parser = Parser(
        prog="python -m jaxssl.train",
        description="Pre-trains an encoder. The same command again continues the run. "
        "--config.KEY=VALUE overrides any key of the config; --print-config shows them all.",
        epilog="example: python -m jaxssl.train --config configs/quickstart.py:simclr "
        "--workdir runs/try --config.epochs=5 --config.eval.datasets=objects:1000",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        required=True,
        help="FILE.py or FILE.py:VARIANT; FILE.py:ONE,OTHER trains both and compares them",
    )
    parser.add_argument(
        "--workdir",
        type=given_path,
        help="default: runs/FILE_VARIANT; of several variants, the folder of their folders",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print every key with its value, and exit"
    )
    parser.add_argument(
        "--profile",
        type=int,
        default=0,
        metavar="STEPS",
        help="write a trace of so many steps to profile/ in the workdir, for xprof",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="run as one of several processes; except under SLURM, Open MPI and on a TPU pod, give "
        "the following three, too",
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    parser.add_argument("--num-processes", type=int, metavar="N", help="number of processes")
    parser.add_argument("--process-id", type=int, metavar="I", help="of this one, 0 to N - 1")
    return parser.parse_known_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 after one line that says what to do, or 130 after Ctrl-C."""
    with one_line_errors(saves=True, less_memory=LESS_MEMORY) as status:
        args, overrides = parse_arguments(argv)
        runs = choose_runs(args.config, args.workdir, overrides)
        if args.print_config:
            print("\n\n".join(map(format_config, runs.values())))
            return status.code
        meeting = (args.coordinator, args.num_processes, args.process_id)
        if args.distributed or any(m is not None for m in meeting):
            distributed.initialize(*meeting)
        mesh = sharding.make_mesh()
        # Before the first is trained, for hours perhaps, it is known whether the others can be.
        plans = {workdir: plan_run(config, workdir, mesh) for workdir, config in runs.items()}
        for workdir, config in runs.items():
            pretrain(config, workdir, profile=args.profile, plan=plans.pop(workdir))
        if distributed.is_first():
            if table := accuracy_table([*runs]):
                print(table)
            for workdir in runs:
                print(f"{workdir}: config.json, metrics.jsonl, tensorboard/, checkpoints/")
    return status.code


if __name__ == "__main__":
    sys.exit(main())
