"""The sampler's look at all images between epochs: what it finds, when, and after which stops."""

import itertools
import logging
import os
import pathlib
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from jaxssl import sharding, train
from jaxssl.config import base
from jaxssl.data import open_source
from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.loading import stack_arrays
from jaxssl.data.pipeline import Pipeline, open_pipeline
from jaxssl.image.augment import normalize
from jaxssl.image.boxes import whole_box
from jaxssl.image.pyramid import crop
from jaxssl.samplers import ContrastiveCrop, RandomCrop
from jaxssl.samplers.contrastive_crop import heat_map_box
from jaxssl.training.checkpoint import Checkpoints
from jaxssl.training.loop import Loop
from jaxssl.training.sampler_refresh import Refresh
from jaxssl.types import TrainState
from jaxssl.views import ViewConfig

CANVAS = CanvasSpec(32 * 32, (16, 16))
COUNT, SIZE = 70, 16  # with a batch of 16, four steps an epoch
SAMPLER = ContrastiveCrop(threshold=0.5, warmup_epochs=1, interval_epochs=1)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache folder that all tests share."""
    monkeypatch.setenv("JAXSSL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def scenes(mode):
    return open_pipeline(
        open_source(f"scenes:{COUNT}"),
        CANVAS,
        batch_size=16,
        seed=0,
        mode=mode,
        device_bytes=0,
        progress=False,
    )


class Setting:
    """A run's data, its refresh and the state it starts from."""

    def __init__(self, make_trainer, mode="device", num_devices=8, sampler=SAMPLER, epochs=3):
        mesh = Mesh(np.array(jax.devices()[:num_devices]), ("data",))
        self.trainer = make_trainer(sampler, ViewConfig(size=SIZE), scenes(mode), mesh)
        self.refresh = Refresh(self.trainer, epochs)
        encoder = self.trainer.step.method.encoder
        variables = encoder.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), train=False)
        state = TrainState(jnp.int32(0), variables, (), (), sampler.init(COUNT))
        self.state = sharding.replicate(state, mesh)


@pytest.mark.parametrize(("mode", "num_devices"), [("device", 8), ("host", 8), ("stream", 1)])
def test_boxes_are_those_of_the_whole_images(make_trainer, tiny_encoder, mode, num_devices):
    setting = Setting(make_trainer, mode, num_devices)
    memory = jax.device_get(setting.refresh(setting.state, lambda: False).sampler_state)
    assert memory.in_use
    canvases = stack_arrays(setting.trainer.pipeline.source, range(COUNT), CANVAS)

    @jax.jit
    @jax.vmap
    def expected_box(canvas):
        pixels = normalize(crop(canvas, whole_box(canvas["hw"]), SIZE, "bicubic"), "imagenet")
        features = tiny_encoder.apply(setting.state.params, pixels[None], train=False)
        return heat_map_box(features.grid[0], SIZE, 0.5, exact=False)

    expected = expected_box(canvases)
    np.testing.assert_array_equal(memory.box, expected)
    assert len(np.unique(memory.box, axis=0)) > COUNT / 4


def test_when_it_is_due_and_that_it_can_be_stopped(make_trainer):
    setting = Setting(make_trainer)
    assert [step for step in range(13) if setting.refresh.is_due(step)] == [4, 8, 12]
    assert setting.refresh(setting.state, lambda: True) is setting.state
    never = Setting(make_trainer, sampler=RandomCrop())
    assert not any(never.refresh.is_due(step) for step in range(13))


def test_boxes_that_are_never_found_are_said(make_trainer, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("jaxssl"), "propagate", True)
    Setting(make_trainer, sampler=RandomCrop())
    Setting(make_trainer, sampler=ContrastiveCrop(), epochs=101)
    assert not caplog.records
    Setting(make_trainer, sampler=ContrastiveCrop(), epochs=100)
    assert "lower sampler.warmup_epochs" in caplog.text


def train_step(state, batch):
    """In place of training: what the images' boxes and the step make of the weights."""
    seen = state.sampler_state.box[batch["index"]].sum() + state.sampler_state.in_use
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), state.step), (12,))
    params = jax.tree.map(lambda p: p + 0.01 * seen * noise[: p.shape[-1]].mean(), state.params)
    metrics = {"loss": seen, "grad_norm": seen, "learning_rate": seen}
    return TrainState(state.step + 1, params, (), (), state.sampler_state), metrics


def run(setting, workdir):
    config = base()
    config.epochs, config.batch_size, config.checkpoint.keep = 3, 16, 9
    workdir.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setting.trainer, "_jitted", jax.jit(lambda s, b, *rest: train_step(s, b)))
        return Loop(config, workdir, setting.trainer, [], setting.refresh).run(
            setting.state, lambda: setting.state
        )


def states(workdir):
    """All leaves of every checkpoint, by step."""
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        restored = {step: checkpoints.read(step, "state") for step in checkpoints.steps()}
    return jax.tree.map(np.asarray, restored)


@pytest.fixture(scope="module")
def undisturbed(make_trainer, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    assert run(Setting(make_trainer), workdir) == 0
    return states(workdir)


def test_a_checkpoint_before_each_refresh(undisturbed):
    assert sorted(undisturbed) == [4, 8, 12]
    plain, first, second = (undisturbed[step]["sampler_state"] for step in (4, 8, 12))
    assert not plain["in_use"]
    assert first["in_use"]
    assert (first["box"] != second["box"]).any()


@pytest.mark.parametrize(
    ("number", "stopped_at"),
    [  # two batches are fetched ahead, and the first refresh takes five
        (6 + 2 + 5, 6),
        (8 + 2 + 5, 8),  # in the step before a refresh
        (8 + 2 + 5 + 2, 8),  # in that refresh
    ],
)
def test_stopped_anywhere_a_run_ends_the_same(
    undisturbed, make_trainer, tmp_path, monkeypatch, number, stopped_at
):
    batches, counter = Pipeline.batches, itertools.count(1)

    def interrupted(self, start):
        for batch in batches(self, start):
            if next(counter) == number:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "batches", interrupted)
        assert run(Setting(make_trainer), tmp_path / "run") == signal.SIGTERM
    assert max(states(tmp_path / "run")) == stopped_at
    assert run(Setting(make_trainer), tmp_path / "run") == 0
    stopped = states(tmp_path / "run")
    for step in undisturbed:
        jax.tree.map(np.testing.assert_array_equal, undisturbed[step], stopped[step])


def test_the_command_from_end_to_end(small_encoders, tmp_path):
    options = {
        "epochs": 2,
        "batch_size": 16,
        "data.source": f"scenes:{COUNT}",
        "data.pixels": 1024,
        "views.size": SIZE,
        "method.hidden": "(8,)",
        "method.dim": 8,
        "encoder.name": "tiny",
        "sampler.name": "contrastive_crop",
        "sampler.warmup_epochs": 1,
        "sampler.threshold": 0.5,
        "eval.datasets": "()",
    }
    config = pathlib.Path(__file__).parents[1] / "configs" / "quickstart.py"
    overrides = [f"--config.{k}={v}" for k, v in options.items()]
    assert train.main(["--config", str(config), "--workdir", str(tmp_path), *overrides]) == 0
    before, after = (states(tmp_path)[step]["sampler_state"] for step in (4, 8))
    assert (before["in_use"], after["in_use"]) == (False, True)
    np.testing.assert_array_equal(np.unique(before["box"], axis=0), [[0, 0, 1, 1]])
    assert len(np.unique(after["box"], axis=0)) > COUNT / 4
