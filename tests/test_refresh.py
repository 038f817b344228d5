"""The sampler's look at all images between epochs: what it finds, when, and after which stops."""

import logging
import os
import pathlib
import signal

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import Mesh

from jaxssl import config as config_module
from jaxssl import sharding, train
from jaxssl.augment import normalize
from jaxssl.boxes import crop
from jaxssl.checkpoint import Checkpoints
from jaxssl.data import open_source
from jaxssl.data.canvas import CanvasSpec, load_canvas
from jaxssl.data.pipeline import Pipeline, open_pipeline
from jaxssl.refresh import Refresh
from jaxssl.samplers import ContrastiveCrop, RandomCrop
from jaxssl.samplers.contrastive_crop import heat_map_box
from jaxssl.types import TrainState
from jaxssl.views import Views

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "quickstart.py"
SMALL = {
    "epochs": 3,
    "batch_size": 16,
    "log_every": 1,
    "data.source": "scenes:70",  # four steps an epoch
    "data.canvas": 32,
    "views.size": 16,
    "method.hidden": "(8,)",
    "method.dim": 8,
    "encoder.name": "tiny",
    "sampler.name": "contrastive_crop",
    "sampler.warmup_epochs": 1,
    "sampler.interval_epochs": 1,
    "sampler.threshold": 0.5,
    "eval.datasets": "()",
}
COUNT, SIZE = 70, 16


@pytest.fixture(autouse=True)
def tiny(tiny_encoder, tmp_path_factory, monkeypatch):
    """The tiny encoder under a name, and a cache folder that all tests share."""
    known = config_module.KNOWN["encoder"] | {"tiny": type(tiny_encoder)}
    monkeypatch.setitem(config_module.KNOWN, "encoder", known)
    monkeypatch.setenv("JAXSSL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def scenes(mode):
    return open_pipeline(
        open_source(f"scenes:{COUNT}"),
        CanvasSpec(32),
        batch_size=16,
        seed=0,
        mode=mode,
        device_bytes=0,
        progress=False,
    )


def refreshed(encoder, mode, num_devices):
    """The memory after one look with random weights, and those weights."""
    mesh = Mesh(np.array(jax.devices()[:num_devices]), ("data",))
    pipeline, views = scenes(mode), Views(size=SIZE)
    variables = encoder.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), train=False)
    sampler = ContrastiveCrop(threshold=0.5, warmup_epochs=1, interval_epochs=1)
    refresh = Refresh(
        sampler,
        views,
        mesh,
        epochs=2,
        pipeline=pipeline,
        resident=sharding.put_everywhere(pipeline.resident or {}, mesh),
        encoder=encoder,
        encoder_of=lambda state: state.params,
    )
    state = TrainState(jnp.int32(4), variables, (), (), sampler.init(COUNT))
    assert [step for step in range(13) if refresh.is_due(step)] == [4, 8, 12]
    assert refresh(state, lambda: True) is state
    return jax.device_get(refresh(state, lambda: False).sampler), variables


@pytest.mark.parametrize(("mode", "num_devices"), [("device", 8), ("host", 8), ("stream", 1)])
def test_boxes_are_those_of_the_whole_images(tiny_encoder, mode, num_devices):
    memory, variables = refreshed(tiny_encoder, mode, num_devices)
    assert memory.in_use
    source, spec = open_source(f"scenes:{COUNT}"), CanvasSpec(32)
    canvases = jnp.stack([load_canvas(source, i, spec)["image"] for i in range(COUNT)])
    whole, hw = jnp.array([0, 0, 32, 32], jnp.float32), jnp.array([32, 32])
    images = jax.vmap(lambda c: crop(c, whole, hw, SIZE, "bicubic"))(canvases)
    grid = tiny_encoder.apply(variables, normalize(images, "imagenet"), train=False).grid
    expected = jax.vmap(lambda g: heat_map_box(g, SIZE, 0.5, exact=False))(grid)
    np.testing.assert_array_equal(memory.box, expected)
    assert len(np.unique(memory.box, axis=0)) > COUNT / 4


def run(workdir, **changes):
    options = SMALL | {k.replace("__", "."): v for k, v in changes.items()}
    overrides = [f"--config.{k}={v}" for k, v in options.items()]
    return train.main(["--config", str(CONFIG), "--workdir", str(workdir), *overrides])


def states(workdir):
    """All leaves of every checkpoint, by step."""
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        items = ocp.args.Composite(state=ocp.args.StandardRestore())
        restored = {
            step: checkpoints._manager.restore(step, args=items)["state"]
            for step in checkpoints._manager.all_steps()
        }
    return jax.tree.map(np.asarray, restored)


def test_a_run_stopped_in_a_refresh_ends_the_same(tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run(whole, data__input="device", checkpoint__keep=9) == 0
    undisturbed = states(whole)
    assert sorted(undisturbed) == [4, 8, 12]  # a checkpoint before each refresh
    plain, first, second = (undisturbed[step]["sampler"] for step in (4, 8, 12))
    assert not plain["in_use"]
    assert first["in_use"]
    assert len(np.unique(first["box"], axis=0)) > COUNT / 4
    assert (first["box"] != second["box"]).any()

    sweep, started = Pipeline.sweep, []

    def interrupted(self):
        started.append(len(started) + 1)
        for number, batch in enumerate(sweep(self)):
            if started[-1] == 2 and number == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(Pipeline, "sweep", interrupted)
    assert run(stopped, data__input="stream", checkpoint__keep=9) == 0
    assert started == [1, 2]
    assert sorted(states(stopped)) == [4, 8]
    assert run(stopped, data__input="stream", checkpoint__keep=9) == 0
    assert started == [1, 2, 3]
    jax.tree.map(np.testing.assert_array_equal, undisturbed, states(stopped))


def test_boxes_that_are_never_found_are_said(tiny_encoder, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("jaxssl"), "propagate", True)
    for sampler, warned in ((ContrastiveCrop(), True), (RandomCrop(), False)):
        caplog.clear()
        Refresh(
            sampler,
            Views(),
            sharding.make_mesh(),
            epochs=100,
            pipeline=scenes("device"),
            resident={},
            encoder=tiny_encoder,
            encoder_of=lambda state: state.params,
        )
        assert ("lower sampler.warmup_epochs" in caplog.text) == warned
