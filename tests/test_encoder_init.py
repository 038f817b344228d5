"""Out of a run and into another: export, load_encoder, evaluate --encoder, encoder.init."""

import dataclasses
import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_run import run
from test_weight_files import harmful_files

import jaxssl
from jaxssl import evaluate, export, sharding
from jaxssl.config import base, build_method, defaults
from jaxssl.config.parts import KNOWN
from jaxssl.errors import UserError
from jaxssl.image.augment import normalize
from jaxssl.methods import METHODS
from jaxssl.models import variable_shapes
from jaxssl.models.resnet import ResNet
from jaxssl.models.vit import ViT
from jaxssl.pretrained.encoder import load_encoder, load_init_variables
from jaxssl.pretrained.model_card import torch_code, use_in_torch
from jaxssl.pretrained.param_names import to_flax, to_torch
from jaxssl.training.checkpoint import Checkpoints
from jaxssl.training.step import with_pretrained_encoder
from jaxssl.training.workdir import create_workdir
from jaxssl.types import TrainState, View

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)


pytestmark = pytest.mark.usefixtures("small_encoders")


def make_run(workdir, encoder, **options):
    """The folder of a run that has just saved random variables; the variables."""
    config = base()
    config.encoder = defaults("encoder", encoder, **options)
    config.views.size, config.dtype = 32, "float32"
    create_workdir(workdir, config, {"images": 10, "data": ""})
    shapes = variable_shapes(build_method(config)[1], 32)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda s: rng.uniform(0.01, 0.1, s.shape).astype(s.dtype), shapes)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(7, {"a": jnp.zeros(1)}, variables)
    return variables


def run_export(workdir, form, out):
    return export.main(["--workdir", str(workdir), "--format", form, "--out", str(out)])


def test_export_and_load(tmp_path, tiny_encoder, capsys):
    variables = make_run(tmp_path / "run", "tiny")
    out = tmp_path / "new" / "tiny.safetensors"
    assert run_export(tmp_path / "run", "flax", out) == 0
    printed = capsys.readouterr().out
    assert "7 of 7 tensors, of step 7" in printed
    assert "features differ by 0.0e+00" in printed
    assert sorted(p.name for p in out.parent.iterdir()) == ["tiny.md", "tiny.safetensors"]
    encoder = load_encoder(out)
    pixels = normalize(jnp.asarray(IMAGES, jnp.float32) / 255, "imagenet")
    expected = tiny_encoder.apply(variables, pixels, train=False)
    np.testing.assert_allclose(encoder(IMAGES), expected.pooled, rtol=1e-5)
    np.testing.assert_allclose(encoder.grid(IMAGES), expected.grid, rtol=1e-5)
    assert (encoder.size, encoder.metadata.step, encoder.metadata.method) == (32, 7, "simclr")
    for others in (list(IMAGES), torch.tensor(IMAGES), jnp.asarray(IMAGES)):
        np.testing.assert_array_equal(encoder(others), encoder(IMAGES))
    with pytest.raises(ValueError, match="give uint8"):
        encoder(IMAGES / 255)


@pytest.mark.parametrize(
    ("form", "ending", "encoder", "options"),
    [
        ("torchvision", "pth", "resnet18", {"stem": "cifar"}),
        ("timm", "pth", "resnet18", {"dilated_stages": 2}),
        ("timm", "safetensors", "vit", {"image_size": 32, "patch": 8, "pool": "mean"}),
    ],
)
def test_torch_agrees_with_the_code_of_the_card(tmp_path, capsys, form, ending, encoder, options):
    make_run(tmp_path, encoder, **options)
    out = tmp_path / f"encoder.{ending}"
    assert run_export(tmp_path, form, out) == 0
    printed = capsys.readouterr().out
    features, difference = (
        float(re.search(pattern, printed)[1])
        for pattern in (r"largest feature (\S+);", rf"in {form}, features differ by (\S+)")
    )
    assert difference <= 1e-5 * max(1, features)
    card = out.with_suffix(".md").read_text()
    code = re.search(r"In torch:\n\n```python\n(.*?)```", card, re.DOTALL)[1]
    assert "load_state_dict" in code


