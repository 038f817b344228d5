"""Pictures of a run: views, neighbors, a map of the features, heat maps, confusions, masks."""

import base64
import colorsys
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from jaxssl.data import Source
from jaxssl.data.label_maps import VOID
from jaxssl.data.rle import decode_mask
from jaxssl.data.source import Regions
from jaxssl.errors import UserError
from jaxssl.evaluation.shown import percent
from jaxssl.preview import CutViews
from jaxssl.reporting.run_arrays import EmbeddedImages, nearest_neighbors
from jaxssl.reporting.tables import Table
from jaxssl.training.results import Details

SIDE = 224  # longer side of a picture, pixels
SMALL = 64  # pixels: smaller pictures are kept without loss and enlarged with sharp edges
DRAWN_REGIONS = 24
NAMED_CLASSES = 20  # of a confusion matrix, or of the colors of a map
VIEW_COLORS = ((47, 111, 222), (217, 98, 43), (31, 157, 120), (178, 66, 157))
COLORS = (
    (66, 115, 190), (240, 140, 50), (85, 165, 90), (215, 75, 80), (145, 105, 185),
    (145, 100, 80), (225, 125, 190), (125, 130, 140), (190, 185, 50), (60, 190, 205),
)  # fmt: skip
HEAT = np.array([(10, 8, 40), (110, 25, 110), (215, 65, 75), (250, 160, 60), (252, 250, 190)])


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image inside the page."""

    source: str  # a data URL
    alt: str
    width: int
    height: int
    caption: str = ""
    frame: str = ""  # class of its figure: query, right, wrong, view0 to view3

    @property
    def is_small(self) -> bool:
        return max(self.width, self.height) <= SMALL


Row = list[Picture]


@dataclasses.dataclass(frozen=True)
class FeatureMap:
    """A dot for each image, colored by class if there are few classes."""

    dots: list[tuple[float, float, str, str]]  # x, y, color, name of the class
    legend: list[tuple[str, str]]  # name of the class, color
    width, height, margin = 640, 440, 10


@dataclasses.dataclass(frozen=True)
class ConfusionMatrix:
    """Shares of the predicted among the images of each true class; as an image if they are many."""

    classes: list[str]
    shares: list[list[float]]  # of each true class, by predicted class
    image: Picture | None = None


def picture(
    pixels: np.ndarray | Image.Image, alt: str, caption: str = "", frame: str = "", side: int = SIDE
) -> Picture:
    """An image inside the page: a small one as PNG, others as JPEG.

    Args:
      pixels: u8[h, w, 3]; shrunk if need be.
      alt: text for those who cannot see it.
      caption: text below it.
      frame: class of its figure in style.css.
      side: its longer side at most, pixels.
    """
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    buffer, kind = io.BytesIO(), "png" if max(image.size) <= SMALL else "jpeg"
    image.save(buffer, kind, optimize=kind == "png", quality=82)
    data = base64.b64encode(buffer.getvalue()).decode()
    return Picture(f"data:image/{kind};base64,{data}", alt, *image.size, caption, frame)


def view_rows(source: Source, indices: list[int], views: CutViews) -> list[Row]:
    """A row for each image: it with its regions and the boxes of its views, then the views."""
    rows = []
    for n, index in enumerate(indices):
        example = source[index]
        drawn = draw_regions(example.image, example.regions)
        draw_boxes(drawn, views.boxes[n], views.hw[n])
        rows.append([picture(drawn, f"{example.key} with its regions and views")])
        for number, images in enumerate(views.views):
            pixels = np.rint(255 * images[n]).astype(np.uint8)
            frame = f"view{number % len(VIEW_COLORS)}"
            rows[-1].append(picture(pixels, f"view {number + 1} of {example.key}", frame=frame))
    return rows


def draw_regions(image: np.ndarray, regions: Regions | None) -> Image.Image:
    """The image, its longer side of `SIDE`, with its largest regions tinted and outlined."""
    scale = SIDE / max(image.shape[:2])
    size = max(1, round(scale * image.shape[1])), max(1, round(scale * image.shape[0]))
    base = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    if regions is None or not len(regions):
        return base
    pixels = np.asarray(base).astype(np.float32)
    for number, counts in enumerate(regions.largest(DRAWN_REGIONS)):
        whole = Image.fromarray(decode_mask(counts, regions.size))
        mask = np.asarray(whole.resize(size, Image.Resampling.NEAREST))
        edge = mask & ~(np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1)
                        & np.roll(mask, -1, 1))  # fmt: skip
        pixels[mask] = 0.72 * pixels[mask] + 0.28 * np.array(color(number))
        pixels[edge] = 255
    return Image.fromarray(pixels.astype(np.uint8))


def draw_boxes(drawn: Image.Image, boxes: np.ndarray, hw: np.ndarray) -> None:
    """Draws boxes f32[v, 4], in pixels of the original of height and width `hw`."""
    draw = ImageDraw.Draw(drawn)
    scale = np.tile(np.array(drawn.size[::-1]) / hw, 2)
    for number, box in enumerate(boxes):
        y0, x0, y1, x1 = (box * scale).tolist()
        place = (x0, y0, max(x1 - 1, x0 + 1), max(y1 - 1, y0 + 1))
        draw.rectangle(place, outline=(255, 255, 255), width=4)
        draw.rectangle(place, outline=VIEW_COLORS[number % len(VIEW_COLORS)], width=2)


def color(number: int) -> tuple[int, int, int]:
    """Ten colors that are told apart easily, then steps of the golden ratio around the wheel."""
    if number < len(COLORS):
        return COLORS[number]
    rgb = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.75, 0.9)
    return tuple(round(255 * part) for part in rgb)  # type: ignore[return-value]


def neighbor_rows(embedded: EmbeddedImages, queries: int, k: int) -> list[Row]:
    """A row for each query: it, then its k nearest images; labels say whether they are right."""
    rows = []
    for query, *nearest in nearest_neighbors(embedded.features, queries, k).tolist():
        label = embedded.labels[query]
        rows.append([_labeled(embedded, query, "query")])
        for other in nearest:
            known = min(label, embedded.labels[other]) >= 0
            frame = "right" if label == embedded.labels[other] else "wrong"
            rows[-1].append(_labeled(embedded, other, frame if known else ""))
    return rows


def _labeled(embedded: EmbeddedImages, index: int, frame: str) -> Picture:
    label = int(embedded.labels[index])
    name = embedded.classes[label] if 0 <= label < len(embedded.classes) else ""
    alt = f"image {index}" + (f", {name}" if name else "")
    return picture(embedded.images[index], alt, name, frame)


def feature_map(positions: np.ndarray, embedded: EmbeddedImages) -> FeatureMap:
    """Positions f32[n, 2] of the images as dots, both axes in one scale."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    size = np.array([FeatureMap.width, FeatureMap.height])
    scale = ((size - 2 * FeatureMap.margin) / np.maximum(high - low, 1e-12)).min()
    spots = ((positions - (low + high) / 2) * scale + size / 2).round(1)
    count = len(embedded.classes)
    colored = 0 < count <= NAMED_CLASSES
    dots = []
    for (x, y), label in zip(spots.tolist(), embedded.labels.tolist(), strict=True):
        fill = f"rgb{color(label)}" if colored and label >= 0 else "var(--faint)"
        name = embedded.classes[label] if 0 <= label < count else "no label"
        dots.append((x, y, fill, name))
    entries = [(name, f"rgb{color(i)}") for i, name in enumerate(embedded.classes)]
    return FeatureMap(dots, entries if colored else [])


