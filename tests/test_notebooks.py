"""Every notebook runs from top to bottom in a kernel of its own: small, and for one epoch."""

import os
import pathlib
import sys

import nbformat
import pytest
from conftest import FLAGS
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[1]
# The one on detection last: it goes on with what another has exported.
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"), key=lambda p: (p.stem[0] == "d", p.stem))

# Stands in for the numbers of the first cell: every command still runs.
LESS = "EPOCHS, SCENES, CLASSES, IMAGES = 1, 64, 'objects:40', 20"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A folder with `configs` and `benchmarks`, in which `python` is this interpreter."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("configs", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(pathlib.Path(sys.executable).parent), prepend=os.pathsep)
        patch.setenv("JAXSSL_CACHE", str(folder / "cache"))
        yield folder


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs(path, clone, monkeypatch):
    """No command fails, there is no warning, and something is drawn."""
    if path.stem == "your_own_folder":  # of full width: steps take longer than optimizing a little
        monkeypatch.setenv("XLA_FLAGS", f"{FLAGS} --xla_backend_optimization_level=1")
    notebook = nbformat.read(path, as_version=4)
    cells = [*notebook.cells[:2], nbformat.v4.new_code_cell(LESS)]
    for cell in notebook.cells[2:]:
        cells.append(cell)
        if any(line.startswith("!") for line in cell.source.splitlines()):  # fails without a word
            cells.append(nbformat.v4.new_code_cell("assert _exit_code == 0"))
    notebook.cells = cells
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": clone}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "Warning" not in printed
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_is_short_and_has_no_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    assert 1 < len(cells) < 15
    assert 'REPOSITORY = ""' in cells[1].source  # to be set once, for Colab
    assert "SMALL = True" in cells[1].source
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
