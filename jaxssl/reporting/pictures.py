"""Pictures of a run: views, neighbours, a map of the features, heat maps, confusions, masks."""

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from jaxssl.data import Source
from jaxssl.data.source import Regions
from jaxssl.reporting.markup import Markup, element, figure, join, picture, table
from jaxssl.reporting.run_arrays import Cut, Embedded, neighbours

SIDE = 224  # longer side of a picture, pixels
DRAWN_REGIONS = 24
NAMED_CLASSES = 20  # of a confusion matrix, or of the colours of a map
VIEW_COLOURS = ((47, 111, 222), (217, 98, 43), (31, 157, 120), (178, 66, 157))
COLOURS = (
    (66, 115, 190), (240, 140, 50), (85, 165, 90), (215, 75, 80), (145, 105, 185),
    (145, 100, 80), (225, 125, 190), (125, 130, 140), (190, 185, 50), (60, 190, 205),
)  # fmt: skip
HEAT = np.array([(10, 8, 40), (110, 25, 110), (215, 65, 75), (250, 160, 60), (252, 250, 190)])
NO_CLASS = 255


def row(*cells: str, class_: str = "row") -> Markup:
    """Pictures side by side, equally wide; narrow pages scroll rather than shrink them away."""
    return element(
        "div", element("div", *cells, class_=class_, style=f"--n:{len(cells)}"), class_="strip",
        tabindex="0",
    )  # fmt: skip


def view_rows(cut: Cut, source: Source) -> Markup:
    """A row for each image: its regions and where views are cut, then the views."""
    rows = []
    for n, index in enumerate(cut.indices):
        example = source[index]
        drawn = draw_regions(example.image, example.regions)
        draw_boxes(drawn, cut.boxes[n], cut.hw[n])
        cells = [figure(None, picture(drawn, f"{example.key} with its regions and views"))]
        cells += [
            figure(None, picture(shrink(view[n]), f"view {number + 1} of {example.key}"))
            for number, view in enumerate(cut.views)
        ]
        rows.append(row(*cells))
    return element("div", *rows, class_="rows" if len(cut.views) > 3 else "rows short")


def shrink(image: np.ndarray) -> Image.Image:
    """The image, at most `SIDE` pixels wide and high."""
    small = Image.fromarray(image)
    small.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    return small


def draw_regions(image: np.ndarray, regions: Regions | None) -> Image.Image:
    """The image with its largest regions tinted and outlined; square, as the trainer sees it."""
    base = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    if regions is None or not len(regions):
        return base
    pixels = np.asarray(base).astype(np.float32)
    masks, order = regions.masks(), np.argsort(-regions.area, kind="stable")[:DRAWN_REGIONS]
    for number, index in enumerate(order):
        small = Image.fromarray(masks[index]).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        mask = np.asarray(small)
        edge = mask & ~(np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1)
                        & np.roll(mask, -1, 1))  # fmt: skip
        pixels[mask] = 0.72 * pixels[mask] + 0.28 * np.array(colour(number))
        pixels[edge] = 255
    return Image.fromarray(pixels.astype(np.uint8))


def draw_boxes(drawn: Image.Image, boxes: np.ndarray, hw: np.ndarray) -> None:
    """Rectangles where views are cut, in pixels of the original of height and width `hw`."""
    draw = ImageDraw.Draw(drawn)
    scale = np.tile(SIDE / hw, 2)
    for number, box in enumerate(boxes):
        y0, x0, y1, x1 = (box * scale).tolist()
        place = (x0, y0, max(x1 - 1, x0 + 1), max(y1 - 1, y0 + 1))
        draw.rectangle(place, outline=(255, 255, 255), width=4)
        draw.rectangle(place, outline=VIEW_COLOURS[number % len(VIEW_COLOURS)], width=2)


def colour(number: int) -> tuple[int, int, int]:
    """Ten colours that are told apart easily, then steps of the golden ratio around the wheel."""
    if number < len(COLOURS):
        return COLOURS[number]
    rgb = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.75, 0.9)
    return tuple(round(255 * part) for part in rgb)  # type: ignore[return-value]


def neighbour_rows(embedded: Embedded, queries: int, k: int) -> Markup:
    """A row for each query: it, then its nearest images; with labels, whether they are alike."""
    rows = []
    for query, *nearest in neighbours(embedded.features, queries, k).tolist():
        label = embedded.labels[query]
        cells = [_labelled(embedded, query, "query")]
        for other in nearest:
            known = min(label, embedded.labels[other]) >= 0
            alike = "right" if label == embedded.labels[other] else "wrong"
            cells.append(_labelled(embedded, other, alike if known else None))
        rows.append(row(*cells))
    return element("div", *rows, class_="rows")


def _labelled(embedded: Embedded, index: int, class_: str | None) -> Markup:
    label = int(embedded.labels[index])
    name = embedded.classes[label] if 0 <= label < len(embedded.classes) else None
    alt = f"image {index}" + (f", {name}" if name else "")
    return figure(name, picture(shrink(embedded.images[index]), alt), class_=class_)


