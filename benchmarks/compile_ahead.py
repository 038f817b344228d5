"""What XLA says of a training step on chips that need not be there, and how fast it can be at best.

    pip install libtpu==0.0.42.1    # beside jax 0.10.2; without it, cpu:N alone
    python benchmarks/compile_ahead.py configs/detcon.py:s_imagenet_fh_100 --topology v5e:4x4
    python benchmarks/compile_ahead.py configs/samclr_ade20k.py --topology cpu:8 --part views

A step is lowered and compiled for the devices of a topology: v5e:2x2, v5e:4x4, v5e:16x16, v5e:1x1,
cpu:8; h100:1, h100:8 with jax-cuda12-plugin, jax-cuda12-pjrt and nvidia-cuda-nvcc-cu12, where XLA
tells no FLOPs and bytes. No data is read: a batch has the shapes that canvases of `--pixels` have.
Memory, FLOPs, bytes and collectives are those of the compiled program, on one device. All times are
estimates: those of the roofline from these (of loops one turn is counted) and the published rates
of the chip; those by part add up what the compiler for TPUs expects of each instruction, all turns
of loops with it. What it expects nothing of, such as exchanges and gathers, counts as nothing.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import re
import resource
import time
from collections.abc import Iterator
from typing import Any

# For libtpu, which else looks for the machine's own chips.
os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-16"}
os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_WORKER_HOSTNAMES": "localhost"}

import jax
import numpy as np
from gpu.kernels import instructions, part
from jax.experimental import topologies
from jax.sharding import Mesh
from memory_traffic import FREE, NOTHING, Program, size_of
from ml_collections import ConfigDict

from jaxssl import sharding
from jaxssl.config import build_method
from jaxssl.config.file import load_config
from jaxssl.data.canvas import CanvasSpec
from jaxssl.training.step import TrainStep, make_train_step
from jaxssl.training.trainer import jit_train_step
from jaxssl.training.workdir import environment
from jaxssl.types import Tree
from jaxssl.views import make_views

EXAMPLES = 100_000  # of the data set, which does not matter to a step
LOOP = re.compile(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)")
CHAIN = re.compile(r'\bchain_id="\d+"')
LIMIT = re.compile(r"s32\[\]\S* constant\((\d+)\)")
TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')  # for a GPU it stands beside the loop
CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
MADE = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\(")
KINDS = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
# What makes nothing: names for results of others, and copies made ahead of their use.
MAKES_NOTHING = FREE | {f"{kind}-start" for kind in ("copy", "slice", "async")}


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published rates: cloud.google.com/tpu/docs/v5e. Four units do 128 x 128 products a cycle."""

    flops: float  # bfloat16, a second
    memory: float  # bytes a second
    links: float  # bytes a second out of one chip, all links together
    gib: float  # of memory


