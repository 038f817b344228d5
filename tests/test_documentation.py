"""All pages of documentation: their commands run, their links lead somewhere.

Commands run as they are written but small, each once, in one folder: README's from top to bottom,
then those of the other pages. What needs weights or data that no test can have (HQ-SAM's, ImageNet,
COCO) runs up to the one line that says so. Of what installs, tests or measures, and of Ray
(test_ray_cluster.py), only the options are checked.
"""

import collections
import importlib
import pathlib
import re
import shlex
import shutil
import tomllib

import numpy as np
import pytest
from PIL import Image

from jaxssl.config import base, defaults
from jaxssl.config.checks import flatten
from jaxssl.config.parts import KNOWN
from jaxssl.data import open_source
from jaxssl.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
# Not of folders such as .pytest_cache, in which pytest leaves a page of its own.
OTHERS = [
    *ROOT.glob("[!.]*/README.md"),
    *ROOT.glob("[!.]*/*/README.md"),
    ROOT / "benchmarks" / "regions.md",
    *ROOT.glob(".github/*.md"),
]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (README, ROOT / "CHANGELOG.md", *sorted(OTHERS))
}

# What is appended to a command that has the key among its words; the last of equal options counts.
SMALLER = {
    "mask_tools.export": "--workers=1",
    "preview.png": "--config=configs/quickstart.py",
    "jaxssl.train": "--config.epochs=1 --config.batch_size=8 --config.data.pixels=1024 "
    "--config.views.size=16 --config.dtype=float32 --config.eval.size=16 --config.eval.knn_k=2 "
    "--config.eval.linear_epochs=1 --config.eval.batch_size=8 --config.eval.health=0",
    "configs/quickstart": "--config.encoder.name=tiny --config.data.source=scenes:16 "
    "--config.eval.datasets=objects:40 --config.eval.health=8",
    "runs/photos_small": "--config.encoder.name=tiny --config.optim.warmup_epochs=0",
}
# The same for what blocks of Python contain.
SMALLER_PYTHON = {
    '["--config.epochs=16"]': repr(
        f"{SMALLER['jaxssl.train']} {SMALLER['configs/quickstart']}".split()
    ),
    "objects:2000": "objects:40",
}
# What may end a command: it names what nobody has here.
MISSING = (
    "sam_hq_vit_h.pth is not a file",
    "coco/annotations/instances_train2017.json",
    "data/imagenet_fh",
    "data/photos_hq_sam",
    "is to be downloaded",
)
# Options of srun and gcloud.
LAUNCHERS = {"--nodes", "--ntasks-per-node", "--gpus-per-node", "--kill-on-bad-exit"}
LAUNCHERS |= {"--worker", "--command"}


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.M | re.S)


def commands(*names):
    """The words of every command in a block of bash on these pages, or all: in order and once."""
    lines = "".join(b for name in names or PAGES for b in blocks(PAGES[name], "bash"))
    lines = lines.replace("\\\n", "").splitlines()
    lines = [re.sub(r"^[A-Z]+=\S+ ", "", line) for line in lines]  # variables of the environment
    split = [shlex.split(part, comments=True) for line in lines for part in line.split(" && ")]
    return [list(words) for words in dict.fromkeys(map(tuple, split)) if words]


def main_of(module):
    return importlib.import_module(module).main


@pytest.fixture(scope="module")
def reader(small_encoders, tmp_path_factory):
    """A reader's folder: configs, photographs, images in folders of their classes, own modules."""
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
    for block in (block for page in PAGES.values() for block in blocks(page, "python")):
        if named := re.match(r"# (\w+\.py)\n", block):
            (folder / named[1]).write_text(block)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxssl.data.tfds._open", download)
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        yield folder


