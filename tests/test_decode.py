"""Every kind of image file is decoded, or refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from jaxssl.data import decode
from jaxssl.data.decode import (
    decode_image,
    decode_upright,
    largest_value,
    read_size,
)
from jaxssl.data.orientation import file_orientation, left_to_turn
from jaxssl.data.source import BrokenImage

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rgb() -> Image.Image:
    return Image.fromarray(PIXELS)


PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_files_are_exact(kind):
    np.testing.assert_array_equal(decode_image(encode(rgb(), kind), "k"), PIXELS)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "JPEG2000"])
def test_lossy_files_are_close(kind):
    smooth = Image.fromarray(
        np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None], (64, 64, 3))
    )
    decoded = decode_image(encode(smooth, kind, quality=95), "k")
    assert np.abs(decoded.astype(int) - np.asarray(smooth)).max() < 8


def test_color_modes_become_rgb():
    gray = np.asarray(rgb().convert("L"))
    for mode in ("L", "LA"):
        decoded = decode_image(encode(rgb().convert(mode)), "k")
        np.testing.assert_array_equal(decoded, np.repeat(gray[:, :, None], 3, 2))
    cmyk = decode_image(encode(rgb().convert("CMYK"), "TIFF"), "k")
    np.testing.assert_allclose(cmyk, PIXELS, atol=2)
    one_bit = decode_image(encode(rgb().convert("1")), "k")
    assert set(np.unique(one_bit)) == {0, 255}


def test_a_palette_with_transparency_keeps_its_colors():
    palette = rgb().convert("P", palette=Image.Palette.ADAPTIVE, colors=60)
    expected = np.asarray(palette.convert("RGB"))
    for transparency in (3, bytes(range(60))):
        decoded = decode_image(encode(palette, transparency=transparency), "k")
        np.testing.assert_array_equal(decoded, expected)


def test_alpha_is_dropped_and_hidden_pixels_keep_their_color():
    image = rgb()
    image.putalpha(0)
    np.testing.assert_array_equal(decode_image(encode(image), "k"), PIXELS)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_clipped(kind):
    deep = (PIXELS[..., 0].astype(np.uint16) << 8) + 37
    decoded = decode_image(encode(Image.fromarray(deep), kind), "k")
    np.testing.assert_array_equal(decoded, np.repeat(PIXELS[..., :1], 3, 2))


def test_values_of_more_bits_than_are_in_use_are_no_white():
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 6), 4096, np.uint16)).save(buffer, "png")
    assert decode_image(buffer.getvalue(), "k", 13).max() == 128
    with pytest.raises(BrokenImage, match="it uses more than the 12 bits of the others"):
        decode_image(buffer.getvalue(), "k", 12)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_zero_is_white_where_a_file_says_so(bits):
    values = np.arange(48, dtype=np.uint16).reshape(6, 8) * (2**bits // 48)
    buffer = io.BytesIO()
    dtype = np.uint8 if bits == 8 else np.uint16
    tifffile.imwrite(buffer, values.astype(dtype), photometric="miniswhite")
    decoded = decode_image(buffer.getvalue(), "k", max(bits, 12))
    np.testing.assert_array_equal(decoded[..., 0], 255 - (values >> (bits - 8)))


def deep_png(values: np.ndarray) -> bytes:
    """A PNG of u16[h, w, c]: gray, gray and alpha, colors, or colors and alpha."""
    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_tiff(values: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_the_bits_in_use_of_sixteen_are_kept(bits):
    values = np.random.default_rng(bits).integers(0, 2**bits, (5, 7, 4)).astype(np.uint16)
    values[0, 0] = 2**bits - 1
    files = [deep_png(values[..., :channels]) for channels in (1, 2, 3, 4)]
    for order in "<>":
        for compression in (None, "zlib"):
            for rows in (1, 5):
                options = {"byteorder": order, "compression": compression, "rowsperstrip": rows}
                files.append(deep_tiff(values[..., :3], **options))
    files.append(encode(Image.fromarray(values[..., 0]), "TIFF"))
    for encoded in files:
        assert largest_value(encoded, "k") == 2**bits - 1
        decoded = decode_image(encoded, "k", bits)
        for i in range(3):
            assert any((decoded[..., i] == values[..., j] >> (bits - 8)).all() for j in (0, i))
    if bits > 8:
        with pytest.raises(BrokenImage, match="it uses more than the 8 bits of the others"):
            decode_image(files[2], "k", 8)
    assert largest_value(encode(rgb()), "k") is None
    with pytest.raises(BrokenImage, match="one plane for each color, of 16 bits; save it as PNG"):
        decode_image(deep_tiff(values[..., :3].transpose(2, 0, 1), planarconfig="separate"), "k")


def test_images_too_large_to_be_decoded_whole(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    monkeypatch.setattr(decode, "MAX_DECODED", 1000)
    monkeypatch.setattr(decode, "MAX_TO_SHRINK", 4000)
    large, middle = (Image.fromarray(np.resize(PIXELS, (h, 2 * h, 3))) for h in (60, 40))
    for encoded in (encode(large, "JPEG"), encode(middle, "PNG")):
        assert decode_upright(encoded, "k", lambda size: (8, 16))[0].shape == (8, 16, 3)
        assert read_size(encoded, "k") in ((60, 120), (40, 80))
        with pytest.raises(BrokenImage, match="exceeds limit of .* save it as JPEG .* --max-side"):
            decode_image(encoded, "k")
    for encoded in (encode(large, "PNG"), encode(middle, "TIFF")):
        with pytest.raises(BrokenImage, match="pixels.* exceeds limit"):
            decode_upright(encoded, "k", lambda size: (8, 16))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = {
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.transpose(1, 0, 2),
        6: np.rot90(PIXELS, -1),
        7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PIXELS),
    }[orientation]
    for kind in ("PNG", "TIFF"):
        encoded = encode(rgb(), kind, exif=exif)
        np.testing.assert_array_equal(decode_image(encoded, "k"), upright)
        small, size, _ = decode_upright(encoded, "k", lambda size: (2, 3))
        assert small.shape == (2, 3, 3)
        assert size == read_size(encoded, "k") == upright.shape[:2]


def test_the_orientation_of_a_png_is_found_before_and_after_its_pixels(monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, turned = encode(rgb()), encode(rgb(), exif=exif)
    end = plain.index(b"IEND") - 4
    itxt = b"XML:com.adobe.xmp" + 5 * b"\0" + b'<x tiff:Orientation="6"/>'
    raw = b"Raw profile type exif\0\nexif\n0\n" + exif.tobytes().hex().encode()
    for part in (chunk(b"eXIf", exif.tobytes()[6:]), chunk(b"iTXt", itxt), chunk(b"tEXt", raw)):
        late = plain[:end] + part + plain[end:]
        early = plain[: (begin := plain.index(b"IDAT") - 4)] + part + plain[begin:]
        for encoded in (early, late):
            assert read_size(encoded, "k") == (9, 6)
            np.testing.assert_array_equal(decode_image(encoded, "k"), np.rot90(PIXELS, -1))
    monkeypatch.setattr(Image.core, "zip_decoder", None)  # pixels cannot be decoded
    files = (plain, turned, early)
    found = [file_orientation(Image.open(io.BytesIO(encoded)), encoded) for encoded in files]
    assert found == [1, 6, 6]


def test_the_orientation_of_a_heic_file_is_known_though_its_pixels_are_turned():
    image = rgb()
    image.info["original_orientation"] = 6  # as pillow_heif notes it
    assert file_orientation(image, b"") == 6
    assert left_to_turn(image, 6) == 1


DAMAGED_EXIF = {  # each as the bytes after "Exif"
    "no TIFF": b"garbage" * 4,
    "zeros": bytes(40),
    "cut short": b"MM\0*\0\0\0\x08",
    "a word": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04top\0\0\0\0\0",
    "no text": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x01" + bytes(8),
    "a byte": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x07\0\0\0\x01\6" + bytes(7),
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow's
@pytest.mark.parametrize("damage", DAMAGED_EXIF)
def test_an_image_of_damaged_exif_is_taken_as_it_is_stored(form, damage):
    encoded = encode(rgb(), form, exif=b"Exif\0\0" + DAMAGED_EXIF[damage])
    image, size, orientation = decode_upright(encoded, "k", lambda size: size)
    assert (image.shape, orientation) == ((6, 9, 3), 1)
    assert size == read_size(encoded, "k") == (6, 9)


def test_a_png_that_is_cut_short_is_broken_also_with_an_orientation_behind_its_pixels():
    raw = b"Raw profile type exif\0\nexif\n0\nno numbers"
    plain = encode(Image.fromarray(np.tile(PIXELS, (40, 40, 1))))
    end = plain.index(b"IEND") - 4
    damaged = plain[:end] + chunk(b"tEXt", raw) + plain[end:]
    assert read_size(damaged, "k") == (240, 360)
    with pytest.raises(BrokenImage, match="cannot be decoded"):
        decode_image(damaged[: end // 2] + chunk(b"tEXt", raw), "k")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", [0, 1, 3, 6, 9])
def test_the_orientation_of_each_kind_of_file_is_told(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    rgb().save(buffer, form, exif=exif)
    image, size, found = decode_upright(buffer.getvalue(), "k", lambda size: size)
    assert found == (orientation if orientation in (3, 6) else 1)
    assert image.shape[:2] == size == ((9, 6) if orientation == 6 else (6, 9))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_jpeg_resized_fast_is_nearly_the_whole_one_resized(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    wave = 128 + 100 * np.sin(np.arange(601) / 30)[:, None] * np.cos(np.arange(897) / 40)
    encoded = encode(Image.fromarray(wave.astype(np.uint8)), "JPEG", exif=exif, quality=95)
    # From an eighth: 113 x 76 pixels
    resized, size, _ = decode_upright(encoded, "k", lambda size: (32, 24))
    whole = decode_image(encoded, "k")
    assert size == whole.shape[:2] == ((601, 897) if orientation < 5 else (897, 601))
    expected = Image.fromarray(whole).resize((24, 32), Image.Resampling.BILINEAR)
    assert np.abs(resized.astype(int) - np.asarray(expected)).mean() < 1


def test_of_an_animation_the_first_frame_is_taken():
    palette = rgb().convert("P")
    encoded = encode(palette, "GIF", save_all=True, append_images=[palette.rotate(180)])
    np.testing.assert_array_equal(decode_image(encoded, "k"), np.asarray(palette.convert("RGB")))


def test_transparent_pixels_of_a_label_map_are_none():
    labels, alpha = np.full((2, 3), 7, np.uint8), np.zeros((2, 3), np.uint8)
    alpha[1] = 255
    for channels in ([labels, alpha], [labels, labels * 2, labels * 3, alpha]):
        encoded = encode(Image.fromarray(np.dstack(channels)))
        expected = np.where(alpha > 0, np.moveaxis(np.dstack(channels[:-1]), -1, 0), 0)
        found = decode.decode_label_map(encoded, "k")
        np.testing.assert_array_equal(np.moveaxis(np.atleast_3d(found), -1, 0), expected)
        gray = decode.decode_label_map(encoded, "k", as_gray=True)
        assert (gray[0] == 0).all()
        assert (gray[1] >= 7).all()
        channels[-1] = alpha * 0  # all of them: it says nothing
        assert decode.decode_label_map(encode(Image.fromarray(np.dstack(channels))), "k").all()


def test_numbers_in_the_alpha_channel_of_a_label_map_are_kept_and_soft_edges_are_not():
    ids = np.zeros((40, 60, 4), np.uint8)
    ids[2:12, 2:12] = (3, 0, 0, 1)  # as BDD100K has them: class, attributes, number
    ids[20:30, 5:25] = (3, 0, 0, 2)
    soft = np.full_like(ids, (200, 10, 10, 0))
    soft[10:30, 10:30, 3] = 255
    soft[10, 10:30, 3] = soft[10:30, 10, 3] = 90
    soft[29, 10:30, 3] = soft[10:30, 29, 3] = 140
    for see_through in (ids, soft, np.where(ids[..., 3:], (3, 0, 0, 9), 0).astype(np.uint8)):
        encoded = encode(Image.fromarray(see_through))
        found = decode.decode_label_map(encoded, "k")
        colors = see_through * (see_through[..., 3:] > 0)
        np.testing.assert_array_equal(found, colors if see_through is ids else colors[..., :3])
        assert decode.decode_label_map(encoded, "k", as_gray=True).shape == (40, 60)


def test_a_label_map_with_a_palette_and_transparency_is_its_indices():
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    encoded = encode(Image.fromarray(labels).convert("P").convert("PA"), "TIFF")
    assert Image.open(io.BytesIO(encoded)).mode == "PA"
    np.testing.assert_array_equal(decode.decode_label_map(encoded, "k"), labels)


def test_white_is_inside_wherever_it_is_in_a_palette():
    mask = np.zeros((6, 9), np.uint8)
    mask[1:3, 2:5] = 255
    for image in (
        Image.fromarray(mask).quantize(2),  # 0 is white there
        Image.fromarray(mask).convert("P", palette=Image.Palette.ADAPTIVE),
        Image.fromarray(mask).convert("P"),
    ):
        for as_gray in (False, True):
            found = decode.decode_label_map(encode(image), "k", as_gray=as_gray)
            np.testing.assert_array_equal(found > 0, mask > 0)


def test_a_mask_is_gray_by_the_colors_of_its_palette_and_a_label_map_its_indices():
    image = Image.fromarray((np.arange(54) % 3).astype(np.uint8).reshape(6, 9), "P")
    image.putpalette([255, 255, 255, 0, 0, 0, 0, 128, 0])
    np.testing.assert_array_equal(decode.decode_label_map(encode(image), "k"), np.asarray(image))
    gray = decode.decode_label_map(encode(image), "k", as_gray=True)
    np.testing.assert_array_equal(gray, np.asarray(image.convert("RGB").convert("L")))


@pytest.mark.parametrize("kind", ["TIFF", "GIF"])
def test_a_file_of_several_label_maps_is_refused(kind):
    first, second = (Image.fromarray(np.full((6, 9), value, np.uint8)) for value in (1, 2))
    several = encode(first, kind, save_all=True, append_images=[second])
    with pytest.raises(BrokenImage, match="it has 2 pages; save each as a file of its own"):
        decode.decode_label_map(several, "k")
    smaller = encode(first, "TIFF", save_all=True, append_images=[second.resize((4, 3))])
    assert (decode.decode_label_map(smaller, "k") == 1).all()


def test_values_of_a_label_map_are_not_cut():
    deep = np.full((4, 5, 3), 300, np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, deep, photometric="rgb")
    with pytest.raises(BrokenImage, match="colors of 16 bits, of which 8 would be read"):
        decode.decode_label_map(buffer.getvalue(), "k")
    assert (decode.decode_label_map(encode(Image.fromarray(deep[..., 0])), "k") == 300).all()


def test_one_pixel_is_an_image():
    assert decode_image(encode(Image.new("RGB", (1, 1), (1, 2, 3))), "k").tolist() == [[[1, 2, 3]]]


def png_of_size(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "the file is empty"),
        (b"GIF, honestly", "not an image in a format that Pillow knows"),
        (encode(rgb())[:-30], "truncated"),
        (encode(rgb(), "JPEG")[:-200], "cannot be decoded"),
        (encode(Image.fromarray(PIXELS[..., 0].astype(np.float32)), "TIFF"), "floating-point"),
        (encode(Image.fromarray(PIXELS[..., 0].astype(np.int32)), "TIFF"), "32-bit"),
        (png_of_size(40_000, 40_000), "exceeds limit"),
    ],
    ids=["empty", "text", "cut png", "cut jpeg", "float", "int32", "enormous"],
)
def test_what_cannot_be_used_is_refused_by_name(encoded, reason):
    with pytest.raises(BrokenImage, match=reason) as error:
        decode_image(encoded, "holidays/17.jpg")
    assert str(error.value).startswith("holidays/17.jpg: ")
    assert "\n" not in str(error.value)
