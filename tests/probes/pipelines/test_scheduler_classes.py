"""Every scheduler class of the installed diffusers, with a network that knows x0: read right, or refused."""

import inspect
import math
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from tests.judged_schedulers import JUDGED, PAGE, page
from tests.schedulers import SHAPE, Case, OrthogonalNoise, classes, walk

from scorescope.probes.pipelines.level_reader import LevelReader

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(autouse=True)
def _noise_of_diffusers() -> Iterator[None]:
    """Put back what `walk` puts in the place of the schedulers' noise."""
    import diffusers.utils.torch_utils as theirs

    yield
    for module in [part for name, part in sys.modules.items() if name.startswith("diffusers.schedulers.")]:
        if isinstance(module, ModuleType) and "randn_tensor" in vars(module):
            vars(module)["randn_tensor"] = theirs.randn_tensor


def test_every_class_of_the_installed_diffusers_is_judged() -> None:
    assert sorted(JUDGED) == sorted(classes())


def test_the_documentation_says_what_the_tests_show() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.judged_schedulers"


def _named(name: str, case: Case) -> Any:
    parts = {**case.config, **case.timesteps, **case.step, **case.registered}
    told = "-".join(f"{key}={value}" for key, value in parts.items() if isinstance(value, str | float | int))
    return pytest.param(name, case, id=f"{name.removesuffix('Scheduler')}-{told}")


READ = [_named(name, case) for name, one in JUDGED.items() for case in one.cases]
REFUSED = [(name, case, words) for name, one in JUDGED.items() for case, words in one.refused]


@pytest.mark.parametrize(("name", "case"), READ)
def test_a_network_that_knows_x0_gives_x0(name: str, case: Case) -> None:
    noise, reader, shown = OrthogonalNoise(), LevelReader(), 0
    for visit in walk(classes()[name], case, noise, reader.read):
        level = visit.level
        if level.note:
            assert "alpha 0" in level.note and abs(visit.alpha) < 1e-6 and not math.isfinite(level.skip)
            continue
        _same_level(level.sigma, visit.s, visit.alpha, JUDGED[name].least)
        if visit.prediction is None:
            continue
        denoised = level.skip * visit.state.double() + level.out * visit.prediction.double()
        rounding = 1e-6 * visit.s / max(1e-4, abs(visit.alpha))
        assert float((denoised - noise.x0).norm() / noise.x0.norm()) < 1e-4 + rounding
        if visit.estimate is not None:
            torch.testing.assert_close(visit.estimate.double(), noise.x0, rtol=0, atol=1e-3)
        if not case.drifts:
            _same_level(level.sigma_next, visit.s_next, visit.alpha_next, JUDGED[name].least)
        shown += 1
    assert shown


def _same_level(told: Any, s: float, alpha: float, least: float) -> None:
    """Schedulers compute in float32, some of them through logarithms."""
    told, held = float(torch.as_tensor(told).flatten()[0]), s / alpha if abs(alpha) > 1e-5 else math.inf
    assert told == held or min(told, held) > 1e5 or abs(told - held) <= 3e-4 + least + 1e-2 * held


@pytest.mark.parametrize(("name", "case", "words"), REFUSED)
def test_what_cannot_be_read_is_refused_with_the_reason(name: str, case: Case, words: str) -> None:
    scheduler = case.make(classes()[name])
    if hasattr(scheduler, "set_timesteps"):
        scheduler.set_timesteps(**({"num_inference_steps": 4} | dict(case.timesteps)))
    state = torch.zeros(SHAPE, dtype=torch.int64 if words == "categorical" else torch.float32)
    level = LevelReader().read(scheduler, next(iter(getattr(scheduler, "timesteps", [1]))), state)
    assert words in level.note
    assert all(math.isnan(getattr(level, part)) for part in ("sigma", "sigma_next", "alpha", "skip", "out"))


@pytest.mark.parametrize("name", [name for name, one in JUDGED.items() if not one.cases and not one.refused])
def test_what_has_no_step_is_not_recorded(name: str) -> None:
    assert not hasattr(classes()[name], "step")


@pytest.mark.parametrize("name", [name for name, one in JUDGED.items() if one.cases])
def test_every_prediction_type_that_a_class_takes_is_tried(name: str) -> None:
    """By what its `step` and what that calls name; of what it does not take, its step says so itself."""
    tried = {dict(case.config).get("prediction_type", "epsilon") for case in JUDGED[name].cases}
    source = inspect.getsource(classes()[name])
    named = {kind for kind in ("epsilon", "sample", "v_prediction", "flow_prediction") if f'== "{kind}"' in source}
    named -= {"sample"} if "prediction_type not implemented yet: sample" in source else set()
    assert named <= tried
