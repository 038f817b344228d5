"""The rows of one case, in images per second, into a JSON file that is whole after each of them.

network  forward, loss, backward and optimizer, on random numbers in place of views
step     a training step: the same, with images looked up and views cut on the device
loop     what `jaxssl.train` reports while it runs
views    the views alone
profile  of a few calls of `step`: milliseconds by part and by kernel

    python benchmarks/gpu/measure.py CASE --scratch DIR
"""

import argparse
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from cases import CASES, make_config
from kernels import instructions, summarize
from ml_collections import ConfigDict

from jaxssl import sharding
from jaxssl.config import build_method
from jaxssl.image.pyramid import look_up
from jaxssl.training.images import open_data, open_images
from jaxssl.training.metrics import read_metrics
from jaxssl.training.pretrain import pretrain
from jaxssl.training.step import make_train_step
from jaxssl.training.trainer import Trainer, jit_train_step
from jaxssl.types import Tree
from jaxssl.views import make_views

CHUNK = 10  # calls that are queued before the clock is read
PROFILED = 10  # calls


class Setting:
    """The training of a config: its parts, and a batch to work on."""

    def __init__(self, config: ConfigDict):
        self.mesh, self.batch_size = sharding.make_mesh(), config.batch_size
        method, _ = build_method(config)
        pipeline = open_data(config, *open_images(config, method), sharding.memory_per_device())
        self.step = make_train_step(config, method, pipeline.steps_per_epoch)
        self.trainer = Trainer(self.step, pipeline, self.mesh, config.seed)
        self.state, self.resident = self.trainer.init(), self.trainer.resident
        self.batch, self.key = next(self.trainer.batches(0)), jax.random.key(0)

    def cut(self, key: jax.Array, batch: Tree, resident: Tree) -> Tree:
        """The views of a batch."""
        canvases = batch | look_up(resident, batch["index"])
        return make_views(key, canvases, (), self.step.sampler, self.step.views)[0]

    def random_views(self) -> Tree:
        """Views of random numbers and random regions, on the devices."""
        shapes = jax.eval_shape(self.cut, self.key, self.batch, self.resident)

        def draw(shape: jax.ShapeDtypeStruct) -> jax.Array:
            if shape.dtype == jnp.uint32:
                return jax.random.bits(self.key, shape.shape)
            return jax.random.normal(self.key, shape.shape, shape.dtype)

        rows = sharding.split(self.mesh)
        return jax.jit(lambda: jax.tree.map(draw, shapes), out_shardings=rows)()


class Figures:
    """What is measured, in a file."""

    def __init__(self, path: pathlib.Path):
        self._path, self._figures = path, {}

    def add(self, name: str, **figures: Any) -> None:
        self._figures[name] = figures
        self._path.write_text(json.dumps(self._figures))
        shown = {k: f"{v:.4g}" for k, v in figures.items() if isinstance(v, float)}
        print(f"{self._path.stem}, {name}:", *(f"{k} {v}" for k, v in shown.items()), flush=True)


def images_per_second(call: Callable[[], Any], batch_size: int, seconds: float) -> list[float]:
    """One figure for every `CHUNK` calls, which are queued; the first call does not count."""
    jax.block_until_ready(call())
    rates, end = [], time.perf_counter() + seconds
    while len(rates) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(CHUNK):
            result = call()
        jax.block_until_ready(result)
        rates.append(CHUNK * batch_size / (time.perf_counter() - start))
    return rates


