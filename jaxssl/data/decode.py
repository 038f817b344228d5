"""From the bytes of an image file to upright RGB pixels, or a `BrokenImage` that says why not.

Gray and palette images become RGB; CMYK is converted; an alpha channel is dropped, so that hidden
pixels keep the color the file gives them; 16-bit channels keep their upper 8 bits; of an animation
the first frame is taken; the EXIF orientation is applied. Floating-point and 32-bit integer pixels
have no agreed range and are refused, as is an image over Pillow's limit (`MAX_IMAGE_PIXELS`).
"""

import io
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxssl.data.source import BrokenImage
from jaxssl.errors import UserError

Size = tuple[int, int]  # height, width
T = TypeVar("T")

_ORIENTATION = 0x0112  # the EXIF tag, and what brings each of its values upright
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # values with which height and width change places
_OVERSAMPLING = 2  # at which a JPEG decoded at less than its size looks the same once resized


def decode_image(encoded: bytes, key: str) -> np.ndarray:
    """The pixels u8[h, w, 3] of an image file's bytes; `key` names it in a `BrokenImage`."""
    return decode_resized(encoded, key, lambda size: size)[0]


def decode_resized(
    encoded: bytes, key: str, fit: Callable[[Size], Size]
) -> tuple[np.ndarray, Size]:
    """The whole image resized to `fit(size)`, antialiased, u8[h, w, 3]; and its true size.

    Sizes are height and width of the upright image. A large JPEG is decoded at 1/2, 1/4 or 1/8,
    which leaves most of its frequencies out and takes as little as half of the time.
    """
    return _open(encoded, key, lambda image: _read(image, fit))


def read_size(encoded: bytes, key: str) -> Size:
    """Height and width of the upright image, from the head of a file alone."""
    return _open(encoded, key, _upright_size)


def _open(encoded: bytes, key: str, read: Callable[[Image.Image], T]) -> T:
    if not encoded:
        raise BrokenImage(f"{key}: the file is empty")
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return read(image)
    # Decoders raise whatever their format's parser ran into: none of it may end a long run.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if isinstance(error, UnidentifiedImageError):
            reason = "not an image in a format that Pillow knows"
        raise BrokenImage(f"{key}: cannot be decoded: {reason}") from error


def _read(image: Image.Image, fit: Callable[[Size], Size]) -> tuple[np.ndarray, Size]:
    size = _upright_size(image)
    wanted = fit(size)
    orientation = _orientation(image)
    stored = wanted if orientation in _SIDEWAYS else wanted[::-1]  # width, height in the file
    reduced = None
    if wanted != size:
        reduced = image.draft(None, (_OVERSAMPLING * stored[0], _OVERSAMPLING * stored[1]))
    image.load()
    pixels = _to_rgb(image)
    if wanted != size:
        # The last row and column of a reduced image may be narrower than the rest: the box knows.
        box = reduced[1] if reduced else None
        pixels = pixels.resize(stored, Image.Resampling.BILINEAR, box)
    if orientation in _UPRIGHT:
        pixels = pixels.transpose(_UPRIGHT[orientation])
    return np.asarray(pixels), size


def _upright_size(image: Image.Image) -> Size:
    width, height = image.size
    return (width, height) if _orientation(image) in _SIDEWAYS else (height, width)


def _orientation(image: Image.Image) -> int:
    """How an image must be turned; Pillow turns a TIFF itself, and knows its upright size."""
    return 1 if image.format == "TIFF" else int(image.getexif().get(_ORIENTATION, 1))


def _to_rgb(image: Image.Image) -> Image.Image:
    # Pillow gives 16-bit gray of a PGM file as "I", that of PNG and TIFF as "I;16".
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("F", "I"):
        raise UserError("floating-point and 32-bit pixels have no agreed range; save it as 8-bit")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns on going to RGB at once
    return image if image.mode == "RGB" else image.convert("RGB")
