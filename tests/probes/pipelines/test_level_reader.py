"""Noise levels that differ by token, frame or sample, rise, repeat, or stand at the ends."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scorescope.probes import record
from scorescope.probes.models.spaces import NoiseLevel, to_denoised
from scorescope.probes.pipelines.level import Level
from scorescope.probes.pipelines.level_reader import LevelReader

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Doubled(nn.Module):
    """Two branches, far enough apart."""

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return torch.tanh(x) + torch.randn_like(x)


def guide(out: Tensor) -> Tensor:
    uncond, cond = out.chunk(2)
    return uncond + 3.0 * (cond - uncond)


@pytest.mark.parametrize("space", ["eps", "v", "denoised", "flow"])
def test_coefficients_agree_with_the_conversions_of_the_room(space: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    x, prediction = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    for alpha, s in ((0.8, 0.6), (1.0, 14.6), (0.3, 0.7)):
        level = Level.of(alpha, s, space)
        expected = to_denoised(
            prediction, x, NoiseLevel(torch.tensor(alpha).double(), torch.tensor(s).double()), space=space
        )
        torch.testing.assert_close(level.skip * x + level.out * prediction, expected)
        assert level.sigma == pytest.approx(s / alpha)


def test_edm_preconditioning_agrees_with_the_scheduler() -> None:
    from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler

    for scheduler in (EDMEulerScheduler(), EDMDPMSolverMultistepScheduler(prediction_type="v_prediction")):
        scheduler.set_timesteps(4)
        x, out = torch.randn(2, 1, 4, 4, 4)
        level = LevelReader().read(scheduler, scheduler.timesteps[1], x)
        sigma = scheduler.sigmas[1]
        assert level.sigma == pytest.approx(float(sigma))
        expected = scheduler.precondition_outputs(x, out, sigma)
        torch.testing.assert_close(level.skip * x + level.out * out, expected, rtol=1e-5, atol=1e-6)


def test_timesteps_by_token() -> None:
    """Image conditioning on some tokens of a video: those hold no noise. Such a step wants x0 - n, as pipelines do."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(3)
    pipe = SimpleNamespace(net=Doubled(), scheduler=scheduler)
    x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0, 1.0]).expand(2, 6)
    states, times = [], []
    with record(pipe, keep="branches") as trace:
        for t in scheduler.timesteps:
            states.append(x.clone())
            times.append(t * mask)
            guided = guide(pipe.net(torch.cat([x, x])))
            x = scheduler.step(-guided, t, x, per_token_timesteps=times[-1], return_dict=False)[0]
    assert set(trace.scalars["rule"]) == {"negated cfg"}
    for place, (state, time) in enumerate(zip(states, times, strict=True)):
        s = time.double()[..., None] / 1000
        cond, uncond = (trace.load(name, place).double() for name in ("cond", "uncond"))
        update = (-s * (cond - uncond)).square().flatten(1).sum(1)
        rows = trace.scalars[trace.scalars["event"] == place]
        np.testing.assert_allclose(rows["update_sq"], update, rtol=1e-9)
        np.testing.assert_allclose(rows["cond_sq"], (state - s * cond).square().flatten(1).sum(1), rtol=1e-9)
        np.testing.assert_allclose(rows["applied_sq"], 4 * update, rtol=1e-6)
        expected = float(s.max() / (1 - s.max())) if s.max() < 1 else math.inf
        assert rows["sigma"].iloc[0] == pytest.approx(expected)


def test_timesteps_by_sample() -> None:
    class BySample:
        """A user's training-style loop: every sample at a level of its own."""

        config = SimpleNamespace(prediction_type="epsilon")
        alphas_cumprod = torch.linspace(0.999, 0.01, 1000)
        timesteps = torch.arange(999, -1, -250)

        def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor) -> tuple[Tensor]:
            return (sample - 0.1 * model_output,)

    pipe = SimpleNamespace(net=Doubled(), scheduler=BySample())
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([900, 500, 100])
    with record(pipe, keep="branches") as trace:
        pipe.scheduler.step(guide(pipe.net(torch.cat([x, x]))), t, x)
    product = pipe.scheduler.alphas_cumprod[t].double()
    np.testing.assert_allclose(trace.scalars["sigma"], ((1 - product) / product).sqrt(), rtol=1e-12)
    assert trace.scalars["t"].tolist() == [900, 500, 100]
    alpha, s = (product.sqrt()[:, None, None], (1 - product).sqrt()[:, None, None])
    cond = (x.double() - s * trace.load("cond", 0).double()) / alpha
    np.testing.assert_allclose(trace.scalars["cond_sq"], cond.square().flatten(1).sum(1), rtol=1e-9)
    torch.testing.assert_close(trace.load("cond", 0, space="denoised"), cond)


