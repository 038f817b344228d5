"""Ten classes of shape as outlines, and outlines as pixels. Numpy only.

An outline is a closed polygon of points x + iy, c128[n]. A hole is reached over a cut and runs the
other way round, so that signed areas and signed crossings add up, and the cut's are nothing.
"""

from collections.abc import Callable, Sequence

import numpy as np

SCAN_LINES = 4  # per pixel; along a line coverage is exact
TURN = 2 * np.pi
TILT = TURN / 16  # at most, either way


def _arc(start: float, stop: float, points: int) -> np.ndarray:
    return np.exp(1j * np.linspace(start, stop, points))


RIM = _arc(0.0, TURN, 49)  # ends where it starts


def _cross(vary: float) -> np.ndarray:
    arm = 0.26 + 0.1 * vary  # half its width
    return np.outer([1, 1j, -1, -1j], [1 - 1j * arm, 1 + 1j * arm, arm + 1j * arm]).ravel()


def _crescent(vary: float) -> np.ndarray:
    """A disc less a smaller one, whose center lies at x = shift and whose rim ends at the horns."""
    horn, shift = 0.08 * TURN, 0.4 + 0.1 * vary
    tip = np.exp(1j * horn) - shift
    bite = np.angle(tip)
    inner = shift + abs(tip) * _arc(TURN - bite, bite, 24)
    return np.concatenate([_arc(horn, TURN - horn, 40), inner[1:-1]])


def _arrow(vary: float) -> np.ndarray:
    shaft = 0.22 + 0.1 * vary  # half its width
    return _with_mirror_image(np.array([shaft - 0.9j, shaft, 0.85, 0.9j]))


def _heart(vary: float) -> np.ndarray:
    y = 13 * RIM - 5 * RIM**2 - 2 * RIM**3 - RIM**4
    return 16 * RIM.imag**3 + 1j * y.real


def _with_mirror_image(half: np.ndarray) -> np.ndarray:
    """The polygon whose right half (x >= 0) is given."""
    return np.concatenate([half, -half[::-1].conj()])


# By class, of a number in [0, 1) that varies the proportions.
OUTLINES: dict[str, Callable[[float], np.ndarray]] = {
    "disc": lambda vary: RIM,
    "ring": lambda vary: np.concatenate([RIM, (0.5 + 0.15 * vary) * RIM[::-1]]),
    "triangle": lambda vary: np.exp(1j * TURN / 3 * np.arange(3)),
    "square": lambda vary: np.array([1, 1j, -1, -1j]),
    "star": lambda vary: (
        np.exp(1j * TURN / 10 * np.arange(10)) * np.tile([1, 0.42 + 0.1 * vary], 5)
    ),
    "cross": _cross,
    "crescent": _crescent,
    "arrow": _arrow,
    "heart": _heart,
    "hourglass": lambda vary: _with_mirror_image(np.array([0.9 - 1j, 0.2 + 0.15 * vary, 0.9 + 1j])),
}
CLASS_NAMES = tuple(OUTLINES)


def draw_outlines(
    names: Sequence[str], radii: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    """A shape of each of the classes `names`, with the area of a disc of its radius in pixels.

    Their proportions vary a little, they are stretched along a random axis, and tilted: things in
    photographs stand more or less upright, and an encoder that sees few images can learn those.
    """
    count = len(names)
    outlines = [OUTLINES[n](vary) for n, vary in zip(names, rng.random(count), strict=True)]
    stretch, axis = 0.1 * rng.random(count), rng.uniform(0, TURN, count)
    turn = np.exp(1j * rng.uniform(-TILT, TILT, count)) * radii * np.sqrt(np.pi / areas(outlines))
    along, across = turn * np.cosh(stretch), turn * np.sinh(stretch) * np.exp(2j * axis)
    # Conjugates, as rows go down.
    return [a * z.conj() + b * z for z, a, b in zip(outlines, along, across, strict=True)]


def areas(outlines: Sequence[np.ndarray]) -> np.ndarray:
    """The area that each outline encloses (the shoelace formula): f64[n]."""
    start, end, first = _edges(outlines)
    return np.abs(np.add.reduceat((start.conj() * end).imag, first)) / 2


def coverage(outlines: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The share of each pixel inside each outline, in a window a pixel wider: f32[h, w] each.

    All are filled at once: the windows are parts of a strip, one below the other.
    """
    start, end, first = _edges(outlines)
    points = start.view(np.float64).reshape(-1, 2)  # x y
    low, high = np.minimum.reduceat(points, first), np.maximum.reduceat(points, first)
    sides = (high - low).astype(np.int64) + 3  # leaves an empty border
    (x, y), (width, height) = (low + high - sides).T / 2, sides.T
    bottom = np.cumsum(height)
    corner = np.repeat(x + 1j * (y - bottom + height), [len(z) for z in outlines])
    strip = _fill(start - corner, end - corner, (int(bottom[-1]), int(width.max())))
    return [strip[b - h : b, :w] for b, h, w in zip(bottom, height, width, strict=True)]


def _fill(start: np.ndarray, end: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The share of each pixel inside what edges c128[n] enclose: f32[h, w].

    Every edge that a scan line crosses turns outside to inside or back, so the running sum of the
    crossings' signs along the line is 1 inside and 0 outside. In the pixel where it lies, a
    crossing counts for the part of the pixel to its right.
    """
    # An edge crosses the scan lines from the first below one end to the last above the other.
    one, other = (np.ceil(z.imag * SCAN_LINES - 0.5).astype(np.int64) for z in (start, end))
    crossed = np.abs(other - one)
    edge = np.repeat(np.arange(len(start)), crossed)
    line = np.arange(len(edge)) + (np.minimum(one, other) - np.cumsum(crossed) + crossed)[edge]
    start, step = start[edge], (end - start)[edge]
    x = start.real + ((line + 0.5) / SCAN_LINES - start.imag) * step.real / step.imag
    sign = np.sign(step.imag) / SCAN_LINES
    column = x.astype(np.int64)
    here = (column + 1 - x) * sign
    cell = line // SCAN_LINES * size[1] + column
    cells, changes = np.concatenate([cell, cell + 1]), np.concatenate([here, sign - here])
    inside = np.bincount(cells, changes, size[0] * size[1]).reshape(size)
    np.cumsum(inside, axis=1, out=inside)
    return np.abs(inside, out=inside).astype(np.float32)


def _edges(outlines: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and last point of every edge, and the index of each outline's first edge."""
    start = np.concatenate(outlines)
    end = np.concatenate([part for z in outlines for part in (z[1:], z[:1])])
    count = np.array([len(z) for z in outlines])
    return start, end, np.cumsum(count) - count