@pytest.mark.parametrize(
    ("form", "depth", "stages", "code"),
    [
        ("torchvision", 50, 1, "resnet50(replace_stride_with_dilation=[False, False, True])"),
        ("torchvision", 18, 0, "resnet18()"),
        ("torchvision", 18, 1, ""),
        ("timm", 50, 3, ""),
    ],
)
def test_dilated_stages_are_in_the_code_if_the_library_has_them(form, depth, stages, code):
    found = torch_code(ResNet(depth, dilated_stages=stages), form, "a.pth")
    assert code in found
    assert bool(code) == bool(found)


def test_other_features_in_torch_are_an_error(tmp_path, monkeypatch, capsys):
    make_run(tmp_path, "tiny")
    killed = "import os\nos.kill(os.getpid(), 9)\n"  # as for want of memory
    monkeypatch.setattr(export, "torch_code", lambda *_: killed)
    assert run_export(tmp_path, "flax", tmp_path / "a.safetensors") == 1
    assert "a.safetensors: its process ended with status -9;" in capsys.readouterr().err
    for difference in ("9.3", "nan"):
        monkeypatch.setattr(export, "_run_torch", lambda *_, said=difference, **__: said)
        assert run_export(tmp_path, "flax", tmp_path / "a.safetensors") == 1
        said = f"a.safetensors gives other features: they differ by {difference}"
        assert said in capsys.readouterr().err