def test_levels_that_rise() -> None:
    from diffusers import DDIMInverseScheduler, DDIMScheduler

    scheduler = DDIMInverseScheduler(steps_offset=1, clip_sample=False)
    scheduler.set_timesteps(5)
    reference = DDIMScheduler(steps_offset=1).alphas_cumprod
    pipe = SimpleNamespace(net=nn.Identity(), scheduler=scheduler)
    x = torch.randn(1, 4, 8, 8)
    with record(pipe) as trace:
        for t in scheduler.timesteps:
            x = scheduler.step(pipe.net(x) * 1.0, t, x, return_dict=False)[0]
    sigma = trace.scalars["sigma"].to_numpy()
    assert (np.diff(sigma) > 0).all()
    np.testing.assert_allclose(trace.scalars["sigma_next"].to_numpy()[:-1], sigma[1:], rtol=1e-6)
    assert sigma[1] == pytest.approx(float(((1 - reference[1]) / reference[1]) ** 0.5), rel=1e-5)


def test_levels_that_repeat_and_go_back_up() -> None:
    """A restart: the same steps again, with a scheduler that counts by timestep."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(4)
    pipe = SimpleNamespace(net=nn.Identity(), scheduler=scheduler)
    x = torch.randn(1, 4, 8, 8)
    with record(pipe) as trace:
        for place in (0, 1, 2, 1, 2, 3):
            x = scheduler.step(pipe.net(x) * 1.0, scheduler.timesteps[place], x, return_dict=False)[0]
    sigma = trace.scalars["sigma"].tolist()
    assert sigma[1] == sigma[3]
    assert sigma[2] == sigma[4]
    assert trace.scalars["run"].nunique() == 1
    assert not trace.scalars.duplicated(["sample", "step", "call"]).any()


def test_eps_without_data_is_undefined_and_says_so() -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(clip_sample=False, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    scheduler.set_timesteps(3)
    pipe = SimpleNamespace(net=nn.Identity(), scheduler=scheduler)
    x = torch.randn(1, 4, 8, 8)
    with record(pipe) as trace:
        for t in scheduler.timesteps:
            x = scheduler.step(pipe.net(x) * 1.0, t, x, return_dict=False)[0].nan_to_num()
    first, second = trace.scalars.iloc[0], trace.scalars.iloc[1]
    assert first["sigma"] == math.inf
    assert math.isnan(first["cond_sq"])
    assert "alpha 0" in first["note"]
    assert second["note"] == "" and math.isfinite(second["cond_sq"])


def test_inverted_sigmas_count_the_data() -> None:
    """As Mochi has them: sigma runs from 0 to 1 and the network predicts x0 - n."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    scheduler.set_timesteps(4)
    x0, noise = torch.randn(2, 1, 4, 8, 8)
    reader = LevelReader()
    for place in range(1, 4):
        sigma = scheduler.sigmas[place]
        scheduler._step_index = place
        x = sigma * x0 + (1 - sigma) * noise
        level = reader.read(scheduler, scheduler.timesteps[place], x)
        torch.testing.assert_close(level.skip * x + level.out * (x0 - noise), x0, rtol=1e-4, atol=1e-5)
        assert level.sigma == pytest.approx(float((1 - sigma) / sigma), rel=1e-5)


def test_reading_a_level_leaves_the_scheduler_as_it_was() -> None:
    from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler

    for kind in (DPMSolverMultistepScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler):
        scheduler = kind()
        scheduler.set_timesteps(4)
        before = {name: value for name, value in vars(scheduler).items() if not isinstance(value, Tensor)}
        LevelReader().read(scheduler, scheduler.timesteps[0], torch.zeros(1, 4, 2, 2))
        after = {name: value for name, value in vars(scheduler).items() if not isinstance(value, Tensor)}
        assert before == after


