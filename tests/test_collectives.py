"""What devices send each other, between two processes of four: as one process of eight has it."""

import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
from conftest import collectives
from four_of_eight import values

from jaxssl import sharding

TESTS = pathlib.Path(__file__).parent


def test_two_processes_of_four_devices_compute_what_one_of_eight_does(tmp_path):
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(TESTS / "four_of_eight.py")]
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    files = [tmp_path / f"{i}.npz" for i in (0, 1)]
    two = [
        subprocess.Popen([*command, str(i), str(port), str(file)], env=environment)
        for i, file in enumerate(files)
    ]
    try:
        text, expected = values(sharding.make_mesh())
        assert set(collectives(text)) == {"all-reduce", "all-gather", "reduce-scatter"}
        assert [process.wait(timeout=300) for process in two] == [0, 0]
    finally:
        for process in two:
            process.kill()
            process.wait()
    for file in files:
        with np.load(file) as found:
            for name, value in expected.items():
                np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-6)