def download(name):
    raise UserError(f"tfds:{name} is to be downloaded")


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words[2:7])[:60])
def test_command(words, reader, capfd):
    program, *rest = words
    if program == "make":
        assert f"\n{rest[0]}:" in (ROOT / "Makefile").read_text()
    elif program == "pre-commit":
        assert (ROOT / ".pre-commit-config.yaml").is_file()
    elif (name := next((w for w in words if w.startswith("benchmarks/")), "")) in words[:2]:
        source = ROOT / name.replace("gpu.sh", "gpu/run.py")
        options = source.read_text()
        assert all(f'"{word}"' in options for word in rest if word.startswith("--"))
    elif "pip" in rest[:3]:  # of Python or of uv
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        extras = re.findall(r"[\w-]+", rest[-1].partition("[")[2])
        assert set(extras) <= set(project["optional-dependencies"])
    elif rest[1] == "pytest":
        paths = [word.partition("::")[0] for word in rest[2:] if word.startswith("tests/")]
        assert all((ROOT / path).exists() for path in paths)
    else:
        run(rest[1], rest[2:], capfd)


def run(module, words, capfd):
    """Runs it in this process; it ends well, or with one line on what is missing."""
    words = [word for word in words if word not in ("--ray", "local")]
    named = {module, *(word.partition(".py:")[0].removesuffix(".py") for word in words)}
    smaller = " ".join(v for k, v in SMALLER.items() if k in named)
    status = main_of(module)([*words, *smaller.split()])
    errors = capfd.readouterr().err
    assert "stopped at step" not in errors  # a training cut short ends well too
    if status:
        (line,) = errors.splitlines()
        assert line.startswith("error: ")
        assert any(what in line for what in MISSING), line


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if blocks(page, "python")])
def test_python(name, reader):
    """The blocks of Python of a page, in order."""
    names = {"images": np.zeros((2, 64, 64, 3), np.uint8)}
    for block in blocks(PAGES[name], "python"):
        for large, small in SMALLER_PYTHON.items():
            block = block.replace(large, small)
        exec(block, names)


def anchors(page):
    """What GitHub makes of the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page, flags=re.M | re.S)
    count, found = collections.Counter(), set()
    for heading in re.findall(r"^#+ +(.*?) *$", text, flags=re.M):
        slug = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", slug).replace(" ", "-")
        found.add(f"{slug}-{count[slug]}" if count[slug] else slug)
        count[slug] += 1
    return found


@pytest.mark.parametrize("name", PAGES)
def test_links(name):
    """Relative ones lead to a file or folder of the repository, and to a heading on it."""
    page = re.sub(r"^```.*?^```|`[^`\n]*`", "", PAGES[name], flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", page):
        target, _, anchor = "".join(link).partition("#")
        if target.startswith(("https://", "mailto:")):
            continue
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), f"{name}: no {target}"
        if anchor:
            path = path / "README.md" if path.is_dir() else path
            assert anchor in anchors(path.read_text()), f"{name}: no #{anchor} in {path.name}"


def test_flags_and_keys_exist(capsys, reader):
    """Those named anywhere on a page."""
    text = "".join(page for name, page in PAGES.items() if name != "CHANGELOG.md")
    scripts = [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tests" / "faults").glob("*.py")]
    known = "".join(path.read_text() for path in scripts)
    modules = {words[2] for words in commands() if words[1] == "-m"} - {"pip", "uv", "pytest"}
    asked = [(module,) for module in modules]
    asked += [("mask_tools.export", *own) for own in re.findall(r"(--segmenter) (\w+:\w+)", text)]
    for module, *words in asked:
        with pytest.raises(SystemExit):
            main_of(module)([*words, "--help"])
        known += capsys.readouterr().out
    keys = set(flatten(base()))
    sections = {key.partition(".")[0] for key in keys if "." in key}
    parts = [(section, name) for section, names in KNOWN.items() for name in names]
    parts += re.findall(r"--config\.(\w+)\.name=(\w+:\w+)", text)  # of the reader's own
    options = {f"{section}.{field}" for section, name in parts for field in defaults(section, name)}
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--config"} - LAUNCHERS
    assert not {flag for flag in flags if flag not in known}
    named = set(re.findall(r"--config\.([a-z_.]+)=", text))
    named |= set(re.findall(rf"`((?:{'|'.join(sections)})\.(?!py`|json`)[a-z_]+)[`=]", text))
    assert len(named) > 20
    assert not named - keys - options
