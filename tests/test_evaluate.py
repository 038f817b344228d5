"""Choosing tasks and protocols, saving results, the table. `test_train.py` runs the command."""

import concurrent.futures
import dataclasses
import errno
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_encoder_init import make_run

import jaxssl
from jaxssl import evaluate, sharding
from jaxssl.errors import UserError
from jaxssl.evaluate import results_table, save
from jaxssl.evaluation import TASKS
from jaxssl.evaluation.classification.linear_probe import PRESETS
from jaxssl.evaluation.datasets import open_datasets
from jaxssl.evaluation.features import labeled_features
from jaxssl.evaluation.protocols import change, preset_of, with_presets
from jaxssl.evaluation.run import EvalRecord, also_from_scratch, choose_tasks, match
from jaxssl.evaluation.task import TaskResult
from jaxssl.pretrained.encoder import Encoder
from jaxssl.training import results


def entry(task, top1, seed=0, **extra):
    result = TaskResult(
        {"top1": top1, "majority_baseline": 0.1}, details={"classes": ["a"]}, **extra
    )
    return EvalRecord(task, "photos", seed, result, {"k": [20]})


def test_settings_change_protocols():
    settings = ["knn.k=20,200", "knn.temperature=0.07", "linear.augment=true", "linear.epochs=3"]
    tasks = change(choose_tasks(("knn", "linear")), settings)
    assert (tasks["knn"].protocol.k, tasks["knn"].protocol.temperature) == ((20, 200), 0.07)
    assert tasks["linear"].protocol.augment is True
    assert tasks["linear"].protocol.epochs == 3
    assert TASKS["linear"].protocol.epochs == 90
    assert with_presets(tasks, ["s3same"])["linear"].protocol == PRESETS["s3same"]
    for text in ("5,20", "(5, 20)", "[5,20]", "5,20,"):
        assert change(tasks, [f"knn.k={text}"])["knn"].protocol.k == (5, 20)
    for name in ("lr", "learning_rates"):  # its former name
        assert change(tasks, [f"linear.{name}=0.1,1"])["linear"].protocol.lr == (0.1, 1.0)
    changed = with_presets(choose_tasks(tuple(TASKS)), ["knn=dino", "linear=lightly", "cityscapes"])
    assert changed["knn"].protocol.k == (20,)
    assert changed["linear"].protocol == PRESETS["lightly"]
    assert changed["fcn"].protocol.epochs == 160
    assert with_presets(tasks, ["lightly"])["linear"].protocol == PRESETS["lightly"]
    with pytest.raises(ValueError, match="--preset knn=simclr: give one of knn=dino, linear=sweep"):
        with_presets(tasks, ["knn=simclr"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("knn.kk=3", "unknown setting 'knn.kk' .* did you mean 'knn.k'"),
        ("linear.epochs=3", "unknown setting 'linear.epochs' of the tasks chosen"),
        ("knn.k", "write --set knn.k=VALUE"),
        ("knn.temperature=warm", "give a finite number, as in knn.temperature=0.1"),
        ("knn.temperature=nan", "give a finite number, as in knn.temperature=0.1"),
        (
            "knn.k=2,x",
            "give a whole number below 2.63, or several, separated by commas, as in knn.k=",
        ),
        ("knn.k=3.9", "knn.k=3.9: give a whole number below 2.63, or several"),
        ("knn.k=" + 400 * "9", "knn.k=9{60}: give a whole number below 2.63, or several"),
        ("knn.temperature=1e400", "give a finite number"),
        ("knn.k=", r"--set knn.k=: k is \(\); give one or more numbers"),
        ("knn.temperature=0", "--set knn.temperature=0: temperature is 0.0; it must be above 0"),
        ("finetune.epochs=1.5", "give a whole number below 2.63, as in finetune.epochs="),
    ],
)
def test_mistakes_in_settings(setting, message):
    with pytest.raises(ValueError, match=f"^[^\n]*{message}[^\n]*$"):
        change(choose_tasks(("knn", "finetune")), [setting])


