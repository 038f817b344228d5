"""Checkpoints: what is damaged is skipped, and the run goes on saving."""

import dataclasses
import errno
import resource

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl.errors import UserError
from jaxssl.training.checkpoint import Checkpoints
from jaxssl.types import TrainState

STATE = {"a": jnp.arange(3.0), "step": jnp.int32(0)}


def save(folder, steps, keep=5):
    with Checkpoints(folder, keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, STATE | {"step": jnp.int32(step)}, {"a": STATE["a"] * step})


def damage(folder, step):
    for path in (folder / str(step)).rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_newest_state_and_encoder(tmp_path, caplog):
    save(tmp_path, [1, 2])
    caplog.clear()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert int(checkpoints.restore("state", STATE)["step"]) == 2
        encoder = checkpoints.restore("encoder", {"a": STATE["a"]})
        assert checkpoints.restored == 2
    np.testing.assert_array_equal(encoder["a"], [0, 2, 4])
    assert not caplog.records


def test_empty_collections_come_back(tmp_path):
    """A network without batch norm has empty batch statistics."""
    state, encoder = STATE | {"batch_stats": {}}, {"params": STATE["a"], "batch_stats": {}}
    with Checkpoints(tmp_path, 1) as checkpoints:
        checkpoints.save(1, state, encoder)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.restore("state", state)["batch_stats"] == {}
        assert checkpoints.restore("encoder", encoder)["batch_stats"] == {}


def test_keeps_so_many(tmp_path):
    save(tmp_path, [1, 2, 3], keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "3"]


def test_nothing_saved(tmp_path):
    with Checkpoints(tmp_path, 1) as checkpoints:
        assert checkpoints.restore("state", STATE) is None
        assert checkpoints.newest() == 0
    with pytest.raises(ValueError, match="train it first"):
        Checkpoints(tmp_path / "elsewhere", read_only=True)


def test_a_damaged_one_is_passed_over_and_replaced(tmp_path):
    save(tmp_path, [3, 6])
    damage(tmp_path, 6)
    with Checkpoints(tmp_path, 5) as checkpoints:
        assert int(checkpoints.restore("state", STATE)["step"]) == 3
        checkpoints.save(5, STATE | {"step": jnp.int32(5)}, {"a": STATE["a"]})
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert int(checkpoints.restore("state", STATE)["step"]) == 5


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ESTALE, "Stale file handle", "x"), OSError),
        (RuntimeError("RESOURCE_EXHAUSTED: out of memory"), RuntimeError),
        (ValueError("the trees differ"), UserError),
    ],
)
def test_a_whole_one_that_cannot_be_read_now_stays(tmp_path, monkeypatch, error, raised):
    save(tmp_path, [3, 6])

    def fail(*args):
        raise error

    with Checkpoints(tmp_path, 5) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "read", fail)
            with pytest.raises(raised, match="Stale|RESOURCE|trees differ"):
                checkpoints.restore("state", STATE)
        assert int(checkpoints.restore("state", STATE)["step"]) == 6


def test_all_damaged(tmp_path):
    save(tmp_path, [3])
    damage(tmp_path, 3)
    with Checkpoints(tmp_path, 5) as checkpoints, pytest.raises(ValueError, match="of step 3"):
        checkpoints.restore("state", STATE)


def test_numbers_that_changed_on_the_disk_are_not_believed(tmp_path):
    """A bit in the middle of the largest file: Orbax's own formats notice it once in a while."""
    save(tmp_path, [3, 6])
    files = [path for path in (tmp_path / "6" / "state").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert int(checkpoints.restore("state", STATE)["step"]) == 3
        assert checkpoints.restore("encoder", {"a": STATE["a"]}) is not None
        assert checkpoints.restored == 6


def test_one_of_an_earlier_version_has_no_checksums(tmp_path):
    save(tmp_path, [3])
    (tmp_path / "3" / "checksums.json").unlink()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert int(checkpoints.restore("state", STATE)["step"]) == 3


def test_one_that_a_training_replaces_meanwhile(tmp_path):
    save(tmp_path, [3], keep=1)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        save(tmp_path, [6], keep=1)
        assert int(checkpoints.restore("state", STATE)["step"]) == 6


def test_a_write_that_fails_in_the_background(tmp_path):
    """Of a file that may not be so large: what TensorStore says of it is long."""
    save(tmp_path, [3])
    large = {"a": jax.random.normal(jax.random.key(0), (2**20,))}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with (
            pytest.raises(OSError, match="File too large") as error,
            Checkpoints(tmp_path, 5) as checkpoints,
        ):
            checkpoints.save(4, large, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.filename == str(tmp_path)
    with Checkpoints(tmp_path, 5) as checkpoints:
        assert int(checkpoints.restore("state", STATE)["step"]) == 3


def test_a_state_of_an_earlier_version_is_restored(tmp_path):
    """Its fields `method_state` and `sampler_state` were called `method` and `sampler`."""
    params, stats = {"w": jnp.arange(3.0)}, {"queue": jnp.arange(4), "batch_stats": {}}
    opt_state = optax.chain(optax.trace(0.9), optax.scale_by_schedule(lambda step: 1)).init(params)
    state = TrainState(jnp.int32(7), params, opt_state, stats, ())
    names = {"method_state": "method", "sampler_state": "sampler"}
    fields = {names.get(f.name, f.name): getattr(state, f.name) for f in dataclasses.fields(state)}
    with Checkpoints(tmp_path, 5) as checkpoints:
        checkpoints.save(7, fields, params)
    like = jax.tree.map(jnp.zeros_like, state)
    with Checkpoints(tmp_path, 5) as checkpoints:
        restored = checkpoints.restore("state", like)
        assert jax.tree.structure(restored) == jax.tree.structure(state)
        jax.tree.map(np.testing.assert_array_equal, restored, state)
        checkpoints.save(8, restored, params)
        assert set(checkpoints.read(8, "state")) == {f.name for f in dataclasses.fields(state)}
