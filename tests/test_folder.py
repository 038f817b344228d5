"""Folders of images: every kind of file decoded or refused by name, labels, parts, sources."""

import io
import logging
import os
import pathlib
import pickle
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from jaxssl.data import decode, folder, open_source
from jaxssl.data.decode import decode_image, decode_resized, largest_value, read_size
from jaxssl.data.folder import Folder
from jaxssl.data.source import BrokenImage
from jaxssl.errors import UserError

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


def put(root: pathlib.Path, *paths: str) -> None:
    """Images of 3 x 2 pixels, each of another gray."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2), (number,) * 3).save(root / path)


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
    assert (decode_image(files[2], "k", 8) == values[..., :3].clip(0, 255)).all()
    assert largest_value(encode(rgb()), "k") is None
    with pytest.raises(BrokenImage, match="one plane for each color, of 16 bits; save it as PNG"):
        decode_image(deep_tiff(values[..., :3].transpose(2, 0, 1), planarconfig="separate"), "k")


def test_sixteen_bit_images_of_a_folder_are_scaled_alike(tmp_path, caplog):
    ramp = np.linspace(0, 4095, 48).astype(np.uint16).reshape(6, 8)
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
    Image.fromarray(ramp).save(tmp_path / "train" / "a.png")
    Image.fromarray(ramp // 100).save(tmp_path / "train" / "dark.png")
    rgb().save(tmp_path / "val" / "b.png")
    train, val = Folder(tmp_path, "train"), Folder(tmp_path, "test")
    np.testing.assert_array_equal(train[0].image[..., 0], ramp >> 4)
    np.testing.assert_array_equal(train[1].image[..., 0], ramp // 100 >> 4)
    np.testing.assert_array_equal(train.resized(0, lambda size: size)[0].image, train[0].image)
    np.testing.assert_array_equal(val[0].image, PIXELS)
    assert train[0].encoded is None  # its readers would find it black
    assert val[0].encoded is not None
    before = train.fingerprint()
    Image.fromarray(ramp * 16).save(tmp_path / "val" / "c.png")
    again = Folder(tmp_path, "train")
    np.testing.assert_array_equal(again[0].image[..., 0], ramp >> 8)
    assert again.fingerprint() != before
    assert again[0].encoded == (tmp_path / "train" / "a.png").read_bytes()


def test_what_was_left_out_is_counted_by_ending(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("jaxssl"), "propagate", True)
    monkeypatch.setattr(folder, "SUFFIXES", (".jpg",))  # as without the extra `heif`
    put(tmp_path, "a.jpg")
    for name in ("1.HEIC", "2.heic", "x/3.heic", "4.cr2", "README", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with caplog.at_level("INFO"):
        for part in (None, "train"):
            assert Folder(tmp_path, part).left_out == {".heic": 3, ".cr2": 1, "no ending": 1}
    said = "files left out: 3 .heic, 1 .cr2, 1 no ending; for HEIC: pip install jaxssl[heif]"
    assert caplog.text.count(said) == 1
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(UserError, match=r"has no images; .* files left out: 3 \.heic"):
        Folder(tmp_path)


def test_images_too_large_to_be_decoded_whole(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    monkeypatch.setattr(decode, "MAX_DECODED", 1000)
    monkeypatch.setattr(decode, "MAX_TO_SHRINK", 4000)
    large, middle = (Image.fromarray(np.resize(PIXELS, (h, 2 * h, 3))) for h in (60, 40))
    for encoded in (encode(large, "JPEG"), encode(middle, "PNG")):
        assert decode_resized(encoded, "k", lambda size: (8, 16))[0].shape == (8, 16, 3)
        assert read_size(encoded, "k") in ((60, 120), (40, 80))
        with pytest.raises(BrokenImage, match="exceeds limit of .* save it as JPEG .* --max-side"):
            decode_image(encoded, "k")
    for encoded in (encode(large, "PNG"), encode(middle, "TIFF")):
        with pytest.raises(BrokenImage, match="pixels.* exceeds limit"):
            decode_resized(encoded, "k", lambda size: (8, 16))


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
        small, size = decode_resized(encoded, "k", lambda size: (2, 3))
        assert small.shape == (2, 3, 3)
        assert size == read_size(encoded, "k") == upright.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_jpeg_resized_fast_is_nearly_the_whole_one_resized(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    wave = 128 + 100 * np.sin(np.arange(601) / 30)[:, None] * np.cos(np.arange(897) / 40)
    encoded = encode(Image.fromarray(wave.astype(np.uint8)), "JPEG", exif=exif, quality=95)
    # From an eighth: 113 x 76 pixels
    resized, size = decode_resized(encoded, "k", lambda size: (32, 24))
    whole = decode_image(encoded, "k")
    assert size == whole.shape[:2] == ((601, 897) if orientation < 5 else (897, 601))
    expected = Image.fromarray(whole).resize((24, 32), Image.Resampling.BILINEAR)
    assert np.abs(resized.astype(int) - np.asarray(expected)).mean() < 1


def test_of_an_animation_the_first_frame_is_taken():
    palette = rgb().convert("P")
    encoded = encode(palette, "GIF", save_all=True, append_images=[palette.rotate(180)])
    np.testing.assert_array_equal(decode_image(encoded, "k"), np.asarray(palette.convert("RGB")))


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


def test_images_are_sorted_and_class_folders_are_labels(tmp_path):
    put(tmp_path, "b/2.PNG", "b/deep/1.jpg", "a/9.bmp", "top.png", ".hidden/x.png", "a/._9.png")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    folder = pickle.loads(pickle.dumps(Folder(tmp_path)))
    read = [folder[i] for i in range(len(folder))]
    assert [e.key for e in read] == ["a/9.bmp", "b/2.PNG", "b/deep/1.jpg", "top.png"]
    assert [e.label for e in read] == [0, 1, 1, -1]
    assert folder.class_names == ("a", "b")
    assert [e.encoded is None for e in read] == [True, False, False, False]  # BMP: to be re-encoded


def test_one_folder_is_no_class(tmp_path):
    put(tmp_path, "images/1.png", "images/2.png")
    assert Folder(tmp_path).class_names == ()
    assert Folder(tmp_path)[0].label == -1


def test_declared_splits(tmp_path):
    put(tmp_path, "train/cat/1.png", "train/dog/2.png", "val/dog/3.png", "val/eel/4.png", "x/5.png")
    parts = {part: Folder(tmp_path, part) for part in (None, "train", "test")}
    keys = {part: [f[i].key for i in range(len(f))] for part, f in parts.items()}
    assert keys[None] == keys["train"] == ["train/cat/1.png", "train/dog/2.png"]
    assert keys["test"] == ["val/dog/3.png", "val/eel/4.png"]
    assert Folder(tmp_path).class_names == Folder(tmp_path, "test").class_names
    assert [Folder(tmp_path, "test")[i].label for i in range(2)] == [1, 2]


def test_a_class_called_train_is_no_split(tmp_path):
    put(tmp_path, "train/1.png", "plane/2.png", "ship/3.png")
    assert len(Folder(tmp_path)) == 3
    assert Folder(tmp_path).class_names == ("plane", "ship", "train")


@pytest.mark.parametrize(
    ("train", "test", "beside"),
    [
        ("train", "valid", "test"),
        ("Training", "Testing", ""),
        ("Train", "Test", ""),
        ("train", "eval", ""),
        ("TRAIN", "DEV", "TEST"),
        ("train2017", "val2017", "test2017"),
        ("training_set", "test_set", ""),
        ("TrainingSet", "ValidationSet", ""),
        ("seg_train/seg_train", "seg_test/seg_test", "seg_pred"),
        ("pets-1/train", "pets-1/valid", ""),
        ("ILSVRC_img_train", "ILSVRC_img_val", ""),
    ],
)
def test_names_of_parts_are_no_classes(train, test, beside, tmp_path):
    put(tmp_path, f"{train}/cat/1.png", f"{train}/dog/2.png", f"{test}/dog/3.png")
    if beside:
        put(tmp_path, f"{beside}/x/4.png")
    for part, keys in {None: 2, "train": 2, "test": 1}.items():
        opened = Folder(tmp_path, part)
        expected = {"cat", "dog"} | ({"x"} if beside and not beside.endswith("pred") else set())
        assert set(opened.class_names) == expected
        assert len(opened) == keys
        assert opened[keys - 1].label == 1


@pytest.mark.parametrize(
    "names",
    [("val", "test"), ("valid", "Testing"), ("train1", "train2"), ("train", "extra")],
)
def test_folders_that_look_like_parts_without_one_to_learn_from(names, tmp_path):
    put(tmp_path, *(f"{name}/{i}.png" for name in names for i in range(2)))
    for part in (None, "train", "test"):
        with pytest.raises(UserError, match="look like parts of a data set and not like classes"):
            Folder(tmp_path, part)
    assert len(Folder(tmp_path / names[0])) == 2


def test_classes_with_words_of_parts(tmp_path):
    put(tmp_path, "bullet train/1.png", "test tube/2.png", "cat/3.png")
    assert Folder(tmp_path).class_names == ("bullet train", "cat", "test tube")


def test_undeclared_parts_are_stable_when_images_come(tmp_path):
    put(tmp_path, *(f"{i}.png" for i in range(60)))

    def parts() -> dict[str, set[str]]:
        folders = {part: Folder(tmp_path, part) for part in ("train", "test")}
        return {part: {f[i].key for i in range(len(f))} for part, f in folders.items()}

    before = parts()
    assert len(before["train"]) + len(before["test"]) == 60
    assert 3 <= len(before["test"]) <= 24
    put(tmp_path, *(f"more{i}.png" for i in range(40)))
    after = parts()
    assert before["train"] < after["train"]
    assert before["test"] < after["test"]


def test_the_fingerprint_is_of_names_sizes_and_times(tmp_path):
    put(tmp_path, "1.png", "2.png")
    folder = Folder(tmp_path)
    prints = {folder.fingerprint(), Folder(tmp_path).fingerprint()}
    assert len(prints) == 1
    os.utime(tmp_path / "1.png", ns=(1, 1))
    prints.add(folder.fingerprint())
    (tmp_path / "2.png").rename(tmp_path / "3.png")
    prints |= {folder.fingerprint(), Folder(tmp_path).fingerprint()}
    assert len(prints) == 4


def test_a_file_that_has_gone_is_a_broken_image(tmp_path):
    put(tmp_path, "1.png")
    folder = Folder(tmp_path)
    (tmp_path / "1.png").unlink()
    with pytest.raises(BrokenImage, match=r"1\.png: cannot be read: No such file"):
        folder[0]


def test_links_that_form_a_ring_come_to_an_end(tmp_path):
    put(tmp_path, "a/1.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert len(Folder(tmp_path)) == 1


def test_sources_are_opened_by_name(tmp_path, monkeypatch):
    put(tmp_path, "photos/1.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_source("folder:~/photos")[0].key == "1.png"
    assert len(open_source("scenes:9")) == 9
    assert len(open_source("objects:9", "test")) == 2
    one, other = open_source("objects:4", seed=1), open_source("objects:4", seed=2)
    assert (one[0].image != other[0].image).any()
    assert (one[0].image != open_source("objects:4", "test", seed=1)[0].image).any()


@pytest.mark.parametrize(
    ("spec", "part", "said"),
    [
        ("folder:nowhere", None, "nowhere does not exist"),
        ("folder:empty", None, r"no images; it should hold files that end in \.jpg"),
        ("folder:file.txt", None, "is a file"),
        ("folder:one", "nothing", "'train', 'test' or None"),
        ("folder:", None, "give one such as folder:photos"),
        ("photos", None, "records:"),
        ("images:photos", None, "scenes:10000"),
        ("scenes:", None, "needs a number of images, such as scenes:10000"),
        ("objects:-3", None, "needs a number"),
        ("scenes:0", None, "needs a number"),
        ("tfds:", None, "unknown source"),
    ],
)
def test_a_source_that_is_none_is_refused_in_one_line(spec, part, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("")
    put(tmp_path, "one/1.png")
    with pytest.raises(ValueError, match=said) as error:
        open_source(spec, part)
    assert "\n" not in str(error.value)
