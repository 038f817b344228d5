"""`benchmarks/mask_generation.py` with tiny networks: the rows find the same, FLOPs are counted."""

import argparse
import pathlib
import sys

import tiny_masks
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "benchmarks"))
import mask_generation


def test_both_rows_find_the_same_masks(tmp_path):
    folder = tiny_masks.save("sam2", tmp_path)
    args = argparse.Namespace(
        folder=folder, source="scenes:2", images=2, points=3, batch=2, all_masks=True
    )
    figures, found = mask_generation.measured("mask_tools", args)
    theirs, expected = mask_generation.measured("library", args)
    assert list(map(sorted, found)) == list(map(sorted, expected))
    assert figures["masks"] == theirs["masks"] > 0
    assert min(figures["images_a_minute"], figures["images_a_cpu_minute"]) > 0


def test_flops_are_those_of_the_layers(monkeypatch):
    """Of a small network, all of whose layers see all of the image, counted by hand."""
    monkeypatch.setattr(mask_generation, "VITS", {"small": (8, 2, 2, (0, 1))})
    encoder, decoder = mask_generation.count("small")
    tokens, width, out = 64**2, 8, 256
    layer = 2 * tokens * 12 * width**2 + 2 * 2 * tokens**2 * width
    neck = 2 * tokens * (width * out + 9 * out**2)
    patches = 2 * tokens * width * 3 * 16**2
    places = 2 * 2 * tokens * 64 * width  # of the relative positions, rows and columns
    assert encoder == 2 * (layer + places) + neck + patches
    assert decoder > 16 * 1e9
    assert torch.zeros(1).device.type == "cpu"  # the device is as it was
