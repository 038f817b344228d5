"""For each line of standard input, makes two views of all photographs of a folder once.

    python benchmarks/view_rate.py jaxssl|squashed|lightly FOLDER

Prints, as JSON lines, the seconds and CPU seconds that this took, and the same for decoding them.
Run by `views.py`, one process for each of three: this revision of jaxssl, one that squashed
images to squares (3a39d1b, found by PYTHONPATH), and lightly, in an environment of its own. It
keeps to one core, so that seconds are those of a core.
"""

import argparse
import io
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable

SIDE = 128  # of a view, pixels
SQUASHED = 512  # side of the squares of the revision before, pixels

Stage = Callable[[], object]


def jaxssl_stages(folder: pathlib.Path) -> dict[str, Stage]:
    """Decoding to canvases, which is done once for a whole training; and views of them."""
    from jaxssl.data import open_source
    from jaxssl.data.canvas import CanvasSpec, choose_pixels
    from jaxssl.data.loading import sample_sizes, stack_arrays

    source = open_source(f"folder:{folder}")
    spec = CanvasSpec(choose_pixels(sample_sizes(source), len(source)), (SIDE, SIDE))
    return _stages(lambda: stack_arrays(source, range(len(source)), spec))


def squashed_stages(folder: pathlib.Path) -> dict[str, Stage]:
    """The same of a revision that squashed images to squares, `CanvasSpec(size)`."""
    import numpy as np

    from jaxssl.data import open_source
    from jaxssl.data.canvas import CanvasSpec, load_canvas

    source, spec = open_source(f"folder:{folder}"), CanvasSpec(SQUASHED)

    def decode() -> dict[str, np.ndarray]:
        canvases = [load_canvas(source, i, spec) for i in range(len(source))]
        return {name: np.stack([c[name] for c in canvases]) for name in canvases[0]}

    return _stages(decode)


def _stages(decode: Stage) -> dict[str, Stage]:
    import jax

    from jaxssl.samplers import RandomCrop
    from jaxssl.views import ViewConfig, make_views

    views = ViewConfig(size=SIDE, recipe="lightly_simclr")
    make = jax.jit(lambda key, batch: make_views(key, batch, (), RandomCrop(), views))
    batch = jax.device_put(decode())
    keys = iter(jax.random.split(jax.random.key(0), 10_000))
    return {"decode": decode, "views": lambda: jax.block_until_ready(make(next(keys), batch))}


def lightly_stages(folder: pathlib.Path) -> dict[str, Stage]:
    """Decoding, and lightly's SimCLR transform of what is decoded, as it does for each epoch."""
    import torch
    from lightly.transforms import SimCLRTransform
    from PIL import Image

    torch.manual_seed(0)
    torch.set_num_threads(1)
    transform = SimCLRTransform(input_size=SIDE, cj_strength=0.5)
    files = [path.read_bytes() for path in sorted(folder.iterdir())]

    def decode() -> list[Image.Image]:
        return [Image.open(io.BytesIO(file)).convert("RGB") for file in files]

    images = decode()
    return {
        "decode": decode,
        "views": lambda: torch.stack([v for image in images for v in transform(image)]),
    }


STAGES = {"jaxssl": jaxssl_stages, "squashed": squashed_stages, "lightly": lightly_stages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("by", choices=list(STAGES))
    parser.add_argument("folder", type=pathlib.Path)
    args = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    stages = STAGES[args.by](args.folder)
    for stage in stages.values():  # compiles
        stage()
    print("ready", flush=True)
    for _ in sys.stdin:
        figures = {}
        for name, stage in stages.items():
            wall, cpu = time.perf_counter(), time.process_time()
            stage()
            figures[name] = (time.perf_counter() - wall, time.process_time() - cpu)
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
