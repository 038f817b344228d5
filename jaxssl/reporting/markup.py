"""HTML and SVG, built so that text cannot become markup: what is not `Markup` is escaped."""

import base64
import html
import io

import numpy as np
from PIL import Image

VOID = ("img", "meta")  # elements without an end tag
SMALL = 64  # pixels: smaller pictures are kept without loss and enlarged with sharp edges


class Markup(str):
    """Text that is HTML already."""


def element(
    name: str, /, *children: str | int | float | None, **attributes: str | int | float | None
) -> Markup:
    """`<name attributes>children</name>`. None is left out, of children and of attributes.

    An underscore in the name of an attribute is a hyphen, one at its end is dropped: `class_`.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{said}>")
    return Markup(f"<{name}{said}>{join(*children)}</{name}>")


def join(*children: str | int | float | None) -> Markup:
    """The children one after another; text is escaped."""
    return Markup(
        "".join(
            c if isinstance(c, Markup) else html.escape(str(c)) for c in children if c is not None
        )
    )


def picture(pixels: np.ndarray | Image.Image, alt: str) -> Markup:
    """An image u8[h, w, 3] inside the page: small ones as PNG, others as JPEG."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    small = max(image.size) <= SMALL
    buffer = io.BytesIO()
    if small:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=82)
    data = base64.b64encode(buffer.getvalue()).decode()
    return element(
        "img",
        src=f"data:image/{'png' if small else 'jpeg'};base64,{data}",
        alt=alt,
        width=image.width,
        height=image.height,
        class_="sharp" if small else None,
    )


def figure(caption: str | None, *content: str | None, class_: str | None = None) -> Markup:
    """Content with a caption below it that says what is seen."""
    below = element("figcaption", caption) if caption else None
    return element("figure", *content, below, class_=class_)


def titled(title: str, *content: str | None) -> Markup:
    """Content with its name above it."""
    return element("figure", element("figcaption", element("strong", title)), *content)


def section(title: str, about: str | None, *content: str | None) -> Markup:
    """A part of the page under a heading; it can be linked to as `#title`."""
    explained = element("p", about, class_="about") if about else None
    anchor = title.lower().replace(" ", "-")
    return element("section", element("h2", title), explained, *content, id=anchor)


def table(
    head: list[str], rows: list[list[str]], *, class_: str | None = None, names: int = 1
) -> Markup:
    """A table, scrolling sideways where the page is narrow; its first `names` columns are names."""
    heading = element("tr", *(element("th", cell, scope="col") for cell in head))
    body = [
        element(
            "tr",
            *(
                element("th", cell, scope="row") if i < names else element("td", cell)
                for i, cell in enumerate(row)
            ),
        )
        for row in rows
    ]
    content = element("table", element("thead", heading), element("tbody", *body), class_=class_)
    return element("div", content, class_="scroll", tabindex="0")
