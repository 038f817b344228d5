"""Imports flow one way, and nothing outside its place imports torch or tensorflow."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LAYERS = [
    {"types"},
    {"color", "warp"},
    {"boxes", "augment", "regions", "losses", "schedules"},
    {"models", "samplers", "data", "optim"},
    {"views", "methods"},
    {"sharding"},
    {"step", "evaluation", "interop"},
    {"config"},
    {"checkpoint", "metrics", "workdir", "terminal", "refresh", "loop"}
    | {"unpickle", "weights", "pretrained", "card"},
    {"train", "evaluate", "export", "report"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = sorted((ROOT / "jaxssl").rglob("*.py"))


def imported(path: pathlib.Path) -> set[str]:
    """Full names of the modules a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def room(module: str) -> str | None:
    """`jaxssl.data.canvas` is in the room `data`."""
    parts = module.split(".")
    return parts[1] if parts[0] == "jaxssl" and len(parts) > 1 and parts[1] in RANK else None


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_flow_down(path):
    own = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if own is None:
        assert path.name == "__init__.py", f"{path} has no layer"
        return
    for name in imported(path):
        other = room(name)
        if other and other != own:
            below = RANK[other] < RANK[own]
            # A command may read the edges beside the parts; an edge may read another edge.
            edges = RANK[own] == RANK[other] == RANK["workdir"]
            assert below or edges, f"{own} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_torch_and_no_tensorflow(path):
    forbidden = {"torch", "torchvision", "tensorflow", "tensorflow_datasets"}
    if path.name != "tfds.py":
        assert not {name.split(".")[0] for name in imported(path)} & forbidden


def test_mask_tools_uses_only_data_and_terminal():
    for path in (ROOT / "mask_tools").rglob("*.py"):
        rooms = {room(name) for name in imported(path)} - {None}
        assert rooms <= {"data", "terminal"}, path


def test_data_layer_imports_neither_jax_nor_what_is_large():
    code = "import jaxssl.data, mask_tools.export, mask_tools.inspect, sys; "
    code += "sys.exit(any(name in sys.modules for name in ('jax', 'torch', 'tensorflow', 'ray')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