def test_the_card_has_results_of_the_same_step(tmp_path):
    make_run(tmp_path, "tiny")
    lines = [{"step": s, "epoch": 1, "eval/a/knn_top1": s / 10} for s in (5, 7)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    entry = {"task": "linear", "dataset": "b", "seed": 0, "results": {"top1": 0.25}}
    entries = [entry | {"step": 7}, entry | {"step": 5, "results": {"top1": 0.125}}]
    knn = {"step": 7, "task": "knn", "dataset": "b", "seed": 0}
    for k, top1 in (([200], 0.625), ([5, 20], 0.75), ([200], 0.6875)):
        entries.append(knn | {"results": {"top1": top1}, "protocol": {"k": k, "size": 32}})
    (tmp_path / "eval.json").write_text(json.dumps(entries))
    assert run_export(tmp_path, "flax", tmp_path / "a.safetensors") == 0
    card = (tmp_path / "a.md").read_text()
    assert "| eval/a/knn_top1 | 70.0 % |" in card
    assert "| b/linear, seed 0: top1 | 25.0 % |" in card
    assert "| b/knn, k [200], seed 0: top1 | 68.8 % |\n" in card
    assert "| b/knn, k [5, 20], seed 0: top1 | 75.0 % |\n" in card
    assert "62.5" not in card
    assert "12.5" not in card
    assert "| 50.0 % |" not in card
    assert "method.temperature = 0.07" in card


@pytest.mark.parametrize(
    ("encoder", "options", "form", "message"),
    [
        ("vit", {"image_size": 32}, "torchvision", "give --format timm"),
        ("tiny", {}, "onnx", "choose from"),
    ],
)
def test_exports_that_cannot_be(tmp_path, capsys, encoder, options, form, message):
    make_run(tmp_path / "run", encoder, **options)
    assert run_export(tmp_path / "run", form, tmp_path / "a.safetensors") == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error:")
    assert message in error
    assert run_export(tmp_path / "nowhere", "flax", tmp_path / "a.safetensors") == 1
    assert run_export(tmp_path / "run", "flax", tmp_path / "a.pth") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_an_export_for_detectron2(tmp_path, capsys):
    variables = make_run(tmp_path, "resnet18", width=1 / 16)
    out = tmp_path / "a.pth"
    assert run_export(tmp_path, "detectron2", out) == 0
    said = capsys.readouterr().out
    assert "100 of 100 tensors" in said
    assert "detectron2 has no encoder like this one: only jaxssl.load_encoder reads the" in said
    assert "detectron2 has no encoder like this one: load it as" in (tmp_path / "a.md").read_text()
    saved = torch.load(out)
    assert saved.pop("matching_heuristics") is True
    expected = to_torch(variables, "detectron2")
    assert {"stem.conv1.norm.weight", "res5.1.conv2.weight"} < set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(saved["model"].pop(name).numpy(), array)
    assert saved == {"model": {}}
    jax.tree.map(np.testing.assert_array_equal, load_encoder(out).variables, variables)
    plain = export.file_metadata(base(), "detectron2", 7)
    assert "PIXEL_MEAN: [123.675, 116.28, 103.53]" in use_in_torch(plain, "a.pth", "")
    for form, name in (("detectron2", "b.safetensors"), ("flax", "b.pth")):
        assert run_export(tmp_path, form, tmp_path / name) == 1
        assert "must end in" in capsys.readouterr().err


def test_no_export_writes_over_the_card_of_another_or_a_page_of_the_user(tmp_path):
    make_run(tmp_path, "tiny")
    (tmp_path / "b.md").write_text("notes")
    for name in ("a.safetensors", "a.pth", "a.safetensors", "b.pth"):
        form = "flax" if name.endswith("safetensors") else "torchvision"
        assert run_export(tmp_path, form, tmp_path / name) == 0
    cards = {p.name: p.read_text().partition("\n")[0] for p in tmp_path.glob("*.md")}
    assert cards == {
        "a.md": "# a.safetensors",
        "a.pth.md": "# a.pth",
        "b.md": "notes",
        "b.pth.md": "# b.pth",
    }


def test_the_normalization_that_an_export_says_is_kept(tmp_path):
    make_run(tmp_path, "tiny")
    path = tmp_path / "a.safetensors"
    assert run_export(tmp_path, "flax", path) == 0
    assert load_encoder(path, normalize="imagenet").normalization == "imagenet"
    with pytest.raises(UserError, match="says that images are normalized by imagenet, not half"):
        load_encoder(path, normalize="half")


def test_exports_from_python(tmp_path):
    make_run(tmp_path, "tiny")
    encoder = jaxssl.export_encoder(str(tmp_path), "flax", str(tmp_path / "a.safetensors"))
    np.testing.assert_array_equal(encoder(IMAGES), load_encoder(tmp_path / "a.safetensors")(IMAGES))
    with pytest.raises(
        UserError, match="the format is 'onnx'; choose one of torchvision, timm, flax"
    ):
        jaxssl.export_encoder(tmp_path, "onnx", tmp_path / "b.safetensors")


def test_encoders_that_cannot_be_loaded(tmp_path):
    make_run(tmp_path, "tiny")
    out = tmp_path / "a.safetensors"
    assert run_export(tmp_path, "flax", out) == 0
    content = out.read_bytes()
    out.write_bytes(content.replace(b'\\"width\\"', b'\\"depht\\"'))
    with pytest.raises(ValueError, match="needs a newer jaxssl, which knows depht"):
        load_encoder(out)
    out.write_bytes(content[:-10])
    with pytest.raises(ValueError, match=r"a.safetensors cannot be read"):
        load_encoder(out)
    save_file({"a": torch.ones(2)}, out)
    with pytest.raises(ValueError, match="does not say what encoder it is of"):
        load_encoder(out)


@pytest.mark.parametrize(
    ("odd", "shape"),
    [
        ("pos_embed", (17,)),
        ("pos_embed", (1, 0, 48)),
        ("patch_embed.proj.weight", (48, 3, 0, 0)),
        ("reg_token", (4,)),
        ("reg_token", ()),
        ("conv1.weight", (64,)),
        ("conv1.weight", ()),
    ],
)
def test_tensors_of_odd_shapes_are_named(odd, shape, tmp_path, monkeypatch):
    known = {"resnet18": ResNet, "vit": functools.partial(ViT, dim=48, depth=1, heads=3)}
    monkeypatch.setitem(KNOWN, "encoder", known)
    tensors = {"conv1.weight": np.ones((64, 3, 7, 7), np.float32)}
    if odd != "conv1.weight":
        net = ViT(dim=48, depth=1, heads=3, patch=8, image_size=32)
        tensors = to_torch(
            jax.tree.map(lambda s: np.ones(s.shape, np.float32), variable_shapes(net, 32))
        )
    np.savez(tmp_path / "a.npz", **tensors | {odd: np.ones(shape, np.float32)})
    with pytest.raises(UserError, match=f"; {odd} is {re.escape(str(shape))}, of an encoder"):
        load_encoder(tmp_path / "a.npz")


def test_an_exported_encoder_is_evaluated_as_the_run_is(tmp_path, capsys):
    make_run(tmp_path, "tiny")
    out = tmp_path / "a.safetensors"
    assert run_export(tmp_path, "flax", out) == 0
    options = ["--tasks", "knn", "--datasets", "objects:60", "--set", "knn.k=5"]
    assert evaluate.main(["--workdir", str(tmp_path), *options]) == 0
    assert evaluate.main(["--encoder", str(out), *options]) == 0
    (of_run,) = json.loads((tmp_path / "eval.json").read_text())
    (of_file,) = json.loads((tmp_path / "a.eval.json").read_text())
    assert of_run["results"]["top1"] > 0
    assert of_file == of_run | {"file": "a.safetensors"}
    for wrong in (["--encoder", "no.safetensors"], [], ["--encoder", "a", "--workdir", "b"]):
        assert evaluate.main([*wrong, *options]) == 1
    for path in (".", "", "/", ".."):
        capsys.readouterr()
        assert evaluate.main(["--encoder", path, *options]) == 1
        assert "no file of weights" in capsys.readouterr().err
    assert evaluate.main(["--encoder", str(out), "--out", ".", *options]) == 1
    assert "results go to a file and . is a folder" in capsys.readouterr().err


def test_files_of_others_are_recognized_and_evaluated(tmp_path, monkeypatch, capsys, caplog):
    known = {"resnet18": ResNet, "vit_small": functools.partial(ViT, dim=48, depth=2, heads=3)}
    monkeypatch.setitem(KNOWN, "encoder", known)
    rng = np.random.default_rng(0)
    nets = {
        "cifar": (ResNet(width=1 / 16, stem="cifar"), "resnet18", 224),
        "vit": (ViT(dim=48, depth=2, heads=3, patch=8, image_size=32), "vit_small", 32),
    }
    for file, (net, name, size) in nets.items():
        shapes = variable_shapes(net, 32)
        variables = jax.tree.map(
            lambda s: rng.uniform(0.01, 0.1, s.shape).astype(np.float32), shapes
        )
        path = tmp_path / f"{file}.safetensors"
        tensors = {f"net.{k}": torch.tensor(v.copy()) for k, v in to_torch(variables).items()}
        save_file(tensors | {"queue": torch.ones(1), "fc.bias": torch.ones(1)}, path)
        caplog.clear()
        encoder = load_encoder(path)
        assert [r.message for r in caplog.records if "ignored" in r.message] == [
            f"{path}: ignored queue"
        ]
        assert (encoder.metadata.encoder["name"], encoder.size) == (name, size)
        assert encoder.normalization == "imagenet"
        jax.tree.map(np.testing.assert_array_equal, encoder.variables, variables)
        other = next(n for _, n, _ in nets.values() if n != name)
        with pytest.raises(UserError, match="does not fit: it has .* of the .* tensors"):
            load_encoder(path, other)
    words = ["--encoder", str(path), "--encoder-name", "vit_small", "--encoder-prefix", "net"]
    assert evaluate.main([*words, "--tasks", "knn", "--datasets", "objects:24"]) == 0
    (entry,) = json.loads(path.with_suffix(".eval.json").read_text())
    assert (entry["step"], entry["protocol"]["k"], entry["protocol"]["size"]) == (0, [24], 32)


def test_the_small_network_of_moco_v3_has_its_own_heads(tmp_path, monkeypatch, caplog):
    """They show in no tensor: 12 there, 6 everywhere else."""
    vit = functools.partial(ViT, dim=48, depth=1)
    known = {"resnet18": ResNet, "vit_small": functools.partial(vit, heads=3)}
    known |= {"vit_small_moco_v3": functools.partial(vit, heads=6)}
    monkeypatch.setitem(KNOWN, "encoder", known)
    shapes = variable_shapes(vit(heads=3, patch=8, image_size=32), 32)
    tensors = to_torch(jax.tree.map(lambda s: np.ones(s.shape, np.float32), shapes))
    files = {"moco": ("module.base_encoder.", "module.momentum_encoder."), "dino": ("teacher.",)}
    for file, prefixes in files.items():
        named = {prefix + name: array for prefix in prefixes for name, array in tensors.items()}
        np.savez(tmp_path / f"{file}.npz", **named)
    caplog.set_level("INFO", "jaxssl")
    said = {"moco": ("vit_small_moco_v3", 6), "dino": ("vit_small", 3)}
    for file, (name, heads) in said.items():
        encoder = load_encoder(tmp_path / f"{file}.npz")
        assert (encoder.metadata.encoder["name"], encoder.network.heads) == (name, heads)
        assert f"taken as {name} (image_size=32, patch=8, {heads} heads), for" in caplog.text
    assert load_encoder(tmp_path / "moco.npz", "vit_small").network.heads == 3
    config = base()
    config.views.size = 32
    for name in ("vit_small", "vit_small_moco_v3"):
        config.encoder = defaults("encoder", name, patch=8, image_size=32)
        config.encoder.init = str(tmp_path / "moco.npz")
        caplog.clear()
        load_init_variables(config, build_method(config)[1])
        is_other = "of 12 heads: set encoder.name=vit_small_moco_v3" in caplog.text
        assert is_other == (name == "vit_small")


def test_images_are_normalized_as_the_weights_of_others_want(tmp_path, monkeypatch):
    """Those of Google's Vision Transformers: from -1 to 1."""
    network = ViT(dim=48, depth=1, heads=3, patch=8, image_size=32)
    known = {"resnet18": ResNet, "vit_small": functools.partial(ViT, dim=48, depth=1, heads=3)}
    monkeypatch.setitem(KNOWN, "encoder", known)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda s: rng.normal(0, 0.1, s.shape).astype(np.float32), variable_shapes(network, 32)
    )
    path = tmp_path / "vit.npz"
    np.savez(path, **to_torch(variables))
    images = rng.integers(0, 256, (2, 32, 32, 3), np.uint8)
    encoder = load_encoder(path, "vit_small", normalize="half")
    pixels = jnp.asarray(images / np.float32(127.5) - 1)
    expected = encoder.network.apply(encoder.variables, pixels, train=False)
    np.testing.assert_allclose(encoder(images), expected.pooled, rtol=1e-5, atol=1e-5)
    words = ["--encoder", str(path), "--encoder-normalize", "half", "--tasks", "knn"]
    assert evaluate.main([*words, "--datasets", "objects:24"]) == 0
    (entry,) = json.loads(path.with_suffix(".eval.json").read_text())
    assert entry["protocol"]["normalize"] == "half"
    with pytest.raises(UserError, match="the normalization of images is 'byte'; choose one of"):
        load_encoder(path, normalize="byte")


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_the_size_of_images_that_no_tensor_tells_is_said(stem, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(KNOWN, "encoder", {"resnet18": ResNet})
    shapes = variable_shapes(ResNet(width=1 / 16, stem=stem), 32)
    tensors = to_torch(jax.tree.map(lambda s: np.ones(s.shape, np.float32), shapes))
    np.savez(tmp_path / "a.npz", **tensors)
    caplog.set_level("INFO", "jaxssl")
    assert load_encoder(tmp_path / "a.npz").size == 224
    assert "for images of 224 pixels, normalized as --encoder-normalize imagenet" in caplog.text
    said = "its stem is for small images: give --size 32 for those of CIFAR"
    assert (said in caplog.text) == (stem == "cifar")


def test_options_that_show_in_no_tensor_are_compared(tmp_path, caplog):
    out = tmp_path / "a.safetensors"
    make_run(tmp_path, "resnet18", width=1 / 16, padding="same", dilated_stages=1)
    assert run_export(tmp_path, "flax", out) == 0
    options = {"width": 1 / 16, "zero_init": True, "remat_expansions": True}
    config = base()
    for more, said in (
        ({}, {"dilated_stages=1", "padding=same"}),
        ({"padding": "same", "dilated_stages": 1}, set()),
    ):
        config.encoder = defaults("encoder", "resnet18", **options, **more)
        config.encoder.init = str(out)
        caplog.clear()
        load_init_variables(config, build_method(config)[1])
        found = {r.message.partition(" was trained with encoder.")[2] for r in caplog.records}
        assert found - {""} == said


SMALL = {"hidden": (8,), "dim": 6, "predictor_hidden": (4,), "queue_size": 32}


@pytest.mark.parametrize("name", METHODS)
def test_every_encoder_of_a_method_starts_from_the_file(name, tiny_encoder):
    cls = METHODS[name]
    fields = {f.name for f in dataclasses.fields(cls)}
    method = cls(tiny_encoder, **{k: v for k, v in SMALL.items() if k in fields})
    planes = jnp.zeros((2, 4, 4, 1), jnp.uint32)
    views = [View(image=jnp.zeros((2, 16, 16, 3)), planes=planes)] * 2
    shapes = jax.eval_shape(method.init, jax.random.key(0), views)
    params, extra = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    variables = jax.tree.map(
        lambda s: np.ones(s.shape, np.float32), variable_shapes(tiny_encoder, 16)
    )
    before = TrainState(step=0, params=params, opt_state=(), method_state=extra, sampler_state=())
    after = with_pretrained_encoder(before, variables)
    jax.tree.map(
        np.testing.assert_array_equal,
        method.encoder_variables(after.params, after.method_state),
        variables,
    )
    networks = {"byol", "moco", "dino", "detcon_b"}  # with a target
    size = sum(x.size for x in jax.tree.leaves(variables))
    total = sum(float(jnp.sum(x)) for x in jax.tree.leaves((after.params, after.method_state)))
    assert total == size * (2 if name in networks else 1)


def run_train(workdir, **changes):
    options = {"epochs": 1, "data__source": "scenes:32", "eval__linear": False} | changes
    return run(workdir, variant="byol", **options)


def test_a_run_starts_from_the_file_and_continues_without_it(tmp_path, tiny_encoder, capsys):
    shapes, rng = variable_shapes(tiny_encoder, 16), np.random.default_rng(0)
    variables = jax.tree.map(lambda s: rng.uniform(0, 1, s.shape).astype(s.dtype), shapes)
    tensors = {f"backbone/{k}": torch.tensor(v) for k, v in to_flax(variables).items()}
    path = tmp_path / "start.pth"
    torch.save({"state_dict": tensors | {"head.bias": torch.ones(1), "queue": torch.ones(1)}}, path)
    # So slow that the first steps change nothing.
    options = {"encoder__init": path, "optim__lr": 1e-12, "method__momentum": 0.5}
    assert run_train(tmp_path / "run", **options) == 0
    printed = capsys.readouterr().err
    assert "start.pth: 7 of 7 tensors loaded, by flax names" in printed
    assert "ignored state_dict.queue" in printed
    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        like = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype), shapes)
        trained = checkpoints.restore("encoder", like)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4)
    jax.tree.map(close, trained["params"], variables["params"])
    path.unlink()
    assert run_train(tmp_path / "run", **options | {"epochs": 2}) == 0
    assert "tensors loaded" not in capsys.readouterr().err


