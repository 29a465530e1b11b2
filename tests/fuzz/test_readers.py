"""Damaged files of every kind: only our errors, in bounded time and memory, no code run, nothing written elsewhere."""

import ast
import inspect
import typing
from pathlib import Path

import pytest

from tests.fuzz.harness import run
from tests.fuzz.kinds import KINDS
from tests.test_doors import PUBLIC

FEW, MANY = 15, 10_000
HERE, NAMED = Path(__file__).parent, ("read_", "load_", "open_")

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries about damaged files


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_damaged_file_is_an_error_of_ours_and_nothing_else(kind, tmp_path):
    assert not run(kind, tmp_path, FEW).faults


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_many_damaged_files(kind, tmp_path):
    assert not run(kind, tmp_path, MANY).faults


READ_BY = {
    "MadeReport": "read_made", "Material": "Kept", "Outcome": "bibtex", "Snapshot": "find_snapshots",
    "SparseAutoencoder.load": "load_sparse", "SparseAutoencoder.read": "load_sparse", "Study": "read_study",
    "build_from_traces": "Trace.open", "classifier_extractor": "load_classifier",
    "compare_denoisers": "load_denoiser", "compare_ema_lengths": "find_snapshots", "compare_reports": "report_tables",
    "compare_runs": "open_run", "compare_sweeps": "read_sweep", "convert_inception": "load_inception",
    "decompose_bands": "Trace.open", "decompose_centred": "Trace.open", "from_folder": "ImageFolder",
    "inception_extractor": "load_inception", "load_snapshots": "load_denoiser", "load_subject": "load_denoiser",
    "make": "Kept", "make_all": "Kept", "make_each": "Kept", "pipeline_subject": "load_pipeline",
    "rerun": "read_request", "run_study": "study", "shapes_subject": "load_denoiser",
    "study_sparse": "train_sparse", "study_units": "collect", "sweep_models": "sweep",
}  # fmt: skip
"""What takes a path, and by which reader that is fuzzed it reads what lies there."""
NOT_READ = {
    "build": "the folder of a report, which is written; what lies there goes through the readers of its parts",
    "build_from_pipeline": "the same",
    "clip_extractor": "a name or a folder for transformers, which reads it",
    "dinov2_extractor": "the same",
    "efficientnet_extractor": "one file alone, of one hash",
    "load_digits": "data of scikit-learn",
    "load_judge": "a function, or a folder for transformers",
    "open_attributes": "labels, no file",
    "write_index": "pages that were just written",
    "write_report": "written",
}


def paths_of(made: object) -> bool:
    """Whether a function has a parameter that may be a path."""
    annotations = inspect.get_annotations(inspect.unwrap(made), eval_str=True)
    return any(Path in (kind, *typing.get_args(kind)) for name, kind in annotations.items() if name != "return")


def takers() -> list[str]:
    """Public functions, classes and their class methods that take a path, or are called as readers are."""
    found = []
    for full, made in PUBLIC.items():
        name = full.rpartition(".")[2]
        if name.startswith(NAMED) or paths_of(made.__init__ if inspect.isclass(made) else made):
            found.append(name)
        methods = vars(made).items() if inspect.isclass(made) else ()
        found += [
            f"{name}.{one}" for one, value in methods if isinstance(value, classmethod) and paths_of(value.__func__)
        ]
    return found


def used() -> set[str]:
    """Names of ours that the modules with kinds import and use, with attributes."""
    found = set[str]()
    for tree in (ast.parse(file.read_text()) for file in HERE.glob("*_kinds.py")):
        nodes = list(ast.walk(tree))
        ours = {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        names = {ast.unparse(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute)}
        found |= {name for name in names if name.partition(".")[0] in ours}
    return found


def test_whatever_takes_a_path_is_fuzzed_or_said_to_read_none():
    every, fuzzed = takers(), used()
    assert sorted({*every} - fuzzed - {*READ_BY} - {*NOT_READ}) == []
    assert {*READ_BY, *NOT_READ} <= {*every} - fuzzed and {*READ_BY.values()} <= fuzzed
