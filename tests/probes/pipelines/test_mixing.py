"""Predictions that are mixed with the state before `step`: proved in every step as a whole, or left without names."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.probes import APG, CFG, guide, record
from scorescope.probes.pipelines import Level

W = 5.0


class Net(nn.Module):
    """F with a pattern for each condition."""

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        rows = len(x) // len(condition)
        patterns = [torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(int(i))) for i in condition]
        return torch.tanh(1.3 * x) * 0.8 + 0.6 * torch.stack(patterns).repeat_interleave(rows, 0).to(x.dtype)


class Scheduler:
    """Euler on eps, variance exploding."""

    config = SimpleNamespace(prediction_type="epsilon")

    def __init__(self, steps: int = 10, lowest: float = 0.02) -> None:
        self.sigmas = torch.cat([torch.logspace(np.log10(40.0), np.log10(lowest), steps), torch.zeros(1)])
        self.timesteps = torch.arange(steps, dtype=torch.float32)

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor) -> tuple[Tensor]:
        i = int(timestep)
        return ((sample + (self.sigmas[i + 1] - self.sigmas[i]) * model_output).to(sample.dtype),)


def level(scheduler: Scheduler, timestep: Any, state: Tensor) -> Level:
    """Its noise level."""
    sigma, after = (float(scheduler.sigmas[int(timestep) + ahead]) for ahead in (0, 1))
    return Level.of(1.0, sigma, "eps", sigma_next=after)


def factors(sigma: float) -> tuple[float, float, float]:
    """c_skip, c_out and c_in (Karras et al. 2022) for data of deviation 1."""
    return 1 / (sigma**2 + 1), sigma / (sigma**2 + 1) ** 0.5, (sigma**2 + 1) ** -0.5


Rule = Callable[[Tensor, Tensor, int], Tensor]


def plain(cond: Tensor, uncond: Tensor, step: int) -> Tensor:
    return uncond + W * (cond - uncond)


class Pipe:
    """Guides in denoised space, D = c_skip x + c_out F, and gives the scheduler (x - D) / sigma."""

    def __init__(self, dtype: torch.dtype, rule: Rule = plain, *, branches: int = 2, **options: Any) -> None:
        self.net, self.scheduler, self.dtype, self.rule = Net(), Scheduler(**options), dtype, rule
        self.branches = branches

    @torch.no_grad()
    def __call__(self) -> Tensor:
        x = (torch.randn(2, 4, 24, 24, generator=torch.Generator().manual_seed(0)) * 40).to(self.dtype)
        for i, t in enumerate(self.scheduler.timesteps):
            sigma = float(self.scheduler.sigmas[i])
            skip, out, scale = factors(sigma)
            given = torch.tensor([1, 2][: self.branches])
            outputs = self.net(torch.cat([x * scale] * self.branches), given).chunk(self.branches)
            denoised = [skip * x + out * part for part in outputs]
            guided = denoised[0] if self.branches == 1 else self.rule(denoised[1], denoised[0], i)
            x = self.scheduler.step((x - guided) / sigma, t, x)[0]
        return x


def recorded(pipe: Pipe, **options: Any) -> Any:
    with record(pipe, keep="all", progress=False, level=level, **options) as trace:
        pipe()
    return trace


def check(trace: Any, precision: float) -> None:
    """Every step is right or missing: norms and arrays in denoised space against D = c_skip x + c_out F."""
    for place, event in enumerate(trace.arrays.events):
        rows = trace.scalars.query("event == @event['event']")
        skip, out, _ = factors(event["level"]["sigma"])
        x, u, c = (trace.load(name, place).double() for name in ("x", "call0", "call1"))
        norms = {"update_sq": out * (c - u), "cond_sq": skip * x + out * c, "uncond_sq": skip * x + out * u}
        if rows["update_sq"].isna().any():
            assert rows[list(norms)].isna().all().all()
            assert (rows["missing"] != "").all()
            with pytest.raises(InputError, match=r"mixes predictions|not linear"):
                trace.load("cond", place, space="denoised")
            continue
        np.testing.assert_allclose(rows["weight"], W, rtol=3 * precision)
        for name, vector in norms.items():
            np.testing.assert_allclose(rows[name] ** 0.5, vector.flatten(1).norm(dim=1), rtol=precision)
        found = trace.load("cond", place, space="denoised")
        assert (found - norms["cond_sq"]).norm() <= precision * norms["cond_sq"].norm()


@pytest.mark.parametrize(
    ("dtype", "precision", "proved"), [(torch.float32, 1e-4, 10), (torch.float16, 0.01, 7), (torch.bfloat16, 0.03, 6)]
)
def test_a_step_is_proved_as_a_whole_or_missing(dtype: torch.dtype, precision: float, proved: int) -> None:
    trace = recorded(Pipe(dtype))
    check(trace, precision)
    assert (trace.scalars["rule"] == "mixed cfg").sum() >= 2 * proved  # two samples
    assert set(trace.scalars["rule"]) <= {"mixed cfg", "unknown"}


def test_rounding_grows_with_the_inverse_of_sigma() -> None:
    """Down to sigma 0.002, where float32 leaves three digits of what is mixed in."""
    trace = recorded(Pipe(torch.float32, lowest=0.002))
    check(trace, 1e-3)
    proof = trace.proof
    assert set(proof["rule"]) == {"mixed cfg"} and proof["evidence"].isin(["weights", "other steps"]).all()
    assert (proof["residual"] < 0.8 * proof["tolerance"]).all()  # with room
    assert proof["tolerance"].iloc[-1] > 100 * proof["tolerance"].iloc[0]


@pytest.mark.parametrize("lowest", [0.02, 0.3])
def test_guide_gives_the_pipelines_own_pictures_or_refuses(lowest: float) -> None:
    pipe = Pipe(torch.float32, lowest=lowest)
    expected = pipe()
    with guide(pipe, CFG(W), level=level) as session:
        found = pipe()
    assert session.steps == 10
    assert (found - expected).norm() <= 1e-4 * expected.norm()
    half = Pipe(torch.bfloat16, lowest=0.002)
    with pytest.raises(InputError, match="mixes predictions with the state"), guide(half, CFG(W), level=level):
        half()


def _clamped(cond: Tensor, uncond: Tensor, step: int) -> Tensor:
    return plain(cond, uncond, step).clamp(-1, 1) if step > 4 else plain(cond, uncond, step)


@pytest.mark.parametrize("branches", [(), ("uncond", "cond")])
def test_a_rule_that_sets_in_half_way_gets_no_names_without_the_mixing(branches: tuple[str, ...]) -> None:
    """Names alone, whoever gave them, would say that a branch is what the network put out."""
    trace = recorded(Pipe(torch.float32, _clamped), branches=branches)
    check(trace, 1e-4)
    assert trace.scalars["rule"].tolist() == ["mixed cfg"] * 10 + ["unknown"] * 10
    assert any("mixed cfg in steps 0 to 4, unknown in steps 5 to 9" in said for said in trace.problems)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_prediction_that_is_mixed_with_the_state(dtype: torch.dtype) -> None:
    pipe = Pipe(dtype, branches=1, lowest=0.5)
    expected = pipe()
    trace = recorded(pipe)
    assert set(trace.scalars["rule"]) == {"none"}
    for place in range(10):
        guided = trace.load("guided", place, space="denoised")
        found = trace.load("cond", place, space="denoised")
        if dtype == torch.float32:  # else rounding of the prediction, times sigma
            assert (found - guided).norm() <= 1e-5 * guided.norm()
        skip, out, _ = factors(trace.arrays.events[place]["level"]["sigma"])
        truth = skip * trace.load("x", place).double() + out * trace.load("call0", place).double()
        assert (found - truth).norm() <= (1e-5 if dtype == torch.float32 else 0.02) * truth.norm()
    with guide(pipe, CFG(1.0), level=level):
        again = pipe()
    assert (again - expected).norm() <= (1e-5 if dtype == torch.float32 else 0.1) * expected.norm()


class InEps:
    """The network predicts eps, and a rule in denoised space is taken back to eps: nothing is mixed but by the rule."""

    def __init__(self, rule: Any) -> None:
        self.net, self.scheduler, self.rule = Net(), Scheduler(lowest=0.3), rule

    @torch.no_grad()
    def __call__(self) -> Tensor:
        x = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(0)) * 40
        for i, t in enumerate(self.scheduler.timesteps):
            sigma = float(self.scheduler.sigmas[i])
            uncond, cond = self.net(torch.cat([x, x]), torch.tensor([1, 2])).chunk(2)
            guided = self.rule(x - sigma * cond, x - sigma * uncond)
            x = self.scheduler.step((x - guided) / sigma, t, x)[0]
        return x


def test_a_rule_in_denoised_space_is_not_taken_for_mixing() -> None:
    """Weights that sum to 0.8 in denoised space: x is in the prediction, and the branches are not mixed with it."""

    def shrunk(cond: Tensor, uncond: Tensor) -> Tensor:
        return 0.8 * (uncond + W * (cond - uncond))

    pipe = InEps(shrunk)
    with record(pipe, keep="all", progress=False, level=level) as trace:
        pipe()
    assert set(trace.scalars["rule"]) == {"unknown"}
    assert trace.scalars[["weight", "update_sq"]].isna().all().all()
    with record(pipe, keep="all", progress=False, level=level, branches=("uncond", "cond")) as named:
        pipe()
    for place, event in enumerate(named.arrays.events):
        update = event["level"]["sigma"] * (named.load("call1", place) - named.load("call0", place)).double()
        assert named.scalars["update_sq"].iloc[place] == pytest.approx(update.square().sum().item(), rel=1e-5)


def test_a_projected_rule_around_a_guide_is_not_taken_for_mixing() -> None:
    pipe = InEps(lambda cond, uncond: plain(cond, uncond, 0))
    with record(pipe, progress=False, level=level) as trace, guide(pipe, APG(6.0, eta=0.0), level=level):
        pipe()
    assert "mixed cfg" not in set(trace.scalars["rule"])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_weight_of_three_branches_is_a_share_of_all(sign: float) -> None:
    def three(pipe: Any, x: Tensor) -> Tensor:
        uncond, cond, weak = pipe.net(torch.cat([x] * 3), torch.tensor([1, 2, 3])).chunk(3)
        return sign * (uncond + W * (cond - uncond) + 3.0 * (cond - weak))

    pipe = SimpleNamespace(net=Net(), scheduler=Scheduler(lowest=5.0))
    x = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(0)) * 40
    with record(pipe, keep="all", progress=False, level=level, branches=("uncond", "cond", "perturbed")) as trace:
        for t in pipe.scheduler.timesteps:
            x = pipe.scheduler.step(three(pipe, x), t, x)[0]
    assert set(trace.scalars["rule"]) == {"multi-branch"}
    np.testing.assert_allclose(trace.scalars["weight"], W, rtol=1e-4)
    sigma, state = trace.arrays.events[0]["level"]["sigma"], trace.load("x", 0).double()
    expected = state - sign * sigma * trace.load("call1", 0).double()
    torch.testing.assert_close(trace.load("cond", 0, space="denoised"), expected, rtol=1e-5, atol=1e-4)
