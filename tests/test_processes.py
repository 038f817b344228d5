"""Shards made by several processes, and what that leaves to the program that asked for them."""

import dataclasses
import multiprocessing
import os
import time

import pytest

import mask_tools


@dataclasses.dataclass(frozen=True)
class Telling(mask_tools.Grid):
    """Fails, and says how many threads its process is to use."""

    def __call__(self, example):
        raise ValueError(f"{os.environ['OMP_NUM_THREADS']} and {os.environ['MKL_NUM_THREADS']}")


@pytest.fixture
def own_child():
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    child.start()
    yield child
    child.kill()
    child.join()


def test_a_caller_keeps_its_processes_and_its_environment(tmp_path, own_child, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    with pytest.raises(ValueError, match="1 and 1"):
        mask_tools.segment_dataset("scenes:8", Telling(), tmp_path, shards=2, workers=2)
    assert dict(os.environ) == before
    deadline = time.monotonic() + 60
    while len(multiprocessing.active_children()) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)  # killed ones are gone in a moment
    assert multiprocessing.active_children() == [own_child]