CHIPS = {"v5e": Chip(197e12, 819e9, 200e9, 16)}
# What XLA asks of the card that it compiles for.
H100 = """gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448 core_count: 132
  threads_per_core_limit: 2048 fpus_per_core: 128 registers_per_core_limit: 65536
  registers_per_block_limit: 65536 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 84978434048 cuda_compute_capability { major: 9 } }
platform_name: "CUDA" dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
CYCLES_A_MILLISECOND = CHIPS["v5e"].flops / (2 * 4 * 128**2) / 1000


def devices(topology: str) -> list[jax.Device]:
    """The devices of a topology such as v5e:4x4, h100:8 or cpu:8."""
    kind, _, shape = topology.partition(":")
    if kind == "cpu":
        jax.config.update("jax_num_cpu_devices", int(shape))
        return jax.devices()
    if kind == "h100":
        one_host = {"target_config": H100, "topology": f"1x1x{shape}"}
        return list(topologies.get_topology_desc(platform="cuda", **one_host).devices)
    more = {"chips_per_host_bounds": (1, 1, 1)} if shape == "1x1" else {}
    name = {"platform": "tpu", "topology_name": topology}
    return list(topologies.get_topology_desc(**name, **more).devices)


def shapes(config: ConfigDict, step: TrainStep, pixels: int, mesh: Mesh) -> tuple[Tree, Tree, Tree]:
    """Those of the state, of a batch of canvases and of a key."""
    views, method, sampler = step.views.specs(), step.method, step.sampler
    sides = min(v.size for v in views), max(v.size for v in views)
    objects = config.data.max_objects if sampler.needs_regions else 0
    planes = config.data.region_planes if method.needs_regions else 0
    spec = CanvasSpec(config.data.pixels or pixels, sides, objects, planes)
    arrays = {k: np.zeros((1, *s), t) for k, (s, t) in spec.arrays().items()}
    arrays = sharding.in_device_layout(arrays | {"index": np.zeros(1, np.int32)}, mesh)
    size = config.batch_size
    batch = {k: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype) for k, a in arrays.items()}
    key = jax.eval_shape(lambda: jax.random.key(0))
    return (
        jax.eval_shape(functools.partial(step.init, num_examples=EXAMPLES), key, batch),
        batch,
        key,
    )


def lower(config: ConfigDict, mesh: Mesh, pixels: int, which: str) -> Any:
    """The step, or its first part (`views`), or all that follows that (`network`), lowered."""
    method, _ = build_method(config)
    step = make_train_step(config, method, EXAMPLES // config.batch_size)
    state, batch, key = shapes(config, step, pixels, mesh)
    same, rows = sharding.replicated(mesh), sharding.split(mesh)

    def cut(key: jax.Array, batch: Tree, memory: Tree) -> Tree:
        return make_views(key, batch, memory, step.sampler, step.views)[0]

    if which == "step":
        return jit_train_step(step, mesh).lower(state, batch, {}, key)
    if which == "views":
        known = sharding.with_mesh(mesh, cut)
        jitted = jax.jit(known, in_shardings=(same, rows, same), out_shardings=rows)
        return jitted.lower(key, batch, state.sampler_state)
    views = jax.eval_shape(cut, key, batch, state.sampler_state)
    update = sharding.with_mesh(mesh, step.update)
    jitted = jax.jit(update, in_shardings=(same, rows, same), out_shardings=same)
    return jitted.lower(state, views, key)


def exchanged(text: str) -> dict[str, dict[str, int]]:
    """How often devices exchange something, and bytes of the results, by kind.

    One that runs beside other work, as links of a chain, counts once.
    """
    sent: dict[str, dict[str, int]] = {}
    seen: set[str] = set()
    for line in text.splitlines():
        if (match := MADE.match(line)) and (kind := match[3].removesuffix("-start")) in KINDS:
            if (chain := CHAIN.search(line)) and chain[0] in seen:
                continue
            seen |= {chain[0]} if chain else set()
            entry = sent.setdefault(kind, {"number": 0, "bytes": 0})
            entry["number"] += 1
            entry["bytes"] += size_of(match[2]) // (2 if match[3].endswith("-start") else 1)
    return sent


def computations(text: str) -> Iterator[tuple[str, str]]:
    """The lines of a compiled program, each with the name of the computation that it is in."""
    inside = ""
    for line in text.splitlines():
        if line and not line[0].isspace():
            inside = line.removeprefix("ENTRY ").split(" ")[0].removeprefix("%")
        else:
            yield inside, line


def loops(text: str) -> dict[str, tuple[int, str]]:
    """Of the body of each loop how often it runs in all, and the part of the step it belongs to."""
    limits: dict[str, int] = {}
    found, operations = {}, instructions(text)
    for inside, line in computations(text):
        if match := LIMIT.search(line):
            limits[inside] = max(int(match[1]), limits.get(inside, 1))
        if (match := LOOP.search(line)) and (made := MADE.match(line)):
            if known := TURNS.search(line):
                limits[match[1]] = int(known[1])
            found[match[2]] = (inside, match[1], part(operations.get(made[1], "")))

    def turns(body: str) -> int:
        if body not in found:
            return 1
        outside, condition, _ = found[body]
        return limits.get(condition, 1) * turns(outside)

    return {body: (turns(body), found[body][2]) for body in found}


def by_part(text: str) -> dict[str, dict[str, float]]:
    """Bytes and milliseconds of each part of a step, of instructions that are not fused.

    bytes: of their results; moved: read and written outside the fast memory of a TPU; milliseconds:
    what the compiler expects.
    """
    program = Program(text)
    fused = set(re.findall(r"(?:calls|to_apply)=%?([\w.\-]+)", text))
    operations, turns = instructions(text), loops(text)
    sums: dict[str, dict[str, float]] = {}
    for inside, line in computations(text):
        match = MADE.match(line)
        if inside in fused or not match or any(target in line for target in NOTHING):
            continue
        often, of_loop = turns.get(inside, (1, ""))
        name = part(operations.get(match[1], "")) or of_loop or "no name"
        entry = sums.setdefault(name, {"bytes": 0, "moved": 0, "milliseconds": 0})
        entry["moved"] += often * program.moved(inside, match[1])
        if match[3] in MAKES_NOTHING:
            continue
        # A turn that writes a slice of an array does not write it all.
        entry["bytes"] += size_of(match[2]) * (1 if "dynamic-update-slice" in line else often)
        if cycles := CYCLES.search(line):
            entry["milliseconds"] += often * int(cycles[1]) / CYCLES_A_MILLISECOND
    return sums


def roofline(
    chip: Chip, number: int, costs: dict[str, Any], sent: dict[str, Any]
) -> dict[str, Any]:
    """Milliseconds of arithmetic, memory and links, were each the only one: estimates."""
    # Out of each chip of a ring go twice the bytes of a sum, once those of anything else.
    out = sum(e["bytes"] * (2 if kind == "all-reduce" else 1) for kind, e in sent.items())
    seconds = {
        "arithmetic": costs["flops"] / chip.flops,
        "memory": costs["bytes"] / chip.memory,
        "links": out * (number - 1) / number / chip.links,
    }
    return {name: 1000 * s for name, s in seconds.items()}


def describe(config: ConfigDict, args: argparse.Namespace) -> dict[str, Any]:
    """All that the compiled program tells."""
    mesh = Mesh(np.array(devices(args.topology)), ("data",))
    start = time.perf_counter()
    lowered = lower(config, mesh, args.pixels, args.part)
    middle = time.perf_counter()
    compiled = lowered.compile()
    end = time.perf_counter()
    text, memory = compiled.as_text(), compiled.memory_analysis()
    costs = compiled.cost_analysis() or {}
    others = resource.getrusage(resource.RUSAGE_CHILDREN)  # ptxas is a program of its own
    if args.text:
        args.text.write_text(text)
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    result = {
        "devices": mesh.size,
        "batch_size": config.batch_size,
        "seconds": {"lower": middle - start, "compile": end - middle},
        "cpu_seconds": time.process_time() + others.ru_utime + others.ru_stime,
        "gib": {"held": held / 2**30, "temporary": memory.temp_size_in_bytes / 2**30},
        "costs": {"flops": costs.get("flops", 0), "bytes": costs.get("bytes accessed", 0)},
        "exchanged": exchanged(text),
        "parts": by_part(text),
        "turns": sorted((n for n, _ in loops(text).values()), reverse=True),
    }
    if chip := CHIPS.get(args.topology.partition(":")[0]):
        times = roofline(chip, mesh.size, result["costs"], result["exchanged"])
        result["milliseconds"] = times
        result["images_per_second"] = 1000 * config.batch_size / max(times.values())
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="FILE.py or FILE.py:variant")
    parser.add_argument("--topology", default="cpu:8")
    parser.add_argument("--part", choices=("step", "views", "network"), default="step")
    parser.add_argument("--pixels", type=int, default=512 * 512, help="of canvases")
    parser.add_argument("--text", type=pathlib.Path, help="file for the compiled program")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to which the result is added")
    args, overrides = parser.parse_known_args()
    config = load_config(args.config, overrides)
    result = describe(config, args)
    print(json.dumps(result, indent=2))
    if args.out:
        content = json.loads(args.out.read_text()) if args.out.exists() else []
        told = {"config": args.config, "overrides": overrides, "topology": args.topology}
        told |= {"part": args.part, "environment": environment()}
        args.out.write_text(json.dumps([*content, told | result], indent=1) + "\n")


if __name__ == "__main__":
    main()
