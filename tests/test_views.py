"""Views of a batch: one key each, one computation for views of one kind."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import canvas_batch, collectives
from jax.sharding import Mesh

import jaxssl.views
from jaxssl import sharding
from jaxssl.image.augment import Color
from jaxssl.image.boxes import crop, whole_box
from jaxssl.image.color import posterize
from jaxssl.samplers import ContrastiveCrop, RandomCrop, RegionCrop
from jaxssl.samplers.contrastive_crop import Memory
from jaxssl.types import ViewSpec
from jaxssl.views import ViewConfig, blank_views, crop_view, make_views

IMAGES = np.random.default_rng(1).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
BATCH = canvas_batch(IMAGES, (8, 24), hw=[[24, 24], [48, 30], [10, 10]]) | {
    "index": jnp.arange(3),
    "label": jnp.zeros(3, jnp.int32),
    "region_boxes": jnp.zeros((3, 2, 4)).at[1, 0].set(jnp.array([0.0, 0.0, 24.0, 30.0])),
    "region_areas": jnp.zeros((3, 2)).at[1, 0].set(700.0),
}


def cut(views, sampler=RandomCrop(), key=0, batch=BATCH):  # noqa: B008 - frozen
    return jax.jit(lambda k, b: make_views(k, b, (), sampler, views))(jax.random.key(key), batch)


def test_global_and_local_views():
    views = ViewConfig(num_global=2, size=16, num_local=3, local_size=8, recipe="s3same")
    images, fallback = cut(views)
    assert [v.image.shape for v in images] == [(3, 16, 16, 3)] * 2 + [(3, 8, 8, 3)] * 3
    assert fallback == 0
    for i, a in enumerate(images):
        for b in images[i + 1 :]:
            assert a.image.shape != b.image.shape or (a.image != b.image).any()


def test_each_image_and_each_key_draws_its_own():
    same = BATCH | {k: jnp.tile(v[:1], (3,) + (1,) * (v.ndim - 1)) for k, v in BATCH.items()}
    views = ViewConfig(size=16, recipe="s3same")
    (a, b), _ = cut(views, batch=same)
    (c, _), _ = cut(views, key=1, batch=same)
    assert (a.image[0] != a.image[1]).any()
    assert (a.image != b.image).any()
    assert (a.image != c.image).any()
    np.testing.assert_array_equal(a.image, cut(views, batch=same)[0][0].image)


def test_an_image_does_not_depend_on_its_neighbors():
    views = ViewConfig(size=16, recipe="s3same")
    changed = BATCH | {"image": np.concatenate([BATCH["image"][:2], 0 * BATCH["image"][2:]])}
    a, b = cut(views)[0][0].image, cut(views, batch=changed)[0][0].image
    np.testing.assert_array_equal(a[:2], b[:2])
    assert (a[2] != b[2]).any()


def test_an_image_is_cut_about_its_own_box():
    """The canvases are dark on the left; the first and last image of the data set, on the right."""
    box = jnp.array([[0.5, x, 0.5, x] for x in (0.9, 0.1, 0.9)])
    bright = np.zeros((3, 24, 24, 3), np.uint8)
    bright[:, :, 12:] = 255
    batch = BATCH | {
        "image": canvas_batch(bright, (8, 24))["image"],
        "index": jnp.array([2, 0, 1]),
    }
    views = ViewConfig(size=8, scale=(0.05, 0.05), recipe="none", normalize="none")
    memory = Memory(box=box, in_use=jnp.array(True))
    images, _ = jax.jit(lambda k: make_views(k, batch, memory, ContrastiveCrop(), views))(
        jax.random.key(0)
    )
    for view in images:
        np.testing.assert_allclose(view.image.mean(axis=(1, 2, 3)), [1, 1, 0])


def test_what_happens_to_the_canvas_and_the_axis_of_the_flip():
    color = Color(before_crop=Color(posterize_prob=1.0), flip_axis=0)
    spec = ViewSpec(24, (1.0, 1.0), (1.0, 1.0), "clip", color)
    views, canvas = (
        ViewConfig(recipe="none", normalize="none"),
        {k: jnp.asarray(v[0]) for k, v in BATCH.items()},
    )
    image, hw = jnp.asarray(IMAGES[0]), jnp.asarray(canvas["hw"])
    keys = jax.random.split(jax.random.key(0), 8)
    expected = np.array(crop(posterize(image / 255, 4), whole_box(hw), hw, 24, "bilinear"))
    view = jax.jit(jax.vmap(lambda k: crop_view(k, canvas, whole_box(hw), spec, views)))
    seen = np.array(view(keys).image)
    upright = [np.allclose(s, expected, atol=1e-5) for s in seen]
    mirrored = [np.allclose(s, expected[::-1], atol=1e-5) for s in seen]
    assert all(a != b for a, b in zip(upright, mirrored, strict=True))
    assert any(upright)
    assert any(mirrored)


def test_share_of_images_without_a_usable_region():
    _, fallback = cut(ViewConfig(size=16, recipe="none"), RegionCrop(min_area=100))
    np.testing.assert_allclose(fallback, 2 / 3, rtol=1e-6)


def test_whole_view_without_color_is_the_normalized_image():
    views = ViewConfig(num_global=1, size=24, scale=(1.0, 1.0), recipe="none", normalize="none")
    batch = {k: jnp.repeat(v[:1], 40, axis=0) for k, v in BATCH.items()}
    image = jnp.asarray(IMAGES[0]) / 255
    seen = cut(views, batch=batch)[0][0].image
    either = [jnp.abs(seen - i[None]).max(axis=(1, 2, 3)) < 1e-5 for i in (image, image[:, ::-1])]
    # A square of the whole area fits, whatever else is drawn does not: whole, flipped or not.
    assert either[0].any()
    assert either[1].any()
    assert (either[0] | either[1]).mean() > 0.8  # rounded, 24 x 23 pixels fit too


@pytest.mark.parametrize("kept", ["flip", "color", "blur", ""])
def test_switches_leave_one_part_of_the_recipe_or_none(kept):
    """As in the rows of ContrastiveCrop's table 3."""
    switches = {name: name == kept for name in ("flip", "color", "blur")}
    views = ViewConfig(num_local=1, recipe="moco_v2", **switches)
    assert views.flip_prob() == (0.5 if kept == "flip" else 0)
    for spec in views.specs():
        jitter_and_gray = (spec.color.jitter_prob, spec.color.gray_prob)
        assert jitter_and_gray == ((0.8, 0.2) if kept == "color" else (0, 0))
        assert spec.color.blur_prob == (0.5 if kept == "blur" else 0)


