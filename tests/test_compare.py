"""Benchmarks say what has become slower than in the results that they write over."""

import json
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).parents[1] / "benchmarks" / "compare.py"


def compared(tmp_path, before, now):
    """Exit status, and what is said of two files of results."""
    for name, content in (("before.json", before), ("now.json", now)):
        (tmp_path / name).write_text(json.dumps(content))
    command = [sys.executable, str(SCRIPT), "before.json", "now.json"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stderr.splitlines()


def test_a_loss_of_more_than_a_tenth(tmp_path):
    def results(network, step):
        case = {
            name: {"images_per_second": x} for name, x in (("network", network), ("step", step))
        }
        return {"cases": {"resnet": case | {"exit": 0}}}

    assert compared(tmp_path, results(100.0, 50.0), results(91.0, 80.0)) == (0, [])
    told = "slower than in before.json: cases, resnet, network: 100.0 -> 89.0, -11%"
    assert compared(tmp_path, results(100.0, 50.0), results(89.0, 50.0)) == (1, [told])
    assert compared(tmp_path, results(100.0, 50.0), {"cases": {}}) == (0, [])


def test_a_slower_machine_is_no_loss(tmp_path):
    """Rows of one run are compared by their ratios to its step; of rounds it is the median."""
    before = {"images_per_second": {"views": [9.0, 10.0, 30.0], "step": [4.0]}}
    slow_machine = {"images_per_second": {"views": [5.0], "step": [2.0]}}
    slow_views = {"images_per_second": {"views": [8.0], "step": [4.0]}}
    assert compared(tmp_path, before, slow_machine) == (1, [
        "slower than in before.json: step: 4.0 -> 2.0, -50%"
    ])  # fmt: skip
    told = "slower than in before.json: views: 10.0 -> 8.0, -20%"
    assert compared(tmp_path, before, slow_views) == (1, [told])
