"""Branches that are neither cond nor uncond: at another state or time than the step's, or given all that cond was."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.pipelines import GUIDANCE, output_of, pag, sag
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.probes import CFG, guide, record

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

COND, UNCOND = 1.0, 2.0
W, S = 5.0, 0.75


class Net(nn.Module):
    """A prediction that depends on state, time and condition."""

    perturbed = 0.0

    def forward(self, x: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        pattern = torch.stack([torch.randn(x.shape[1:], generator=_generator(int(one))) for one in text[:, 0]])
        time = timestep.reshape(-1, 1, 1, 1) / 1000
        return (torch.tanh(x) * (1 + time) + pattern + self.perturbed * x.flip(-1)).to(x.dtype)


class Scheduler:
    """Euler on v = n - x0, sigma from 0.9 to 0."""

    config = SimpleNamespace(prediction_type="flow_prediction", num_train_timesteps=1000)

    def __init__(self) -> None:
        self.sigmas = torch.linspace(0.9, 0.0, 4)
        self.timesteps = self.sigmas[:-1] * 1000
        self.step_index = 0

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor) -> tuple[Tensor]:
        i = self.step_index
        self.step_index += 1
        return ((sample + (self.sigmas[i + 1] - self.sigmas[i]) * model_output).to(sample.dtype),)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _text(condition: float, rows: int) -> Tensor:
    return torch.full((rows, 3), condition)


def _blurred(x: Tensor) -> Tensor:
    return (x + x.roll(1, -1) + x.roll(-1, -1)) / 3


Steps = Callable[[Net, Tensor, Tensor, int], Tensor]


@torch.no_grad()
def run(make: Steps, *, rows: int = 2, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """A loop whose prediction is made by `make(net, x, time, step)`."""
    pipe = SimpleNamespace(net=Net(), scheduler=Scheduler())
    x = torch.randn(rows, 4, 6, 6, generator=_generator(0)).to(dtype)
    with record(pipe, keep="all", progress=False, **options) as trace:
        for i, t in enumerate(pipe.scheduler.timesteps):
            x = pipe.scheduler.step(make(pipe.net, x, t.expand(rows), i), t, x)[0]
    return trace


def calls(net: Net, x: Tensor, t: Tensor, condition: float) -> Tensor:
    return net(x, t, _text(condition, len(x)))


def pushed(c: Tensor, u: Tensor, away: Tensor, *, of_cond: bool) -> Tensor:
    return u + W * (c - u) + S * ((c if of_cond else u) - away)


def check(trace: Any, cond: int, uncond: int, weight: float = W) -> None:
    """Names, weight, and the update as it is between the two branches."""
    assert set(trace.proof["cond"]) == {cond}
    assert set(trace.proof["uncond"]) == {uncond}
    assert trace.scalars["missing"].eq("").all()
    assert set(trace.scalars["evidence"]) == {"weights and inputs"}
    np.testing.assert_allclose(trace.scalars["weight"], weight, rtol=1e-3)
    for place in range(len(trace.arrays.events)):
        c, u = (trace.load(f"call{n}", place).double() for n in (cond, uncond))
        out = trace.arrays.events[place]["level"]["out"]
        found = trace.scalars.query("event == @place")["update_sq"] ** 0.5
        np.testing.assert_allclose(found, (out * (c - u)).flatten(1).norm(dim=1), rtol=1e-5)


def test_self_attention_guidance_is_named_as_it_is() -> None:
    pipe, arguments = sag()
    bare = output_of(pipe(**arguments))
    arguments["generator"].manual_seed(0)
    with record(pipe, keep="all") as trace:
        assert torch.equal(bare, output_of(pipe(**arguments)))
    assert set(trace.scalars["rule"]) == {"multi-branch"}
    check(trace, 1, 0, GUIDANCE)
    with pytest.raises(InputError, match="which this step has not"):
        trace.load("perturbed", 0)


def test_self_attention_guidance_alone_has_no_unconditional_branch() -> None:
    pipe, arguments = sag()
    with record(pipe, keep="all") as trace:
        pipe(**arguments | {"guidance_scale": 0.0})
    assert set(trace.scalars["rule"]) == {"multi-branch"}
    assert trace.scalars[["weight", "update_sq"]].isna().all().all()
    assert trace.scalars["cond_sq"].notna().all()
    assert trace.scalars["missing"].str.contains("state and time of the step").all()
    with pytest.raises(InputError, match="state and time of the step"):
        trace.load("uncond", 0)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("of_cond", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_degraded_branch_in_a_call_of_its_own(rows: int, of_cond: bool, dtype: torch.dtype) -> None:
    def make(net: Net, x: Tensor, t: Tensor, _: int) -> Tensor:
        u, c = net(torch.cat([x, x]), t.repeat(2), torch.cat([_text(UNCOND, rows), _text(COND, rows)])).chunk(2)
        return pushed(c, u, calls(net, _blurred(x), t, COND if of_cond else UNCOND), of_cond=of_cond)

    trace = run(make, rows=rows, dtype=dtype)
    if dtype == torch.float32:
        check(trace, 1, 0)
    assert not set(trace.proof["uncond"]) - {0, -1} and not set(trace.proof["cond"]) - {1, -1}


@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_a_degraded_branch_between_the_others_in_one_call(scale: float) -> None:
    """The network is given c_in x, and beside it channels of a condition that uncond has not."""

    class Beside(Net):
        def forward(self, x: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
            return super().forward(x[:, :4] / scale, timestep, text) + 0.1 * x[:, 4:].mean(1, keepdim=True)

    def make(net: Net, x: Tensor, t: Tensor, _: int) -> Tensor:
        net.__class__ = Beside
        image = torch.ones(len(x), 2, 6, 6)
        states = [scale * x, scale * _blurred(x), scale * x]
        given = [torch.cat(pair, 1) for pair in zip(states, [0 * image, 0 * image, image], strict=True)]
        text = torch.cat([_text(one, len(x)) for one in (UNCOND, UNCOND, COND)])
        u, d, c = net(torch.cat(given), t.repeat(3), text).chunk(3)
        return pushed(c, u, d, of_cond=False)

    check(run(make), 2, 0)


def test_a_branch_at_another_time_is_not_the_unconditional_one() -> None:
    def make(net: Net, x: Tensor, t: Tensor, _: int) -> Tensor:
        c, u, later = calls(net, x, t, COND), calls(net, x, t, UNCOND), calls(net, x, t + 90, UNCOND)
        return pushed(c, u, later, of_cond=False)

    check(run(make), 0, 1)


def test_a_branch_at_another_state_is_not_cond_either() -> None:
    def make(net: Net, x: Tensor, t: Tensor, _: int) -> Tensor:
        c, u = calls(net, _blurred(x), t, COND), calls(net, x, t, UNCOND)
        return u + W * (c - u)

    trace = run(make)
    assert trace.scalars["missing"].str.contains("guidance pushes to was not evaluated at the state").all()
    assert trace.scalars[["weight", "update_sq", "cond_sq"]].isna().all().all()


def test_a_buffer_that_is_written_into_between_calls_is_not_taken_for_one_state() -> None:
    def make(net: Net, x: Tensor, t: Tensor, _: int) -> Tensor:
        buffer, found = torch.empty_like(x), []
        for state, condition in ((x, COND), (x, UNCOND), (_blurred(x), UNCOND)):
            found.append(calls(net, buffer.copy_(state), t, condition))
        return pushed(*found, of_cond=False)

    trace = run(make)
    assert not set(trace.proof["uncond"]) - {1, -1}


def test_the_order_of_other_steps_is_not_given_to_a_degraded_branch() -> None:
    def make(net: Net, x: Tensor, t: Tensor, i: int) -> Tensor:
        c = calls(net, x, t, COND)
        other = calls(net, x, t, UNCOND) if i == 0 else calls(net, _blurred(x), t, COND)
        return other + W * (c - other)

    trace = run(make, rows=1)
    assert trace.proof["uncond"].tolist() == [1, -1, -1]
    assert trace.scalars["missing"].str.contains("state and time").tolist() == [False, True, True]


@pytest.mark.parametrize("labels", [("cond", "uncond"), ("cond", "perturbed")])
def test_a_name_does_not_make_a_degraded_branch_unconditional(labels: tuple[str, str]) -> None:
    def make(net: Net, x: Tensor, t: Tensor, _: int) -> Tensor:
        c, d = calls(net, x, t, COND), calls(net, _blurred(x), t, COND)
        return d + W * (c - d)

    trace = run(make, branches=labels)
    assert set(trace.proof["uncond"]) == {-1}
    assert trace.scalars["weight"].isna().all()


def test_perturbed_attention_alone_has_no_unconditional_branch() -> None:
    pipe, arguments = pag()
    with record(pipe, keep="all") as trace:
        pipe(**arguments | {"guidance_scale": 0.0})
    assert set(trace.scalars["rule"]) == {"multi-branch"}
    assert trace.scalars["missing"].str.contains("given all that cond was").all()
    assert trace.scalars[["weight", "update_sq"]].isna().all().all()
    assert math.isnan(trace.manifest["weight"])


def test_another_network_is_not_the_unconditional_branch() -> None:
    """Autoguidance: both were given the same."""

    def make(net: Net, x: Tensor, t: Tensor, _: int) -> Tensor:
        c = calls(net, x, t, COND)
        net.perturbed = 0.3
        weak = calls(net, x, t, COND)
        net.perturbed = 0.0
        return weak + W * (c - weak)

    trace = run(make)
    assert trace.scalars["missing"].str.contains("given all that cond was").all()


def test_guide_refuses_a_degraded_branch() -> None:
    pipe, arguments = sag()
    with pytest.raises(InputError, match="more than two branches"), guide(pipe, CFG(3.0)):
        pipe(**arguments)
