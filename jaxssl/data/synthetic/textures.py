"""Colors, textures, light and noise of the embedded images. Numpy only.

Colors are f32 in [0, 1]; lengths are pixels. A canvas is f32[3, h, w], changed in place wherever
it can be: at its size, memory costs more than arithmetic.
"""

import cmath

import numpy as np

WEIGHTS = np.array([0.3, 0.6, 0.1], np.float32)  # of red, green, blue in how bright a color looks
FAR = 0.3  # in brightness between an object and the ground: its outline shows in gray, too


def draw_palette(count: int, rng: np.random.Generator) -> np.ndarray:
    """Colors f32[count, 3] that can be told from each other: of the ground, then of objects.

    The best of many palettes: first that the ground is far brighter or darker than every object,
    then, among those where it is so most, that all colors differ.
    """
    palettes = 0.05 + 0.9 * rng.random((128, count, 3), np.float32)
    brightness = palettes @ WEIGHTS
    outlined = np.abs(brightness[:, 1:] - brightness[:, :1]).min(axis=1).clip(max=FAR)
    most = np.argsort(outlined)[-16:]
    outlined, palettes = outlined[most], palettes[most]
    one, other = np.triu_indices(count, 1)
    apart = np.sqrt(((palettes[:, one] - palettes[:, other]) ** 2 @ WEIGHTS).min(axis=1))
    best: np.ndarray = palettes[np.argmax(outlined + 0.3 * apart.clip(max=FAR))]
    return best


def draw_surface(
    color: np.ndarray, size: tuple[int, int], light: float, rng: np.random.Generator
) -> np.ndarray:
    """A textured surface of about one color: f32[3, h, w].

    Args:
      color: f32[3].
      size: height and width, pixels.
      light: the angle from which it is lit, radians.
      rng: draws the texture.
    """
    y = np.arange(size[0], dtype=np.float32)[:, None] - size[0] / 2
    x = np.arange(size[1], dtype=np.float32) - size[1] / 2
    texture = TEXTURES[rng.integers(len(TEXTURES))](y, x, rng)
    other = rng.uniform(-0.1, 0.1) * rng.uniform(0.5, 1, (3, 1, 1)).astype(np.float32)
    slope = cmath.rect(0.3 * rng.random() / (max(size) / 2), light)
    surface = texture * other
    surface += color[:, None, None]
    surface *= slope.imag * y + (1 + slope.real * x)
    return surface


def expose(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photograph u8[h, w, 3] of a canvas: brightness, color of the light, sensor noise."""
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.9, 1.1, (3, 1, 1))
    noise = np.frombuffer(rng.bytes(canvas.size), np.uint8).reshape(canvas.shape)
    grain = np.float32(0.08 * rng.random())  # the noise is uniform, this wide
    canvas *= (255 * gain).astype(np.float32)
    canvas += 0.5 - 127.5 * grain
    canvas += grain * noise
    values = canvas.clip(0, 255, out=canvas).astype(np.uint8)
    return np.ascontiguousarray(values.transpose(1, 2, 0))


# Textures: f32[h, w] in [-1, 1] from pixel coordinates y f32[h, 1], x f32[w] about the middle.


def _plain(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.zeros((y.size, x.size), np.float32)


def _stripes(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _sharpen(_wave(y, x, _direction(rng), rng))


def _checks(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    direction = _direction(rng)
    return _sharpen(_wave(y, x, direction, rng) * _wave(y, x, 1j * direction, rng))


def _dots(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    direction = _direction(rng)
    return _sharpen(_wave(y, x, direction, rng) + _wave(y, x, 1j * direction, rng) - 1)


def _clouds(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise on a coarse lattice, interpolated."""
    cell = rng.uniform(5, 14)
    down, across = (_tents(side.ravel() / cell) for side in (y, x))
    noise = 2 * rng.random((down.shape[1], across.shape[1]), np.float32) - 1
    return down @ noise @ across.T


def _tents(points: np.ndarray) -> np.ndarray:
    """Weights of linear interpolation from the whole numbers to sorted points: [points, nodes]."""
    nodes = np.arange(np.floor(points[0]), np.ceil(points[-1]) + 1, dtype=np.float32)
    return (1 - np.abs(points[:, None] - nodes)).clip(0)


def _direction(rng: np.random.Generator) -> complex:
    """The direction of a wave: radians per pixel along x + i y."""
    return cmath.rect(2 * np.pi / rng.uniform(5, 14), rng.uniform(0, 2 * np.pi))


def _wave(y: np.ndarray, x: np.ndarray, direction: complex, rng: np.random.Generator) -> np.ndarray:
    """A sine wave at a random phase."""
    wave = direction.imag * y + (direction.real * x + rng.uniform(0, 2 * np.pi))
    return np.sin(wave, out=wave)


def _sharpen(wave: np.ndarray) -> np.ndarray:
    return (2 * wave).clip(-1, 1)


TEXTURES = (_plain, _stripes, _checks, _dots, _clouds)
