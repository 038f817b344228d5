"""Images per second: views, one step, the whole loop in each input mode, and torch beside them.

    python benchmarks/throughput.py --torch-python PYTHON --out benchmarks/results/NAME.json
    python benchmarks/throughput.py --rows network torch --rounds 5 --torch-python PYTHON

`network` is a step without the making of views. PYTHON is an interpreter with torch, torchvision
and lightly; without it the rows `lightly` (its views) and `torch` (its network) are left out.
Every row is measured `--rounds` times, row after row and then all over again, since the speed of
machines drifts: compare the medians, and the ratios, of one run only.
"""

import argparse
import collections
import contextlib
import functools
import json
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import compare
import jax
import numpy as np
from PIL import Image

from jaxssl import sharding
from jaxssl.config import base, build_method, defaults
from jaxssl.data import open_source
from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.pipeline import open_pipeline
from jaxssl.terminal import format_table
from jaxssl.training.step import make_train_step
from jaxssl.training.trainer import Trainer
from jaxssl.training.workdir import environment
from jaxssl.views import make_views

ROWS = ["views", "step", "loop, device", "loop, host", "loop, stream", "lightly"]
MORE = ["network", "torch"]  # torch's is a ResNet-18 of full width


def write_photographs(folder: pathlib.Path, count: int) -> None:
    """JPEGs of 480 x 360 pixels: synthetic scenes, enlarged. Their content does not matter here."""
    folder.mkdir(parents=True)
    scenes = open_source(f"scenes:{count}")
    for i in range(count):
        picture = Image.fromarray(scenes[i].image).resize((480, 360), Image.Resampling.BICUBIC)
        picture.save(folder / f"{i:05d}.jpg", quality=90)


class Setting:
    """The step of SimCLR and the pipelines that feed it."""

    def __init__(self, args: argparse.Namespace, folder: pathlib.Path):
        config = base()
        config.dtype = args.dtype
        width = {} if args.width is None else {"width": args.width}
        config.encoder = defaults("encoder", args.encoder, **width)
        config.batch_size, config.epochs, config.views.size = args.batch_size, 10, args.size
        self.mesh = sharding.make_mesh()
        method, _ = build_method(config)
        source = open_source(f"folder:{folder}")
        step = make_train_step(config, method, steps_per_epoch=100)
        self.pipelines = {
            mode: open_pipeline(
                source,
                CanvasSpec(args.pixels, (args.size, args.size)),
                batch_size=args.batch_size,
                seed=0,
                mode=mode,
                cache_dir=folder.parent / "cache",
                device_bytes=sharding.memory_per_device(),
            )
            for mode in ("device", "host", "stream")
        }
        self.trainers = {
            mode: Trainer(step, pipeline, self.mesh, seed=0)
            for mode, pipeline in self.pipelines.items()
        }
        self.state = self.trainers["host"].init()
        self.views = jax.jit(
            lambda key, batch: make_views(key, batch, (), step.sampler, step.views)
        )
        self.batch = next(self.trainers["host"].batches(0))
        self._shapes = jax.eval_shape(self.views, jax.random.key(1), self.batch)[0]
        self._network: Callable[..., Any] = jax.jit(step.update, donate_argnums=0)
        self._random_views: Any = None

    def make_views(self) -> None:
        jax.block_until_ready(self.views(jax.random.key(1), self.batch))

    def network(self) -> None:
        if self._random_views is None:
            draw = functools.partial(jax.random.normal, jax.random.key(2))
            self._random_views = jax.tree.map(lambda x: draw(x.shape, x.dtype), self._shapes)
        self.state, metrics = self._network(self.state, self._random_views, jax.random.key(3))
        jax.block_until_ready(metrics)

    def train_step(self) -> None:
        self.state, metrics = self.trainers["host"](self.state, self.batch)
        jax.block_until_ready(metrics)

    def loop(self, mode: str) -> Callable[[], None]:
        """A function that takes one more step from the pipeline of a mode."""
        trainer = self.trainers[mode]
        batches = trainer.batches(0)

        def run() -> None:
            self.state, metrics = trainer(self.state, next(batches))
            jax.block_until_ready(metrics)

        return run


