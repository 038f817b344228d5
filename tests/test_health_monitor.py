"""What a run measures of itself at each evaluation, and what it says of a collapse."""

import jax
import jax.numpy as jnp
import pytest

from jaxssl import sharding
from jaxssl.config import base
from jaxssl.data import open_source
from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.pipeline import open_pipeline
from jaxssl.samplers import RegionCrop
from jaxssl.training import health_monitor
from jaxssl.training.health_monitor import HealthMonitor
from jaxssl.types import TrainState
from jaxssl.views import ViewConfig


@pytest.fixture
def make(make_trainer, tmp_path):
    def make_monitor(mode, images, min_area=200, of=40):
        config = base()
        config.eval.health, config.views.size, config.views.recipe = images, 16, "none"
        source = open_source(f"scenes:{of}")
        options = {"batch_size": min(8, of), "seed": 0, "mode": mode, "cache_dir": tmp_path}
        spec = CanvasSpec(4096, (32, 32), objects=32)
        pipeline = open_pipeline(source, spec, **options, device_bytes=2**40)
        sampler = RegionCrop(min_area=min_area)
        views = ViewConfig(**config.views.to_dict())
        trainer = make_trainer(sampler, views, pipeline, sharding.make_mesh())
        return HealthMonitor(config, trainer), source

    return make_monitor


@pytest.fixture
def state(tiny_encoder):
    variables = tiny_encoder.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    return TrainState(0, variables, (), (), ())


def test_measures_do_not_depend_on_where_images_are(make, state, monkeypatch):
    monkeypatch.setattr(health_monitor, "CHUNK", 12)
    (stream, source), (host, _) = make("stream", 30), make("host", 30)
    measures = host(0, state)
    assert stream(0, state) == measures
    assert set(measures) == {
        f"health/{name}"
        for name in (
            "std", "std_if_even", "dead_dimensions", "rank_me", "alignment", "uniformity",
            "regions_per_image", "no_region",
        )
    }  # fmt: skip
    assert measures["health/alignment"] > 0
    everything = [sum(example.regions.area >= 200) for example in (source[i] for i in range(40))]
    assert min(everything) <= measures["health/regions_per_image"] <= max(everything)


@pytest.fixture
def said(monkeypatch):
    """Warnings."""
    lines = []
    monkeypatch.setattr(
        health_monitor.log, "warning", lambda text, *values: lines.append(text % values)
    )
    return lines


def test_images_without_usable_regions_are_warned_of_before_training(make, state, said):
    make("host", 16, min_area=10**6)[0](0, state)
    (line,) = said
    assert line.startswith("step 0: 100% of the images have no usable region")


def test_a_collapse_is_warned_of_once_training_began(make, state, said):
    monitor, _ = make("host", 16)
    dead = jax.tree.map(jnp.zeros_like, state)
    monitor(0, dead)
    assert said == []
    assert monitor(8, dead)["health/dead_dimensions"] == 1
    (line,) = said
    assert line.startswith("step 8: the features are collapsing")
    assert "optim.lr" in line


def test_none_are_measured_where_none_are_wanted(make, state):
    assert make("stream", 0)[0](8, state) == {}


def test_none_are_measured_of_a_single_image(make, state, said):
    """Of one there is no spread and no uniformity; it would be called a collapse."""
    assert make("stream", 512, of=1)[0](8, state) == {}
    assert said == ["signs of a collapse are not measured: there is one training image"]
