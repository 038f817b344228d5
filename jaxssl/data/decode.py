"""Decodes the bytes of an image file to upright RGB pixels, or a `BrokenImage` says why not.

Gray and palette images become RGB; CMYK is converted; an alpha channel is dropped, so that hidden
pixels keep the color the file gives them; 16-bit channels keep the upper 8 of the bits that are in
use, which the caller knows (`largest_value`); of an animation the first frame is taken; the EXIF
orientation is applied. Floating-point and 32-bit integer pixels have no agreed range and are
refused, as is an image of which more pixels than `MAX_DECODED` would have to be decoded.
"""

import io
import pathlib
import warnings
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from jaxssl.data.orientation import SIDEWAYS, UPRIGHT, file_orientation, left_to_turn
from jaxssl.data.source import BrokenImage, Size
from jaxssl.errors import UserError

try:
    from pillow_heif import register_heif_opener
except ImportError:  # the extra `heif`
    HAS_HEIF = False
else:
    register_heif_opener()
    HAS_HEIF = True

T = TypeVar("T")

MAX_DECODED = 2 * 89_478_485  # Pillow's limit: 0.7 GB in its memory
MAX_TO_SHRINK = 4 * MAX_DECODED  # of an image that is to be shrunk
# Within these limits an image is fine; Pillow would warn of it from half of its own limit on.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
PORTABLE = (b"\xff\xd8\xff", b"\x89PNG")  # the beginnings of JPEG and PNG files, which records hold
# Pillow's `open` refuses larger ones before it is known how much of them is to be decoded.
_LARGE = {b"\xff\xd8": JpegImageFile, b"\x89P": PngImageFile}
_TOO_LARGE = (
    "save it as JPEG and shrink it, as mask_tools.export does with --max-side where it finds the "
    "regions itself, or cut it up"
)
_OTHER_BYTE = {"RGB;16B": "RGB;16L", "RGB;16L": "RGB;16B", "RGB;16N": "RGB;16B"}
_OTHER_BYTE |= {"RGBA;16B": "RGBA;16L", "RGBA;16L": "RGBA;16B", "RGBA;16N": "RGBA;16B"}
_OVERSAMPLING = 2  # at which a JPEG decoded at less than its size looks the same once resized


def decode_image(encoded: bytes, key: str, bits: int = 16) -> np.ndarray:
    """The pixels u8[h, w, 3] of an image file's bytes; `key` names it in a `BrokenImage`."""
    return decode_upright(encoded, key, lambda size: size, bits)[0]


def decode_upright(
    encoded: bytes, key: str, fit: Callable[[Size], Size], bits: int = 16
) -> tuple[np.ndarray, Size, int]:
    """The whole image u8[h, w, 3] resized to `fit(size)`, its true size, its EXIF orientation.

    It is antialiased. A large JPEG is decoded at 1/2, 1/4 or 1/8, which leaves most of its
    frequencies out and takes as little as half of the time.

    Args:
      encoded: the bytes of the file.
      key: names the image in a `BrokenImage`.
      fit: from the height and width of the upright image to those wanted.
      bits: of 16-bit channels, how many are in use.
    """
    return _open(encoded, key, lambda image: _read(image, fit, encoded, bits))


def read_size(encoded: bytes, key: str) -> Size:
    """Height and width of the upright image, from the head of a file alone."""
    return _open(encoded, key, lambda image: _upright_size(image, _to_turn(image, encoded)))


def largest_value(encoded: bytes, key: str) -> int | None:
    """The largest value of an image with 16-bit channels; None if it has others."""

    def read(image: Image.Image) -> int | None:
        values = _sixteen_bits(encoded)
        return None if values is None else int(values.max())

    return _open(encoded, key, read)


def unread_parts(encoded: bytes, key: str) -> list[str]:
    """The parts of a TIFF file that are not read, in words."""

    def read(image: Image.Image) -> list[str]:
        if not isinstance(image, TiffImageFile):
            return []
        further = 0 in image.tag_v2.get(338, ())  # samples that are neither colors nor alpha
        pages = ["pages after the first"] * (image.n_frames > 1)
        return pages + ["channels besides the colors"] * further

    return _open(encoded, key, read)