def test_files_that_cannot_start_a_run(tmp_path, tiny_encoder, capsys, monkeypatch):
    def compiling(*_):
        raise AssertionError("compiled before the file was read")

    monkeypatch.setattr(sharding, "jit_init", compiling)
    folder = tmp_path / "files"
    folder.mkdir()
    paths = harmful_files(folder, tmp_path / "marker")
    variables = jax.tree.map(
        lambda s: np.zeros(s.shape, np.float32), variable_shapes(tiny_encoder, 16)
    )
    tensors = {k: torch.tensor(v) for k, v in to_flax(variables).items()}
    save_file(tensors, folder / "cut.safetensors")
    cut = (folder / "cut.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(cut[:-9])
    save_file(tensors | {"params/Conv_1/bias": torch.zeros(13)}, folder / "wide.safetensors")
    save_file({"layer1.0.conv1.weight": torch.ones(2)}, folder / "other.safetensors")
    paths += [folder / f"{name}.safetensors" for name in ("cut", "wide", "other", "missing")]
    for path in paths:
        assert run_train(tmp_path / "run", encoder__init=path) == 1
        errors = capsys.readouterr().err.strip().splitlines()
        assert len(errors) == 1
        assert errors[0].startswith("error:")
        assert path.name in errors[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["files"]
