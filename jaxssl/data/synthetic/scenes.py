"""The embedded data sets: images drawn by numpy, each from (seed, part, index) alone.

`Scenes` shows a crowd, 12 to 32 objects that hide one another in part, and knows exactly which
pixels each fills. `Objects` shows one object and names its class, the shape. Nothing else tells
the class: objects and grounds have the same colors, textures and light, whatever the class, and all
classes the same areas and places.
"""

from typing import ClassVar

import numpy as np

from jaxssl.data.rle import encode_labels, mask_boxes
from jaxssl.data.source import Example, Regions, Size
from jaxssl.data.synthetic.shapes import CLASS_NAMES, coverage, draw_outlines
from jaxssl.data.synthetic.textures import draw_palette, draw_surface, expose
from jaxssl.errors import UserError

DRAWING_VERSION = 2  # to be raised with every change of what a seed gives
STREAMS = ("scenes/train", "scenes/test", "objects/train", "objects/test")  # append only

# Lengths are those in an image of the usual side; other sizes are in proportion. An object of a
# scene has the pixels of a small view; a crop of half a scene shows ten of them, so that two crops
# have more in common than one object, and none of it is in the middle of both.
SCENE_SIDE, OBJECT_SIDE = 192, 96
SCENE_OBJECTS = (12, 32)
SCENE_RADII = (10.5, 18.0)  # of the disc with the area of the object
OBJECT_RADII = (17.5, 25.5)
OBJECT_REACH = 1.8  # no shape is further than this many radii from its centroid
OFF_CENTER = 5.0
VISIBLE = 0.5  # of each object's area, unless PLACES places were tried in vain
PLACES = 10


class _Drawn:
    """An endless sequence of images, of which a source uses the first `count`."""

    kind: ClassVar[str]  # scenes | objects
    usual_side: ClassVar[int]  # pixels
    has_regions = True

    def __init__(
        self, count: int, *, seed: int = 0, part: str | None = None, size: int = 0
    ) -> None:
        self.spec = f"{self.kind}:{count}"
        self.side = size or self.usual_side
        self._count, self._seed, self._part = count, seed, part or "train"
        if count < 1:
            raise UserError(f"{self.spec} has no image; give at least 1")
        if seed < 0:
            raise UserError(f"the seed {seed} of {self.kind} is negative; give 0 or more")
        if f"{self.kind}/{self._part}" not in STREAMS:
            raise UserError(f"{self.kind} has no part {part!r}; give train or test")

    def __len__(self) -> int:
        return self._count

    def image_size(self, index: int) -> Size:
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

    kind, usual_side = "scenes", SCENE_SIDE
    class_names: tuple[str, ...] = ()

    def __getitem__(self, index: int) -> Example:
        image, shown, shapes = draw_scene(self.side, self._generator(index))
        semantic = np.append(0, 1 + shapes).astype(np.uint8)[shown]
        return Example(self._key(index), image, regions=_regions(shown), semantic=semantic)


class Objects(_Drawn):
    """`objects:N`: one object an image, one region, labeled; the classes take turns."""

    kind, usual_side = "objects", OBJECT_SIDE
    class_names = CLASS_NAMES

    def __getitem__(self, index: int) -> Example:
        label = int(index) % len(CLASS_NAMES)
        image, mask = draw_object(CLASS_NAMES[label], self.side, self._generator(index))
        return Example(self._key(index), image, label, _regions(mask))


