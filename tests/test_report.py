"""The page about runs: what must be on it, that it needs nothing else, and what it does without."""

import dataclasses
import html.parser
import json
import math
import os
import pathlib
import statistics
import types
import xml.etree.ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxssl import evaluate, export, report
from jaxssl.config import base, defaults
from jaxssl.config.checks import flatten
from jaxssl.data import open_source
from jaxssl.errors import UserError
from jaxssl.evaluate import save
from jaxssl.evaluation.classification.linear_probe import PRESETS
from jaxssl.evaluation.run import EvalRecord
from jaxssl.evaluation.task import TaskResult
from jaxssl.preview import cut_views
from jaxssl.reporting.page import KINDS, make_card, render
from jaxssl.reporting.pictures import Picture, class_table, color, confusion_matrix
from jaxssl.reporting.runs import group_runs, read_run, read_runs, spell
from jaxssl.reporting.tables import collect_results, result_tables, summarize
from jaxssl.training.checkpoint import Checkpoints
from jaxssl.training.results import read_eval_records

VOID = {"img", "meta"}
ODD = """a<b>&"quoted" 'run'"""
SCRIPT = "<script>alert(1)</script>"


pytestmark = pytest.mark.usefixtures("small_encoders")


def make_config(seed=0, sampler="region_crop"):
    config = base()
    config.seed, config.epochs, config.dtype = seed, 2, "float32"
    config.data.source, config.data.pixels = "scenes:12", 1024
    config.encoder = ConfigDict({"name": "tiny", "width": 1.0})
    config.sampler = defaults("sampler", sampler)
    config.views.size, config.views.recipe = 16, "gray"
    config.eval.datasets, config.eval.size = ("objects:40",), 16
    return config


def metrics(knn):
    yield {
        "step": 0,
        "epoch": 0.0,
        "eval/objects/knn_top1": 0.1,
        "eval/objects/majority_baseline": 0.1,
    }
    for step in range(1, 9):
        loss = 3.0 / step if step != 3 else float("nan")
        yield {"step": step, "epoch": step / 4, "loss": loss, "images_per_sec": 100.0}
    yield {"step": 8, "epoch": 2.0, "eval/objects/knn_top1": knn} | {
        "eval/objects/majority_baseline": 0.1,
        "health/std": 0.2, "health/std_if_even": 0.3, "health/rank_me": 7.0
    }  # fmt: skip


def entry(task, top1, **details):
    return {"step": 8, "task": task, "dataset": "objects", "seed": 0, "results": {"top1": top1}} | {
        "protocol": {"k": 20}, "details": details
    }  # fmt: skip


def make_run(workdir, config, *, knn=0.5, entries=(), encoder=None):
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text(json.dumps(config.to_dict()))
    (workdir / "environment.json").write_text(json.dumps({"versions": {"jax": "1.2.3"}}))
    lines = "".join(json.dumps(line) + "\n" for line in metrics(knn))
    (workdir / "metrics.jsonl").write_text(lines + '{"step": 9, "epo')  # cut short by a kill
    if entries:
        (workdir / "eval.json").write_text(json.dumps(entries))
    if encoder:
        variables = encoder.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            checkpoints.save(8, {"nothing": jnp.zeros(1)}, variables)
    return workdir


