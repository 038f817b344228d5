"""Every notebook runs from top to bottom, and is committed without outputs."""

import ast
import json
import pathlib

import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs(path):
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    names: dict = {}
    for cell in cells:
        code = compile(ast.parse("".join(cell["source"])), str(path), "exec")
        exec(code, names)
    assert len(cells) > 1
