"""What the embedded images are painted with: colors, textures, light, noise. Numpy only.

Colors are f32 in [0, 1]; lengths are pixels.
"""

import numpy as np

WEIGHTS = np.array([0.3, 0.6, 0.1], np.float32)  # of red, green, blue in how bright a color looks
FAR = 0.3  # in brightness between an object and the ground: its outline shows in gray, too


def draw_palette(count: int, rng: np.random.Generator) -> np.ndarray:
    """Colors f32[count, 3] that can be told from each other: of the ground, then of objects.

    The best of many palettes: first that the ground is far brighter or darker than every object,
    then that all colors differ.
    """
    palettes = rng.uniform(0.05, 0.95, (128, count, 3)).astype(np.float32)
    brightness = palettes @ WEIGHTS
    outlined = np.abs(brightness[:, 1:] - brightness[:, :1]).min(axis=1)
    one, other = np.triu_indices(count, 1)
    apart = np.sqrt(((palettes[:, one] - palettes[:, other]) ** 2 @ WEIGHTS).min(axis=1))
    return palettes[np.argmax(outlined.clip(max=FAR) + 0.3 * apart.clip(max=FAR))]


def draw_surface(
    color: np.ndarray, size: tuple[int, int], light: float, rng: np.random.Generator
) -> np.ndarray:
    """A textured surface of about one color: f32[h, w, 3].

    Args:
      color: f32[3].
      size: height and width, pixels.
      light: the angle from which it is lit, radians.
      rng: draws the texture.
    """
    y = np.arange(size[0], dtype=np.float32)[:, None] - size[0] / 2
    x = np.arange(size[1], dtype=np.float32) - size[1] / 2
    texture = TEXTURES[rng.integers(len(TEXTURES))](y, x, rng)
    other = rng.uniform(-0.1, 0.1) * rng.uniform(0.5, 1, 3)
    towards_light = (y * np.sin(light) + x * np.cos(light)) / np.float32(max(size) / 2)
    shade = 1 + 0.3 * rng.random(dtype=np.float32) * towards_light
    return (color + texture[..., None] * other.astype(np.float32)) * shade[..., None]


def expose(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photograph of f32[h, w, 3]: brightness, color of the light, sensor noise. u8[h, w, 3]."""
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.9, 1.1, 3)
    noise = np.frombuffer(rng.bytes(canvas.size), np.uint8).reshape(canvas.shape)
    grain = np.float32(0.08 * rng.random())  # the noise is uniform, this wide
    values = canvas * (255 * gain).astype(np.float32) + grain * noise + (0.5 - 127.5 * grain)
    return values.clip(0, 255).astype(np.uint8)


# Textures: f32[h, w] in [-1, 1] from pixel coordinates y f32[h, 1], x f32[w] about the middle.


def _plain(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.zeros_like(y * x)


def _stripes(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    u, _ = _waves(y, x, rng)
    return _sharpen(u)


def _checks(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    u, v = _waves(y, x, rng)
    return _sharpen(u * v)


def _dots(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    u, v = _waves(y, x, rng)
    return _sharpen(u + v - 1)


def _clouds(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise on a coarse lattice, interpolated."""
    cell = np.float32(rng.uniform(5, 14))
    down, across = (_tents(side.ravel() / cell) for side in (y, x))
    noise = rng.uniform(-1, 1, (down.shape[1], across.shape[1])).astype(np.float32)
    return down @ noise @ across.T


def _tents(points: np.ndarray) -> np.ndarray:
    """Weights of linear interpolation from the whole numbers to sorted points: [points, nodes]."""
    nodes = np.arange(np.floor(points[0]), np.ceil(points[-1]) + 1, dtype=np.float32)
    return (1 - np.abs(points[:, None] - nodes)).clip(0)


def _waves(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Two sine waves at a right angle."""
    angle, *phases = rng.uniform(0, 2 * np.pi, 3)
    step = 2 * np.pi / rng.uniform(5, 14)
    cos, sin = (np.float32(step * f(angle)) for f in (np.cos, np.sin))
    return np.sin(cos * y + sin * x + np.float32(phases[0])), np.sin(
        cos * x - sin * y + np.float32(phases[1])
    )


def _sharpen(wave: np.ndarray) -> np.ndarray:
    return (2 * wave).clip(-1, 1)


TEXTURES = (_plain, _stripes, _checks, _dots, _clouds)