def test_the_preset_of_a_saved_protocol():
    for task in TASKS.values():
        for name, preset in task.presets.items():
            saved = json.loads(json.dumps({"size": 32} | dataclasses.asdict(preset)))
            assert preset_of(task, saved) == name
            some = next(iter(dataclasses.asdict(preset)))
            assert preset_of(task, saved | {some: "another"}) == ""
    assert preset_of(TASKS["health"], {}) == ""


def test_flags_that_are_given_again_add_to_what_was_given():
    words = "--encoder e.pth --tasks knn --tasks linear,health --set knn.k=3 --set knn.k=4 a.b=5"
    words += " --preset knn=dino --preset linear=simclr --datasets folder:a --datasets folder:b"
    args = evaluate.parse_arguments(words.split())
    assert args.tasks == ["knn", "linear", "health"]
    assert args.datasets == ["folder:a", "folder:b"]
    assert args.set == ["knn.k=3", "knn.k=4", "a.b=5"]
    assert args.preset == ["knn=dino", "linear=simclr"]
    plain = evaluate.parse_arguments(["--encoder", "e.pth"])
    assert (plain.tasks, plain.datasets, plain.set, plain.preset) == (None, None, [], [])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workdir", ""], "argument --workdir: the path is empty"),
        (
            ["--workdir", "r", "--encoder-name", "vit_tiny"],
            "--encoder-name is of --encoder, not of",
        ),
        (
            ["--workdir", "r", "--encoder-prefix", "teacher."],
            "--encoder-prefix is of --encoder, not",
        ),
        (["--workdir", "r", "--encoder-normalize", "half"], "--encoder-normalize is of --encoder"),
        (["--encoder", "r", "--encoder-normalize", "byte"], "invalid choice: 'byte'"),
    ],
)
def test_flags_that_mean_nothing_are_refused(words, message, capsys):
    assert evaluate.main(words) == 1
    assert message in capsys.readouterr().err


def test_that_tasks_do_not_start_from_scratch_is_said(caplog):
    changed = also_from_scratch(choose_tasks(("fcn", "knn", "finetune")))
    assert "--from-scratch changes nothing of knn: no encoder is trained there" in caplog.text
    assert changed["fcn"].protocol.scratch
    assert changed["finetune"].protocol.scratch
    with pytest.raises(UserError, match="--from-scratch is for finetune, fcn, pets, depth; none"):
        also_from_scratch(choose_tasks(("knn",)))


def test_tasks_and_data_sets_must_fit():
    with pytest.raises(ValueError, match="unknown task 'kn'; choose from knn, linear"):
        choose_tasks(("kn",))
    with pytest.raises(ValueError, match="task 'fcn_cityscapes' is now: --tasks fcn --preset"):
        choose_tasks(("fcn_cityscapes",))
    with pytest.raises(ValueError, match="--preset byol: give one of knn=dino$"):
        with_presets(choose_tasks(("knn",)), ["byol"])
    scenes, objects = open_datasets(["scenes:10", "objects:10"], 16)
    with pytest.raises(ValueError, match="task knn needs labels and none .* scenes:10"):
        match(choose_tasks(("knn",)), [scenes])
    message = (
        "segmentation needs label maps and none .* objects:10; give a folder with images/train"
    )
    with pytest.raises(ValueError, match=message):
        match(choose_tasks(("segmentation",)), [objects])
    with pytest.raises(ValueError, match="scenes:10 has images, .*; no task can use it: linear"):
        match(choose_tasks(("linear",)), [objects, scenes])
    with pytest.raises(ValueError, match="the same name"):
        open_datasets(["objects:10", "objects:20"], 16)