def scatter(places: np.ndarray, embedded: Embedded) -> Markup:
    """The map: a dot for each image, coloured by class if there are few classes."""
    low, high = places.min(axis=0), places.max(axis=0)
    spots = (places - low) / np.maximum(high - low, 1e-12) * np.array([620, 420]) + 10
    labels, count = embedded.labels, len(embedded.classes)
    coloured = 0 < count <= NAMED_CLASSES
    dots = []
    for (x, y), label in zip(spots.round(1), labels, strict=True):
        fill = f"rgb{colour(int(label))}" if coloured and label >= 0 else "var(--faint)"
        name = embedded.classes[label] if 0 <= label < count else "no label"
        dots.append(element("circle", element("title", name), cx=x, cy=y, r=3.2, fill=fill))
    drawn = element(
        "svg", *dots, viewBox="0 0 640 440", role="img", aria_label="map of the features",
        class_="map",
    )  # fmt: skip
    if not coloured:
        return drawn
    entries = [
        element("li", element("span", class_="swatch", style=f"background:rgb{colour(i)}"), name)
        for i, name in enumerate(embedded.classes)
    ]
    return join(drawn, element("ul", *entries, class_="legend"))


def heat_pictures(images: np.ndarray, maps: np.ndarray) -> list[Markup]:
    """Pairs: the image, and its heat map laid over it."""
    pairs = []
    for image, heat in zip(images, maps, strict=True):
        along = np.clip(heat, 0, 1) * (len(HEAT) - 1)
        shade = [np.interp(along, np.arange(len(HEAT)), HEAT[:, c]) for c in range(3)]
        mixed = 0.35 * image + 0.65 * np.stack(shade, axis=-1)
        cells = (picture(shrink(image), "image"),
                 picture(shrink(mixed.astype(np.uint8)), "its heat map"))  # fmt: skip
        pairs.append(element("div", *cells, class_="row", style="--n:2"))
    return pairs


def confusion(details: dict[str, Any]) -> Markup:
    """Rows are true classes, columns predicted ones; a cell is the share of its row."""
    matrix = np.asarray(details["confusion"], float)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    classes = [str(name) for name in details.get("classes", range(len(matrix)))]
    if len(matrix) > NAMED_CLASSES:
        grey = np.rint(255 * (1 - share)).astype(np.uint8)
        side = max(1, 640 // len(grey))
        return picture(
            np.repeat(np.kron(grey, np.ones((side, side), np.uint8))[..., None], 3, axis=2),
            f"confusion of {len(matrix)} classes: rows true, columns predicted, dark is often",
        )
    rows = []
    for i, name in enumerate(classes):
        cells = [element("th", name, scope="row")]
        for j, value in enumerate(share[i]):
            tint = f"var(--c{0 if i == j else 1}) {80 * value:.0f}%"
            style = f"background:color-mix(in srgb, {tint}, transparent)"
            shown = f"{100 * value:.0f}" if value >= 0.005 else ""
            cells.append(element("td", shown, style=style, title=f"{name} as {classes[j]}"))
        rows.append(element("tr", *cells))
    head = element("tr", element("td"), *(element("th", name, scope="col") for name in classes))
    whole = element("table", element("thead", head), element("tbody", *rows), class_="confusion")
    return element("div", whole, class_="scroll", tabindex="0")


def per_class(details: dict[str, Any]) -> Markup | None:
    """A number for each class, folded up."""
    if "per_class" not in details:
        return None
    names = details.get("classes", range(len(details["per_class"])))
    rows = [[str(n), f"{100 * v:.1f} %" if np.isfinite(v) else "-"]
            for n, v in zip(names, map(_number, details["per_class"]), strict=False)]  # fmt: skip
    summary = element("summary", "By class")
    return element("details", summary, table(["class", "value"], rows))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def mask_rows(predictions: dict[str, np.ndarray], wanted: int) -> Markup:
    """Image, true labels, predicted labels."""
    rows = []
    for n in range(min(wanted, len(predictions["image"]))):
        cells = [figure("image", picture(shrink(predictions["image"][n]), "image"))]
        for name in ("truth", "predicted"):
            painted = paint_labels(predictions[name][n])
            cells.append(figure(name, picture(shrink(painted), f"{name} labels")))
        rows.append(element("div", *cells, class_="row", style=f"--n:{len(cells)}"))
    return element("div", *rows, class_="grid")


def paint_labels(labels: np.ndarray) -> np.ndarray:
    """Label map u8[h, w] as colours; black where there is no label."""
    colours = np.array([colour(n) for n in range(NO_CLASS)] + [(0, 0, 0)], np.uint8)
    return colours[labels]


def captions(classes: Sequence[str]) -> str:
    """What the frames of neighbours mean."""
    known = "; green frames are of the query's class, orange ones of another" if classes else ""
    return f"Blue frames are the queries, their nearest images follow by falling cosine{known}."