def test_a_timestep_is_found_by_its_place_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """On an accelerator, reading its value would wait for the device at every step."""
    from diffusers import DDIMScheduler

    from scorescope.probes.pipelines import scheduler_tables as levels

    scheduler = DDIMScheduler()
    scheduler.set_timesteps(10)
    for place in range(10):
        assert levels._place(scheduler.timesteps[place], scheduler.timesteps) == place
        assert levels._place(scheduler.timesteps[3:][place % 7], scheduler.timesteps) == 3 + place % 7
    assert levels._place(scheduler.timesteps[2].clone(), scheduler.timesteps) is None


def test_what_a_denoiser_is_given_is_a_timestep_of_the_scheduler() -> None:
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    reader, time = LevelReader(), scheduler.timesteps[1]
    expected = float(time)
    for given in (time, expected, time.expand(3), time[None, None].repeat(2, 3), time / 1000, 1 - time / 1000):
        assert reader.scheduled(scheduler, given) == expected
    assert reader.scheduled(scheduler, scheduler.timesteps) is None
    assert reader.scheduled(scheduler, 0.3) == 0.3  # none of them
    assert reader.scheduled(object(), 0.3) == 0.3


class Karras:
    """A user's own scheduler: variance exploding, with a table `sigmas` and nothing else."""

    sigmas = torch.tensor([80.0, 10.0, 1.0, 0.0])
    timesteps = sigmas[:-1]
    config = SimpleNamespace(prediction_type="epsilon")


class Textbook:
    """A user's own scheduler: DDPM with the names of the paper."""

    betas = torch.linspace(1e-4, 0.02, 1000)
    alphas = 1 - betas
    alpha_bars = alphas.cumprod(0)
    timesteps = torch.arange(999, -1, -250)
    config = SimpleNamespace(prediction_type="epsilon")


@pytest.mark.parametrize(("kind", "reason"), [(Karras, "above 1 are not flow times"), (Textbook, "is unknown")])
def test_a_level_that_is_not_known_is_not_made_up(kind: Any, reason: str) -> None:
    scheduler = kind()
    for timestep in scheduler.timesteps:
        level = LevelReader().read(scheduler, timestep, torch.zeros(1, 4, 2, 2))
        assert math.isnan(level.sigma) and math.isnan(level.sigma_next) and math.isnan(level.out)
        assert reason in level.note and "level=" in level.note


def test_alpha_and_noise_in_two_tables() -> None:
    from diffusers import IPNDMScheduler

    scheduler = IPNDMScheduler()
    scheduler.set_timesteps(5)
    reader = LevelReader()
    for place, angle in enumerate(scheduler.timesteps):
        level = reader.read(scheduler, angle, torch.zeros(1, 4, 2, 2))
        assert level.sigma == pytest.approx(float(scheduler.betas[place] / scheduler.alphas[place]))
        scheduler.step(torch.zeros(1, 4, 2, 2), angle, torch.zeros(1, 4, 2, 2))


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "CMStochasticIterativeScheduler", "DDIMScheduler"])
def test_levels_are_read_on_the_host_whatever_the_default_device(name: str) -> None:
    import diffusers

    scheduler = getattr(diffusers, name)()
    scheduler.set_timesteps(4)
    state = torch.zeros(1, 4, 2, 2)
    expected = LevelReader().read(scheduler, scheduler.timesteps[1], state)
    with torch.device("meta"):
        found = LevelReader().read(scheduler, scheduler.timesteps[1], state)
        time = LevelReader().scheduled(scheduler, float(scheduler.timesteps[1]))
    assert found == expected
    assert time == float(scheduler.timesteps[1])


def test_trigflow_counts_the_spread_of_the_data() -> None:
    """x = cos(t) x0 + sin(t) sigma_data n; pi / 2 is passed as 1.5708, which is above it."""
    from diffusers import SCMScheduler

    scheduler, reader = SCMScheduler(sigma_data=0.5), LevelReader()
    scheduler.set_timesteps(2)
    first = reader.read(scheduler, scheduler.timesteps[0], torch.zeros(1, 4, 2, 2))
    assert (first.sigma, first.alpha) == (math.inf, 0.0)
    assert (first.skip, first.out) == pytest.approx((0.0, -1.0), abs=1e-5)
    assert first.sigma_next == pytest.approx(0.5 * math.tan(1.3))
    second = reader.read(scheduler, scheduler.timesteps[1], torch.zeros(1, 4, 2, 2))
    assert (second.sigma, second.sigma_next) == pytest.approx((0.5 * math.tan(1.3), 0.0))


