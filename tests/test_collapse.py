"""Measures of health against plain numpy, what they say of a collapse, and the advice on it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxssl
from jaxssl import sharding
from jaxssl.config import base, defaults
from jaxssl.config.checks import flatten
from jaxssl.evaluation import collapse
from jaxssl.evaluation.collapse import (
    Health,
    advise,
    alignment,
    dimension_std,
    health,
    rank_me,
    regions_used,
    uniformity,
)
from jaxssl.evaluation.datasets import open_datasets
from jaxssl.methods import DINO, METHODS
from jaxssl.optim import OPTIMIZERS
from jaxssl.pretrained.encoder import Encoder
from jaxssl.samplers import RandomCrop, RegionCrop

RNG = np.random.default_rng(0)
Z = jnp.float32(RNG.standard_normal((50, 6)) * np.array([5, 3, 1, 1, 0.1, 0.01]) + 0.5)
OTHER = Z + 0.3 * jnp.float32(RNG.standard_normal(Z.shape))


def rows_of_length_one(z):
    return np.array([row / np.sqrt(sum(row**2)) for row in np.asarray(z, np.float64)])


def test_dimension_std():
    np.testing.assert_allclose(dimension_std(Z), np.std(rows_of_length_one(Z), axis=0), rtol=1e-5)


def test_rank_me():
    z = np.asarray(Z, np.float64)
    singular = np.sqrt(np.linalg.eigvalsh(z.T @ z))
    p = singular / singular.sum() + 1e-7
    entropy = -sum(x * np.log(x) for x in p)
    assert float(rank_me(Z)) == pytest.approx(np.exp(entropy), rel=1e-4)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_rank_me_counts_directions(rank):
    orthogonal = jnp.float32(np.linalg.qr(RNG.standard_normal((50, 6)))[0])
    only_some = orthogonal.at[:, rank:].set(0)
    assert float(rank_me(only_some)) == pytest.approx(rank, rel=1e-4)


def test_alignment_and_uniformity():
    x, y = rows_of_length_one(Z), rows_of_length_one(OTHER)
    assert float(alignment(Z, OTHER)) == pytest.approx(
        np.mean([sum((a - b) ** 2) for a, b in zip(x, y, strict=True)]), rel=1e-5
    )
    pairs = [np.exp(-2 * sum((x[i] - x[j]) ** 2)) for i in range(50) for j in range(i)]
    assert float(uniformity(Z)) == pytest.approx(np.log(np.mean(pairs)), rel=1e-4)
    assert float(uniformity(jnp.zeros((6, 8)))) == 0


def test_uniformity_of_many_images_takes_memory_in_proportion(monkeypatch):
    features = jax.ShapeDtypeStruct((20_000, 64), jnp.float32)
    used = jax.jit(uniformity).lower(features).compile().memory_analysis()
    assert used.temp_size_in_bytes < 20_000 * 20_000
    whole = float(uniformity(Z))
    monkeypatch.setattr(collapse, "ROWS", 7)  # the last rows do not fill a block
    assert float(uniformity(Z)) == pytest.approx(whole, rel=1e-5)


def test_no_two_batches_of_images_or_seeds_share_random_numbers(tiny_encoder, monkeypatch):
    keys = []

    def keep(images, views, key):
        keys.append(str(key))
        return images, images

    monkeypatch.setattr(collapse, "CHUNK", 2)
    monkeypatch.setattr(collapse, "cut_pairs", keep)
    variables = tiny_encoder.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    encoder = Encoder(tiny_encoder, variables, "none", sharding.make_mesh(), 8, show=False)
    (data,) = open_datasets(("objects:40",), 16)
    for seed in range(3):
        collapse.HEALTH.run(encoder, data, Health(images=5), seed)
    assert len(set(keys)) == len(keys) == 9


def test_a_collapse_is_seen_and_advised_on():
    d = 16
    spread = np.random.default_rng(1).standard_normal((200, d)).astype(np.float32)
    line = spread[:, :1] * spread[:1]  # directions: one, and its opposite
    point = np.ones((200, d), np.float32) + 1e-4 * spread

    def measure(z):
        return {name: float(value) for name, value in health(z, z, z).items()}

    healthy = measure(spread)
    assert advise(healthy, "", max_rank=d) == []
    assert healthy["std"] / healthy["std_if_even"] == pytest.approx(1, abs=0.02)
    for collapsed in (line, point):
        (said,) = advise(measure(collapsed), DINO.remedies, max_rank=d)
        assert "they use 1.0 of 16 directions" in said
        assert "method.teacher_temperature" in said
    assert measure(point)["uniformity"] == pytest.approx(0, abs=1e-4)
    assert advise(measure(point), "", max_rank=d, trained=False) == []
    (said,) = advise(measure(point) | {"no_region": 0.6}, "", max_rank=d, trained=False)
    assert said.startswith("60% of the images")
    assert "sampler.min_area" in said


@pytest.mark.parametrize("name", METHODS)
def test_what_is_advised_can_be_set(name):
    config = base()
    config.method = defaults("method", name)
    words = re.findall(r"\b(?:optim|method|views|sampler)\.\w+|batch_size", METHODS[name].remedies)
    assert words
    # Of the optimizer, any has its options.
    keys = {*flatten(config), *(f"optim.{key}" for o in OPTIMIZERS for key in defaults("optim", o))}
    assert set(words) <= keys


def test_regions_used():
    areas = np.float32([[900, 80, 63, 0], [10, 0, 0, 0]])
    planes = np.zeros((2, 16, 2), np.uint32)
    planes[0, 0], planes[0, 5] = (0b101, 1), (0b1000, 0)
    canvases = {"region_areas": areas, "region_planes": planes}
    assert regions_used(canvases, RegionCrop(min_area=64)).tolist() == [2, 0]
    assert regions_used(canvases, RandomCrop()).tolist() == [4, 0]
    assert regions_used({}, RandomCrop()).size == 0


def test_features_that_are_not_finite_are_no_measures(tiny_encoder, tmp_path):
    variables = tiny_encoder.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    variables = jax.tree.map(lambda x: x * np.nan, variables)
    encoder = Encoder(tiny_encoder, variables, "none", sharding.make_mesh(), size=16, show=False)
    with pytest.raises(ValueError, match="features of objects are not finite"):
        jaxssl.evaluate_encoder(encoder, "objects:20", "health", cache_dir=tmp_path)
