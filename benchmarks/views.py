"""Views: how fast they are cut, how much like exact crops they are, and how much detail they keep.

    python benchmarks/views.py --photographs data/bsds500/images/test --annotated data/camvid \\
        --torch-python PYTHON --before CHECKOUT --out benchmarks/results/NAME.json

PYTHON is an interpreter with torch, torchvision and lightly, CHECKOUT a checkout of a revision of
jaxssl that squashed images (3a39d1b); without one of them its rows are left out. `--annotated` has
photographs in `train` and label maps of the same names in `trainannot`. What is timed is timed in
rounds, row after row and then all over again: compare the ratios, of one run only.
"""

import argparse
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from scipy import ndimage

from jaxssl.config import build
from jaxssl.config.file import load_config
from jaxssl.data.canvas import CanvasSpec, choose_pixels
from jaxssl.data.source import Example
from jaxssl.image.boxes import crop as exact_crop
from jaxssl.image.boxes import random_box, whole_box
from jaxssl.image.pyramid import crop
from jaxssl.terminal import format_table
from jaxssl.training.workdir import environment
from jaxssl.views import ViewConfig

VIEW = 128  # pixels
JPEGS = {(480, 640): 64, (1024, 2048): 32, (3000, 4000): 12}  # height, width: how many
SIDES = (256, 512, 1024, 2048, 4096)
STREET = (1024, 2048)
SQUARE = 512  # of the revision before, in the configs for Cityscapes and ADE20K


def write_jpegs(photographs: list[pathlib.Path], folder: pathlib.Path) -> None:
    """Photographs brought to each of `JPEGS`, in a folder each."""
    for (height, width), count in JPEGS.items():
        inner = folder / f"{width}x{height}"
        inner.mkdir()
        for i in range(count):
            image = Image.open(photographs[i % len(photographs)])
            larger = image.resize((width, height), Image.Resampling.BICUBIC)
            larger.save(inner / f"{i:03d}.jpg", quality=90)


