"""What holds of every method: it fits the step, any sampler, any devices, a checkpoint."""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import canvas_batch, collectives
from jax.sharding import Mesh

from jaxssl import sharding
from jaxssl.errors import UserError
from jaxssl.methods import METHODS, Method
from jaxssl.models.vit import ViT
from jaxssl.samplers import SAMPLERS
from jaxssl.training.checkpoint import Checkpoints
from jaxssl.training.step import TrainStep
from jaxssl.types import View
from jaxssl.views import ViewConfig

BATCH_SIZE, IMAGES, CANVAS = 16, 64, 24
VIEWS = ViewConfig(size=16, num_local=1, local_size=8, recipe="none")
SMALL = {"hidden": (8,), "dim": 6, "predictor_hidden": (4,), "queue_size": 32, "temperature": 0.5}

# What is sent between devices, how often a step: negatives, and in DetCon the regions that they
# show; keys that join a queue. A method that is not named sends sums alone.
GATHERED = {"simclr": 1, "moco": 1, "swav": 1, "detcon_s": 2, "detcon_b": 2}
WITH_TARGET = ("moco", "byol", "dino", "detcon_b")  # a second network, in which nothing is dropped


def small(name, encoder):
    """The method, as small as its options allow."""
    cls = METHODS[name]
    options = {f.name for f in dataclasses.fields(cls)}
    return cls(encoder, **{key: value for key, value in SMALL.items() if key in options})


REGIONS = {  # of a canvas: what the bits of its points say
    "none": np.zeros((12, 12), np.uint32),
    "partition": np.repeat(2 ** np.arange(12, dtype=np.uint32)[:, None], 12, axis=1),
    "overlapping": np.full((12, 12), 0b1011, np.uint32),
}


def make_batch(regions="partition"):
    rng = np.random.default_rng(0)
    planes = REGIONS[regions].reshape(1, -1, 1)
    images = rng.integers(0, 256, (BATCH_SIZE, CANVAS, CANVAS, 3)).astype(np.uint8)
    return canvas_batch(images, hw=np.full((BATCH_SIZE, 2), 48)) | {
        "index": np.arange(BATCH_SIZE, dtype=np.int32),
        "label": np.zeros(BATCH_SIZE, np.int32),
        "region_boxes": np.tile(np.float32([4, 8, 40, 44]), (BATCH_SIZE, 1, 1)),
        "region_areas": np.full((BATCH_SIZE, 1), 800.0 * (regions != "none"), np.float32),
        "region_planes": np.repeat(planes, BATCH_SIZE, axis=0),
        "planes_hw": np.full((BATCH_SIZE, 2), 12, np.int32),
    }


def make_views():
    """As the network sees them: two global ones and a local one."""
    rng = np.random.default_rng(1)
    views = []
    for size in (spec.size for spec in VIEWS.specs()):
        image = rng.standard_normal((BATCH_SIZE, size, size, 3), np.float32)
        points = (BATCH_SIZE, size // 4, size // 4, 1)
        planes = 2 ** rng.integers(0, 5, points, dtype=np.uint32)  # five regions in pieces
        views.append(View(image=image, planes=planes.astype(np.uint32)))
    return views


TINY_VIT = ViT(dim=8, depth=1, heads=2, patch=4, image_size=16)
# Regions and encoder change in turn, so that each pair of any two of the four meets: a program
# depends on the regions only by their shape.
MATRIX = [
    (name, sampler, list(REGIONS)[(i + j) % 3], ("tiny", "vit")[(i + j) % 2])
    for i, name in enumerate(METHODS)
    for j, sampler in enumerate(SAMPLERS)
]


@pytest.mark.parametrize(("name", "sampler", "regions", "encoder"), MATRIX)
def test_step_keeps_the_state_in_form(name, sampler, regions, encoder, tiny_encoder):
    encoder = {"tiny": tiny_encoder, "vit": TINY_VIT}[encoder]
    method, optimizer = small(name, encoder), optax.sgd(0.1)
    assert isinstance(method, Method)
    method.check(batch_size=BATCH_SIZE, num_examples=IMAGES, views=VIEWS.specs())
    rate = lambda step: jnp.float32(0.1)  # noqa: E731
    step = TrainStep(method, SAMPLERS[sampler](), VIEWS, optimizer, rate, total_steps=10)
    key, batch = jax.random.key(0), make_batch(regions)
    before = jax.eval_shape(functools.partial(step.init, num_examples=IMAGES), key, batch)
    after, metrics = jax.eval_shape(step, before, batch, key)
    form = functools.partial(jax.tree.map, lambda x: (x.shape, x.dtype))
    assert form(after) == form(before)
    assert {"loss", "embedding_std", "grad_norm"} <= set(metrics)
    assert all(m.shape == () for m in metrics.values())


class Setting:
    """A method's loss, gradient and what follows the optimizer, on the first n devices."""

    def __init__(self, method, num_devices):
        self.method = method
        self.mesh = Mesh(np.array(jax.devices()[:num_devices]), ("data",))
        same, rows = sharding.replicated(self.mesh), sharding.split(self.mesh)
        self._where = (same, same, rows)
        jitted = jax.jit(self._update, in_shardings=self._where, out_shardings=same)
        shapes = jax.eval_shape(method.init, jax.random.key(0), make_views())
        self.program = jitted.lower(*shapes, make_views()).compile()

    def _update(self, params, state, views):
        run = jax.value_and_grad(self.method.loss, has_aux=True)
        t = jnp.float32(0.5)
        (loss, (state, metrics)), gradient = run(params, state, views, key=jax.random.key(0), t=t)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
        params, state = self.method.after_step(params, state, t=t)
        return {"params": params, "state": state, "gradient": gradient, "metrics": metrics} | {
            "loss": loss
        }

    def step(self, params, state):
        """One step: what it computes, by name."""
        return self.program(*jax.device_put((params, state, make_views()), self._where))


@pytest.fixture(scope="module", params=METHODS)
def one(request, tiny_encoder):
    return Setting(small(request.param, tiny_encoder), 1)


@pytest.fixture(scope="module")
def started(one):
    """Parameters and state, drawn by numpy: nothing to compile, and no two parts are equal."""
    rng = np.random.default_rng(2)

    def draw(shape):
        if not jnp.issubdtype(shape.dtype, jnp.floating):
            return np.zeros(shape.shape, shape.dtype)
        if len(shape.shape) < 2:  # of batch norm, biases, ...
            return rng.uniform(0.5, 1.5, shape.shape).astype(shape.dtype)
        scale = np.prod(shape.shape[:-1]) ** -0.5
        return rng.normal(0, scale, shape.shape).astype(shape.dtype)

    return jax.tree.map(draw, jax.eval_shape(one.method.init, jax.random.key(0), make_views()))


@pytest.fixture(scope="module")
def after_one(one, started):
    return one.step(*started)


@pytest.fixture(scope="module")
def eight(one):
    return Setting(one.method, 8)


def test_eight_devices_equal_one(started, after_one, eight):
    after_eight = eight.step(*started)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, after_one, after_eight)


