"""Prints images per second of lightly's SimCLR transform behind torch's DataLoader.

Run by `throughput.py`, in an environment of its own: it needs torch, torchvision and lightly.
"""

import argparse
import os
import pathlib
import time

import torch
from lightly.data import LightlyDataset
from lightly.transforms import SimCLRTransform

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--size", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--workers", type=int, default=os.cpu_count())
parser.add_argument("--seconds", type=float, default=5.0)
args = parser.parse_args()

transform = SimCLRTransform(input_size=args.size, cj_strength=0.5)
loader = torch.utils.data.DataLoader(
    LightlyDataset(str(args.folder), transform=transform),
    batch_size=args.batch_size,
    shuffle=True,
    drop_last=True,
    num_workers=args.workers,
    persistent_workers=True,
)
images, start = 0, 0.0
while not start or time.perf_counter() - start < args.seconds:
    for (first, _), *_ in loader:  # two views of each image
        images += len(first)
    if not start:  # the first epoch starts the workers
        images, start = 0, time.perf_counter()
print(images / (time.perf_counter() - start))
