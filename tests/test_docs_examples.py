"""Python examples of the documentation run as they stand, page by page, and show what they say."""

import re
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from scorescope.analysis import decompose
from scorescope.data import InputError
from scorescope.probes import APG, CFG, PAG, Direction, guide, record
from scorescope.probes.experiments import as_guider
from scorescope.probes.models import load_pipeline
from scorescope.probes.pipelines import Level
from scorescope.probes.work import plan_work
from scorescope.reports.cli.work import KINDS
from scorescope.reports.directions import load_subject
from scorescope.reports.inside import study_groups
from tests.saved_pipelines import saved

DOCS = Path(__file__).parents[1] / "docs"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def page_of(name: str) -> str:
    """The text of a page."""
    return (DOCS / name).read_text()


def run(page: str, known: dict[str, Any]) -> dict[str, Any]:
    """Run the Python blocks of a page, one after the other, with what they take as known."""
    blocks = re.findall(r"^```python\n(.*?)^```", page_of(page), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), known)
    return known


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tiny Stable Diffusion that takes prompts; the working folder is empty."""
    monkeypatch.chdir(tmp_path)
    loaded = load_pipeline(str(saved("sd15", tmp_path)[0]))
    loaded.set_progress_bar_config(disable=True)
    return loaded


def my_level(scheduler: Any, timestep: Any, state: torch.Tensor) -> Level:
    """What a user says of a scheduler of their own."""
    kept = scheduler.alphas_cumprod[int(timestep)] ** 0.5
    return Level.of(float(kept), float((1 - kept**2) ** 0.5), "eps")


def test_the_first_five_minutes() -> None:
    found = run("start.md", {})
    assert len(found["table"]) and found["table"]["parallel_share"].between(0, 1).any()


def test_pipelines(pipe: Any) -> None:
    found = run("pipelines.md", {"pipe": pipe, "generator": torch.Generator().manual_seed(0)})
    assert found["trace"].proof["residual"].max() < 1e-3 and len(found["table"])


def test_recipes(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    written = "scorescope.reports.studies.bibtex"  # of a report, which is made elsewhere
    monkeypatch.setattr(written, lambda folder: folder)
    known = {"pipe": pipe, "record": record, "guide": guide, "APG": APG, "PAG": PAG, "decompose": decompose,
             "my_level": my_level, "guider": as_guider(CFG(3.0))}  # fmt: skip
    assert run("recipes.md", known)["rule"].weight == 4.0


def test_a_subject_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page runs, its first block is the file that the command line names, and a part of a report is made of it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    block = re.findall(r"^```python\n(.*?)^```", (DOCS / "own_denoiser.md").read_text(), re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "my_subject.py").write_text(block)
    found = run("own_denoiser.md", {})
    assert found["agreement"] > 0.9 and found["probes"]["value"].max() > 0.8
    subject = load_subject("my_subject:make_subject")
    study = study_groups(subject, seeds=40, paths=8, control=40)
    assert study.attribute == "ink" and study.groups == ("little", "much") and study.classes == ("3", "8")


@pytest.mark.slow
def test_a_cluster_on_loopback(pipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    shown = re.search(
        r"^    from scorescope.data import load_classifier\n(?:^    .*\n|\n)*", page_of("cluster.md"), re.MULTILINE
    )
    assert shown is not None
    measure = "def measure(spec, seeds, folder):\n    return {'sum': sum(seeds)}\n"
    Path("my_module.py").write_text(textwrap.dedent(shown[0]) + measure)
    found = run("cluster.md", {"pipe": pipe})
    assert found["done"].is_complete and found["total"] == sum(range(40))
    assert {name: len(one.samples) for name, one in found["runs"].items()} == {"CFG, w = 1": 60, "CFG, w = 3": 60}
    assert len(found["curve"].samples) and found["gained"].shape[1] == 5
    assert len(found["updates"]) and found["bends"]["n"].max() == 4 and found["rms"].shape == (8,)


def test_the_specs_of_the_documentation_are_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.csv").write_text("prompt\na\nb\n")
    Direction(torch.ones(64), site="network.middle1", attribute="", method="", scale=1.0).save("eight.safetensors")
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("my_module.py").write_text("def scores():\n    return lambda x: {'eight': x.flatten(1).mean(1)}\n")
    texts = re.findall(r"^```toml\n(.*?)^```", page_of("cluster.md"), re.MULTILINE | re.DOTALL)
    specs = {spec["kind"]: spec for spec in map(tomllib.loads, texts)}
    sweep, moments, recording = (specs.pop(kind) for kind in ("sweep", "moments", "recording"))
    for kind, count in {"activations": 7, "bank": 6, "steering": 250, "words": 16}.items():
        spec = specs.pop(kind)
        assert len(plan_work(spec | {"kind": KINDS.get(kind, kind)}).chunks) == count, kind
    assert not specs
    assert len(plan_work(sweep).chunks) == 2 * 2 * 6 and len(plan_work(recording).chunks) == 1
    assert moments["kind"] == "moments"
    with pytest.raises(InputError, match="samples: found no such file"):  # it needs the user's images
        plan_work(moments)


@pytest.mark.slow
def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = run("python.md", {})
    assert isinstance(found["table"], pd.DataFrame) and Path("size.safetensors").is_file()
    assert found["steered"].verdicts["verdict"].tolist() == ["undecided"]  # as the page says
