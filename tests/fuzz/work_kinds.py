"""What analyses in chunks leave: comparisons of arms, steering curves, maps of a word."""

from pathlib import Path

import torch

from scorescope.analysis.work import plan_steering, read_steering, read_words
from scorescope.analysis.work.words import MAPS, _write
from scorescope.probes.bank import Arm, Bank, Comparison, compare_arms
from scorescope.probes.work import run_work
from tests.analysis.work.test_steering import model
from tests.fuzz import damage
from tests.fuzz.kind import Kind, all_of
from tests.planted import unit_direction


def _comparison(folder: Path) -> Path:
    denoiser = model()
    bank = Bank(torch.randn(3, *denoiser.shape, generator=torch.Generator().manual_seed(0)), [0.5, 2.0], draws=2)
    arms = [Arm("none", denoiser, None), Arm("first", denoiser, torch.zeros(3, dtype=torch.long))]
    return compare_arms(bank, arms, pairs=[("none", "first")], progress=False).save(folder / "c.safetensors")


def _read_comparison(path: Path) -> None:
    found = Comparison.load(path)
    all_of(
        lambda: found.loss(found.names[0]),
        lambda: repr(found),
        lambda: [found.difference_error(*pair) for pair in found.pairs],
    )


def _steering(folder: Path) -> Path:
    unit_direction(0, idle=13).save(folder / "gate.safetensors")
    here = "tests.analysis.work.test_steering"
    spec = {
        "model": f"{here}:model", "scores": f"{here}:judge", "target": "attribute", "seeds": 8, "size": 8, "random": 2,
        "direction": str(folder / "gate.safetensors"), "strengths": [-1, 2], "steps": 3, "resamples": 20,
        "solver": {"class": "Euler"}, "natural": {"attribute": 2.0, "other": 0.5},
    }  # fmt: skip
    run_work(plan_steering(spec), folder / "curve", progress=False)
    return folder / "curve"


def _words(folder: Path) -> Path:
    maps = torch.rand(3, 2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    _write(folder / MAPS, (maps[0], maps[1], maps[2, 0], (1.0, 0.5), ()))
    return folder


WORK_KINDS = (
    Kind("comparison of arms", _comparison, _read_comparison, damage.in_safetensors),
    Kind("steering curve", _steering, read_steering, damage.in_folder),
    Kind("maps of a word", _words, read_words, damage.in_folder),
)