def test_results_are_added_and_maps_go_beside(tmp_path):
    maps = {"image": np.zeros((2, 4, 4, 3), np.uint8), "truth": np.zeros((2, 4, 4), np.uint8)}
    path = tmp_path / "eval.json"
    save(path, 7, entry("knn", 0.5))
    save(path, 7, entry("segmentation", 0.6, predictions=maps))
    first, second = json.loads(path.read_text())
    assert first == {
        "step": 7,
        "task": "knn",
        "dataset": "photos",
        "seed": 0,
        "results": {"top1": 0.5, "majority_baseline": 0.1},
        "protocol": {"k": [20]},
        "details": {"classes": ["a"]},
    }
    assert second["task"] == "segmentation"
    with np.load(tmp_path / "predictions" / "photos_segmentation.npz") as saved:
        assert {name: saved[name].shape for name in saved} == {
            "image": (2, 4, 4, 3),
            "truth": (2, 4, 4),
        }


def test_results_of_files_of_one_stem_are_told_apart(tmp_path):
    maps = {"image": np.zeros((2, 4, 4, 3), np.uint8), "truth": np.zeros((2, 4, 4), np.uint8)}
    for file in ("a.npz", "a.pth"):
        save(tmp_path / "a.eval.json", 0, entry("fcn", 0.6, predictions=maps), file)
    entries = json.loads((tmp_path / "a.eval.json").read_text())
    assert [found["file"] for found in entries] == ["a.npz", "a.pth"]
    names = sorted(path.name for path in (tmp_path / "predictions").iterdir())
    assert names == ["a.npz_photos_fcn.npz", "a.pth_photos_fcn.npz"]


def test_evaluations_at_once_keep_the_results_of_each(tmp_path):
    path = tmp_path / "eval.json"
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        jobs = [threads.submit(save, path, 7, entry("knn", 0.5, seed)) for seed in range(16)]
        assert not [job.result() for job in jobs if job.result()]
    assert sorted(e["seed"] for e in json.loads(path.read_text())) == [*range(16)]


def test_table_has_mean_and_spread():
    entries = [entry("knn", 0.5), entry("linear", 0.6, 0), entry("linear", 0.8, 1)]
    table = results_table(entries).splitlines()
    assert table[2].split() == ["photos", "knn", "top1", "50.0", "%"]
    assert table[4].split() == ["photos", "linear", "top1", "70.0", "±", "14.1", "%"]


@pytest.mark.usefixtures("small_encoders")
def test_results_that_cannot_be_saved_are_printed(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "run", "tiny")
    words = ["--workdir", str(tmp_path / "run"), "--datasets", "objects:20", "--tasks", "knn"]
    words += ["--set", "knn.k=3", "--out"]
    monkeypatch.setattr(evaluate, "restore", None)
    assert evaluate.main([*words, str(tmp_path / "nowhere" / "a.json")]) == 1
    said = f"no results can be saved in {tmp_path / 'nowhere'}: No such file or directory; give"
    assert said in capsys.readouterr().err
    monkeypatch.undo()

    def write_text(path, text):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(results, "write_text", write_text)
    assert evaluate.main([*words, str(tmp_path / "a.json")]) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[2].split()[:3] == ["objects", "knn", "top1"]
    assert f"No space left on device: {tmp_path / 'a.json'}" in said.err


@pytest.mark.parametrize("option", ["--batch-size", "--seeds"])
@pytest.mark.parametrize("value", ["0", "-4"])
def test_numbers_above_zero(capsys, option, value):
    assert evaluate.main(["--encoder", "a", "--datasets", "objects:20", f"{option}={value}"]) == 1
    said = f"argument {option}: '{value}' is no whole number above 0; see"
    assert said in capsys.readouterr().err


def test_a_size_is_zero_or_more(capsys):
    assert evaluate.main(["--encoder", "a", "--datasets", "objects:20", "--size=-5"]) == 1
    said = "argument --size: '-5' is no whole number of 0 or more; see"
    assert said in capsys.readouterr().err


