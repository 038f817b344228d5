"""Pre-trains an encoder: `python -m jaxssl.train --config configs/quickstart.py`.

Running the same command again continues where the run stopped, at any step, bit for bit.
"""

import pathlib
import sys
from collections.abc import Sequence

from jaxssl import distributed
from jaxssl.config_file import format_config, load_config
from jaxssl.terminal import Parser, one_line_errors
from jaxssl.training.pretrain import pretrain
from jaxssl.training.results import accuracy_table


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one line that says what to do."""
    parser = Parser(
        prog="python -m jaxssl.train",
        description="Pre-trains an encoder. The same command again continues the run.",
        epilog="example: python -m jaxssl.train --config configs/quickstart.py:simclr "
        "--workdir runs/try --config.epochs=5 --config.eval.datasets=objects:1000",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="FILE.py or FILE.py:variant")
    parser.add_argument("--workdir", type=pathlib.Path, help="default: runs/<config name>")
    parser.add_argument(
        "--print-config", action="store_true", help="print every key with its value, and exit"
    )
    parser.add_argument(
        "--profile", type=int, default=0, metavar="STEPS", help="trace so many steps, for xprof"
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes, as SLURM, Open MPI or a TPU pod say, or these three:",
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0")
    parser.add_argument("--num-processes", type=int, metavar="N")
    parser.add_argument("--process-id", type=int, metavar="I", help="0 to N - 1")
    with one_line_errors(saves=True) as status:
        args, overrides = parser.parse_known_args(argv)
        if args.print_config:
            print(format_config(load_config(args.config, overrides)))
            return status.code
        meeting = (args.coordinator, args.num_processes, args.process_id)
        if args.distributed or any(m is not None for m in meeting):
            distributed.initialize(*meeting)
        config = load_config(args.config, overrides)
        path, _, variant = args.config.partition(":")
        name = "_".join(filter(None, (pathlib.Path(path).stem, variant)))
        workdir = args.workdir or pathlib.Path("runs", name)
        if pretrain(config, workdir, profile=args.profile) and distributed.is_first():
            print(accuracy_table(workdir))
            print(f"{workdir}: config.json, metrics.jsonl, tensorboard/, checkpoints/")
    return status.code


if __name__ == "__main__":
    sys.exit(main())
