"""Where the images of a whole data set lie on several devices, and what is cut from them there."""

import re

import jax
import numpy as np
import pytest

from jaxssl import sharding
from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.packing import pack
from jaxssl.data.source import Example
from jaxssl.image.pyramid import look_up
from jaxssl.samplers import RandomCrop
from jaxssl.views import ViewConfig, make_views

RNG = np.random.default_rng(0)
INDEX = np.arange(16, dtype=np.int32)[::-1] * 3
VIEWS = ViewConfig(size=16)


def cut(key, batch, resident):
    batch = batch | look_up(resident, batch["index"])
    return make_views(key, batch, (), RandomCrop(), VIEWS)[0]


@pytest.fixture(scope="module")
def arrays():
    """Of 64 images of different size, with region planes."""
    spec = CanvasSpec(120 * 120, (16, 16), planes=1)
    made = []
    for size in RNG.integers(40, 121, (64, 2)).tolist():
        image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
        made.append(spec.make(Example("", image), tuple(size)))
    arrays = {name: np.stack([m[name] for m in made]) for name in spec.arrays()}
    arrays["region_planes"][...] = RNG.integers(0, 9, arrays["region_planes"].shape)
    used = spec.used(arrays)
    packed = {n: pack(a, used[n], 100_000) if n in used else a for n, a in arrays.items()}
    return arrays, packed


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh()


def jitted(mesh):
    same, rows = sharding.replicated(mesh), sharding.split(mesh)
    known = sharding.with_mesh(mesh, cut)
    return jax.jit(known, in_shardings=(same, rows, None), out_shardings=rows)


def test_pages_on_one_device_each_give_the_same_views(arrays, mesh):
    key, number = jax.random.key(0), mesh.size
    given, packed = arrays
    batch = {name: values[INDEX] for name, values in given.items()} | {"index": INDEX}
    expected = jitted(mesh)(key, sharding.make_global_batch(batch, mesh), {})
    batch = sharding.make_global_batch({"index": INDEX}, mesh)
    for split_pages in (False, True):
        resident = sharding.make_resident(packed, mesh, split_pages=split_pages)
        pages = resident["image"].pages
        assert len(pages) > number
        part = len(pages) // number if split_pages else len(pages)
        assert [len(shard.data) for shard in pages.addressable_shards] == [part] * number
        seen = jitted(mesh)(key, batch, resident)
        for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(seen), strict=True):
            np.testing.assert_array_equal(a, b)


def test_pages_stay_where_they_are(arrays, mesh):
    """Devices send each other what is cut out of the pages, and not the pages."""
    resident = sharding.make_resident(arrays[1], mesh, split_pages=True)
    batch = sharding.make_global_batch({"index": INDEX}, mesh)
    text = jitted(mesh).lower(jax.random.key(0), batch, resident).compile().as_text()
    sent = re.findall(r"= (\w\d+)\[([\d,]*)\]\S* (all-\w+|collective-\w+|reduce-scatter)\(", text)
    assert any(kind == "all-reduce" for *_, kind in sent)
    page = resident["image"].pages.shape[1]
    window = 3 * (2.5 * VIEWS.size + 2) ** 2
    for _, shape, _ in sent:
        entries = np.prod([int(n) for n in shape.split(",") if n])
        assert entries <= 2 * len(INDEX) * window < len(INDEX) * page


def test_devices_that_read_words_make_the_same_views(arrays, mesh, monkeypatch):
    """As TPUs do: from canvases of the host, and from pages."""
    key = jax.random.key(0)
    batch = {name: values[INDEX] for name, values in arrays[0].items()} | {"index": INDEX}
    expected = jitted(mesh)(key, sharding.make_global_batch(batch, mesh), {})
    monkeypatch.setattr(sharding, "reads_words", lambda name, mesh: name == "image")
    words = sharding.make_global_batch(sharding.in_device_layout(batch, mesh), mesh)
    resident = sharding.make_resident(arrays[1], mesh, split_pages=True)
    assert words["image"].dtype == resident["image"].pages.dtype == np.uint32
    index = sharding.make_global_batch({"index": INDEX}, mesh)
    for seen in (jitted(mesh)(key, words, {}), jitted(mesh)(key, index, resident)):
        for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(seen), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
