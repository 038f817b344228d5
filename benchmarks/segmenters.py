"""Segmenters, the object hierarchy, writer and reader: speed of one core, and peak memory.

    python benchmarks/segmenters.py --source folder:photos --out benchmarks/results/NAME.json

Every row runs in a process of its own, one thread, and counts the seconds that the processor spent
on it, not those that went by: so other work on the machine matters little. "plain" rows do the same
by the libraries' own means: skimage and pycocotools in a loop, a mask of the whole image for each
segment. SAM is measured if --sam or --hq-sam names weights of vit_b; on a GPU give --wall.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from skimage.segmentation import felzenszwalb

from jaxssl.data import open_source
from jaxssl.data.records import Info, Records, shard_name, write_info, write_shard
from jaxssl.data.rle import encode_mask
from jaxssl.data.source import Example
from jaxssl.data.tfrecord import read_all
from jaxssl.terminal import format_table
from jaxssl.training.workdir import environment
from mask_tools.hierarchy import objects
from mask_tools.segmenters.felzenszwalb import Felzenszwalb
from mask_tools.segmenters.grid import Grid
from mask_tools.segmenters.sam import HqSam, Sam
from mask_tools.segmenting import segment

HEIGHT, WIDTH, MASKS = 1024, 2048, 1000  # of the hierarchy's row


def load(source: str, count: int) -> list[Example]:
    """Examples to work on; synthetic scenes are enlarged to the size of photographs."""
    opened = open_source(source)
    examples = [opened[i] for i in range(min(count, len(opened)))]
    if not source.startswith("scenes:"):
        return examples
    pictures = [Image.fromarray(e.image).resize((480, 360)) for e in examples]
    return [Example(e.key, np.asarray(p)) for e, p in zip(examples, pictures, strict=True)]


def plain_felzenszwalb(example: Example, segmenter: Felzenszwalb, max_side: int | None) -> None:
    """skimage in a loop: every segment as a mask, coded, measured, and compared with all others."""
    masks = []
    for scale, size in zip(segmenter.scale, segmenter.min_size, strict=True):
        ids = felzenszwalb(example.image, scale=scale, sigma=segmenter.sigma, min_size=size)
        masks += [ids == segment for segment in range(ids.max() + 1)]
    for mask in masks:
        coded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        coco_mask.toBbox(coded)
    plain_objects(masks)


def plain_objects(masks: list[np.ndarray]) -> list[list[int]]:
    """The hierarchy as it reads: every mask with every smaller one, pixel by pixel."""
    left = sorted(range(len(masks)), key=lambda i: -int(masks[i].sum()))
    found = []
    while left:
        root = masks[left[0]]
        inside = [i for i in left if 10 * (root & masks[i]).sum() > 9 * masks[i].sum()]
        found.append(inside)
        left = [i for i in left if i not in inside]
    return found


def draw_masks(count: int) -> Iterator[np.ndarray]:
    """Ellipses of all sizes, each bool[HEIGHT, WIDTH]."""
    rng = np.random.default_rng(0)
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    for radius in np.exp(rng.uniform(np.log(8), np.log(400), count)):
        cy, cx, stretch = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH), rng.uniform(0.6, 1.6)
        yield ((y - cy) / radius) ** 2 + ((x - cx) / radius / stretch) ** 2 < 1


def per_second(work: Callable[[], float], clock: Callable[[], float]) -> tuple[float, float]:
    """Units a second of `work`, which returns how many it did; MiB of memory at the most."""
    start = clock()
    done = work()
    rate = done / (clock() - start)
    return rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def segmenting(row: str, args: argparse.Namespace) -> tuple[float, float]:
    """Images a second: found, coded, grouped."""
    kind, plain = row.removesuffix(", plain"), row.endswith(", plain")
    segmenter: Any = {
        "grid 5 x 5": Grid,
        "fh 1000": Felzenszwalb,
        "fh 500, 1000, 1500": lambda: Felzenszwalb(scale=(500, 1000, 1500)),
        "sam vit_b": lambda: Sam("vit_b", args.sam, points_per_side=args.points),
        "hq_sam vit_b": lambda: HqSam("vit_b", args.hq_sam, points_per_side=args.points),
    }[kind]()
    is_sam = isinstance(segmenter, Sam | HqSam)
    examples = load(args.source, args.sam_images if is_sam else args.images)
    segment(examples[0], segmenter, None)  # loads what is to be loaded
    act = plain_felzenszwalb if plain else segment

    def work() -> float:
        for example in examples:
            act(example, segmenter, None)
        return len(examples)

    return per_second(work, time.perf_counter if args.wall else time.process_time)


def grouping(row: str, args: argparse.Namespace) -> tuple[float, float]:
    """Masks a second; the plain way on fewer, for its time grows with their square."""
    if row != "hierarchy":
        masks = list(draw_masks(100))
        return per_second(lambda: float(bool(plain_objects(masks))) * len(masks), time.process_time)
    rle = [encode_mask(mask) for mask in draw_masks(MASKS)]
    return per_second(lambda: float(len(objects(rle, (HEIGHT, WIDTH)))), time.process_time)


def storing(row: str, args: argparse.Namespace) -> tuple[float, float]:
    """MB a second of records with regions of `fh`."""
    examples = [segment(e, Felzenszwalb(), None) for e in load(args.source, args.images)]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, shard_name("train", 0, 1))
        info = write_shard(path, examples)
        write_info(folder, Info("benchmark", {"name": "fh"}, {"train": (info,)}))
        megabytes = info.bytes / 1e6
        records = Records(folder)
        work: dict[str, Callable[[], float]] = {
            "writer": lambda: megabytes * bool(write_shard(path, examples)),
            "reader, bytes": lambda: megabytes * bool(sum(map(len, read_all(path)))),
            "reader, pixels": lambda: (
                megabytes * bool([records[i].image.shape for i in range(len(records))])
            ),
        }
        return per_second(work[row], time.process_time)


def rows(args: argparse.Namespace) -> dict[str, tuple[str, Callable[..., tuple[float, float]]]]:
    """What is measured: the unit and the function of each row."""
    found = {"grid 5 x 5": ("images", segmenting)}
    for name in ("fh 1000", "fh 500, 1000, 1500"):
        found |= {name: ("images", segmenting), f"{name}, plain": ("images", segmenting)}
    for name, weights in {"sam vit_b": args.sam, "hq_sam vit_b": args.hq_sam}.items():
        if weights:
            found[name] = ("images", segmenting)
    found |= {"hierarchy": ("masks", grouping), "hierarchy, plain": ("masks", grouping)}
    return found | dict.fromkeys(("writer", "reader, bytes", "reader, pixels"), ("MB", storing))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="scenes:100")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--sam")
    parser.add_argument("--hq-sam")
    parser.add_argument("--sam-images", type=int, default=1)
    parser.add_argument("--points", type=int, default=32, help="a side, for SAM")
    parser.add_argument("--wall", action="store_true", help="images by the clock on the wall")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    context = multiprocessing.get_context("spawn")
    figures = {}
    for row, (unit, function) in rows(args).items():
        with context.Pool(1) as pool:
            rate, memory = pool.apply(function, (row, args))
        figures[row] = {"unit": unit, "per_second": rate, "peak_mib": memory}
    table = [["one core", "a second", "", "peak MiB"]]
    for row, found in figures.items():
        table.append([row, f"{found['per_second']:.3g}", found["unit"], f"{found['peak_mib']:.0f}"])
    print(format_table(table))
    if args.out:
        settings = {k: v for k, v in vars(args).items() if k in ("images", "points", "wall")}
        content = {"settings": settings, "environment": environment(), "figures": figures}
        args.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