def test_views_that_are_not_flipped():
    views = ViewConfig(num_global=1, size=24, scale=(1.0, 1.0), recipe="none", normalize="none")
    batch = {k: jnp.repeat(v[:1], 40, axis=0) for k, v in BATCH.items()}
    seen = cut(dataclasses.replace(views, flip=False), batch=batch)[0][0].image
    upright = jnp.abs(seen - jnp.asarray(IMAGES[0])[None] / 255).max(axis=(1, 2, 3)) < 1e-5
    assert upright.mean() > 0.8


def test_regions_are_cut_and_flipped_with_the_image():
    """Regions that are what is bright in each color stay so, in a partition and overlapping."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 2, (24, 6, 6, 3)).astype(bool)
    bright = np.kron(blocks, np.ones((1, 8, 8, 1), bool))  # canvas 48, blocks of 8 pixels
    planes = (bright * np.uint32([1, 2**17, 2**31])).sum(axis=-1, dtype=np.uint32)
    batch = canvas_batch(bright * np.uint8(255), (32, 64), hw=[[96, 60]] * 24) | {
        "index": jnp.arange(24),
        "region_planes": jnp.asarray(planes)[:, ::2, ::2].reshape(24, -1, 1),
        "planes_hw": np.full((24, 2), 24, np.int32),
    }
    views = ViewConfig(size=64, num_local=1, local_size=32, recipe="none", normalize="none")
    seen, _ = cut(views, batch=batch)
    assert [v.planes.shape for v in seen] == [(24, 16, 16, 1)] * 2 + [(24, 8, 8, 1)]
    for view in seen:
        bits = np.asarray(view.planes) >> np.uint32([0, 17, 31]) & 1
        points = bits.shape[1]
        center = np.asarray(view.image).reshape(24, points, 4, points, 4, 3)[:, :, 1:3, :, 1:3]
        value = center.mean(axis=(2, 4))
        clear = (value < 0.1) | (value > 0.9)  # no edge runs through the middle of the point
        assert clear.mean() > 0.6
        np.testing.assert_array_equal(bits[clear], value[clear] > 0.5)


@pytest.mark.parametrize("planes", [True, False])
def test_blank_views_are_like_cut_ones(planes):
    views = ViewConfig(size=16, num_local=2, local_size=8)
    batch = BATCH
    if planes:
        batch = BATCH | {
            "region_planes": np.ones((3, 36, 2), np.uint32),
            "planes_hw": np.full((3, 2), 6, np.int32),
        }
    one = jax.tree.map(lambda x: x[:1], cut(views, batch=batch)[0])
    blank = blank_views(batch, views)
    assert jax.tree.structure(blank) == jax.tree.structure(one)
    assert jax.eval_shape(lambda: blank) == jax.eval_shape(lambda: one)
    assert not any(x.any() for x in jax.tree.leaves(blank))


def test_no_regions_no_planes():
    assert cut(ViewConfig(size=16, recipe="none"))[0][0].planes is None


@pytest.mark.parametrize("devices", [1, 8])
def test_in_parts_as_at_once(devices, monkeypatch):
    """A loop goes through a few images at a time, here one of 2 x 64 x 64 pixels."""
    views = ViewConfig(size=64, recipe="none")
    batch = jax.tree.map(lambda x: np.tile(x, (8,) + (1,) * (x.ndim - 1)), BATCH)
    monkeypatch.setattr(jaxssl.views, "FAST_PIXELS", {})
    at_once, _ = cut(views, batch=batch)
    monkeypatch.setattr(jaxssl.views, "FAST_PIXELS", {"cpu": 2 * 64**2})
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))

    def in_parts(key, batch):
        return make_views(key, batch, (), RandomCrop(), views)[0]

    rows = sharding.split(mesh)
    shardings = {"in_shardings": (sharding.replicated(mesh), rows), "out_shardings": rows}
    jitted = jax.jit(sharding.with_mesh(mesh, in_parts), **shardings)
    for a, b in zip(at_once, jitted(jax.random.key(0), batch), strict=True):
        np.testing.assert_allclose(a.image, b.image, atol=1e-5)
    text = jitted.lower(jax.random.key(0), batch).compile().as_text()
    assert f'"known_trip_count":{{"n":"{24 // devices}"' in text  # each device has its own images
    assert not collectives(text)
