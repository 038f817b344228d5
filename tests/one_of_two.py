"""One of the two processes of `test_distributed.py`: several runs, one after the other.

    python one_of_two.py PROCESS_ID PORT FOLDER

Each run is `train.main` with what a user would type. Leaves their exit statuses in the folder.
"""

import json
import os
import pathlib
import signal
import sys

import jax
from tiny_encoder import TinyEncoder

from jaxssl import train
from jaxssl.config.parts import KNOWN
from jaxssl.data.pipeline import Pipeline
from jaxssl.errors import UserError

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "quickstart.py"
OPTIONS = {
    "epochs": 2,
    "batch_size": 16,
    "log_every": 1,
    "data.source": "scenes:70",  # four steps an epoch
    "data.pixels": 1024,
    "views.size": 16,
    "views.recipe": "none",
    "method.hidden": "(8,)",
    "method.dim": 8,
    "encoder.name": "tiny",
    "sampler.name": "contrastive_crop",  # looks at all images after the first epoch
    "sampler.warmup_epochs": 1,
    "sampler.threshold": 0.5,
    "eval.datasets": "objects:60",
    "eval.knn_k": 5,
    "eval.batch_size": 21,  # does not divide by the devices
    "eval.linear": False,
    "checkpoint.every": 3,
    "checkpoint.keep": 9,
}


def arguments(workdir: pathlib.Path, **changes: object) -> list[str]:
    """What a user types."""
    options = OPTIONS | {k.replace("__", "."): v for k, v in changes.items()}
    overrides = [f"--config.{k}={v}" for k, v in options.items()]
    return ["--config", str(CONFIG), "--workdir", str(workdir), *overrides]


def interrupt(number: int, at: int) -> None:
    """This process gets a signal, or with 0 an error, before step `at`, as its batch is made."""
    batches = Pipeline.batches

    def interrupted(self, start):
        for step, batch in enumerate(batches(self, start), start=start + 1):
            if step == at + 2:  # two are fetched ahead
                if not number:
                    raise UserError("no such batch")
                os.kill(os.getpid(), number)
            yield batch

    Pipeline.batches = interrupted


def main(process: int, port: str, folder: pathlib.Path) -> None:
    """Ends with the status of the last run, in which process 1 fails in the middle."""
    batches = Pipeline.batches
    meet = ["--coordinator", f"localhost:{port}", "--num-processes", "2"]
    statuses = []

    def run(name: str, *words: str, **changes: object) -> None:
        statuses.append((name, train.main([*arguments(folder / name, **changes), *words])))
        Pipeline.batches = batches

    bad_source = {"data__source": "folder:/nowhere"} if process else {}
    run("mistake", *meet, "--process-id", str(process), **bad_source)
    run("different", seed=process)
    if process == 1:
        interrupt(signal.SIGTERM, at=1)
    run("two", data__input="host")
    run("two", data__input="host")
    (folder / f"statuses_{process}.json").write_text(json.dumps(statuses))
    if process == 1:
        interrupt(0, at=7)
    run("handed_over")
    sys.exit(statuses[-1][1])


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 1)
    KNOWN["encoder"]["tiny"] = TinyEncoder
    main(int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3]))
