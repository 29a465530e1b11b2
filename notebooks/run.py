"""Runs notebooks and keeps what they show: `python notebooks/run.py [notebook ...]`, or `make notebooks` for all.

A notebook remembers the hash of the cells that its outputs were made from; a test compares.
"""

import hashlib
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

WIDGET = "application/vnd.jupyter.widget-view+json"
FOLDER = Path(__file__).parent


def cells_hash(notebook: nbformat.NotebookNode) -> str:
    """SHA-256 of all code cells."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def without_widgets(notebook: nbformat.NotebookNode) -> None:
    """Leave of each widget the picture that comes with it: a saved notebook has no kernel that could draw another."""
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        output.get("data", {}).pop(WIDGET, None)


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook after it ran from top to bottom in its own folder."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources, record_timing=False)
    client.execute()
    without_widgets(notebook)
    notebook.metadata = {  # versions and state of this machine are left out
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "scorescope": {"cells_sha256": cells_hash(notebook)},
    }
    return notebook


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:] or sorted(FOLDER.glob("*.ipynb"))):
        began = time.perf_counter()
        nbformat.write(execute(path), path)
        print(f"{path.name}: {time.perf_counter() - began:.0f} s, {path.stat().st_size / 1000:.0f} kB")
