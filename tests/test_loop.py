"""What the loop counts as waiting for data."""

import threading
import time

import pytest

from jaxssl.training.loop import Interval


class Computed:
    """A result that is there once it is allowed to be."""

    def __init__(self):
        self.allowed = threading.Event()

    def block_until_ready(self):
        self.allowed.wait()


PAUSE = 0.05


@pytest.mark.parametrize("finishes", ["before", "meanwhile", "after"])
def test_devices_wait_from_when_they_have_computed_until_the_batch_is_there(finishes):
    interval, loss = Interval(batch_size=8), Computed()

    def batches():
        yield 1
        time.sleep(PAUSE)
        if finishes == "meanwhile":
            loss.allowed.set()
        time.sleep(2 * PAUSE)
        yield 2

    batches = batches()
    assert interval.next_batch(batches)[0] == 1
    interval.add({"loss": loss})
    if finishes == "before":
        loss.allowed.set()
        interval._computed.result()
    start = time.monotonic()
    batch, waited = interval.next_batch(batches)
    took = time.monotonic() - start
    loss.allowed.set()
    assert batch == 2
    if finishes == "after":
        assert waited == 0
    else:
        assert waited >= (3 if finishes == "before" else 1) * PAUSE
        assert waited <= took - (finishes == "meanwhile") * PAUSE
