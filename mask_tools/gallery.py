"""A picture of regions: a row per image, with its regions, objects and views beside it."""

import colorsys
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxssl.data.rle import decode_mask
from jaxssl.data.source import Example, Regions
from mask_tools.crops import cut, draw_object
from mask_tools.segment import pick

PANEL = 320  # width of one picture, pixels
GAP = 14
HEADING = 40
CAPTION = 22
LEVELS = 3  # of regions, side by side
BACKGROUND, INK, FAINT = (255, 255, 255), (30, 30, 30), (120, 120, 120)


def draw_gallery(examples: Sequence[Example], *, title: str, min_area: int) -> Image.Image:
    """Rows of pictures under a heading; `min_area` is that of the objects that get a box."""
    levels = max((int(e.regions.level.max(initial=0)) for e in examples if e.regions), default=0)
    levels = min(levels + 1, LEVELS)
    headings = ["image"]
    headings += [f"regions, level {n}" for n in range(levels)] if levels > 1 else ["regions"]
    headings.append(f"objects; boxes: roots of {min_area} px or more")
    headings += ["two views by SimCLR", "two views by SAMCLR"]
    rows = [_draw_row(example, levels, min_area) for example in examples]
    width = GAP + len(headings) * (PANEL + GAP)
    height = 2 * HEADING + sum(row.height + GAP for row in rows)
    gallery = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(gallery)
    draw.text((GAP, GAP), title, INK, ImageFont.load_default(17))
    for column, heading in enumerate(headings):
        place = (GAP + column * (PANEL + GAP), HEADING + GAP)
        draw.text(place, heading, INK, ImageFont.load_default(15))
    top = 2 * HEADING
    for row in rows:
        gallery.paste(row, (GAP, top))
        top += row.height + GAP
    return gallery


def _draw_row(example: Example, levels: int, min_area: int) -> Image.Image:
    image, regions = _fit(example.image), example.regions
    pictures = [image]
    if regions is not None:
        ids = np.arange(len(regions))
        pictures += [
            _paint(image, regions, np.where(regions.level == level, ids, -1))
            for level in range(levels)
        ]
        roots = _roots(regions)
        pictures.append(_paint(image, regions, roots))
        _draw_boxes(pictures[-1], regions, roots[regions.area[roots] >= min_area])
        rng = np.random.default_rng(list(os.fsencode(example.key)))
        whole = np.array([0, 0, *regions.size], float)
        pictures.append(_draw_views(rng, example.image, whole))
        pictures.append(_draw_views(rng, example.image, draw_object(rng, regions, min_area)))
    step = PANEL + GAP
    height = max(picture.height for picture in pictures)
    row = Image.new("RGB", (len(pictures) * step, height + CAPTION), BACKGROUND)
    for column, picture in enumerate(pictures):
        row.paste(picture, (column * step, 0))
    place = (0, height + 3)
    ImageDraw.Draw(row).text(place, _caption(example), FAINT, ImageFont.load_default(13))
    return row


def _draw_views(rng: np.random.Generator, image: np.ndarray, within: np.ndarray) -> Image.Image:
    """Two crops within a box, side by side."""
    side = (PANEL - GAP // 2) // 2
    picture = Image.new("RGB", (PANEL, side), BACKGROUND)
    for left in (0, PANEL - side):
        picture.paste(cut(rng, image, within, side), (left, 0))
    return picture


def _caption(example: Example) -> str:
    height, width = example.image.shape[:2]
    text = f"{example.key}   {width} x {height}"
    if example.regions is not None:
        objects = len(np.unique(example.regions.object))
        text += f"   {len(example.regions)} regions in {objects} objects"
    return text


def _fit(image: np.ndarray) -> Image.Image:
    """The image as wide as a panel, not higher than twice that."""
    height, width = image.shape[:2]
    return Image.fromarray(image).resize((PANEL, min(2 * PANEL, max(1, height * PANEL // width))))


def _paint(image: Image.Image, regions: Regions, ids: np.ndarray) -> Image.Image:
    """The picture in grey, tinted by the ids i64[R] of the regions on it; -1 is not drawn.

    Smaller regions lie on larger ones, and where the id changes there is a white line.
    """
    owner = np.full(regions.size, -1)
    for index in np.argsort(-regions.area, kind="stable"):
        if ids[index] >= 0:
            owner[decode_mask(regions.rle[index], regions.size)] = ids[index]
    owner = pick(owner, (image.height, image.width))
    colours = np.array([_colour(n) for n in range(int(owner.max()) + 1)] + [BACKGROUND])
    grey = np.asarray(image.convert("L"))[..., None]
    tinted = np.where(owner[..., None] < 0, grey, 0.45 * grey + 0.55 * colours[owner])
    tinted[:-1][owner[:-1] != owner[1:]] = 255
    tinted[:, :-1][owner[:, :-1] != owner[:, 1:]] = 255
    return Image.fromarray(tinted.astype(np.uint8))


def _colour(number: int) -> tuple[int, int, int]:
    """Colours far apart for numbers close together: steps of the golden ratio around the wheel."""
    red, green, blue = colorsys.hsv_to_rgb(
        number * 0.618034 % 1, 0.85 - 0.3 * (number % 3 == 1), 0.95
    )
    return round(255 * red), round(255 * green), round(255 * blue)


def _roots(regions: Regions) -> np.ndarray:
    """For each region the largest one of its object: i64[R]."""
    by_area = np.argsort(-regions.area, kind="stable")
    _, first, member = np.unique(regions.object[by_area], return_index=True, return_inverse=True)
    roots = np.empty(len(regions), np.int64)
    roots[by_area] = by_area[first][member]
    return roots


def _draw_boxes(picture: Image.Image, regions: Regions, which: np.ndarray) -> None:
    draw = ImageDraw.Draw(picture)
    scale = np.array([picture.height, picture.width]) / regions.size
    for index in np.unique(which):
        y0, x0, y1, x1 = (regions.box[index] * np.tile(scale, 2)).tolist()
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=INK, width=3)
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=_colour(int(index)), width=2)