def test_devices_send_each_other_sums_and_negatives_alone(eight):
    """What is split over the devices, images, views, features, stays where it is."""
    name = next(name for name, cls in METHODS.items() if type(eight.method) is cls)
    sent = collectives(eight.program.as_text())
    assert sent.pop("all-reduce") > 0
    assert sent == ({"all-gather": GATHERED[name]} if name in GATHERED else {}), "see GATHERED"


def test_encoder_and_what_evaluation_loads_move(one, started, after_one):
    assert np.isfinite(after_one["loss"])
    assert after_one["metrics"]["embedding_std"] > 0
    before = one.method.encoder_variables(*started)
    after = one.method.encoder_variables(after_one["params"], after_one["state"])
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    assert all(jax.tree.leaves(moved))
    shapes = jax.eval_shape(
        functools.partial(one.method.encoder.apply, train=False), after, make_views()[0].image
    )
    assert shapes.pooled.shape[0] == BATCH_SIZE


def test_saved_and_restored_it_continues_bit_for_bit(one, after_one, tmp_path):
    saved = {name: after_one[name] for name in ("params", "state")}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, saved, one.method.encoder_variables(**saved))
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        restored = checkpoints.restore("state", saved)
    jax.tree.map(np.testing.assert_array_equal, restored, saved)
    jax.tree.map(np.testing.assert_array_equal, one.step(**restored), one.step(**saved))


@pytest.mark.parametrize("name", METHODS)
def test_the_trained_network_draws_and_its_target_does_not(name, tiny_encoder):
    drew = []

    class Drawing(type(tiny_encoder)):
        def __call__(self, images, train):
            drew.append(self.has_rng("drop_path"))
            return super().__call__(images, train)

    method, views = small(name, Drawing()), make_views()
    key, t = jax.random.key(0), jnp.float32(0)
    state = jax.eval_shape(method.init, key, views)
    drew.clear()
    jax.eval_shape(functools.partial(method.loss, key=key, t=t), *state, views)
    assert any(drew)
    assert all(drew) != (name in WITH_TARGET), "see WITH_TARGET"


@pytest.mark.parametrize(
    ("name", "encoder", "options", "learns"),
    [
        ("simclr", "vit", {"head_batch_norm": False, "final_batch_norm": "none"}, False),
        ("swav", "vit", {"queue_size": 32}, False),
        ("byol", "vit", {}, False),
        ("simsiam", "vit", {}, False),
        ("moco", "tiny", {}, False),
        ("moco", "vit", {}, True),
        ("dino", "vit", {}, False),
        ("dino", "vit", {"head_batch_norm": False}, True),
        ("detcon_s", "vit", {}, True),
        ("detcon_s", "vit", {"num_regions": 1}, False),
        ("detcon_b", "vit", {"local_negatives": False}, False),
        ("detcon_b", "vit", {"whole_view": True}, False),
    ],
)
def test_a_batch_of_one_image(name, encoder, options, learns, tiny_encoder):
    """Is refused where loss or batch norm would need another to compare it with."""
    encoder = {"tiny": tiny_encoder, "vit": TINY_VIT}[encoder]
    method = dataclasses.replace(small(name, encoder), **options)
    check = functools.partial(method.check, num_examples=IMAGES, views=VIEWS.specs())
    check(batch_size=2)
    with contextlib.nullcontext() if learns else pytest.raises(UserError, match="batch_size=2"):
        check(batch_size=1)
