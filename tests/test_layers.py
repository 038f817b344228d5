"""Imports flow one way, and nothing outside its place imports torch or tensorflow."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# A room imports from those above it, never from a neighbor in its line or one below.
LAYERS = [
    {"errors", "renamed", "types"},
    {"checked_files", "files", "own_parts", "progress", "stopping"},
    {"terminal"},
    {"image", "losses", "schedules"},
    {"models", "samplers", "data", "optim"},
    {"views", "methods"},
    {"sharding"},
    {"distributed", "config"},
    {"pretrained"},
    {"evaluation"},
    {"training"},
    {"preview"},
    {"reporting"},
    {"train", "evaluate", "export", "report"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = sorted((ROOT / "jaxssl").rglob("*.py"))
BOTH = [*FILES, *sorted((ROOT / "mask_tools").rglob("*.py"))]


def module_name(path: pathlib.Path) -> str:
    """`jaxssl/data/canvas.py` is `jaxssl.data.canvas`, a package's `__init__` is the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: pathlib.Path) -> set[str]:
    """Full names of the modules a file imports, and of what it imports from them."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def imported_modules(path: pathlib.Path, names: set[str]) -> set[str]:
    """Those of `names` that a file imports; of a package's module not the package as well."""
    found = imported(path) & names
    own = module_name(path).rpartition(".")[0]
    return {n for n in found if n != own and not any(f.startswith(f"{n}.") for f in found)}


def room(module: str) -> str | None:
    """`jaxssl.data.canvas` is in the room `data`."""
    parts = module.split(".")
    return parts[1] if parts[0] == "jaxssl" and len(parts) > 1 and parts[1] in RANK else None


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_flow_down(path):
    own = room(module_name(path))
    if own is None:
        assert module_name(path) == "jaxssl", f"{path} has no layer"
        return
    for name in imported(path):
        other = room(name)
        assert other in (None, own) or RANK[other] < RANK[own], f"{own} imports {other}"


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import one another in a circle; [] if there is none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := visit(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next(filter(None, (visit(name, []) for name in sorted(graph))), [])


def test_no_module_imports_itself_in_a_circle():
    names = {module_name(path) for path in BOTH}
    graph = {module_name(path): imported_modules(path, names) for path in BOTH}
    assert cycle(graph) == []
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c"]


def test_no_file_name_stands_twice():
    names = [path.name for path in BOTH if path.name not in ("__init__.py", "export.py")]
    assert {name for name in names if names.count(name) > 1} == set()


@pytest.mark.parametrize("path", BOTH, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_is_over_three_hundred_lines(path):
    assert len(path.read_text().splitlines()) <= 300


def test_at_most_thirty_names_at_the_top():
    top = {p.stem for p in (ROOT / "jaxssl").iterdir() if p.is_dir() or p.suffix == ".py"}
    assert len(top - {"__pycache__", "__init__"}) <= 30


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_torch_and_no_tensorflow(path):
    forbidden = {"torch", "torchvision", "tensorflow", "tensorflow_datasets"}
    if path.name != "tfds.py":
        assert not {name.split(".")[0] for name in imported(path)} & forbidden


def test_mask_tools_uses_only_data_and_the_terminal():
    """But for the picture with views, in which training's own code draws them."""
    for path in (ROOT / "mask_tools").rglob("*.py"):
        rooms = {room(name) for name in imported(path)} - {None}
        allowed = {room for line in LAYERS[:3] for room in line} - {"renamed", "types"} | {"data"}
        assert rooms <= allowed | ({"preview"} if path.name == "record_preview.py" else set()), path


def test_data_layer_imports_neither_jax_nor_what_is_large():
    code = "import jaxssl.data, mask_tools.export, mask_tools.inspect, sys; "
    code += "mask_tools.segment_dataset, mask_tools.inspect_regions, mask_tools.draw_preview; "
    code += "sys.exit(any(name in sys.modules for name in ('jax', 'torch', 'tensorflow', 'ray')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