class Page(html.parser.HTMLParser):
    """What is on a page: tags, their attributes, the text of each heading, cell and note."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.source = path.read_text()
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style" and data.strip():
            self.text.append(data)

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)

    def sections(self):
        return [attributes["id"] for tag, attributes in self.tags if tag == "section"]

    def row(self, *start):
        """The texts that follow these in the table of results."""
        for i in range(len(self.text)):
            if tuple(self.text[i : i + len(start)]) == start:
                return self.text[i + len(start) : i + len(start) + 6]
        raise AssertionError(f"no {start} in {self.text}")


def make_page(tmp_path, *workdirs, **flags):
    out = tmp_path / "page.html"
    words = [word for key, value in flags.items() for word in (f"--{key}", value)]
    assert report.main([*map(str, workdirs), "--out", str(out), *words]) == 0
    return Page(out)


@pytest.fixture(scope="module")
def whole(small_encoders, tiny_encoder, tmp_path_factory):
    """The page of two seeds with everything there is, and of a run with another sampler."""
    folder = tmp_path_factory.mktemp("runs")
    classes = [SCRIPT, "ring"]
    said = entry(
        "linear", 0.75, classes=classes, confusion=[[3, 1], [0, 4]], per_class=[0.75, None]
    )
    odd = said | {"dataset": ODD}
    first = make_run(folder / f"{ODD}_0", make_config(), entries=[said, odd], encoder=tiny_encoder)
    key, log = json.dumps("eval/objects/majority_baseline"), first / "metrics.jsonl"
    odd_key = json.dumps(f"eval/{ODD}/knn_top1")
    log.write_text(log.read_text().replace(key, f"{odd_key}: 0.5, {key}"))
    rng = np.random.default_rng(0)
    (first / "predictions").mkdir()
    np.savez(
        first / "predictions" / "objects_linear.npz",
        image=rng.integers(0, 256, (3, 16, 16, 3)).astype(np.uint8),
        truth=rng.integers(0, 256, (3, 16, 16)).astype(np.uint8),
        predicted=np.zeros((3, 16, 16), np.uint8),
    )
    second = make_run(
        folder / f"{ODD}_1", make_config(seed=1), knn=0.7, entries=[entry("linear", 0.85)]
    )
    other = make_run(folder / "other", make_config(sampler="random_crop"), knn=0.3)
    return make_page(folder, first, second, other)


def test_a_page_has_all_sections_and_needs_nothing_else(whole):
    assert whole.sections() == [
        "summary", "curves", "results", "configuration", "views", "neighbors", "map",
        "heat-maps", "confusion", "masks", "machine",
    ]  # fmt: skip
    links = [attributes["href"][1:] for tag, attributes in whole.tags if tag == "a"]
    assert links == whole.sections()
    for tag, attributes in whole.tags:
        assert tag not in ("script", "link", "iframe", "object", "base")
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert attributes.get("href", "#").startswith("#")
        assert tag != "img" or attributes["alt"]
    assert "url(" not in whole.source
    assert "@import" not in whole.source
    assert len(whole.source) < 10_000_000
    # Twice 6 images with 2 views; 6 queries with 7 neighbors; 6 pairs; 3 rows of 3 masks.
    assert whole.count("img") == 2 * 6 * 3 + 6 * 8 + 6 * 2 + 3 * 3
    there = [a["style"] for tag, a in whole.tags if a.get("class") == "swatch"]
    assert whole.text.count("linear on objects") == 2  # over a confusion matrix, and over masks
    frames = [a.get("class") for tag, a in whole.tags if tag == "figure"]
    assert [frames.count(f"view{n}") for n in range(3)] == [12, 12, 0]
    assert there[-2:] == [f"background:rgb{color(n)}" for n in range(2)]  # of classes in masks
    assert "jax" in "".join(whole.text)
    assert "1.2.3" in whole.text


def test_names_are_text_whatever_they_hold(whole):
    assert ODD in whole.text
    assert SCRIPT in whole.text
    assert f"kNN top-1 on {ODD}" in whole.text
    assert f"linear on {ODD}" in whole.text
    assert {"b", "script"}.isdisjoint(tag for tag, _ in whole.tags)
    titles = {attributes.get("title") for _, attributes in whole.tags}
    assert f"{SCRIPT} as ring" in titles
    assert SCRIPT not in whole.source
    assert "a<b>" not in whole.source


def test_names_that_are_no_text_are_written_out(tmp_path):
    run = make_run(tmp_path / os.fsdecode(b"caf\xe9"), make_config())
    assert r"caf\udce9" in make_page(tmp_path, run).text


def test_a_paper_is_not_beside_what_is_untrained(tmp_path):
    config = make_config()
    config.data.source = "tfds:cifar10/train"
    config.method.name, config.sampler = "simclr", defaults("sampler", "random_crop")
    run = make_run(tmp_path / "run", config)
    log = (run / "metrics.jsonl").read_text().replace("objects/knn", "cifar10/linear")
    (run / "metrics.jsonl").write_text(log)
    tables = result_tables(group_runs([read_run(run)]))
    found = {row[-1]: row[2].paper for row in tables["main"].rows if row[1] == "linear top-1"}
    assert found.pop("untrained") == ""
    assert all(paper.endswith(" %") for paper in found.values())
    assert found


def test_broken_images_are_left_out_of_pictures_and_others_shown(tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for i in range(9):
        pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(photos / f"{i}.png")
    for i in (3, 5):
        (photos / f"{i}.png").write_bytes((photos / f"{i}.png").read_bytes()[:200])
    config = make_config(sampler="random_crop")
    config.data.source, config.eval.datasets = f"folder:{photos}", ()
    views = [kind for kind in KINDS if kind.title == "Views"]
    monkeypatch.setattr("jaxssl.reporting.page.KINDS", views)
    page = make_page(tmp_path, make_run(tmp_path / "run", config))
    shown = [a["alt"] for tag, a in page.tags if tag == "img" and "with its regions" in a["alt"]]
    assert len(shown) == 6
    assert "Left out" not in " ".join(page.text)


def test_classes_without_names_are_told(tmp_path):
    details = {"classes": ["a"], "confusion": [[1, 2], [3, 4]]}
    for drawn in (confusion_matrix, class_table):
        with pytest.raises(UserError, match="results of 2 classes and names of 1"):
            drawn(details | {"per_class": [0.5, 0.5]})


def test_templates_escape_text_and_attributes():
    picture = Picture("data:", 'x" onerror="alert(1)', 1, 1, caption="<i>")
    drawn = render("rows.html", rows=[[picture]], caption=ODD)
    assert 'alt="x&#34; onerror=&#34;alert(1)"' in drawn
    assert "&lt;i&gt;" in drawn
    assert "a&lt;b&gt;&amp;&#34;quoted&#34; &#39;run&#39;" in drawn


def test_seeds_are_taken_together(whole):
    deviation = 100 * statistics.stdev([0.5, 0.7])
    assert whole.row("objects", "kNN top-1", f"60.0 ± {deviation:.1f} % ")[:2] == ["n 2", "30.0 %"]
    assert whole.row("objects", "linear top-1", "80.0 ± 7.1 % ")[:3] == ["n 2", "-", "k 20"]
    assert whole.row("sampler.name")[:2] == ["region_crop", "random_crop"]
    assert "seed" not in whole.text
    assert f"{ODD} (2 seeds)" in whole.text


def test_views_that_runs_share_are_drawn_once(tmp_path):
    runs = []
    for name in ("longer", "shorter", "anywhere"):
        config = make_config(sampler="random_crop" if name == "anywhere" else "region_crop")
        config.optim.lr, config.method.temperature = len(name) / 100, len(name) / 10
        config.data.cache_dir = name
        runs.append(make_run(tmp_path / name, config))
    page = make_page(tmp_path, *runs)
    assert page.count("img") == 2 * 6 * 3
    assert page.text.count("longer, shorter") == 1


def test_views_depend_on_what_is_said_of_them_alone():
    """A method, an encoder and a way to optimize change none of the views."""
    config, other = make_config(), make_config()
    other.method, other.optim = defaults("method", "detcon_b"), defaults("optim", "lars")
    other.data.region_planes, other.data.input, other.batch_size = 2, "stream", 8
    (views,) = (kind for kind in KINDS if kind.title == "Views")
    one, same = (
        {k: v for k, v in flatten(c).items() if k.startswith(views.depends_on)}
        for c in (config, other)
    )
    assert one == same
    source = open_source(config.data.source)
    here, there = (cut_views(c, source, range(4), seed=3) for c in (config, other))
    jax.tree.map(np.testing.assert_array_equal, vars(here), vars(there))


def saved(protocol):
    """As in eval.json, with what was chosen on the way."""
    return json.loads(json.dumps(dataclasses.asdict(protocol))) | {"learning_rate": 0.1}


def test_segmentation_has_one_name(tmp_path):
    run = make_run(tmp_path / "run", make_config())
    log = (run / "metrics.jsonl").read_text().replace("objects/knn_top1", "scenes/miou")
    (run / "metrics.jsonl").write_text(log)
    found = entry("segmentation", 0.5) | {"dataset": "scenes", "results": {"miou": 0.75}}
    (run / "eval.json").write_text(json.dumps([found]))
    tables = result_tables(group_runs([read_run(run)]))
    rows = [row[2].text for row in tables["main"].rows if row[1] == "segmentation mean IoU"]
    assert rows == ["10.0 %", "50.0 %", "75.0 %"]


def test_headings_of_confusion_matrices_say_of_which_protocol_they_are(tmp_path):
    details = {"confusion": [[3, 1], [0, 4]]}
    entries = [
        entry(task, 0.5, **details) | {"step": step, "protocol": protocol}
        for task, step, protocol in (
            ("knn", 4, {"k": [1], "temperature": 0.1}),
            ("knn", 8, {"k": [5, 20], "temperature": 0.1}),
            ("knn", 8, {"k": [200], "temperature": 0.07}),
            ("linear", 8, {"epochs": 3}),
            ("linear", 8, saved(PRESETS["simclr"])),
        )
    ]
    page = make_page(tmp_path, make_run(tmp_path / "run", make_config(), entries=entries))
    places = [i for i, text in enumerate(page.text) if text.endswith(" on objects")]
    told = [page.text[i : i + 2] for i in places if not page.text[i].startswith("kNN top-1")]
    assert told == [
        ["kNN on objects", "k 5, temperature 0.1"],
        ["kNN on objects", "k 200, temperature 0.07"],
        ["linear on objects", "epochs 3"],
        ["linear on objects", "preset simclr"],
    ]
    said = [page.text[i + 2] for i, text in enumerate(page.text) if text == "kNN top-1"]
    assert sorted(said) == [
        "after training, eval.knn_k 200",
        "k 200, temperature 0.07",
        "k 5, temperature 0.1",
        "untrained, eval.knn_k 200",
    ]


def test_seeds_of_an_evaluation_are_one_row_whatever_each_has_drawn(tmp_path):
    """The cells of its memory are of the seed; those of linear segmentation are a setting."""
    drawn = [
        entry(task, 0.25 * (2 + seed))
        | {"seed": seed, "protocol": {"k": 30, "cells": [1000 + seed], "learning_rate": [seed]}}
        for task in ("in_context", "segmentation")
        for seed in range(3)
    ]
    found = collect_results(
        group_runs([read_run(make_run(tmp_path / "run", make_config(), entries=drawn))])
    )
    rows = {
        name: [list(values.values()) for m, values in found.items() if m.name == f"{name}_top1"]
        for name in ("in_context", "segmentation")
    }
    assert rows == {"in_context": [[[0.75]]], "segmentation": [[[0.5]], [[0.75]], [[1.0]]]}


def test_what_is_missing_is_left_out_by_name(tmp_path, capsys):
    gone = make_config()
    gone.data.source = "folder:/nowhere/at all"
    gone.eval.datasets = ("folder:/gone",)
    begun = make_run(tmp_path / "begun", gone)
    (begun / "metrics.jsonl").unlink()
    (begun / "environment.json").unlink()
    page = make_page(tmp_path, begun, make_run(tmp_path / "interrupted", make_config()))
    text = " ".join(page.text)
    assert "Left out: /nowhere/at all" in text
    assert "Left out: /gone" in text
    assert f"no checkpoints in {tmp_path / 'interrupted'} yet" in text
    assert "Nothing measured yet." in text
    assert page.count("img") == 6 * 3  # the views of the run whose data are there
    assert "begun: no views: /nowhere" in capsys.readouterr().err


def test_a_run_that_diverged_has_no_pictures_of_features(tmp_path, tiny_encoder):
    def init(*arguments, **options):
        return jax.tree.map(lambda x: x * jnp.nan, tiny_encoder.init(*arguments, **options))

    encoder = types.SimpleNamespace(init=init)
    page = make_page(tmp_path, make_run(tmp_path / "run", make_config(), encoder=encoder))
    said = [text for text in page.text if text.startswith("Left out: ")]
    assert [text.split()[4] for text in said] == ["objects:10", "objects:10", "scenes:12"]
    assert all("are not finite; did training diverge?" in text for text in said)
    assert page.count("img") == 6 * 3


def test_a_run_alone_is_compared_with_the_defaults(tmp_path):
    page = make_page(tmp_path, make_run(tmp_path / "alone", make_config()), title="One & only")
    assert page.row("data.source")[:2] == ["scenes:4000", "scenes:12"]
    assert "One & only" in page.text


def test_one_curve_is_drawn_as_a_file(tmp_path):
    runs = [make_run(tmp_path / f"{SCRIPT[:4]}{knn}", make_config(), knn=knn) for knn in (0.5, 0.7)]
    page = make_page(tmp_path, *runs, curve="eval/objects/knn_top1")
    assert page.source.startswith("<svg xmlns=")
    assert [tag for tag, _ in page.tags].count("polyline") == 3  # of each run, and the baseline
    xml.etree.ElementTree.fromstring(page.source)


def test_another_k_under_way_is_not_told_of_what_was_measured_before(tmp_path):
    run = make_run(tmp_path / "run", make_config())
    changes = ["after step 4, eval.knn_k: 20 -> 200"]
    (run / "environment.json").write_text(json.dumps({"changes": changes}))
    found = {m.when: m.setting for m in collect_results(group_runs([read_run(run)])) if m.when}
    assert found == dict.fromkeys(("untrained", "after training"), "eval.knn_k changed under way")


def test_a_curve_without_a_place_does_not_write_over_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run", make_config())
    pathlib.Path("report.html").write_text("the page")
    for key in ("loss", "eval/objects/knn_top1"):
        assert report.main(["run", "--curve", key]) == 0
        assert pathlib.Path(f"{key.rpartition('/')[2]}.svg").read_text().startswith("<svg")
    assert pathlib.Path("report.html").read_text() == "the page"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{here}/nothing"], "no run in"),
        (["{here}/damaged"], "eval.json is damaged: "),
        (["{here}/old"], "[0] has no dataset, results, seed"),
        (["{here}/old", "--map", "umap"], "invalid choice: 'umap'"),
        (["{here}/run", "--curve", "eval/objects/knn"], "there are loss, eval/objects/knn_top1"),
        ([], "required: DIR"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, words, message):
    for name, content in (("damaged", "[{"), ("old", '[{"knn_top1": 1}]')):
        workdir = make_run(tmp_path / name, make_config())
        (workdir / "eval.json").write_text(content)
    make_run(tmp_path / "run", make_config())
    assert report.main([word.format(here=tmp_path) for word in words]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert message in error


def test_results_of_earlier_versions_have_their_names_of_today(tmp_path):
    old = entry("segmentation", 0.5)
    old["results"] = {"miou": 0.5, "floor_pixel_accuracy": 0.4}
    old["protocol"] = {"learning_rates": [0.1]}
    workdir = make_run(tmp_path / "old", make_config(), entries=[old])
    log = (workdir / "metrics.jsonl").read_text().replace("majority_baseline", "chance")
    (workdir / "metrics.jsonl").write_text(log)
    page = make_page(tmp_path, workdir)
    assert page.row("objects", "majority baseline")[0] == "10.0 %"
    assert page.row("objects", "segmentation baseline pixel accuracy")[0] == "40.0 %"
    assert page.text.count("as above") == 1  # the protocol of both
    assert not {"chance", "floor"} & set(" ".join(page.text).split())
    record = EvalRecord("knn", "objects", 0, TaskResult({"top1": 0.5}), {})
    save(workdir / "eval.json", 8, record)
    records = read_eval_records(workdir / "eval.json")
    assert records[0]["protocol"] == {"lr": [0.1]}
    results = [r["results"] for r in records]
    assert results == [{"miou": 0.5, "baseline_pixel_accuracy": 0.4}, {"top1": 0.5}]


def test_papers_that_pre_trained_on_scenes_are_beside_their_task(tmp_path):
    found = entry("in_context", 0.5) | {"dataset": "VOCdevkit", "results": {"miou": 0.5}}
    page = make_page(tmp_path, make_run(tmp_path / "run", make_config(), entries=[found]))
    (line,) = (text for text in page.text if "cribo" in text)
    assert line.startswith("pascal/in_context_miou: cribo 58.1 %: CrIBo (arXiv 2310.07855)")


def test_a_folder_of_runs_stands_for_them(tmp_path, capsys):
    for sampler in ("random_crop", "region_crop"):
        make_run(tmp_path / "runs" / sampler, make_config(sampler=sampler))
    page = make_page(tmp_path, tmp_path / "runs")
    assert "2 runs of 2 configurations" in " ".join(page.text)
    for command in (evaluate, export):
        words = ["--format", "flax", "--out", "x.safetensors"] if command is export else []
        assert command.main(["--workdir", str(tmp_path / "runs"), *words]) == 1
        error = capsys.readouterr().err
        assert f"runs holds several runs; give one: {tmp_path / 'runs' / 'random_crop'}, " in error


def test_options_may_stand_between_runs(tmp_path):
    runs = [str(make_run(tmp_path / f"run_{seed}", make_config(seed))) for seed in range(2)]
    out = tmp_path / "loss.svg"
    assert report.main([runs[0], "--curve", "loss", "--out", str(out), runs[1]]) == 0
    assert out.read_text().count("<polyline") == 2


def test_names_of_groups(tmp_path):
    seeds = [make_run(tmp_path / f"samclr_seed{i}", make_config(i)) for i in (0, 10)]
    other = make_run(tmp_path / "x" / "samclr", make_config(sampler="random_crop"))
    groups = group_runs([read_run(workdir) for workdir in (*seeds, other)])
    assert [group.name for group in groups] == ["samclr", f"samclr ({other})"]
    assert [len(group.runs) for group in groups] == [2, 1]


def test_a_run_given_twice_counts_once_and_seeds_that_are_alike_are_warned_of(tmp_path, caplog):
    run = make_run(tmp_path / "runs" / "a", make_config())
    (tmp_path / "link").symlink_to(run)
    runs = read_runs([run, run.parent, tmp_path / "link"])
    assert [one.workdir for one in runs] == [run]
    assert [r.message.split()[0] for r in caplog.records] == [str(run), str(tmp_path / "link")]
    caplog.clear()
    again = make_run(tmp_path / "again", make_config())
    (group,) = group_runs(read_runs([run, again]))
    assert len(group.runs) == 2
    said = "a: several runs have the seed 0 and count as several seeds"
    assert [r.message for r in caplog.records] == [said]


def test_seeds_of_unequal_length_are_not_averaged(tmp_path):
    runs = [
        make_run(
            tmp_path / f"run_{seed}",
            make_config(seed),
            knn=0.5 + 0.1 * seed,
            entries=[entry("linear", 0.2 * seed) | {"step": 4 * min(seed, 2)}],
        )
        for seed in (1, 2, 3)
    ]
    lines = (runs[0] / "metrics.jsonl").read_text().splitlines(keepends=True)
    (runs[0] / "metrics.jsonl").write_text("".join(lines[:5]))  # the first of two epochs
    page = make_page(tmp_path, *runs)
    assert page.row("objects", "linear top-1", "50.0 ± 14.1 % ")[0] == "n 2"
    assert page.row("objects", "linear top-1", "20.0 %")[0] == "step 4, k 20"
    (group,) = group_runs(read_runs(runs))
    card = make_card(group)
    assert card["headline"].text == "75.0 ± 7.1 %"
    assert card["measure"] == "kNN top-1 on objects at epoch 2"
    assert card["facts"]["epochs"] == "1 to 2 of 2"
    assert card["facts"]["untrained"] == "10.0 ± 0.0 %"


def test_results_of_an_earlier_step_than_the_last_say_so(tmp_path, capsys):
    """One run was evaluated halfway, and goes on: its numbers are not the other's equals."""
    details = {"classes": ["a", "b"], "confusion": [[3, 1], [0, 4]]}
    early = [
        entry(task, 0.5, **details) | {"step": step, "seed": seed}
        for task, step, seed in (("knn", 2, 0), ("linear", 4, 0), ("linear", 4, 1))
    ]
    half = make_run(tmp_path / "half", make_config(), entries=early)
    pictures = np.zeros((1, 16, 16, 3), np.uint8)
    (half / "predictions").mkdir()
    maps = dict.fromkeys(("truth", "predicted"), pictures[..., 0])
    np.savez(half / "predictions" / "objects_knn.npz", image=pictures, **maps)
    config = make_config(sampler="random_crop")
    whole = make_run(tmp_path / "whole", config, entries=[entry("linear", 0.75, **details)])
    page = make_page(tmp_path, half, whole)
    assert page.row("objects", "linear top-1", "-")[:2] == ["75.0 %", "k 20"]
    assert page.row("objects", "linear top-1", "50.0 %")[:2] == ["-", "step 4, k 20"]
    assert "kNN on objects, step 2" in page.text
    places = [i for i, text in enumerate(page.text) if text == "linear on objects"]
    assert [page.text[i + 1] for i in places] == ["step 4, k 20", "k 20"]
    said = f"{half / 'eval.json'}: 1 of 3 results are left out of the tables, for they are of"
    err = capsys.readouterr().err
    assert (err.count(said), err.count("left out of the tables")) == (1, 1)


@pytest.mark.parametrize(
    ("measure", "text"),
    [
        ("knn_top1_k20", "kNN top-1 k 20"),
        ("few_shot_top1_0.01", "few-shot top-1 with 1 % of the images"),
        ("in_context_miou_0.00781", "in-context mean IoU with 0.781 % of the images"),
        ("retrieval_recall_at_1", "retrieval recall at 1"),
        ("health_rank_me", "health RankMe"),
    ],
)
def test_results_in_words(measure, text):
    assert spell(measure) == text


def test_numbers_that_are_not_finite_are_counted():
    for values in ([float("nan"), 0.5], [float("inf"), float("-inf")]):
        bad = sum(not math.isfinite(value) for value in values)
        assert summarize("knn_top1", values).text == f"not finite in {bad} of 2"
    assert summarize("knn_top1", [0.5, 0.5]).text == "50.0 ± 0.0 %"
