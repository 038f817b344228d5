"""The commands of the README, from top to bottom, in one folder: small, but as they are written.

What needs weights or data that no test can have (HQ-SAM's, ImageNet, COCO) runs up to the one line
that says so. Of what installs, tests or measures, and of Ray (tests/test_cluster.py), it is seen
that the options exist.
"""

import importlib
import pathlib
import re
import shlex
import shutil
import tomllib

import numpy as np
import pytest
from PIL import Image

from jaxssl import config as config_module
from jaxssl.data import open_source
from jaxssl.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

# What is appended to a command that has the key among its words; the last of equal options counts.
SMALLER = {
    "mask_tools.export": "--workers=1",
    "preview.png": "--config=configs/quickstart.py",
    "jaxssl.train": "--config.epochs=1 --config.batch_size=8 --config.data.pixels=1024 "
    "--config.views.size=16 --config.dtype=float32 --config.eval.size=16 --config.eval.knn_k=2 "
    "--config.eval.linear_epochs=1 --config.eval.batch_size=8 --config.eval.health=8",
    "configs/quickstart.py": "--config.encoder.name=tiny --config.data.source=scenes:16 "
    "--config.eval.datasets=objects:40",
    "runs/photos_small": "--config.encoder.name=tiny --config.optim.warmup_epochs=0",
}
# What may end a command: it names what nobody has here.
MISSING = (
    "sam_hq_vit_h.pth is no file",
    "coco/annotations/instances_train2017.json",
    "masks.json",
    "data/imagenet_fh",
    "data/photos_hq_sam",
    "is to be downloaded",
)
# Options of srun and gcloud.
LAUNCHERS = {"--nodes", "--ntasks-per-node", "--gpus-per-node", "--kill-on-bad-exit"}
LAUNCHERS |= {"--worker", "--command"}


def blocks(language, page=README):
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.M | re.S)


def commands(page=README):
    """The words of every command in a block of bash, in order."""
    lines = "".join(blocks("bash", page)).replace("\\\n", "").splitlines()
    split = [shlex.split(part, comments=True) for line in lines for part in line.split(" && ")]
    return [words for words in split if words]


def main_of(module):
    return importlib.import_module(module).main


@pytest.fixture(scope="module")
def reader(small_encoders, tmp_path_factory):
    """A reader's folder: the configs, photographs, and images in folders of their classes."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "photos").mkdir()
    for i, scene in enumerate(map(open_source("scenes:8").__getitem__, range(8))):
        Image.fromarray(scene.image).resize((96, 64)).save(folder / "photos" / f"{i}.jpg")
    objects = open_source("objects:40")
    for i, example in enumerate(map(objects.__getitem__, range(len(objects)))):
        path = folder / "labeled" / objects.class_names[example.label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(example.image).save(path)
    (folder / "cifar10").symlink_to("labeled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxssl.data.tfds._open", download)
        patch.chdir(folder)
        yield folder


def download(name):
    raise UserError(f"tfds:{name} is to be downloaded")


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words[2:7])[:60])
def test_command(words, reader, capfd):
    program, *rest = words
    if program == "make":
        assert f"\n{rest[0]}:" in (ROOT / "Makefile").read_text()
    elif rest[0].startswith("benchmarks/"):
        source = (ROOT / rest[0]).read_text()
        assert all(f'"{word}"' in source for word in rest if word.startswith("--"))
    elif rest[1] == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        extras = re.findall(r"\w+", rest[-1])
        assert set(extras) <= set(project["optional-dependencies"])
    else:
        run(rest[1], rest[2:], capfd)


def run(module, words, capfd):
    """Runs it in this process; it ends well, or with one line on what is missing."""
    words = [word for word in words if word not in ("--ray", "local")]
    smaller = " ".join(v for k, v in SMALLER.items() if k in {module, *words})
    status = main_of(module)([*words, *smaller.split()])
    errors = capfd.readouterr().err
    assert "stopped at step" not in errors  # a training cut short ends well too
    if status:
        (line,) = errors.splitlines()
        assert line.startswith("error: ")
        assert any(what in line for what in MISSING), line


def test_python(reader):
    """The blocks of Python, in order."""
    names = {"images": np.zeros((2, 64, 64, 3), np.uint8)}
    for block in blocks("python"):
        exec(block, names)


def test_flags_and_keys_exist(capsys):
    """Those named anywhere on the page."""
    known = "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    for module in {words[2] for words in commands() if words[1] == "-m"} - {"pip"}:
        with pytest.raises(SystemExit):
            main_of(module)(["--help"])
        known += capsys.readouterr().out
    keys = set(config_module.flatten(config_module.base()))
    sections = {key.partition(".")[0] for key in keys if "." in key}
    options = {
        f"{section}.{field}"
        for section, names in config_module.KNOWN.items()
        for name in names
        for field in config_module.defaults(section, name)
    }
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - {"--config"} - LAUNCHERS
    assert not {flag for flag in flags if flag not in known}
    named = set(re.findall(r"--config\.([a-z_.]+)=", README))
    named |= set(re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_]+)[`=]", README)) - {"eval.json"}
    assert len(named) > 20
    assert not named - keys - options