def images_per_second(
    function: Callable[[], None], batch_size: int, seconds: float
) -> tuple[float, float]:
    """Calls the function for some seconds, after one call that does not count.

    Returns:
      Images per second, and per second of one core's work.
    """
    function()
    start, cpu, calls = time.perf_counter(), time.process_time(), 0
    while calls < 2 or time.perf_counter() - start < seconds:
        function()
        calls += 1
    images = calls * batch_size
    return images / (time.perf_counter() - start), images / (time.process_time() - cpu)


def lightly(args: argparse.Namespace, folder: pathlib.Path) -> float:
    """lightly's SimCLR transform behind torch's DataLoader, on the same files."""
    script = pathlib.Path(__file__).with_name("lightly_views.py")
    command = [args.torch_python, script, folder, "--size", args.size, "--seconds", args.seconds]
    return float(subprocess.run([str(c) for c in command], check=True, capture_output=True).stdout)


@contextlib.contextmanager
def torch_step(args: argparse.Namespace) -> Iterator[Callable[[], tuple[float, float]]]:
    """A process that measures torch's step whenever it is asked to."""
    script = pathlib.Path(__file__).with_name("torch_step.py")
    command = [args.torch_python, script, "--size", args.size, "--seconds", args.seconds]
    command = [str(c) for c in (*command, "--batch-size", args.batch_size)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:

        def ask() -> tuple[float, float]:
            print(file=process.stdin)
            wall, cpu = process.stdout.readline().split()  # type: ignore[union-attr]
            return float(wall), float(cpu)

        yield ask
        process.stdin.close()  # type: ignore[union-attr]


Figures = dict[str, list[float]]


def measure(args: argparse.Namespace, folder: pathlib.Path) -> tuple[Figures, Figures]:
    """Images per second of every row, one figure a round; and per second of one core's work."""
    setting = Setting(args, folder)
    rows = {"views": setting.make_views, "network": setting.network, "step": setting.train_step}
    rows |= {f"loop, {mode}": setting.loop(mode) for mode in setting.pipelines}
    by_wall, by_cpu = collections.defaultdict(list), collections.defaultdict(list)
    with torch_step(args) if "torch" in args.rows else contextlib.nullcontext() as ask:
        for _ in range(args.rounds):
            for name in args.rows:
                if name == "lightly":
                    by_wall[name].append(lightly(args, folder))
                    continue
                if name == "torch":
                    wall, cpu = ask()
                else:
                    wall, cpu = images_per_second(rows[name], args.batch_size, args.seconds)
                by_wall[name].append(wall)
                by_cpu[name].append(cpu)
    return by_wall, by_cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--pixels", type=int, default=640 * 480)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--width", type=float, help="of a ResNet")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rows", nargs="+", choices=ROWS + MORE, default=ROWS)
    parser.add_argument("--torch-python")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    if not args.torch_python:
        args.rows = [row for row in args.rows if row not in ("lightly", "torch")]
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch, "photographs")
        write_photographs(folder, args.images)
        figures, by_cpu = measure(args, folder)
    medians = {name: float(np.median(values)) for name, values in figures.items()}
    first = "step" if "step" in medians else args.rows[0]
    table = [["images per second", "median", "min", "max", "per core", f"of {first}"]]
    for name, values in figures.items():
        numbers = [f"{x:.1f}" for x in (medians[name], min(values), max(values))]
        numbers.append(f"{np.median(by_cpu[name]):.1f}" if name in by_cpu else "-")
        table.append([name, *numbers, f"{medians[name] / medians[first]:.2f}"])
    print(format_table(table))
    if args.out:
        settings = {k: str(v) for k, v in vars(args).items() if k not in ("out", "torch_python")}
        content = {"settings": settings, "environment": environment(), "images_per_second": figures}
        content["images_per_second_of_a_core"] = by_cpu
        compare.warn(args.out, content)
        args.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
