"""The embedded data sets: images drawn by numpy, each from (seed, part, index) alone.

`Scenes` shows 3 to 8 objects that hide one another in part, and knows exactly which pixels each
fills. `Objects` shows one object and names its class, the shape. Nothing else tells the class:
objects and grounds have the same colors, textures and light, whatever the class, and all classes
the same areas and places.
"""

from typing import ClassVar

import numpy as np

from jaxssl.data.rle import encode_mask
from jaxssl.data.source import Example, Regions
from jaxssl.data.synthetic.shapes import CLASS_NAMES, coverage, draw_outline
from jaxssl.data.synthetic.textures import draw_palette, draw_surface, expose
from jaxssl.errors import UserError

DRAWING_VERSION = 1  # to be raised with every change of what a seed gives
STREAMS = ("scenes/train", "scenes/test", "objects/train", "objects/test")  # append only

# In an image 96 pixels wide; other sizes are in proportion.
SIZE = 96
SCENE_OBJECTS = (3, 8)
SCENE_RADII = (10.5, 18.0)  # of the disc with the area of the object
OBJECT_RADII = (17.5, 25.5)
OBJECT_REACH = 1.8  # no shape is further than this many radii from its centroid
OFF_CENTER = 5.0
VISIBLE = 0.5  # of each object's area, unless PLACES places were tried in vain
PLACES = 10


class _Drawn:
    """An endless sequence of images, of which a source uses the first `count`."""

    kind: ClassVar[str]  # scenes | objects
    has_regions = True

    def __init__(
        self, count: int, *, seed: int = 0, part: str | None = None, size: int = SIZE
    ) -> None:
        self.spec = f"{self.kind}:{count}"
        self.side = size
        self._count, self._seed, self._part = count, seed, part or "train"
        if count < 1:
            raise UserError(f"{self.spec} has no image; give at least 1")
        if seed < 0:
            raise UserError(f"the seed {seed} of {self.kind} is negative; give 0 or more")
        if f"{self.kind}/{self._part}" not in STREAMS:
            raise UserError(f"{self.kind} has no part {part!r}; give train or test")

    def __len__(self) -> int:
        return self._count

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width of every image."""
        return self.side, self.side

    def fingerprint(self) -> str:
        return (
            f"{self.kind} count={self._count} seed={self._seed} part={self._part} "
            f"size={self.side} drawing={DRAWING_VERSION}"
        )

    def _generator(self, index: int) -> np.random.Generator:
        if not 0 <= index < self._count:
            raise IndexError(f"image {index} of {self.spec}")
        stream = STREAMS.index(f"{self.kind}/{self._part}")
        entropy = np.random.SeedSequence((self._seed, stream, index))
        return np.random.Generator(np.random.Philox(entropy))

    def _key(self, index: int) -> str:
        return f"{self.kind}-{self._seed}/{self._part}/{index:07d}"


class Scenes(_Drawn):
    """`scenes:N`: several objects an image, one region for what is seen of each; no labels.

    The label map names the shape that each pixel shows: 0 is the ground, 1 + c the shape c.
    """

    kind = "scenes"
    class_names: tuple[str, ...] = ()

    def __getitem__(self, index: int) -> Example:
        image, masks, shapes = draw_scene(self.side, self._generator(index))
        semantic = np.zeros((self.side, self.side), np.uint8)
        for mask, shape in zip(masks, shapes, strict=True):
            semantic[mask] = 1 + shape
        return Example(self._key(index), image, regions=_regions(masks), semantic=semantic)


class Objects(_Drawn):
    """`objects:N`: one object an image, one region, labeled; the classes take turns."""

    kind = "objects"
    class_names = CLASS_NAMES

    def __getitem__(self, index: int) -> Example:
        label = int(index) % len(CLASS_NAMES)
        image, mask = draw_object(CLASS_NAMES[label], self.side, self._generator(index))
        return Example(self._key(index), image, label, _regions(mask[None]))


def draw_object(name: str, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One shape on a ground: image u8[size, size, 3] and mask bool[size, size]."""
    radius = rng.uniform(*OBJECT_RADII) * size / SIZE
    alpha = coverage(draw_outline(name, radius, rng))
    ground, color = draw_palette(2, rng)
    light = rng.uniform(0, 2 * np.pi)
    canvas = draw_surface(ground, (size, size), light, rng)
    # The same for all classes, so that the place tells nothing.
    room = min(size / 2 - OBJECT_REACH * radius, OFF_CENTER * size / SIZE)
    centroid = np.array([np.average(i, weights=alpha) for i in np.indices(alpha.shape) + 0.5])
    corner = np.rint(size / 2 + rng.uniform(-room, room, 2) - centroid).astype(int)
    window = _window(corner.clip(0, np.subtract(size, alpha.shape)), alpha)
    _paint(canvas[window], alpha, color, light, rng)
    mask = np.zeros((size, size), bool)
    mask[window] = alpha >= 0.5
    return expose(canvas, rng), mask


