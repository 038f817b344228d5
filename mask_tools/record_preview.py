"""A picture of a folder of records: `python -m mask_tools.inspect DIR --preview FILE.png`.

It has a row for each image, with its regions, objects and views beside it.
"""

import colorsys
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxssl.data.loading import pick
from jaxssl.data.record_codec import decode_example
from jaxssl.data.records import ShardInfo, read_record
from jaxssl.data.rle import decode_mask
from jaxssl.data.source import Example, Regions
from jaxssl.data.tfrecord import scan
from mask_tools.region_report import describe_split, open_split
from mask_tools.region_statistics import MIN_AREA

PREVIEWED = 6  # images
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


def draw_preview(
    folder: str | os.PathLike[str],
    *,
    split: str | None = None,
    config: str = "",
    min_area: int | None = None,
    images: int = PREVIEWED,
) -> Image.Image:
    """Some images with their regions and objects, and views as training cuts them.

    The views are those of the sampler `random_crop` and of the config's sampler, by the config's
    scale, size and augmentation.

    Args:
      folder: written by `mask_tools.export`.
      split: None: the first.
      config: a config file, or `path:variant`; "": jaxssl's defaults, by `region_crop`.
      min_area: pixels of the largest region of an object that gives views; None: the config's.
      images: how many, evenly spaced in the split.

    Raises:
      UserError: there are no such records or no such config.
    """
    from jaxssl.preview import cut_views, describe_views, preview_config  # loads JAX

    folder = pathlib.Path(folder)
    info, split, shards = open_split(folder, split)
    examples = _Shown(_spaced(folder, shards, images))
    examples.spec, examples.has_regions = f"records:{folder}", info.segmenter is not None
    own = preview_config(config, min_area=min_area)
    views: dict[str, list[list[FramedView]]] = {}
    for sampler in dict.fromkeys(("random_crop", own.sampler.name)):
        chosen = preview_config(config, sampler=sampler, min_area=min_area)
        cut = cut_views(chosen, examples, range(len(examples)))
        fractions = cut.boxes / np.tile(cut.hw, 2)[:, None]
        views[f"two views by {sampler}"] = [
            [FramedView(cut.views[v][i], fractions[i, v]) for v in range(min(2, len(cut.views)))]
            for i in range(len(examples))
        ]
    by_default = "jaxssl's defaults (--config FILE.py draws those of a config)"
    return _draw_gallery(
        examples,
        views,
        title=describe_split(folder, split, info),
        subtitle=f"views by {config or by_default}: {describe_views(own)}",
        min_area=own.sampler.get("min_area", min_area or MIN_AREA),
    )


class _Shown(list[Example]):
    """A source of a few examples in memory."""

    spec = ""
    class_names: tuple[str, ...] = ()
    has_regions = False

    def fingerprint(self) -> str:
        return self.spec


def _spaced(folder: pathlib.Path, shards: Sequence[ShardInfo], wanted: int) -> Iterator[Example]:
    """At most as many examples as wanted, evenly spaced; reads only the files that have them."""
    ends = np.cumsum([shard.count for shard in shards])
    for index in np.linspace(0, ends[-1] - 1, min(wanted, ends[-1])).round().astype(int):
        number = np.searchsorted(ends, index, side="right")
        path = folder / shards[number].file
        offset, length = scan(path)[index - ends[number]].tolist()
        yield read_record(path, offset, length, decode_example)


class FramedView(NamedTuple):
    """A view of an image, and where it was cut."""

    image: np.ndarray  # f32[s, s, 3] in [0, 1]
    box: np.ndarray  # f32[4]: y0 x0 y1 x1 in fractions of the height and width


def _draw_gallery(
    examples: Sequence[Example],
    views: Mapping[str, Sequence[Sequence[FramedView]]],
    *,
    title: str,
    subtitle: str,
    min_area: int,
) -> Image.Image:
    """Rows of pictures; `views` has, by the heading of a column, some views of each example."""
    levels = max((int(e.regions.level.max(initial=0)) for e in examples if e.regions), default=0)
    levels = min(levels + 1, LEVELS)
    headings = ["image and crops"]
    headings += [f"regions, level {n}" for n in range(levels)] if levels > 1 else ["regions"]
    headings += [f"objects (boxed: {min_area} px or more)", *views]
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
    height, width = example.size
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
    height, width = example.size
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
