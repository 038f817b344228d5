"""DetCon's loss: the released code's, and a plain loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import collectives
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxssl import sharding
from jaxssl.methods import DetConS, detcon
from jaxssl.methods.detcon import Latents

B, R = 8, 5


def contrast(encoder, p, z, region, **options):
    """`DetCon.contrast` of arrays [v, b, r, ...]."""
    view = jnp.broadcast_to(jnp.arange(len(z))[:, None, None], region.shape)
    latents = Latents(z=jnp.asarray(z), region=jnp.asarray(region), view=view)
    return DetConS(encoder, **options).contrast(jnp.asarray(p), latents)


@pytest.mark.parametrize("local", [True, False])
def test_detcon_b_equals_the_released_loss(golden, tiny_encoder, local):
    g = golden("detcon_loss")
    p, z = (np.stack([g[f"{n}1"], g[f"{n}2"]]) for n in ("pred", "target"))
    region = np.stack([g["ind1"], g["ind2"]]).astype(np.int32)
    loss = functools.partial(
        contrast, tiny_encoder, z=z, region=region, local_negatives=local, num_regions=16
    )
    value, gradient = jax.jit(jax.value_and_grad(loss))(p)
    np.testing.assert_allclose(value, g[f"loss_local{local:d}"], rtol=1e-6)
    for side in (0, 1):
        np.testing.assert_allclose(gradient[side], g[f"g{side + 1}_local{local:d}"], atol=1e-6)


def test_detcon_s_equals_the_released_loss(golden, tiny_encoder):
    g = golden("detcon_loss")
    z = np.stack([g["pred1"], g["pred2"]])
    region = np.stack([g["ind1"], g["ind2"]]).astype(np.int32)
    loss = jax.jit(jax.value_and_grad(lambda z: contrast(tiny_encoder, z, z, region)))
    value, gradient = loss(z)
    np.testing.assert_allclose(value, g["loss_S"], rtol=1e-6)
    for side in (0, 1):
        np.testing.assert_allclose(gradient[side], g[f"gS{side + 1}"], atol=1e-6)
    one = z[:, :, :1]
    value = jax.jit(lambda z: contrast(tiny_encoder, z, z, np.zeros((2, 3, 1), np.int32)))(one)
    np.testing.assert_allclose(value, g["loss_R1"], rtol=1e-6)


def plain_loop(p, z, region, view, *, temperature, local, compared):
    """Equation (3), row by row; `view` tells the sights of a region apart."""
    p, z = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (p, z))
    rows = list(np.ndindex(region.shape))
    total = 0.0
    for a in rows:
        terms, others = [], []
        twins = 0
        for b in rows:
            own = a[1] == b[1]
            alike = own and region[a] == region[b]
            twin = alike and view[a] == view[b]
            twins += twin
            if twin or a[1] // compared != b[1] // compared or (own and not alike and not local):
                continue
            score = p[a] @ z[b] / temperature
            others.append(score)
            if alike:
                terms.append(score)
        if terms:
            total += np.mean(np.logaddexp.reduce(others) - np.array(terms)) / twins
    return total / len(rows) * len(region)


@pytest.mark.parametrize(
    ("views", "local", "compared"), [(2, True, B), (3, False, B), (2, True, 2), (2, True, 1)]
)
def test_loss_is_the_plain_loop(tiny_encoder, views, local, compared):
    rng = np.random.default_rng(0)
    p, z = rng.normal(size=(2, views, B, R, 6)).astype(np.float32)
    region = rng.integers(0, 4, (views, B, R))
    view = np.broadcast_to(np.arange(views)[:, None, None], region.shape)
    value = jax.jit(
        functools.partial(
            contrast, tiny_encoder, local_negatives=local,
            images_compared=0 if compared == B else compared,
        )
    )(p, z, region)  # fmt: skip
    expected = plain_loop(p, z, region, view, temperature=0.1, local=local, compared=compared)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_devices_share_the_comparison(tiny_encoder):
    """No device makes the whole matrix of similarities."""
    images = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec(None, "data"))
    rows = jax.ShapeDtypeStruct((2, B, R, 6), jnp.float32)
    run = jax.jit(lambda p, z, ids: contrast(tiny_encoder, p, z, ids), in_shardings=(images,) * 3)
    ids = jax.ShapeDtypeStruct((2, B, R), jnp.int32)
    program = run.lower(rows, rows, ids).compile().as_text()
    n = 2 * B * R
    assert f"{n // 8},{n}]" in program
    assert f"{n},{n}]" not in program


def test_groups_that_lie_on_several_devices_are_compared_at_once(tiny_encoder, monkeypatch):
    """A loop over them would be that of all devices, of which each went through all groups."""
    monkeypatch.setattr(detcon, "MAX_ENTRIES", 1)
    monkeypatch.setattr(jax.lax, "map", None)
    mesh, rows = Mesh(np.array(jax.devices()), ("data",)), np.ones((2, 8, R, 6), np.float32)
    ids = np.zeros((2, 8, R), np.int32)
    run = functools.partial(contrast, tiny_encoder, images_compared=2)  # four groups
    assert jax.eval_shape(sharding.with_mesh(mesh, run), rows, rows, ids).shape == ()


@pytest.mark.parametrize("devices", [1, 8])
def test_groups_may_be_compared_one_after_another(tiny_encoder, monkeypatch, devices):
    """A device has the matrices of as many groups in memory at once as one large one may take."""
    batch, compared = 256, 8  # on eight devices four groups each
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    images = NamedSharding(mesh, PartitionSpec(None, "data"))
    rng = np.random.default_rng(0)
    p, z = rng.normal(size=(2, 2, batch, R, 6)).astype(np.float32)
    region = rng.integers(0, 4, (2, batch, R))
    own = {"images_compared": compared}

    def run(p, z, region):
        loss = functools.partial(contrast, tiny_encoder, z=z, region=region, **own)
        return jax.value_and_grad(loss)(p)

    def compiled():
        jitted = jax.jit(sharding.with_mesh(mesh, run), in_shardings=(images,) * 3)
        return jitted.lower(p, z, region).compile()

    together = compiled()
    monkeypatch.setattr(detcon, "MAX_ENTRIES", (2 * compared * R) ** 2)
    in_turn = compiled()
    rows = [jax.device_put(x, images) for x in (p, z, region)]
    for one, other in zip(together(*rows), in_turn(*rows), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-8)
    used = [program.memory_analysis().temp_size_in_bytes for program in (together, in_turn)]
    assert used[1] < used[0]
    assert not collectives(in_turn.as_text()).keys() & {"all-gather", "all-to-all"}
