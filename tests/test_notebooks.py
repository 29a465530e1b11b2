"""Every notebook runs from top to bottom; what it shows was made from its cells, and is small."""

import ast
import importlib.util
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
QUICK = {"00_record_a_pipeline"}  # the others run under `make test-slow` and `make notebooks`
RUN = [pytest.param(path, marks=[pytest.mark.slow] * (path.stem not in QUICK), id=path.stem) for path in NOTEBOOKS]
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def maker():
    pytest.importorskip("nbclient")
    spec = importlib.util.spec_from_file_location("run_notebooks", NOTEBOOKS[0].parent / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def kept(path: Path) -> dict:
    return json.loads(path.read_text())["metadata"].get("scorescope", {})


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own machinery
@pytest.mark.parametrize("path", RUN)
def test_notebooks_run_and_show_figures_and_tables(path: Path) -> None:
    outputs = [output for cell in maker().execute(path).cells for output in cell.get("outputs", [])]
    assert {"image/png", "text/html"} <= {kind for output in outputs for kind in output.get("data", {})}


@each_notebook
def test_outputs_are_those_of_the_cells(path: Path) -> None:
    run = maker()
    notebook = run.nbformat.read(path, as_version=4)
    outputs = [output for cell in code_cells(path) for output in cell["outputs"]]
    if not outputs:
        assert not kept(path)  # a notebook without outputs claims none
        return
    assert kept(path)["cells_sha256"] == run.cells_hash(notebook), "cells were changed: run `make notebooks`"
    assert [cell["execution_count"] for cell in code_cells(path)] == list(range(1, len(code_cells(path)) + 1))
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]


@each_notebook
def test_notebooks_are_small(path: Path) -> None:
    assert path.stat().st_size < 1e6


@each_notebook
def test_notebooks_import_public_names_only(path: Path) -> None:
    code = "\n".join(
        line for cell in code_cells(path) for line in "".join(cell["source"]).split("\n") if not line.startswith("%")
    )
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("scorescope"):
            home = importlib.import_module(node.module)
            assert hasattr(home, "__path__"), f"{node.module} is private to its wing"
            assert {alias.name for alias in node.names} <= set(home.__all__)
