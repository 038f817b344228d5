"""Each paper's config keeps the detail that its views have in the paper's pipeline.

There a view of s pixels is cut from the original: of a side of b pixels it can show min(b, s). Here
it shows as many as that side has in the level that it is cut from, on a canvas of the budget that
is chosen for images of the sizes of the data set.
"""

import pathlib

import numpy as np
import pytest
from test_config_files import in_every_variant

from jaxssl.data.canvas import CanvasSpec, choose_pixels
from jaxssl.image.pyramid import OVERSAMPLING
from jaxssl.views import ViewConfig

RNG = np.random.default_rng(0)
CONFIGS = sorted((pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))


def about(height: int, width: int, spread: float) -> list[tuple[int, int]]:
    """Heights and widths of images, a quarter of them upright."""
    factors = np.exp(RNG.normal(0, spread, (400, 2)))
    sizes = np.maximum(np.rint(factors * (height, width)), 1).astype(int)
    sizes[::4] = sizes[::4, ::-1]
    return [(int(h), int(w)) for h, w in sizes]


# What a source is called by: sizes of its images. The first that fits counts.
SIZES = {
    "cityscapes": [(1024, 2048)],
    "leftImg8bit": [(1024, 2048)],
    "imagenette": about(375, 500, 0.05),
    "imagenet_resized": [(64, 64)],
    "ade20k": [(512, 683)] * 380 + about(1500, 2000, 0.1)[:20],
    "ADEChallengeData2016": [(512, 683)] * 380 + about(1500, 2000, 0.1)[:20],
    "cifar": [(32, 32)],
    "stl10": [(96, 96)],
    "tiny-imagenet-200": [(64, 64)],
    "coco": about(480, 640, 0.02),
    "imagenet": about(375, 500, 0.15),
    "scenes": [(192, 192)],
}


def region(size: tuple[int, int], expand: float) -> np.ndarray:
    """Height and width of a region's box, grown, as small as regions are that are used."""
    sides = np.exp(RNG.uniform(np.log(32), np.log(np.maximum(size, 33)), 2))
    return np.minimum(np.rint(sides * expand), size)


def draw_side(within: np.ndarray, view) -> np.ndarray:
    """Height and width of what a view is cut from."""
    for _ in range(10):
        area = within.prod() * RNG.uniform(*view.scale)
        aspect = np.exp(RNG.uniform(*np.log(view.ratio)))
        side = np.maximum(np.rint(np.sqrt([area / aspect, area * aspect])), 1)
        if view.crop_rule == "clip" or (side <= within).all():
            break
    return np.minimum(side, within)


def kept(spec: CanvasSpec, size: tuple[int, int], side: np.ndarray, view: int) -> float:
    """The share of the detail, mean of down and across."""
    pixels = side * spec.fit(size) / size
    while pixels.max() > OVERSAMPLING * view:
        pixels = pixels / 2
    return float(np.minimum(1, pixels / np.minimum(side, view)).mean())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_views_keep_the_papers_detail(path):
    for variant, config in in_every_variant(path).items():
        sizes = next(s for name, s in SIZES.items() if name in config.data.source)
        views = ViewConfig(**config.views.to_dict()).specs()
        sides = [view.size for view in views]
        budget = config.data.pixels or choose_pixels(sizes, 20_000)
        spec = CanvasSpec(budget, (min(sides), max(sides)))
        shares: dict[int, list[float]] = {}
        for i in RNG.integers(0, len(sizes), 300):
            within = np.array(sizes[i], float)
            if "expand" in config.sampler:
                within = region(sizes[i], config.sampler.expand)
            for view in {(v.size, v.scale): v for v in views}.values():
                share = kept(spec, sizes[i], draw_side(within, view), view.size)
                shares.setdefault(view.size, []).append(share)
        assert min(np.mean(some) for some in shares.values()) > 0.95, variant
