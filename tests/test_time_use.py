"""Where the time of a run goes, and the trace of some of its steps."""

import itertools
import time

import jax
import jax.numpy as jnp
import pytest

from jaxssl import sharding
from jaxssl.training.time_use import Profile, TimeUse


def test_what_is_named_nothing_else_are_steps(monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 5.0, 6.0, 10.0])  # the start; twice two ends; now
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    use = TimeUse()
    with use.of("input"):
        pass
    with pytest.raises(KeyError), use.of("evaluation"):
        raise KeyError
    assert use.seconds("input") == 2
    assert use.shares() == pytest.approx({"steps": 0.7, "input": 0.2, "evaluation": 0.1})


@pytest.mark.parametrize(
    ("steps", "total", "traced"),
    [(0, 20, []), (3, 20, [7, 8, 9]), (3, 6, [4, 5, 6]), (9, 3, [2, 3]), (1, 1, [])],
)
def test_steps_of_the_trace(tmp_path, monkeypatch, steps, total, traced):
    seen, running = [], []
    monkeypatch.setattr(jax.profiler, "start_trace", running.append)
    monkeypatch.setattr(jax.profiler, "stop_trace", running.clear)
    with Profile(tmp_path, steps, total) as profile:
        for step in range(2, total + 1):
            with profile.step(step):
                seen += [step] * len(running)
            profile.end(step, ())
    assert seen == traced
    assert not running


def interrupted(folder):
    """Ctrl-C in the second step of a trace that was to show nine."""
    double = jax.jit(lambda x: 2 * x)
    with Profile(folder, 9, 99) as profile:
        for step in itertools.count(2):
            with profile.step(step):
                double(jnp.ones(3))
            if step == 8:
                raise KeyboardInterrupt


def test_a_trace_that_is_cut_short_is_written(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path)
    (path,) = tmp_path.glob("**/*.xplane.pb")
    assert b"train" in path.read_bytes()


def test_the_most_memory_of_any_device(monkeypatch):
    assert sharding.peak_memory() == 0  # CPUs do not say

    class Device:
        def __init__(self, stats):
            self.memory_stats = lambda: stats

    devices = [Device({"peak_bytes_in_use": 2}), Device({"peak_bytes_in_use": 7}), Device(None)]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    assert sharding.peak_memory() == 7