def read_encoded(path: pathlib.Path, key: str) -> bytes:
    """The bytes of the file of an image; `BrokenImage` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BrokenImage(f"{key}: {path} cannot be read: {error.strerror}") from error


def decode_label_map(encoded: bytes, key: str, *, as_gray: bool = False) -> np.ndarray:
    """The values [h, w], [h, w, 3] or [h, w, 4] of a label map or mask, as they are in its file.

    Where some pixels are transparent these are 0. A fourth channel is there where it holds numbers.
    `as_gray` makes one channel of colors, also of a palette's, as a palette of white and black is
    read anyway: white may come first in it.
    """

    def read(image: Image.Image) -> np.ndarray:
        _check_pixels(image, MAX_DECODED)
        _check_one_map(image)
        visible = None
        if image.mode in ("RGBA", "LA", "PA"):
            alpha = np.asarray(image.getchannel("A"))
            visible = alpha > 0
            if as_gray or image.mode != "RGBA" or not _holds_numbers(alpha):
                image = image.convert(image.mode[:-1])
        if image.mode == "P" and (as_gray or _white_is_first(image)):
            image = image.convert("RGB").convert("L")
        if image.mode not in ("RGB", "RGBA") and len(image.getbands()) > 1:  # CMYK, say
            image = image.convert("RGB")
        values = np.asarray(image.convert("L") if as_gray and image.mode == "RGB" else image)
        if visible is None or not visible.any():
            return values
        return values * (visible if values.ndim == 2 else visible[..., None])

    return _open(encoded, key, read)


def _holds_numbers(alpha: np.ndarray) -> bool:
    """Whether an alpha channel holds numbers of objects, as in BDD100K's files, not soft edges.

    Of pixels that are neither clear nor opaque most are then like those above and to the left.
    """
    own = alpha[1:, 1:]
    between = (own > 0) & (own < 255)
    alike = (own == alpha[:-1, 1:]) & (own == alpha[1:, :-1])
    is_flat = 2 * (between & alike).sum() > between.sum()
    return bool(is_flat and len(np.unique(alpha[alpha > 0])) > 1)  # one number tells nothing apart


def _check_one_map(image: Image.Image) -> None:
    """Raises UserError if a file holds several maps, or values that Pillow would cut."""
    first, pages = image.size, 1
    for page in range(1, getattr(image, "n_frames", 1)):
        image.seek(page)
        pages += image.size == first  # smaller ones are the first's, for display
    image.seek(0)
    if pages > 1:
        raise UserError(f"it has {pages} pages; save each as a file of its own")
    raw = str(image.tile[0].args) if isinstance(image, ImageFile.ImageFile) and image.tile else ""
    if ";16" in raw and len(image.getbands()) > 1:
        raise UserError("it has colors of 16 bits, of which 8 would be read; save it as gray")


def _white_is_first(image: Image.Image) -> bool:
    """Whether 0 stands for white and 1 for black, and no other value is used."""
    palette = image.getpalette() or []
    return palette[:6] == [255, 255, 255, 0, 0, 0] and int(np.asarray(image).max()) <= 1


def _open(encoded: bytes, key: str, read: Callable[[Image.Image], T]) -> T:
    if not encoded:
        raise BrokenImage(f"{key}: the file is empty")
    try:
        with _open_image(encoded) as image:
            return read(image)
    # Decoders raise whatever their format's parser ran into: none of it may end a long run.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if isinstance(error, UnidentifiedImageError):
            reason = "not an image in a format that Pillow knows"
        raise BrokenImage(f"{key}: cannot be decoded: {reason}") from error


def _open_image(encoded: bytes) -> ImageFile.ImageFile:
    try:
        image = Image.open(io.BytesIO(encoded))
    except Image.DecompressionBombError as error:
        if encoded[:2] not in _LARGE:
            raise UserError(f"{error}; {_TOO_LARGE}") from error
        image = _LARGE[encoded[:2]](io.BytesIO(encoded))
        if image.format == "PNG":  # of a JPEG little may be decoded
            _check_pixels(image, MAX_TO_SHRINK)
    planar = bool(image.tile) and (image.tile[0].args or "")[:1] == ("R",)
    if planar and isinstance(image, TiffImageFile) and 16 in image.tag_v2.get(258, ()):
        raise UserError("it has one plane for each color, of 16 bits; save it as PNG")
    return image


def _check_pixels(image: Image.Image, limit: int) -> None:
    if image.width * image.height > limit:
        size = f"{image.height} x {image.width} pixels"
        raise UserError(f"{size} exceeds limit of {limit // 10**6} million; {_TOO_LARGE}")


def _read(
    image: Image.Image, fit: Callable[[Size], Size], encoded: bytes, bits: int
) -> tuple[np.ndarray, Size, int]:
    of_file = file_orientation(image, encoded)
    orientation = left_to_turn(image, of_file)
    size = _upright_size(image, orientation)
    wanted = fit(size)
    stored = wanted if orientation in SIDEWAYS else wanted[::-1]  # width, height in the file
    reduced = None
    if wanted != size:
        reduced = image.draft(None, (_OVERSAMPLING * stored[0], _OVERSAMPLING * stored[1]))
    _check_pixels(image, MAX_DECODED if wanted == size else MAX_TO_SHRINK)
    values = _sixteen_bits(encoded) if bits < 16 else None
    if values is None:
        image.load()
        pixels = _to_rgb(image)
    else:
        pixels = _to_eight_bits(values, bits, image).convert("RGB")
    if wanted != size:
        # The last row and column of a reduced image may be narrower than the rest: the box knows.
        box = reduced[1] if reduced else None
        pixels = pixels.resize(stored, Image.Resampling.BILINEAR, box)
    if orientation in UPRIGHT:
        pixels = pixels.transpose(UPRIGHT[orientation])
    return np.asarray(pixels), size, of_file


def _sixteen_bits(encoded: bytes) -> np.ndarray | None:
    """The values u16[h, w] or u16[h, w, 3] of an image with 16-bit channels; None: it has others.

    Of colors Pillow gives one byte of each value. Which one it takes, its "raw mode" says.
    """
    image = _open_image(encoded)
    if _is_deep_gray(image):
        return np.asarray(image).astype(np.uint16)
    args = image.tile[0].args if image.tile else None
    raw = args[0] if isinstance(args, tuple) and args else args
    if raw == "LA;16B":  # of a PNG: gray and alpha, two bytes each
        values = np.asarray(_with_raw_mode(encoded, "RGBA")).astype(np.uint16)
        return values[..., 0] << 8 | values[..., 1]
    if raw not in _OTHER_BYTE:
        return None
    high, low = (
        np.asarray(_with_raw_mode(encoded, mode))[..., :3].astype(np.uint16)
        for mode in (raw, _OTHER_BYTE[raw])
    )
    return high << 8 | low


def _to_eight_bits(values: np.ndarray, bits: int, image: Image.Image) -> Image.Image:
    """The upper 8 of the bits in use; turned over where 0 is white, which Pillow leaves to do."""
    if values.max(initial=0) >> bits:
        raise UserError(f"it uses more than the {bits} bits of the others; save them all alike")
    upper = (values >> (bits - 8)).astype(np.uint8)
    is_inverted = isinstance(image, TiffImageFile) and image.tag_v2.get(262) == 0
    return Image.fromarray(255 - upper if is_inverted and values.ndim == 2 else upper)


def _with_raw_mode(encoded: bytes, raw: str) -> ImageFile.ImageFile:
    image = _open_image(encoded)
    for i, tile in enumerate(image.tile):
        args = (raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw
        image.tile[i] = tile._replace(args=args)
    return image


def _to_turn(image: Image.Image, encoded: bytes) -> int:
    return left_to_turn(image, file_orientation(image, encoded))


def _upright_size(image: Image.Image, orientation: int) -> Size:
    width, height = image.size
    return (width, height) if orientation in SIDEWAYS else (height, width)


def _is_deep_gray(image: Image.Image) -> bool:
    # Pillow gives 16-bit gray of a PGM file as "I", that of PNG and TIFF as "I;16".
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def _to_rgb(image: Image.Image) -> Image.Image:
    if _is_deep_gray(image):
        image = _to_eight_bits(np.asarray(image), 16, image)
    if image.mode in ("F", "I"):
        raise UserError("floating-point and 32-bit pixels have no agreed range; save it as 8-bit")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns on going to RGB at once
    return image if image.mode == "RGB" else image.convert("RGB")