def test_metrics_of_training():
    assert entry("knn", 0.5).as_metrics() == {
        "eval/photos/knn_top1": 0.5,
        "eval/photos/majority_baseline": 0.1,
    }


def test_from_python(tmp_path, tiny_encoder):
    variables = tiny_encoder.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    encoder = Encoder(tiny_encoder, variables, "none", sharding.make_mesh(), size=16, show=False)
    (record,) = jaxssl.evaluate_encoder(
        encoder, ["objects:40"], ["knn"], settings=["knn.k=3,5"], cache_dir=str(tmp_path)
    )
    assert (record.task, record.dataset, record.seed) == ("knn", "objects", 0)
    assert set(record.result.results) >= {"top1", "top1_k5", "majority_baseline"}
    assert record.protocol["k"] == (3, 5)
    assert record.protocol["dtype"] == "float32"
    with pytest.raises(ValueError, match="unknown task 'fcnn'"):
        jaxssl.evaluate_encoder(encoder, ["objects:40"], ["fcnn"])
    single = jaxssl.evaluate_encoder(
        encoder, "objects:40", "knn", settings="knn.k=3,5", cache_dir=tmp_path
    )
    assert single[0].result.results == record.result.results
    with pytest.raises(ValueError, match="size is -3; it must be 0 or more"):
        jaxssl.evaluate_encoder(encoder, "objects:40", size=-3)
    with pytest.raises(ValueError, match="seeds is 0; it must be 1 or more"):
        jaxssl.evaluate_encoder(encoder, "objects:40", seeds=0)


def test_from_python_with_a_protocol_of_a_paper_and_labels_to_ignore(tmp_path, tiny_encoder):
    variables = tiny_encoder.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    encoder = Encoder(tiny_encoder, variables, "none", sharding.make_mesh(), size=16, show=False)
    evaluate = functools.partial(jaxssl.evaluate_encoder, encoder, cache_dir=tmp_path)
    own, dino = (evaluate("objects:40", "knn", presets=p)[0].protocol for p in ((), "knn=dino"))
    assert [(p["k"], p["temperature"]) for p in (own, dino)] == [((40,), 0.1), ((20,), 0.07)]
    adapted = evaluate("objects:40", "knn", bn_adapt=True)[0]
    assert (own["bn_adapt"], adapted.protocol["bn_adapt"]) == (False, True)
    settings = "segmentation.steps=2"
    (record,) = evaluate("scenes:20", "segmentation", settings=settings, ignore_labels=(0,))
    assert record.protocol["ignore_labels"] == [0]


def test_what_is_wrong_or_unwise_is_said_from_python(tmp_path, tiny_encoder, caplog):
    variables = tiny_encoder.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    encoder = Encoder(tiny_encoder, variables, "none", sharding.make_mesh(), size=16, show=False)
    assert len(repr(encoder)) < 1000  # without its weights
    with pytest.raises(UserError, match="images of several sizes"):
        encoder([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)])
    jaxssl.evaluate_encoder(encoder, "objects:300", "knn", cache_dir=tmp_path)
    assert "k = 200, more than the 30 images that a class has on average" in caplog.text


def test_features_are_of_the_data_that_is_asked_for(tmp_path, tiny_encoder):
    variables = tiny_encoder.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    used = Encoder(tiny_encoder, variables, "none", sharding.make_mesh(), size=16, show=False)
    for size in (8, 16):
        (data,) = open_datasets(["objects:20"], size, str(tmp_path))
        fresh = dataclasses.replace(used)
        assert not fresh.memory
        found, given = (labeled_features(encoder, data) for encoder in (used, fresh))
        assert labeled_features(used, data) is found
        for part, same in zip(found, given, strict=True):
            np.testing.assert_array_equal(part.features, same.features)


def test_a_comma_in_the_name_of_a_folder_separates_nothing():
    args = evaluate.parse_arguments(["--encoder", "a", "--datasets", "folder:a, b,objects:20"])
    assert args.datasets == ["folder:a, b", "objects:20"]
