"""Every notebook runs from top to bottom; what it shows was made from its cells, and is small."""

import ast
import importlib.util
import json
import tempfile
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
QUICK = "00_record_a_pipeline"  # it alone runs in `make test`, and without a kernel, which has to load diffusers again
WIDGET = "application/vnd.jupyter.widget-view+json"
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


def source(path: Path) -> str:
    """All code cells, without magics."""
    lines = [line for cell in code_cells(path) for line in "".join(cell["source"]).split("\n")]
    return "\n".join(line for line in lines if not line.startswith("%"))


def check_shown(outputs: list[dict]) -> None:
    """A figure and a table at least, nothing red, and nothing that only a running kernel shows."""
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= kinds and WIDGET not in kinds
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter's own machinery
@each_notebook
def test_notebooks_run_and_show_figures_and_tables(path: Path) -> None:
    check_shown([output for cell in maker().execute(path).cells for output in cell.get("outputs", [])])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers
def test_the_first_notebook_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (path,) = (path for path in NOTEBOOKS if path.stem == QUICK)
    names: dict = {}
    exec(compile(source(path), path.name, "exec"), names)
    assert len(names["table"]) == 24 and names["figure"].axes[0].has_data()
    plt.close("all")


@each_notebook
def test_outputs_are_those_of_the_cells(path: Path) -> None:
    run = maker()
    notebook = run.nbformat.read(path, as_version=4)
    assert kept(path)["cells_sha256"] == run.cells_hash(notebook), "cells were changed: run `make notebooks`"
    assert [cell["execution_count"] for cell in code_cells(path)] == list(range(1, len(code_cells(path)) + 1))
    check_shown([output for cell in code_cells(path) for output in cell["outputs"]])


def test_a_widget_is_kept_as_its_picture() -> None:
    run = maker()
    shown = run.nbformat.v4.new_output("display_data", data={WIDGET: {"model_id": "1"}, "image/png": "iVBO"})
    notebook = run.nbformat.v4.new_notebook(cells=[run.nbformat.v4.new_code_cell("slider", outputs=[shown])])
    run.without_widgets(notebook)
    assert notebook.cells[0].outputs[0].data == {"image/png": "iVBO"}


@each_notebook
def test_notebooks_are_small(path: Path) -> None:
    assert path.stat().st_size < 1e6


@each_notebook
def test_notebooks_import_public_names_only(path: Path) -> None:
    for node in ast.walk(ast.parse(source(path))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("scorescope"):
            home = importlib.import_module(node.module)
            assert hasattr(home, "__path__"), f"{node.module} is private to its wing"
            assert {alias.name for alias in node.names} <= set(home.__all__)
