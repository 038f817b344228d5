"""Every notebook runs from top to bottom in a kernel of its own: small, and for one epoch."""

import pathlib
import sys

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs(path, tmp_path, monkeypatch):
    """In an empty folder with `configs`, by this interpreter, without a warning."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.setenv("PATH", f"{pathlib.Path(sys.executable).parent}", prepend=":")
    monkeypatch.setenv("JAXSSL_CACHE", str(tmp_path / "cache"))
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        if any(line.startswith("!") for line in cell.source.splitlines()):
            cell.source += "\nassert _exit_code == 0"  # a command fails without a word
    notebook.cells.insert(2, nbformat.v4.new_code_cell("EPOCHS = 1"))
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in code for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "Warning" not in printed
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_is_short_and_has_no_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    assert 1 < len(cells) < 15
    assert f"main/notebooks/{path.name}" in cells[0].source  # the badge opens this one
    assert "SMALL = True" in cells[1].source
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
