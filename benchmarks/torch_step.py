"""torch's training step of SimCLR, for `throughput.py`, in an environment with torchvision.

For every line on stdin it prints images per second, and per second of one core's work.
"""

import argparse
import sys
import time

import torch
from torch import nn
from torchvision.models import resnet18

parser = argparse.ArgumentParser()
parser.add_argument("--size", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--seconds", type=float, default=5.0)
args = parser.parse_args()

network = resnet18()
network.fc = nn.Sequential(
    nn.Linear(512, 512, bias=False),
    nn.BatchNorm1d(512),
    nn.ReLU(inplace=True),
    nn.Linear(512, 128, bias=False),
    nn.BatchNorm1d(128),
)
network = network.to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
views = torch.randn(2 * args.batch_size, 3, args.size, args.size)
views = views.contiguous(memory_format=torch.channels_last)
partner = torch.arange(2 * args.batch_size).roll(args.batch_size)


def step() -> None:
    z = nn.functional.normalize(network(views))
    logits = (z @ z.T / 0.07).fill_diagonal_(-torch.inf)
    optimizer.zero_grad()
    nn.functional.cross_entropy(logits, partner).backward()
    optimizer.step()


for _ in sys.stdin:
    step()
    start, cpu, calls = time.perf_counter(), time.process_time(), 0
    while calls < 2 or time.perf_counter() - start < args.seconds:
        step()
        calls += 1
    images = calls * args.batch_size
    print(images / (time.perf_counter() - start), images / (time.process_time() - cpu), flush=True)