def draw_scene(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Objects on a ground: image u8[size, size, 3], what is seen of each, and its shape.

    That is bool[n, size, size] and i64[n], an index into `CLASS_NAMES`.
    """
    ground, *colors = draw_palette(1 + int(rng.integers(*SCENE_OBJECTS, endpoint=True)), rng)
    light = rng.uniform(0, 2 * np.pi)
    canvas = draw_surface(ground, (size, size), light, rng)
    owner = np.zeros((size, size), np.uint8)  # 0 is the ground
    areas, shapes = [size * size], []
    for number, color in enumerate(colors, start=1):
        shapes.append(int(rng.integers(len(CLASS_NAMES))))
        name = CLASS_NAMES[shapes[-1]]
        alpha = coverage(draw_outline(name, rng.uniform(*SCENE_RADII) * size / SIZE, rng))
        mask = alpha >= 0.5
        window = _find_place(mask, owner, areas, rng)
        _paint(canvas[window], alpha, color, light, rng)
        owner[window][mask] = number
        areas.append(int(mask.sum()))
    masks = owner == np.arange(1, len(areas), dtype=np.uint8)[:, None, None]
    seen = masks.any(axis=(1, 2))
    return expose(canvas, rng), masks[seen], np.array(shapes)[seen]


Window = tuple[slice, slice]


def _window(corner: np.ndarray, array: np.ndarray) -> Window:
    """Where an array [h, w] lies in an image when its first pixel is at `corner`, y x."""
    row, column = (slice(start, start + n) for start, n in zip(corner, array.shape, strict=True))
    return row, column


def _paint(
    pixels: np.ndarray,
    alpha: np.ndarray,
    color: np.ndarray,
    light: float,
    rng: np.random.Generator,
) -> None:
    """Lays a surface over f32[h, w, 3], as far as alpha f32[h, w] says."""
    pixels += alpha[..., None] * (draw_surface(color, alpha.shape, light, rng) - pixels)


def _find_place(
    mask: np.ndarray, owner: np.ndarray, areas: list[int], rng: np.random.Generator
) -> Window:
    """Where a new object leaves enough to be seen of those before it, or the best place tried."""
    seen = np.bincount(owner.ravel(), minlength=len(areas))
    tried = []
    for _ in range(PLACES):
        corner = rng.integers(0, np.subtract(owner.shape, mask.shape), endpoint=True)
        window = _window(corner, mask)
        hidden = np.bincount(owner[window][mask], minlength=len(areas))
        share = np.min(((seen - hidden) / areas)[1:], initial=1.0)
        tried.append((share, window))
        if share >= VISIBLE:
            break
    return max(tried, key=lambda place: place[0])[1]


def _regions(masks: np.ndarray) -> Regions:
    """Disjoint masks bool[n, h, w], none of them empty, as regions: an object each."""
    count, height, width = masks.shape
    rows, columns = np.max(masks, axis=2), np.max(masks, axis=1)
    first = [rows.argmax(1), columns.argmax(1)]
    end = [height - rows[:, ::-1].argmax(1), width - columns[:, ::-1].argmax(1)]
    return Regions(
        size=(height, width),
        box=np.stack(first + end, axis=1).astype(np.float32),
        area=np.count_nonzero(masks, axis=(1, 2)).astype(np.int64),
        object=np.arange(count),
        score=np.ones(count, np.float32),
        level=np.zeros(count, np.int64),
        rle=tuple(encode_mask(mask) for mask in masks),
    )
