"""`jaxssl.evaluate --compare`: an encoder that tells classes apart beside one that does not."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_encoder_init import make_run, run_export

from jaxssl import evaluate
from jaxssl.errors import UserError
from jaxssl.evaluation.comparison import with_random_weights
from jaxssl.evaluation.run import EvalRecord
from jaxssl.evaluation.task import TaskResult
from jaxssl.pretrained.encoder import load_encoder

pytestmark = pytest.mark.usefixtures("small_encoders")
SMALL = ["--size", "32", "--set", "segmentation.steps=20", "segmentation.batch_size=64"]


def test_one_table_of_three_encoders(tmp_path, capsys):
    make_run(tmp_path / "run", "tiny")
    assert run_export(tmp_path / "run", "flax", tmp_path / "given.safetensors") == 0
    options = ["--datasets", "objects:60,scenes:40", *SMALL]
    options += ["--compare", f"random,{tmp_path / 'given.safetensors'}"]
    capsys.readouterr()
    assert evaluate.main(["--workdir", str(tmp_path / "run"), *options]) == 0
    printed = capsys.readouterr().out.splitlines()
    header, rows = printed[0].split(), [re.split("  +", line) for line in printed]
    assert header[-3:] == ["this", "random", "given.safetensors"]
    shown = {tuple(row[:3]): row[3:] for row in rows if len(row) == 6}
    names = [f"top1_{f}" for f in ("1", "0.1", "0.01")]
    keys = [("objects", task, name) for task in ("few_shot", "linear") for name in names]
    keys += [("scenes", "segmentation", name) for name in ("miou", "miou_0.1", "miou_0.01")]
    assert set(keys) <= set(shown)
    for key in keys:
        this, random, given = shown[key]
        assert this == given
        assert re.fullmatch(r"\d\d?\.\d %", random)
    assert any(shown[key][0] != shown[key][1] for key in keys)
    entries = json.loads((tmp_path / "run" / "compare.json").read_text())
    assert [e["encoder"] for e in entries[::3]] == ["this", "random", "given.safetensors"]
    assert entries[0]["step"] == 7
    assert {len(e["protocol"]["fractions"]) for e in entries} == {3}
    assert not (tmp_path / "run" / "eval.json").exists()


def test_results_are_kept_when_an_encoder_fails(tmp_path, monkeypatch, capsys):
    def compare(encoders, pairs, seeds, *, bn_adapt):
        assert bn_adapt
        for name, found in (("this", {"miou": 0.25, "miou_0.1": 0.125}), ("random", {"miou": 0.5})):
            yield name, EvalRecord("segmentation", "scenes", 0, TaskResult(found), {})
        raise UserError("features are not finite")

    make_run(tmp_path, "tiny")
    words = ["--workdir", str(tmp_path), "--datasets", "scenes:40", *SMALL, "--compare", "random"]
    words += ["--bn-adapt"]
    monkeypatch.setattr(evaluate, "compare", compare)
    for times in (1, 2):
        assert evaluate.main(words) == 1
        said = capsys.readouterr()
        assert "error: features are not finite" in said.err
        rows = [re.split("  +", line)[2:] for line in said.out.splitlines()]
        assert rows[2:] == [["miou", "25.0 %", "50.0 %"], ["miou_0.1", "12.5 %", "-"]]
        entries = json.loads((tmp_path / "compare.json").read_text())
        assert [(e["encoder"], e["step"]) for e in entries] == [("this", 7), ("random", 0)] * times
    (tmp_path / "compare.json").write_text("[{")
    monkeypatch.setattr(evaluate, "restore", None)  # it is found before the work
    assert evaluate.main(words) == 1
    assert "compare.json is damaged" in capsys.readouterr().err


def test_random_weights_are_those_before_training(tmp_path, tiny_encoder):
    make_run(tmp_path, "tiny")
    assert run_export(tmp_path, "flax", tmp_path / "a.safetensors") == 0
    encoder = load_encoder(tmp_path / "a.safetensors")
    expected = tiny_encoder.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, with_random_weights(encoder).variables, expected)


def test_mistakes(tmp_path, capsys):
    make_run(tmp_path, "tiny")
    for options, message in (
        (
            ["--datasets", "objects:60", "--compare", "nowhere.pth"],
            "no file of weights nowhere.pth",
        ),
        (["--datasets", "objects:60", "--compare", "random,random"], "have the same name"),
        (["--datasets", "objects:60", "--compare", "random", "--set", "knn.k=2"], "knn.k"),
        (["--compare", "random", "--tasks", "knn"], "leave out --tasks"),
        (["--compare", "random", "--preset", "simclr"], "leave out --preset"),
        (["--compare", "random", "--from-scratch"], "leave out --from-scratch"),
    ):
        assert evaluate.main(["--workdir", str(tmp_path), *options]) == 1
        assert message in capsys.readouterr().err.strip().splitlines()[-1]