def heat_rows(heated: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Row]:
    """Pairs: the image u8[h, w, 3], and its heat map f32[h, w] in [0, 1] laid over it."""
    pairs = []
    for image, heat in heated:
        along = np.clip(heat, 0, 1) * (len(HEAT) - 1)
        shade = [np.interp(along, np.arange(len(HEAT)), HEAT[:, c]) for c in range(3)]
        mixed = 0.35 * image + 0.65 * np.stack(shade, axis=-1)
        pairs.append([picture(image, "image"), picture(mixed.astype(np.uint8), "its heat map")])
    return pairs


def confusion_matrix(details: Details) -> ConfusionMatrix:
    """Counts [true, predicted] of an entry of eval.json as shares of each row.

    Raises `UserError` if there are not as many rows as columns and as classes.
    """
    if {len(row) for row in details["confusion"]} != {len(details["confusion"])}:
        raise UserError("eval.json has a confusion matrix that is not square")
    counts = np.array(details["confusion"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = _class_names(details, len(counts))
    if len(counts) <= NAMED_CLASSES:
        return ConfusionMatrix(classes, shares.tolist())
    gray = np.rint(255 * (1 - shares)).astype(np.uint8)
    side = max(1, 640 // len(gray))
    alt = f"confusion of {len(counts)} classes: rows true, columns predicted, dark is often"
    pixels = np.repeat(np.kron(gray, np.ones((side, side), np.uint8))[..., None], 3, axis=2)
    return ConfusionMatrix(classes, [], picture(pixels, alt, side=max(pixels.shape)))


def class_table(details: Details) -> Table | None:
    """The result of each class, if an entry of eval.json has them."""
    if "per_class" not in details:
        return None
    names = _class_names(details, len(details["per_class"]))
    rows: list[list[Any]] = [
        [name, "-" if value is None or not np.isfinite(value) else percent(value)]
        for name, value in zip(names, details["per_class"], strict=True)
    ]
    return Table(["class", "value"], rows)


def _class_names(details: Details, count: int) -> list[str]:
    """The names of `count` classes, their numbers if an entry of eval.json has no names."""
    names = [str(name) for name in details.get("classes", range(count))]
    if len(names) != count:
        raise UserError(f"eval.json has results of {count} classes and names of {len(names)}")
    return names


def mask_rows(predictions: dict[str, np.ndarray], count: int) -> list[Row]:
    """A row for each image: it, its true labels, the predicted ones."""
    rows = []
    for n in range(min(count, len(predictions["image"]))):
        predicted = predictions["predicted"][n]
        # Where nothing is predicted are the bars that make a square of the image.
        inside = np.ix_((predicted < VOID).any(axis=1), (predicted < VOID).any(axis=0))
        rows.append([picture(predictions["image"][n][inside], "image", "image")])
        for name in ("truth", "predicted"):
            painted = paint_labels(predictions[name][n][inside])
            rows[-1].append(picture(painted, f"{name} labels", name))
    return rows


def mask_legend(
    predictions: dict[str, np.ndarray], count: int, classes: Sequence[str]
) -> list[tuple[str, str]]:
    """Those of the classes that are in `mask_rows`, and their colors."""
    there = {*np.unique([predictions[name][:count] for name in ("truth", "predicted")]).tolist()}
    return [(name, f"rgb{color(n)}") for n, name in enumerate(classes) if n in there]


def paint_labels(labels: np.ndarray) -> np.ndarray:
    """Label map u8[h, w] as colors u8[h, w, 3]; black where there is no label."""
    colors = np.array([color(n) for n in range(VOID)] + [(0, 0, 0)], np.uint8)
    return colors[labels]
