"""The crops that training would cut, in numpy, to look at: SimCLR's and SAMCLR's (section 3)."""

import numpy as np
from PIL import Image

from jaxssl.data.source import Regions

EXPAND = 1.3  # height and width of a region's box, before views are cut from it
AREA = (0.2, 1.0)  # of a view, as a share of what it is cut from
RATIO = (3 / 4, 4 / 3)  # width by height


def grow(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A box y0 x0 y1 x1, `EXPAND` times as large about its centre, within an image of `size`."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    start, end = centre - EXPAND * half, centre + EXPAND * half
    return np.concatenate([np.maximum(start, 0), np.minimum(end, size)])


def draw_object(rng: np.random.Generator, regions: Regions, min_area: int) -> np.ndarray:
    """The box that SAMCLR cuts views from: of a random object's root, or the whole image."""
    whole = np.array([0, 0, *regions.size], float)
    by_area = np.argsort(-regions.area, kind="stable")
    _, first = np.unique(regions.object[by_area], return_index=True)
    roots = by_area[first]
    usable = roots[regions.area[roots] >= min_area]
    return grow(regions.box[rng.choice(usable)], regions.size) if len(usable) else whole


def cut(rng: np.random.Generator, image: np.ndarray, within: np.ndarray, side: int) -> Image.Image:
    """A random crop of the image u8[h, w, 3] within a box, as a square of `side` pixels."""
    height, width = within[2:] - within[:2]
    area = rng.uniform(*AREA) * height * width
    ratio = np.exp(rng.uniform(*np.log(RATIO)))
    h, w = min(height, np.sqrt(area / ratio)), min(width, np.sqrt(area * ratio))
    y = within[0] + rng.uniform(0, height - h)
    x = within[1] + rng.uniform(0, width - w)
    box = (float(x), float(y), float(x + w), float(y + h))
    return Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, box)