@pytest.mark.parametrize(
    ("prk", "expected"),
    [
        (False, [(0, 0), (0, 1), (1, 0), (2, 0), (3, 0)]),
        (True, [(step, call) for step in range(3) for call in range(4)] + [(3, 0), (4, 0)]),
    ],
)
def test_stages_and_repeated_steps_are_calls_of_one_step(prk: bool, expected: list[tuple[int, int]]) -> None:
    from diffusers import PNDMScheduler

    scheduler = PNDMScheduler(skip_prk_steps=not prk)
    scheduler.set_timesteps(5 if prk else 4)
    pipe = SimpleNamespace(net=nn.Identity(), scheduler=scheduler)
    x = torch.randn(1, 4, 8, 8)
    with record(pipe) as trace:
        for t in scheduler.timesteps:
            x = scheduler.step(pipe.net(x) * 1.0, t, x, return_dict=False)[0]
    rows = trace.scalars
    assert list(zip(rows["step"], rows["call"], strict=True)) == expected
    np.testing.assert_allclose(rows["sigma_next"].to_numpy()[:-1], rows["sigma"].to_numpy()[1:], rtol=1e-6)


def test_a_step_back_in_time_of_an_own_scheduler_leads_nowhere_that_is_known() -> None:
    class Jumping:
        config = SimpleNamespace(prediction_type="epsilon")
        alphas_cumprod = torch.linspace(0.999, 0.01, 10)
        timesteps = torch.tensor([9, 6, 3, 6, 3, 0])

    scheduler, reader, state = Jumping(), LevelReader(), torch.zeros(1, 4, 2, 2)
    after = [reader.read(scheduler, time, state).sigma_next for time in (9, 6, 3, 0)]
    product = float(Jumping.alphas_cumprod[6])
    assert after[0] == pytest.approx(math.sqrt((1 - product) / product))
    assert after[1] == pytest.approx(float(((1 - Jumping.alphas_cumprod[3]) / Jumping.alphas_cumprod[3]) ** 0.5))
    assert math.isnan(after[2])  # up once, and down once
    assert after[3] == 0.0


def test_a_table_that_is_edited_in_place_is_read_again() -> None:
    """As Cosmos does with its last level."""
    from diffusers import EulerDiscreteScheduler

    scheduler, reader, state = EulerDiscreteScheduler(), LevelReader(), torch.zeros(1, 4, 2, 2)
    scheduler.set_timesteps(4)
    reader.read(scheduler, scheduler.timesteps[0], state)
    scheduler.sigmas[1] = 7.0
    assert reader.read(scheduler, scheduler.timesteps[0], state).sigma_next == 7.0


def test_a_step_by_token_wants_the_direction_to_the_data() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    x0, noise = torch.randn(2, 1, 6, 4, generator=torch.Generator().manual_seed(0))
    times = scheduler.timesteps[-1] * torch.tensor([[0.0, 0.0, 1.0, 1.0, 1.0, 1.0]])
    s = times[..., None] / 1000
    state, prediction = (1 - s) * x0 + s * noise, x0 - noise
    level = LevelReader().read(scheduler, scheduler.timesteps[-1], state, {"per_token_timesteps": times})
    torch.testing.assert_close((level.skip * state + level.out * prediction).float(), x0)
    last = scheduler.step(prediction, scheduler.timesteps[-1], state, per_token_timesteps=times).prev_sample
    torch.testing.assert_close(last, x0)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_sigmas_below_one_alone_make_no_flow(kind: str) -> None:
    """A variance-exploding scheduler that starts half-way looks the same."""
    scheduler = SimpleNamespace(
        sigmas=torch.tensor([0.9, 0.5, 0.0]),
        timesteps=torch.tensor([2, 1]),
        config=SimpleNamespace(prediction_type=kind),
    )
    level = LevelReader().read(scheduler, 2, torch.zeros(1, 4, 2, 2))
    assert math.isnan(level.sigma) and kind in level.note


def test_predictions_of_an_unknown_type_are_refused() -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(prediction_type="score")
    scheduler.set_timesteps(4)
    level = LevelReader().read(scheduler, scheduler.timesteps[0], torch.zeros(1, 4, 2, 2))
    assert math.isnan(level.out) and "'score'" in level.note
