"""Ten classes of shape as outlines, and an outline as pixels. Numpy only.

An outline is one or more closed polygons of points y x, y up; a hole runs the other way round than
what it is cut from, so that signed areas and signed crossings add up.
"""

from collections.abc import Callable

import numpy as np

Outline = list[np.ndarray]  # closed polygons f64[n, 2]

SCAN_LINES = 4  # per pixel; along a line coverage is exact
TURN = 2 * np.pi
TILT = TURN / 16  # at most, either way


def _polar(angles: np.ndarray, radii: np.ndarray | float = 1.0) -> np.ndarray:
    return np.stack([radii * np.sin(angles), radii * np.cos(angles)], axis=1)


def _disc(vary: float) -> Outline:
    return [_polar(np.linspace(0, TURN, 48, endpoint=False))]


def _ring(vary: float) -> Outline:
    (rim,) = _disc(vary)
    return [rim, (0.5 + 0.15 * vary) * rim[::-1]]


def _triangle(vary: float) -> Outline:
    return [_polar(TURN / 3 * np.arange(3))]


def _square(vary: float) -> Outline:
    return [_polar(TURN / 4 * np.arange(4))]


def _star(vary: float) -> Outline:
    corner = np.arange(10)
    return [_polar(TURN / 10 * corner, np.where(corner % 2, 0.42 + 0.1 * vary, 1.0))]


def _cross(vary: float) -> Outline:
    arm = 0.26 + 0.1 * vary  # half its width
    quarter = np.array([[-arm, 1], [arm, 1], [arm, arm]])
    turns = [np.array([[c, s], [-s, c]]) for c, s in [(1, 0), (0, -1), (-1, 0), (0, 1)]]
    return [np.concatenate([quarter @ turn for turn in turns])]


def _crescent(vary: float) -> Outline:
    """A disc less a smaller one, whose center lies at x = shift and whose rim ends at the horns."""
    horn, shift = 0.08 * TURN, 0.4 + 0.1 * vary
    y, x = np.sin(horn), np.cos(horn) - shift
    bite = np.arctan2(y, x)
    inner = _polar(np.linspace(TURN - bite, bite, 24), np.hypot(y, x))
    inner[:, 1] += shift
    return [np.concatenate([_polar(np.linspace(horn, TURN - horn, 40)), inner[1:-1]])]


def _arrow(vary: float) -> Outline:
    shaft = 0.22 + 0.1 * vary  # half its width
    half = np.array([[-0.9, shaft], [0, shaft], [0, 0.85], [0.9, 0]])
    return [_with_mirror_image(half)]


def _heart(vary: float) -> Outline:
    t = np.linspace(0, TURN, 48, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [np.stack([y, 16 * np.sin(t) ** 3], axis=1)]


def _hourglass(vary: float) -> Outline:
    return [_with_mirror_image(np.array([[-1, 0.9], [0, 0.2 + 0.15 * vary], [1, 0.9]]))]


def _with_mirror_image(half: np.ndarray) -> np.ndarray:
    """The polygon whose right half (x >= 0) is given."""
    return np.concatenate([half, half[::-1] * [1, -1]])


OUTLINES: dict[str, Callable[[float], Outline]] = {
    "disc": _disc,
    "ring": _ring,
    "triangle": _triangle,
    "square": _square,
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "arrow": _arrow,
    "heart": _heart,
    "hourglass": _hourglass,
}
CLASS_NAMES = tuple(OUTLINES)


def draw_outline(name: str, radius: float, rng: np.random.Generator) -> Outline:
    """One shape of the class `name` with the area of a disc of `radius` pixels.

    Its proportions vary a little, it is stretched along a random axis, and tilted: things in
    photographs stand more or less upright, and an encoder that sees few images can learn those.
    """
    loops = OUTLINES[name](rng.random())
    stretch = np.exp(0.1 * rng.random())
    axis, tilt = rng.uniform(0, TURN), rng.uniform(-TILT, TILT)
    first, last = (
        np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for angle in (axis, tilt - axis)
    )
    scale = radius * np.sqrt(np.pi / area(loops))
    change = np.diag([-1, 1]) @ first @ np.diag([stretch, 1 / stretch]) @ last  # rows go down
    return [loop @ change * scale for loop in loops]


def area(loops: Outline) -> float:
    """What an outline encloses (the shoelace formula)."""
    start, end = _edges(loops)
    return abs(np.sum(start[:, 1] * end[:, 0] - start[:, 0] * end[:, 1])) / 2


def coverage(loops: Outline) -> np.ndarray:
    """The share of each pixel inside the outline, in a window a pixel wider: f32[h, w].

    Every edge that a scan line crosses turns outside to inside or back, so the running sum of the
    crossings' signs along the line is 1 inside and 0 outside. In the pixel where it lies, a
    crossing counts for the part of the pixel to its right.
    """
    start, end = _edges(loops)
    low, high = start.min(axis=0), start.max(axis=0)
    height, width = (int(side) + 3 for side in high - low)  # leaves an empty border
    corner = (low + high - (height, width)) / 2
    start, end = start - corner, end - corner
    lines = (np.arange(height * SCAN_LINES) + 0.5) / SCAN_LINES
    line, edge = np.nonzero((lines[:, None] < start[:, 0]) != (lines[:, None] < end[:, 0]))
    (y0, x0), (y1, x1) = start[edge].T, end[edge].T
    x = x0 + (lines[line] - y0) * (x1 - x0) / (y1 - y0)
    sign = np.sign(y1 - y0) / SCAN_LINES
    column = x.astype(np.int64)
    here = (column + 1 - x) * sign
    cell = line // SCAN_LINES * width + column
    pixels = height * width
    steps = np.bincount(cell, here, pixels) + np.bincount(cell + 1, sign - here, pixels)
    return np.abs(steps.reshape(height, width).cumsum(axis=1)).astype(np.float32)


def _edges(loops: Outline) -> tuple[np.ndarray, np.ndarray]:
    """First and last point of every edge: f64[edges, 2] each."""
    return np.concatenate(loops), np.concatenate([np.roll(loop, -1, axis=0) for loop in loops])
