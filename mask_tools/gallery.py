"""A picture of regions: a row per image, with its regions, objects and views beside it."""

import colorsys
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxssl.data.loading import pick
from jaxssl.data.rle import decode_mask
from jaxssl.data.source import Example, Regions

PANEL = 320  # width of one picture, pixels
GAP = 14
HEADING = 40
CAPTION = 22
LEVELS = 3  # of regions, side by side
BACKGROUND, INK, FAINT = (255, 255, 255), (30, 30, 30), (120, 120, 120)

Color = tuple[int, int, int]
# Of views, by their column: the first sampler's in blue, the second's in orange.
FRAMES: tuple[tuple[Color, Color], ...] = (
    ((40, 100, 230), (95, 185, 255)),
    ((225, 75, 30), (255, 185, 50)),
)


class FramedView(NamedTuple):
    """A view of an image, and where it was cut."""

    image: np.ndarray  # f32[s, s, 3] in [0, 1]
    box: np.ndarray  # f32[4]: y0 x0 y1 x1 in fractions of the height and width


def draw_gallery(
    examples: Sequence[Example],
    views: Mapping[str, Sequence[Sequence[FramedView]]],
    *,
    title: str,
    subtitle: str,
    min_area: int,
) -> Image.Image:
    """Rows of pictures under headings.

    Args:
      examples: an image and its regions each.
      views: by the heading of their column, some views of each example.
      title: of the picture.
      subtitle: a line below it.
      min_area: pixels of the largest region of the objects that get a box.
    """
    levels = max((int(e.regions.level.max(initial=0)) for e in examples if e.regions), default=0)
    levels = min(levels + 1, LEVELS)
    headings = ["image, framed where views are cut"]
    headings += [f"regions, level {n}" for n in range(levels)] if levels > 1 else ["regions"]
    headings += [f"objects (boxes: {min_area} px or more)", *views]
    rows = []
    for i, example in enumerate(examples):
        pictures = _draw_regions(example, levels, min_area)
        for column, colors in zip(views.values(), itertools.cycle(FRAMES)):
            boxes = np.array([view.box for view in column[i]])
            _draw_boxes(pictures[0], boxes, colors)
            pictures.append(_draw_views([view.image for view in column[i]], colors))
        rows.append(pictures)
    heights = [max(picture.height for picture in pictures) for pictures in rows]
    lefts = [GAP + column * (PANEL + GAP) for column in range(len(headings))]
    size = lefts[-1] + PANEL + GAP, 3 * HEADING + sum(heights) + len(rows) * (CAPTION + GAP)
    gallery = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(gallery)
    draw.text((GAP, GAP), title, INK, ImageFont.load_default(17))
    draw.text((GAP, HEADING), subtitle, FAINT, ImageFont.load_default(15))
    for left, heading in zip(lefts, headings, strict=True):
        draw.text((left, 2 * HEADING + GAP), heading, INK, ImageFont.load_default(15))
    top = 3 * HEADING
    for example, pictures, height in zip(examples, rows, heights, strict=True):
        for left, picture in zip(lefts, pictures, strict=True):
            gallery.paste(picture, (left, top))
        text = (GAP, top + height + 3)
        draw.text(text, _caption(example), FAINT, ImageFont.load_default(13))
        top += height + CAPTION + GAP
    return gallery


def _draw_regions(example: Example, levels: int, min_area: int) -> list[Image.Image]:
    """The image, the regions of each level on it, and its objects."""
    height, width = example.image.shape[:2]
    size = PANEL, min(2 * PANEL, max(1, height * PANEL // width))
    image, regions = Image.fromarray(example.image).resize(size), example.regions
    if regions is None:
        return [image] * (levels + 2)
    ids = np.arange(len(regions))
    owners = [np.where(regions.level == level, ids, -1) for level in range(levels)]
    roots = regions.roots()
    root_of = dict(zip(regions.object[roots].tolist(), roots.tolist(), strict=True))
    owners.append(np.array([root_of[number] for number in regions.object.tolist()], np.int64))
    *drawn, objects = (_paint(image, regions, owner) for owner in owners)
    usable = roots[regions.area[roots] >= min_area]
    boxes = regions.box[usable] / np.tile(regions.size, 2)
    _draw_boxes(objects, boxes, [_color(index) for index in usable.tolist()])
    return [image, *drawn, objects]


def _draw_views(views: Sequence[np.ndarray], colors: Sequence[Color]) -> Image.Image:
    """Square views f32[s, s, 3] side by side, framed."""
    side = (PANEL - GAP // 2 * (len(views) - 1)) // len(views)
    picture = Image.new("RGB", (PANEL, side), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for number, (view, color) in enumerate(zip(views, colors, strict=False)):
        square = Image.fromarray(np.rint(255 * view).astype(np.uint8))
        left = number * (side + GAP // 2)
        picture.paste(square.resize((side, side), Image.Resampling.BILINEAR), (left, 0))
        draw.rectangle((left, 0, left + side - 1, side - 1), outline=color, width=3)
    return picture


def _caption(example: Example) -> str:
    height, width = example.image.shape[:2]
    text = f"{example.key}   {width} x {height}"
    if example.regions is not None:
        objects = len(np.unique(example.regions.object))
        text += f"   {len(example.regions)} regions in {objects} objects"
    return text


def _paint(image: Image.Image, regions: Regions, ids: np.ndarray) -> Image.Image:
    """The picture in gray, tinted by the ids i64[R] of the regions on it; -1 is not drawn.

    Smaller regions lie on larger ones, and where the id changes there is a white line.
    """
    owner = np.full(regions.size, -1)
    for index in np.argsort(-regions.area, kind="stable"):
        if ids[index] >= 0:
            owner[decode_mask(regions.rle[index], regions.size)] = ids[index]
    owner = pick(owner, (image.height, image.width))
    colors = np.array([_color(n) for n in range(int(owner.max()) + 1)] + [BACKGROUND])
    gray = np.asarray(image.convert("L"))[..., None]
    tinted = np.where(owner[..., None] < 0, gray, 0.45 * gray + 0.55 * colors[owner])
    tinted[:-1][owner[:-1] != owner[1:]] = 255
    tinted[:, :-1][owner[:, :-1] != owner[:, 1:]] = 255
    return Image.fromarray(tinted.astype(np.uint8))


def _color(number: int) -> Color:
    """Colors far apart for numbers close together: steps of the golden ratio around the wheel."""
    red, green, blue = colorsys.hsv_to_rgb(
        number * 0.618034 % 1, 0.85 - 0.3 * (number % 3 == 1), 0.95
    )
    return round(255 * red), round(255 * green), round(255 * blue)


def _draw_boxes(picture: Image.Image, boxes: np.ndarray, colors: Sequence[Color]) -> None:
    """Frames around boxes f32[n, 4] in fractions of height and width."""
    draw = ImageDraw.Draw(picture)
    for box, color in zip(boxes, colors, strict=False):
        y0, x0, y1, x1 = (box * np.tile([picture.height, picture.width], 2)).tolist()
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=INK, width=3)
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=color, width=2)
