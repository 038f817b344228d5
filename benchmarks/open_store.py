"""Seconds to open a store of canvases that is complete: each byte of it is checked.

    python benchmarks/open_store.py --folder /scratch/stores --gigabytes 1 5 20 --out FILE.json

Opens a store of each size, of images of 384 x 512 pixels, twice: with nothing of it in memory, so
that it is read from the disk, and again, with what the system has kept of it since. The stores are
filled first, which takes longer, and stay in the folder.
"""

import argparse
import json
import os
import pathlib
import time

import numpy as np

from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.loading import row_bytes
from jaxssl.data.source import Example
from jaxssl.data.store import open_store, store_folder
from jaxssl.training.workdir import environment

SIDES = (384, 512)
SPEC = CanvasSpec(SIDES[0] * SIDES[1], (32, 96))


class Noise:
    """Images of noise, of 256 kinds."""

    spec, class_names, has_regions = "noise", (), False

    def __init__(self, count: int):
        self._count = count
        self._pixels = np.random.default_rng(0).integers(0, 256, (*SIDES, 3), np.uint8)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        return Example(str(index), self._pixels + np.uint8(index % 256), index % 100)

    def fingerprint(self) -> str:
        return f"noise: {self._count}"


def forget(folder: pathlib.Path) -> None:
    """Lets the system forget what it keeps in memory of the files in a folder."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(gigabytes: float, cache: pathlib.Path) -> dict[str, float]:
    """Seconds to open a store of that size."""
    source = Noise(round(gigabytes * 1e9 / sum(row_bytes(SPEC).values())))
    open_store(source, SPEC, cache)
    forget(store_folder(source, SPEC, cache))
    figures = {"gigabytes": gigabytes, "images": len(source)}
    for name in ("from_disk", "again"):
        wall, cpu = time.perf_counter(), time.process_time()
        open_store(source, SPEC, cache, show=False)
        figures[name] = round(time.perf_counter() - wall, 2)
        figures[f"{name}_cpu"] = round(time.process_time() - cpu, 2)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1, 5, 20])
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    rows = []
    for gigabytes in args.gigabytes:
        rows.append(measure(gigabytes, args.folder))
        print(json.dumps(rows[-1]), flush=True)
    if args.out:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
        about = {"environment": environment(), "cpus": os.cpu_count()}
        about |= {"memory_gb": round(memory, 1), "stores": rows}
        args.out.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
