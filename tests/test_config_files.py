"""Every file in `configs/`, in every variant: it builds, fits its data set and traces."""

import functools
import pathlib
import re
import runpy

import jax
import numpy as np
import pytest

from jaxssl.config import build
from jaxssl.config.checks import flatten
from jaxssl.config.file import load_config
from jaxssl.data.canvas import CanvasSpec
from jaxssl.training.pretrain import check_sizes
from jaxssl.training.step import make_train_step

FILES = sorted((pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))
every_file = pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)

# What a source is called by: how many images there are to learn from. The first that fits counts.
IMAGES = {
    "cityscapes": 2_975,
    "leftImg8bit": 2_975,
    "imagenette": 9_469,
    "ade20k": 20_210,
    "ADEChallengeData2016": 20_210,
    "cifar": 50_000,
    "stl10": 100_000,
    "tiny-imagenet-200": 100_000,
    "coco": 118_287,
    "imagenet200": 200 * 732,  # no class of ImageNet has fewer
    "imagenet": 1_281_167,
    "scenes": 2_000,
}


@functools.cache
def in_every_variant(path):
    """The configs of a file, by variant; that without one is ""."""
    variants = runpy.run_path(str(path)).get("VARIANTS", ())
    return {v: load_config(f"{path}:{v}" if v else str(path)) for v in ("", *variants)}


def images_of(config):
    return next(n for name, n in IMAGES.items() if name in config.data.source)


def step_of(config, encoder):
    """The training step, as `pretrain` puts it together, with another encoder."""
    method = build("method", config.method, encoder=encoder)
    return make_train_step(config, method, images_of(config) // config.batch_size)


@every_file
def test_says_how_to_run_it_and_has_the_variants_it_names(path):
    configs, text = in_every_variant(path), path.read_text()
    assert f"--config configs/{path.name}" in text
    assert set(re.findall(rf"configs/{path.name}:(\w+)", text)) <= set(configs)
    assert ("def get_config()" in text) == (set(configs) == {""})
    default, *others = (flatten(config) for config in configs.values())
    assert others.count(default) == bool(others)
    assert len({str(config) for config in others}) == len(others)


@every_file
def test_builds_and_fits_its_data_set(path, tiny_encoder):
    for config in in_every_variant(path).values():
        step = step_of(config, tiny_encoder)
        method, sampler, views = step.method, step.sampler, step.views
        method.check(
            batch_size=config.batch_size, num_examples=images_of(config), views=views.specs()
        )
        assert config.batch_size <= images_of(config)
        if method.needs_regions or sampler.needs_regions:
            assert config.data.source.startswith(("records:", "scenes:"))


def test_encoders_take_the_views():
    """Each encoder once for each remainder by a patch of 16 pixels, all that a ViT minds."""
    kinds = {}
    for path in FILES:
        for config in in_every_variant(path).values():
            sizes = (config.views.size, config.views.num_local and config.views.local_size)
            kinds[config.encoder.name, *(size % 16 for size in sizes)] = config
    for config in kinds.values():
        check_sizes(config, build("encoder", config.encoder))


@every_file
def test_each_method_and_each_sampler_traces(path, tiny_encoder):
    traced = set()
    for config in in_every_variant(path).values():
        if not {config.method.name, config.sampler.name} <= traced:
            trace(config, tiny_encoder)
        traced |= {config.method.name, config.sampler.name}


def trace(config, encoder):
    """The first state and a step."""
    step = step_of(config, encoder)
    spec = CanvasSpec(
        config.data.pixels or 256 * 256,
        objects=config.data.max_objects if step.sampler.needs_regions else 0,
        planes=config.data.region_planes if step.method.needs_regions else 0,
    )
    batch = {
        name: jax.ShapeDtypeStruct((config.batch_size, *shape), dtype)
        for name, (shape, dtype) in {**spec.arrays(), "index": ((), np.int32)}.items()
    }
    init = functools.partial(step.init, num_examples=images_of(config))
    before = jax.eval_shape(init, jax.random.key(0), batch)
    after, metrics = jax.eval_shape(step, before, batch, jax.random.key(0))
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, before)
    assert metrics["loss"].shape == ()