def rates(args: argparse.Namespace, folder: pathlib.Path) -> dict[str, list[float]]:
    """Pairs of views a second of a core, of each program and size; of CPU seconds, and of all."""
    here = pathlib.Path(__file__).parent
    programs = {"jaxssl": (sys.executable, here.parent)}
    if args.before:
        programs["squashed"] = (sys.executable, args.before)
    if args.torch_python:
        programs["lightly"] = (args.torch_python, here.parent)
    figures: dict[str, list[float]] = {}
    for size in folder.iterdir():
        count = len(list(size.iterdir()))
        started = {
            name: subprocess.Popen(
                [str(python), str(here / "view_rate.py"), name, str(size)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=root,
                env=os.environ | {"PYTHONPATH": str(root)},
            )
            for name, (python, root) in programs.items()
        }
        for process in started.values():
            assert process.stdout.readline() == "ready\n"
        for _ in range(args.rounds):
            for name, process in started.items():
                process.stdin.write("\n")
                process.stdin.flush()
                for stage, (wall, cpu) in json.loads(process.stdout.readline()).items():
                    row = f"{size.name}, {name}, {stage}"
                    figures.setdefault(row, []).append(count / cpu)
                    figures.setdefault(f"{row}, of elapsed seconds", []).append(count / wall)
        for process in started.values():
            process.communicate()
    return figures


def canvas_of(image: np.ndarray, pixels: int | None = None) -> dict[str, np.ndarray]:
    size = image.shape[:2]
    return CanvasSpec(pixels or size[0] * size[1], (VIEW, VIEW)).make(Example("", image), size)


def cost_by_size(rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds of two random resized crops, without colors, of images of several sizes."""
    rng = np.random.default_rng(0)
    one = functools.partial(crop, size=VIEW, interpolation="bilinear")

    @jax.jit
    def cut(key, canvas):
        def view(key):
            return one(canvas, random_box(key, whole_box(canvas["hw"]), (0.08, 1.0)))

        return jax.lax.map(view, jax.random.split(key, 64), batch_size=2)

    canvases = {}
    for side in SIDES:
        image = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        canvases[side] = jax.device_put(canvas_of(image))
        jax.block_until_ready(cut(jax.random.key(0), canvases[side]))
    figures: dict[str, list[float]] = {str(side): [] for side in SIDES}
    for i in range(4 * rounds):
        for side, canvas in canvases.items():
            start = time.process_time()
            for k in range(4):
                jax.block_until_ready(cut(jax.random.key(4 * i + k), canvas))
            figures[str(side)].append(1000 * (time.process_time() - start) / (4 * 32))
    return figures


def _decibels(seen: jax.Array, wanted: jax.Array) -> float:
    return float(-10 * np.log10(max(np.mean(np.square(seen - wanted)), 1e-10)))


def fidelity(photographs: list[pathlib.Path], number: int) -> dict[str, list[float]]:
    """PSNR in dB against exact crops of the original: random resized crops, and smaller boxes."""
    rng, figures = np.random.default_rng(0), {}
    for interpolation in ("bilinear", "bicubic"):
        seen_by = jax.jit(functools.partial(crop, size=VIEW, interpolation=interpolation))
        exact_by = jax.jit(functools.partial(exact_crop, size=VIEW, interpolation=interpolation))
        for larger in (1, 2, 4):
            for path in photographs[:number]:
                image = Image.open(path)
                size = (larger * image.width, larger * image.height)
                pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
                hw, canvas = jnp.array(pixels.shape[:2]), canvas_of(pixels)
                keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), 12)
                boxes = {"random": [random_box(k, whole_box(hw), (0.08, 1.0)) for k in keys]}
                boxes["region"] = []
                for side in rng.integers(24, 2 * VIEW + 1, (12, 2)):
                    start = rng.integers(0, np.array(hw) - side + 1)
                    boxes["region"].append(jnp.array([*start, *(start + side)], jnp.float32))
                for kind, some in boxes.items():
                    values = [
                        _decibels(seen_by(canvas, b), exact_by(jnp.asarray(pixels), b, hw))
                        for b in some
                    ]
                    name = f"{kind}, x{larger}, {interpolation}"
                    figures.setdefault(name, []).extend(values)
    return figures


def probe_gradient(photographs: list[pathlib.Path], number: int) -> dict[str, list[float]]:
    """Mean gradient of an augmented linear probe's crops, of that of crops from the original.

    Crops show 0.08 to 1 of a photograph. Before, they came from the photograph squashed to a square
    of 8/7 of their side.
    """
    one = jax.jit(functools.partial(crop, size=VIEW, interpolation="bilinear"))
    exact = jax.jit(functools.partial(exact_crop, size=VIEW, interpolation="bilinear"))

    def gradient(views: list[jax.Array]) -> float:
        steps = [np.abs(np.diff(view, axis=axis)).mean() for view in views for axis in (0, 1)]
        return float(np.mean(steps))

    figures: dict[str, list[float]] = {"before": [], "now": []}
    for i, path in enumerate(photographs[:number]):
        image = Image.open(path)
        pixels = np.asarray(image)
        hw, canvas = jnp.array(pixels.shape[:2]), canvas_of(pixels)
        side = -(-8 * VIEW // 7)
        squashed = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
        keys = jax.random.split(jax.random.key(i), 12)
        boxes = [random_box(k, whole_box(hw), (0.08, 1.0)) for k in keys]
        wanted = gradient([exact(jnp.asarray(pixels), box, hw) for box in boxes])
        before = gradient([exact(jnp.asarray(squashed), box, hw) for box in boxes])
        figures["before"].append(before / wanted)
        figures["now"].append(gradient([one(canvas, box) for box in boxes]) / wanted)
    return figures


def streets(folder: pathlib.Path) -> Iterator[dict[str, jax.Array]]:
    """Boxes and areas of the connected parts of label maps, on images of Cityscapes' size."""
    for path in sorted((folder / "trainannot").glob("*.png")):
        labels = np.asarray(Image.open(path))
        zoom = np.array(STREET) / labels.shape
        boxes, areas = [], []
        for value in np.unique(labels[labels != 11]):
            parts, _ = ndimage.label(labels == value)
            areas += list(np.bincount(parts.ravel())[1:] * zoom.prod())
            for down, across in ndimage.find_objects(parts):
                box = np.array([down.start, across.start, down.stop, across.stop])
                boxes.append(np.rint(box * np.tile(zoom, 2)))
        order = np.argsort(areas)[::-1][:64]
        filled = np.zeros((64, 5), np.float32)
        filled[: len(order)] = np.column_stack([boxes, areas])[order]
        yield {
            "hw": jnp.array(STREET),
            "region_boxes": jnp.asarray(filled[:, :4]),
            "region_areas": jnp.asarray(filled[:, 4]),
        }


def detail(folder: pathlib.Path, epochs: int = 4) -> dict[str, dict[str, float]]:
    """Pixels that a view is made of, down and across, of those it could have; 1: all of them."""
    scenes = list(streets(folder))
    batch = jax.tree.map(lambda *x: jnp.stack(x), *scenes)
    results = {}
    configs = pathlib.Path(__file__).parents[1] / "configs"
    for name in ("samclr_cityscapes", "samclr_cityscapes:simclr"):
        file, _, variant = name.partition(":")
        config = load_config(f"{configs / file}.py:{variant}")
        sampler = build("sampler", config.sampler)
        specs = ViewConfig(**config.views.to_dict()).specs()
        draw = jax.jit(jax.vmap(lambda key, e: sampler.boxes(key, e, (), specs)[0]))  # noqa: B023
        boxes = []
        for epoch in range(epochs):
            keys = jax.random.split(jax.random.key(epoch), len(scenes))
            boxes.append(np.asarray(draw(keys, batch)).reshape(-1, 4))
        sides = np.concatenate(boxes)
        sides = sides[:, 2:] - sides[:, :2]
        spec = CanvasSpec(choose_pixels([STREET], 2975), (VIEW, VIEW))
        halvings = np.ceil(np.log2(np.maximum(sides.max(axis=1) / (2.5 * VIEW), 1)))
        kept = {
            "before": sides * SQUARE / np.array(STREET),
            "now": sides * spec.fit(STREET)[0] / STREET[0] / 2 ** halvings[:, None],
        }
        for revision, pixels in kept.items():
            share = np.minimum(1, pixels / np.minimum(sides, VIEW))
            results[f"{name}, {revision}"] = {
                "down": float(share[:, 0].mean()),
                "across": float(share[:, 1].mean()),
                "views under half": float((share.min(axis=1) < 0.5).mean()),
                "views": len(share),
            }
    return results


def object_on_phone() -> dict[str, list[float]]:
    """Pixels, down and across, of an object of 100 x 100 on a photograph of 12 megapixels."""
    size = np.array([3000, 4000])
    budgets = {
        "default": choose_pixels([(3000, 4000)], 10_000),
        "data.pixels = 12000000": 12_000_000,
    }
    kept = {
        name: 100 * np.array(CanvasSpec(n).fit((3000, 4000))) / size for name, n in budgets.items()
    }
    kept["before, squares of 256"] = 100 * 256 / size
    return {name: values.tolist() for name, values in kept.items()}


def summary(figures: dict[str, list[float]]) -> str:
    rows = [["", "median", "min", "max", "mean"]]
    for name, values in figures.items():
        rows.append([name, *(f"{f(values):.2f}" for f in (np.median, min, max, np.mean))])
    return format_table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=pathlib.Path, required=True)
    parser.add_argument("--annotated", type=pathlib.Path, required=True)
    parser.add_argument("--torch-python", type=pathlib.Path)
    parser.add_argument("--before", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--number", type=int, default=12, help="of photographs, for the PSNR")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    photographs = sorted(args.photographs.iterdir())
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as scratch:
        write_jpegs(photographs, pathlib.Path(scratch))
        results["photographs a second of a core"] = rates(args, pathlib.Path(scratch))
    results["milliseconds of two crops, by the image's side"] = cost_by_size(args.rounds)
    streets_of_camvid = sorted((args.annotated / "train").iterdir())
    for name, files in (("photographs", photographs), ("streets", streets_of_camvid)):
        results[f"PSNR, {name}"] = fidelity(files, args.number)
        results[f"gradient of a probe's crops, {name}"] = probe_gradient(files, args.number)
    for name, figures in results.items():
        print(f"\n{name}\n{summary(figures)}")
    results["detail kept"] = detail(args.annotated)
    results["an object of 100 x 100 pixels"] = object_on_phone()
    for name in ("detail kept", "an object of 100 x 100 pixels"):
        print(name, json.dumps(results[name], indent=2))
    if args.out:
        content = {"environment": environment(), "rounds": args.rounds} | results
        args.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