def draw_object(name: str, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One shape on a ground: image u8[size, size, 3] and mask bool[size, size]."""
    radius = rng.uniform(*OBJECT_RADII) * size / OBJECT_SIDE
    (alpha,) = coverage(draw_outlines([name], np.array([radius]), rng))
    ground, color = draw_palette(2, rng)
    light = rng.uniform(0, 2 * np.pi)
    canvas = draw_surface(ground, (size, size), light, rng)
    # The same for all classes, so that the place tells nothing.
    room = min(size / 2 - OBJECT_REACH * radius, OFF_CENTER * size / OBJECT_SIDE)
    centroid = np.array([np.average(i, weights=alpha) for i in np.indices(alpha.shape) + 0.5])
    corner = np.rint(size / 2 + rng.uniform(-room, room, 2) - centroid).astype(int)
    y, x = _window(corner.clip(0, np.subtract(size, alpha.shape)), alpha)
    _paint(canvas[:, y, x], alpha, color, light, rng)
    mask = np.zeros((size, size), bool)
    mask[y, x] = alpha >= 0.5
    return expose(canvas, rng), mask


def draw_scene(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Objects on a ground: image u8[size, size, 3], which object each pixel shows, and its shape.

    That is u8[size, size], 0 for the ground and n for the nth object, and i64[n], an index into
    `CLASS_NAMES` for each object; one may be hidden wholly.
    """
    count = int(rng.integers(*SCENE_OBJECTS, endpoint=True))
    ground, *colors = draw_palette(1 + count, rng)
    shapes = rng.integers(len(CLASS_NAMES), size=count)
    radii = rng.uniform(*SCENE_RADII, count) * size / SCENE_SIDE
    alphas = coverage(draw_outlines([CLASS_NAMES[shape] for shape in shapes], radii, rng))
    light = rng.uniform(0, 2 * np.pi)
    canvas = draw_surface(ground, (size, size), light, rng)
    shown = np.zeros((size, size), np.uint8)
    areas = np.ones(1 + count)
    seen = np.zeros(1 + count)  # pixels of each object
    for number, (color, alpha) in enumerate(zip(colors, alphas, strict=True), start=1):
        mask = alpha >= 0.5
        (y, x), hidden = _find_place(mask, shown, seen, areas, rng)
        _paint(canvas[:, y, x], alpha, color, light, rng)
        shown[y, x][mask] = number
        seen[number] = areas[number] = np.count_nonzero(mask)
        seen -= hidden
    return expose(canvas, rng), shown, shapes


Window = tuple[slice, slice]


def _window(corner: np.ndarray, array: np.ndarray) -> Window:
    """The window of an image that an array [h, w] covers if its first pixel is at `corner`, y x."""
    (y, x), (height, width) = corner, array.shape
    return slice(y, y + height), slice(x, x + width)


def _paint(
    pixels: np.ndarray, alpha: np.ndarray, color: np.ndarray, light: float, rng: np.random.Generator
) -> None:
    """Lays a surface over f32[3, h, w], as far as alpha f32[h, w] says."""
    change = draw_surface(color, alpha.shape, light, rng)
    change -= pixels
    change *= alpha
    pixels += change


def _find_place(
    mask: np.ndarray,
    shown: np.ndarray,
    seen: np.ndarray,
    areas: np.ndarray,
    rng: np.random.Generator,
) -> tuple[Window, np.ndarray]:
    """A place for a new object that leaves enough of the others visible, or the best one tried.

    Args:
      mask: of the new object, bool[h, w].
      shown: the object that each pixel of the scene shows, 0 for the ground.
      seen: pixels of each object that are shown, f64[n]; the ground's are not counted.
      areas: pixels of each object, f64[n].
      rng: random numbers.

    Returns:
      The place, and the pixels of each object that the new one hides there.
    """
    tried = []
    places = np.subtract(shown.shape, mask.shape) + 1
    for corner in (rng.random((PLACES, 2)) * places).astype(int):
        window = _window(corner, mask)
        hidden = np.bincount(shown[window][mask], minlength=len(areas))
        hidden[0] = 0
        share = np.min((seen - hidden) / areas, where=hidden > 0, initial=1.0)
        if share >= VISIBLE:
            return window, hidden
        tried.append((share, window, hidden))
    _, window, hidden = max(tried, key=lambda place: place[0])
    return window, hidden


def _regions(shown: np.ndarray) -> Regions:
    """A region, and an object, for each number in a map [h, w] but 0, the ground."""
    height, width = shown.shape
    masks = encode_labels(shown)
    masks.pop(0, None)
    rle = tuple(masks.values())
    return Regions(
        size=(height, width),
        box=mask_boxes(rle, (height, width)).astype(np.float32),
        area=np.bincount(shown.ravel())[list(masks)],
        object=np.arange(len(rle)),
        score=np.ones(len(rle), np.float32),
        level=np.zeros(len(rle), np.int64),
        rle=rle,
    )