class Program:
    """A jitted function, compiled, and called again and again."""

    def __init__(self, jitted: Any, *arguments: Any):
        start = time.perf_counter()
        self.compiled = jitted.lower(*arguments).compile()
        self.seconds, self._arguments = time.perf_counter() - start, arguments

    def __call__(self) -> Any:
        return self.compiled(*self._arguments)

    def figures(self, batch_size: int, seconds: float) -> dict[str, Any]:
        """Speed, seconds to compile, memory in GiB: of the program, and the process at most."""
        rates = images_per_second(self, batch_size, seconds)
        memory, stats = self.compiled.memory_analysis(), jax.devices()[0].memory_stats() or {}
        return {
            "images_per_second": statistics.median(rates),
            "slowest": min(rates),
            "fastest": max(rates),
            "compile_seconds": self.seconds,
            "temporary_gib": memory.temp_size_in_bytes / 2**30,
            "arguments_gib": memory.argument_size_in_bytes / 2**30,
            "peak_gib": stats.get("peak_bytes_in_use", 0) / 2**30,
        }


class Training(Program):
    """One that takes the state, which is donated, and returns it with metrics."""

    def __call__(self) -> Any:
        state, *rest = self._arguments
        state, metrics = self.compiled(state, *rest)
        self._arguments = (state, *rest)
        return metrics

    @property
    def state(self) -> Tree:
        return self._arguments[0]


def measure_network(setting: Setting, seconds: float) -> dict[str, Any]:
    """`TrainStep.update` on random views."""
    same, rows = sharding.replicated(setting.mesh), sharding.split(setting.mesh)
    update = jax.jit(
        setting.step.update, in_shardings=(same, rows, same), out_shardings=same, donate_argnums=0
    )
    program = Training(update, setting.state, setting.random_views(), setting.key)
    figures = program.figures(setting.batch_size, seconds)
    setting.state = program.state
    return figures


def profile(program: Program, folder: pathlib.Path) -> dict[str, Any]:
    """Where the time of a program goes. The trace, for `xprof`, and the program's text stay."""
    with jax.profiler.trace(folder):
        for _ in range(PROFILED):
            result = program()
        jax.block_until_ready(result)
    text = program.compiled.as_text()
    (folder / "program.txt").write_text(text)
    return summarize(folder, instructions(text), PROFILED)


def measure_loop(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
    """`jaxssl.train` as a user runs it; its programs come from the cache of compiled ones."""
    start = time.perf_counter()
    pretrain(config, workdir)
    seconds = time.perf_counter() - start
    # The first line is of the time in which the queue fills.
    lines = [line for line in read_metrics(workdir) if "images_per_sec" in line][1:]
    rates = [line["images_per_sec"] for line in lines]
    return {
        "images_per_second": statistics.median(rates),
        "slowest": min(rates),
        "fastest": max(rates),
        "data_wait": statistics.median(line["data_wait"] for line in lines),
        "loss": lines[-1]["loss"],
        "whole_command_seconds": seconds,
    }


def measure(name: str, rows: list[str], args: argparse.Namespace) -> None:
    """All rows of one case."""
    start = time.perf_counter()
    config = make_config(name, args.scratch, args.images, args.small)
    figures, setting = Figures(args.scratch / f"{name}.json"), Setting(config)
    figures.add("start", seconds=time.perf_counter() - start)
    size, seconds = config.batch_size, args.seconds
    if "network" in rows:
        figures.add("network", **measure_network(setting, seconds))
    if "step" in rows:
        jitted = jit_train_step(setting.step, setting.mesh)
        arguments = (setting.state, setting.batch, setting.resident, setting.key)
        program = Training(jitted, *arguments)
        figures.add("step", **program.figures(size, seconds))
        if "profile" in rows:
            figures.add("profile", **profile(program, args.scratch / f"{name}_trace"))
        del program
    if "loop" in rows:
        figures.add("loop", **measure_loop(config, args.scratch / name))
    if "views" in rows:
        program = Program(jax.jit(setting.cut), setting.key, setting.batch, setting.resident)
        figures.add("views", **program.figures(size, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument(
        "--rows", nargs="+", default=["network", "step", "profile", "loop", "views"]
    )
    parser.add_argument("--scratch", type=pathlib.Path, required=True)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each row")
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    measure(args.case, args.rows, args)


if __name__ == "__main__":
    sys.exit(main())
