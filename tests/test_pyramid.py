"""Crops from an image with its halvings, against exact crops and torchvision's numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.packing import pack
from jaxssl.data.source import Example
from jaxssl.image import pyramid
from jaxssl.image.boxes import crop as exact_crop
from jaxssl.image.boxes import random_box, whole_box
from jaxssl.image.pyramid import Packed, crop, crop_nearest

RNG = np.random.default_rng(0)
cut = jax.jit(crop, static_argnums=(2, 3))


def photo(height: int, width: int) -> np.ndarray:
    """Smooth colors, edges and a little noise, as photographs have them."""
    coarse = RNG.integers(0, 256, (height // 32 + 2, width // 32 + 2, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    image = np.asarray(smooth).astype(int) + RNG.integers(-4, 5, (height, width, 3))
    image[height // 3 : height // 2, width // 4 : width // 2] //= 2
    return np.clip(image, 0, 255).astype(np.uint8)


def canvas_of(image: np.ndarray, size: int, pixels: int | None = None) -> dict[str, np.ndarray]:
    """An image as a canvas for views of one size."""
    spec = CanvasSpec(pixels or image.shape[0] * image.shape[1], (size, size))
    return spec.make(Example("k", image), image.shape[:2])


def psnr(difference: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean(np.square(difference))))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_crop_equals_torchvisions(golden, interpolation):
    """Boxes of at most twice the size are cut from the image itself, its bytes rounded."""
    expected = golden("torchvision_ops")
    image = np.rint(255 * expected["image"]).astype(np.uint8)
    compared = 0
    for index, (*box, size) in enumerate(expected["crops"].tolist()):
        if max(box[2] - box[0], box[3] - box[1]) <= 2 * size:
            view = cut(canvas_of(image, size), jnp.array(box, jnp.float32), size, interpolation)
            wanted = expected[f"crop_{interpolation}_{index}"]
            rounded = 0.5 / 255 * (1.6 if interpolation == "bicubic" else 1)  # weights below 0
            np.testing.assert_allclose(view, wanted, atol=rounded + 1e-6)
            compared += 1
    assert compared >= 4


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(40, 56), (1, 30), (30, 1), (2, 2), (200, 31), (64, 64)])
def test_the_whole_of_a_small_image_is_the_image(size, interpolation):
    image = photo(*size)
    seen = cut(canvas_of(image, 32), whole_box(jnp.array(size)), 32, interpolation)
    if max(size) <= 64:
        hw = jnp.array(size)
        exact = exact_crop(jnp.asarray(image), whole_box(hw), hw, 32, interpolation)
        np.testing.assert_allclose(seen, exact, atol=2e-6)
    assert seen.min() >= 0
    assert seen.max() <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_photographs_keep_their_detail_at_any_size(interpolation):
    """Random resized crops: at least 46 dB in the mean; boxes of up to two views: exact."""
    view = 128
    exact = jax.jit(functools.partial(exact_crop, size=view, interpolation=interpolation))
    for sides in (1, 3):
        decibels = []
        for photograph in load_sample_images().images:
            height, width, _ = photograph.shape  # 427 x 640
            larger = Image.fromarray(photograph).resize((sides * width, sides * height))
            image = np.asarray(larger)
            hw, canvas = jnp.array(image.shape[:2]), canvas_of(image, view)
            keys = jax.random.split(jax.random.key(0), 16)
            boxes = jax.vmap(random_box, in_axes=(0, None, None))(keys, whole_box(hw), (0.08, 1.0))
            for box in boxes:
                seen = cut(canvas, box, view, interpolation)
                decibels.append(psnr(seen - exact(jnp.asarray(image), box, hw)))
            for side in (7, 100, 256):
                box = jnp.array([11, 13, 11 + side, 13 + side], jnp.float32)
                seen = cut(canvas, box, view, interpolation)
                assert np.abs(seen - exact(jnp.asarray(image), box, hw)).max() < 1e-5
        assert np.mean(decibels) > 46


def test_pixels_outside_the_box_have_no_part_in_it():
    image = photo(90, 70)
    other = np.full_like(image, 255)
    other[20:61, 30:66] = image[20:61, 30:66]
    box = jnp.array([20, 30, 61, 66], jnp.float32)
    seen = [cut(canvas_of(i, 24), box, 24, "bilinear") for i in (image, other)]
    np.testing.assert_array_equal(*seen)


def test_a_box_is_in_pixels_of_the_original():
    """An image of four times the budget is kept at half its sides."""
    image = np.repeat(np.repeat(photo(40, 60), 2, axis=0), 2, axis=1)
    box = jnp.array([16, 20, 60, 80], jnp.float32)
    small = canvas_of(image[::2, ::2], 32)
    shrunk = canvas_of(image, 32, pixels=40 * 60)
    np.testing.assert_array_equal(shrunk["hw"], [80, 120])
    np.testing.assert_array_equal(shrunk["levels"], small["levels"])
    one = cut(shrunk, box, 32, "bilinear")
    half = cut(small, box / 2, 32, "bilinear")
    assert psnr(one - half) > 25


def test_bfloat16_products_are_exact_to_16_bits():
    window = RNG.integers(0, 256, (66, 3, 68), dtype=np.uint8)
    of_words = window.reshape(66, 3, 4, 17).transpose(2, 3, 1, 0).reshape(4, 17, -1)
    down, across = (jax.nn.softmax(jnp.asarray(RNG.normal(size=(32, n)), jnp.float32) * 3)
                    for n in (66, 68))  # fmt: skip
    exact = pyramid._resize(False, jnp.asarray(window), down, across)
    for words, same in ((False, window), (True, of_words)):
        seen = pyramid._resize_by_bfloat16(words, jnp.asarray(same), down, across)
        assert np.abs(seen - exact).max() < 255 * 2**-14


def test_nearest_crop_of_each_map_by_hand():
    values = RNG.integers(0, 2**32, (20 * 30 + 5, 2), dtype=np.uint32)
    height, width = 77, 53  # of the original image
    y0, x0, y1, x1 = box = (11, 7, 70, 53)
    nearest = jax.jit(crop_nearest, static_argnums=4)
    seen = nearest(values, np.array([20, 30]), np.float32(box), np.array([height, width]), 9)
    for i in range(9):
        for j in range(9):
            row = int((y0 + (y1 - y0) * (i + 0.5) / 9) * 20 / height)
            column = int((x0 + (x1 - x0) * (j + 0.5) / 9) * 30 / width)
            np.testing.assert_array_equal(seen[i, j], values[30 * row + column])


def test_packed_images_give_the_same_crops():
    sizes = [(40, 56), (90, 30), (64, 64), (17, 120)]
    spec = CanvasSpec(90 * 40, (16, 16), planes=1)
    canvases = [spec.make(Example("k", photo(*size)), size) for size in sizes]
    arrays = {name: np.stack([c[name] for c in canvases]) for name in spec.arrays()}
    arrays["region_planes"][...] = RNG.integers(0, 99, arrays["region_planes"].shape)
    resident = dict(arrays)
    for name, used in spec.used(arrays).items():
        packing = pack(arrays[name], used, page_bytes=20_000)
        assert packing.num_pages > 1 or name != "image"
        pages = jnp.asarray(np.stack(list(packing.pages())))
        resident[name] = Packed(pages, jnp.asarray(packing.page), jnp.asarray(packing.start))

    def views(batch):
        own, attach = pyramid.detach(batch)

        def one(image):
            image = attach(image)
            box = 0.7 * whole_box(image["hw"])
            planes = crop_nearest(image["region_planes"], image["planes_hw"], box, image["hw"], 4)
            return crop(image, box, 16, "bilinear"), planes

        return jax.vmap(one)(own)

    index = jnp.array([2, 0, 3, 1, 1])
    expected = jax.jit(views)({name: jnp.asarray(a[index]) for name, a in arrays.items()})
    seen = jax.jit(lambda r: views(pyramid.look_up(r, index)))(resident)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(seen), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("length", [1, 5, 322, 509, 510, 562])
def test_runs_of_words_are_runs_of_bytes(length):
    image = RNG.integers(0, 256, 3000, np.uint8)
    starts = jnp.array([0, 1, 2, 3, 511, 512, 515, 1021, 1023, len(image) - length])
    runs = jax.jit(pyramid._runs_of_words, static_argnums=2)(
        pyramid.as_words(image), starts, length
    )
    in_order = runs.transpose(2, 1, 0).reshape(len(starts), -1)
    expected = np.stack([image[start : start + length] for start in starts])
    np.testing.assert_array_equal(in_order[:, :length], expected)


def test_views_of_words_are_those_of_bytes():
    image = photo(300, 200)
    canvas = canvas_of(image, 32)
    words = canvas | {"image": pyramid.as_words(canvas["image"])}
    pages = np.concatenate([np.zeros((2, 77), np.uint8), np.stack([canvas["image"]] * 2)], axis=1)
    packed = canvas | {"image": Packed(jnp.asarray(pyramid.as_words(pages)), 1, 77)}
    for key in jax.random.split(jax.random.key(0), 5):
        box = random_box(key, whole_box(jnp.array([300, 200])), (0.1, 1.0), (3 / 4, 4 / 3))
        expected = cut(canvas, box, 32, "bicubic")
        for other in (words, packed):
            np.testing.assert_allclose(cut(other, box, 32, "bicubic"), expected, atol=1e-6)
