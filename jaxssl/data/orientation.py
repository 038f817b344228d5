"""The EXIF orientation of image files, and how to turn what they store."""

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

_TAG = 0x0112
# What brings an image of each orientation upright; 1 is upright, as is any other number.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # with which height and width change places
_EXIF_OF_PNG = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # where it may be
_TURNED_HEIF = "original_orientation"  # where pillow_heif notes it


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels [h, w] of an image as its file stores it, as `decode_image` would turn them."""
    if orientation not in UPRIGHT:
        return pixels
    flipped = pixels[:, ::-1] if orientation in (2, 4, 5, 7) else pixels
    return np.rot90(flipped, {2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[orientation])


def file_orientation(image: Image.Image, encoded: bytes) -> int:
    """The EXIF orientation of the file of an image that was opened but not loaded, 1 to 8."""
    if isinstance(image, PngImageFile):
        # `getexif` would decode all pixels to see whether there is an orientation behind them.
        pixels = encoded.find(b"IDAT")
        if any(encoded.find(name, pixels) >= 0 for name in _EXIF_OF_PNG):
            image.load()
    try:
        exif = image.info.get(_TURNED_HEIF) or Image.Image.getexif(image).get(_TAG, 1)
        value = int(exif)
    # Its parser raises whatever it ran into. Viewers show an image of damaged EXIF as it is stored.
    except Exception:
        return 1
    return value if value in UPRIGHT else 1


def left_to_turn(image: Image.Image, orientation: int) -> int:
    """The orientation by which to turn the pixels; 1 where Pillow or pillow_heif turns them."""
    is_turned = image.format == "TIFF" or _TURNED_HEIF in image.info
    return 1 if is_turned else orientation
