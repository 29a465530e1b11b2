"""Errors in the middle of a run, schedulers that come and go: what is recorded is what fed the steps."""

import copy
import gc
from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.probes import Trace, record
from scorescope.probes.pipelines.taps import StepTap
from tests.pipelines import generator, sd15

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Net(nn.Module):
    """A branch by number, which fails in a call that the test names."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Tanh()
        self.fail_at, self.count = -1, 0

    @contextmanager
    def cache_context(self, name: str) -> Any:
        yield

    def forward(self, x: Tensor, branch: int) -> Tensor:
        self.count += 1
        pattern = torch.randn(x.shape, generator=torch.Generator().manual_seed(branch))
        out = self.inner(x + 0.01 * self.count) + pattern
        if self.count == self.fail_at:
            raise RuntimeError("out of memory")
        return out


class Scheduler:
    """Euler on a flow; every run sets a new grid."""

    config = SimpleNamespace(prediction_type="flow_prediction", num_train_timesteps=1000)

    def set_timesteps(self, steps: int) -> None:
        self.sigmas = torch.linspace(0.9, 0.0, steps + 1)
        self.timesteps = self.sigmas[:-1] * 1000
        self.step_index = 0

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor) -> tuple[Tensor]:
        i = self.step_index
        self.step_index += 1
        return (sample + (self.sigmas[i + 1] - self.sigmas[i]) * model_output,)


def pipeline() -> Any:
    pipe = SimpleNamespace(net=Net(), scheduler=Scheduler())
    pipe.scheduler.set_timesteps(2)
    return pipe


def attempt(pipe: Any, *, between: Callable[[], None] = lambda: None, weight: float = 5.0, named: bool = False) -> None:
    """One call of a pipeline with two calls of its network a step."""
    pipe.scheduler.set_timesteps(2)
    x = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    for t in pipe.scheduler.timesteps:
        if named:
            with pipe.net.cache_context("cond"):
                cond = pipe.net(x, 1)
        else:
            cond = pipe.net(x, 1)
        between()
        uncond = pipe.net(x, 2)
        x = pipe.scheduler.step(uncond + weight * (cond - uncond), t, x)[0]


def check(trace: Trace, weight: float = 5.0, rule: str = "cfg") -> None:
    assert trace.status == "complete"
    assert set(trace.scalars["rule"]) == {rule}
    assert set(trace.proof["cond"]) == {0}
    assert {len(row) for row in trace.proof["coefficients"]} == {2}
    np.testing.assert_allclose(trace.scalars["weight"], weight, rtol=1e-4)
    with pytest.raises(InputError):
        trace.load("perturbed", 0)


def _interrupt() -> None:
    raise ValueError("the user's callback")


@pytest.mark.parametrize("named", [False, True])
def test_a_run_that_died_between_two_calls_leaves_no_branch(named: bool) -> None:
    pipe = pipeline()
    with record(pipe, keep="all", progress=False) as trace:
        with pytest.raises(ValueError, match="callback"):
            attempt(pipe, between=_interrupt, named=named)
        attempt(pipe, named=named, weight=0.4 if named else 5.0)
    # with one label alone nothing says that the other branch is the unconditional one
    check(trace, np.nan if named else 5.0, "multi-branch" if named else "cfg")
    assert set(trace.scalars["evidence"]) == {"labels" if named else "weights"}


def test_a_call_that_raised_leaves_neither_branches_nor_activations() -> None:
    pipe = pipeline()
    pipe.net.fail_at = 2
    with record(pipe, keep="all", sites=["net.inner"], progress=False) as trace:
        with pytest.raises(RuntimeError, match="memory"):
            attempt(pipe)
        attempt(pipe)
    check(trace)
    x = trace.load("x", 0)
    for call, count in (("call0", 3), ("call1", 4)):
        torch.testing.assert_close(trace.arrays.site("net.inner", 0, call), torch.tanh(x + 0.01 * count))


def test_a_call_that_raised_and_is_repeated_at_once() -> None:
    """No new grid says so."""
    pipe = pipeline()
    pipe.net.fail_at = 1
    x = torch.randn(1, 4, 6, 6)
    with record(pipe, keep="all", sites=["net.inner"], progress=False) as trace:
        with pytest.raises(RuntimeError, match="memory"):
            pipe.net(x, 1)
        cond, uncond = pipe.net(x, 1), pipe.net(x, 2)
        pipe.scheduler.step(uncond + 5.0 * (cond - uncond), pipe.scheduler.timesteps[0], x)
    check(trace)
    torch.testing.assert_close(trace.arrays.site("net.inner", 0, "call0"), torch.tanh(x + 0.02))


def test_a_run_that_is_given_up_leaves_no_branch_in_the_next_one() -> None:
    pipe = pipeline()
    x = torch.randn(1, 4, 6, 6)
    with record(pipe, progress=False) as trace:
        for spec in trace.runs([{"seed": 0}, {"seed": 1}], progress=False):
            if spec["seed"] == 0:
                pipe.net(x, 3)
                continue
            cond, uncond = pipe.net(x, 1), pipe.net(x, 2)
            pipe.scheduler.step(uncond + 5.0 * (cond - uncond), pipe.scheduler.timesteps[0], x)
    assert set(trace.proof["run"]) == {1}
    assert {len(row) for row in trace.proof["coefficients"]} == {2}


def test_a_grid_that_is_made_whenever_it_is_read_is_no_new_run() -> None:
    class Property(Scheduler):
        timesteps = property(lambda self: self.sigmas[:-1] * 1000)  # type: ignore[assignment]

        def set_timesteps(self, steps: int) -> None:
            self.sigmas = torch.linspace(0.9, 0.0, steps + 1)
            self.step_index = 0

    pipe = SimpleNamespace(net=Net(), scheduler=Property())
    with record(pipe, keep="all", progress=False) as trace:
        attempt(pipe)
    check(trace)


def test_calls_without_steps_are_not_hoarded() -> None:
    pipe = pipeline()
    x = torch.randn(1, 4, 6, 6)
    session = record(pipe, progress=False)
    with session, torch.no_grad():
        for _ in range(400):
            pipe.net(x, 1)
        assert len(session._seat) == 256
        cond, uncond = pipe.net(x, 1), pipe.net(x, 2)
        pipe.scheduler.step(uncond + 5.0 * (cond - uncond), pipe.scheduler.timesteps[0], x)
        assert not len(session._seat)


def test_a_scheduler_that_is_swapped_under_a_wrapped_network_is_recorded() -> None:
    pipe, arguments = sd15(steps=2)
    torch._dynamo.reset()
    pipe.unet = torch.compile(pipe.unet, backend="eager")
    with record(pipe) as trace:
        pipe(**arguments)
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
        pipe(**arguments | {"generator": generator()})
    assert len(trace.scalars) == 4
    assert set(trace.scalars["rule"]) == {"cfg"}
    torch._dynamo.reset()


def test_a_scheduler_that_is_swapped_unseen_is_an_error() -> None:
    """Inside a network compiled in place nobody sees when it is called."""
    pipe, arguments = sd15(steps=2)
    torch._dynamo.reset()
    pipe.unet.compile(backend="eager")
    with pytest.raises(InputError, match="after the last scheduler step"), record(pipe) as trace:
        pipe(**arguments)
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
        pipe(**arguments | {"generator": generator()})
    assert trace.status == "failed"
    assert len(trace.scalars) == 2
    torch._dynamo.reset()


def test_copies_of_a_scheduler_are_forgotten_with_them() -> None:
    pipe = pipeline()
    session = record(pipe, progress=False)
    with session as trace:
        for _ in range(20):
            pipe.scheduler.set_timesteps(2)  # a new run
            mine = SimpleNamespace(net=pipe.net, scheduler=copy.deepcopy(pipe.scheduler))
            attempt(mine)
        kept = mine.scheduler
        del mine
        gc.collect()
        assert len(session._engine._taps) + len(session._engine._copied) <= 2
        assert len(session._recorder._readers) == 1
        assert isinstance(vars(kept)["step"], StepTap)
    assert "step" not in vars(kept)
    assert len(trace.scalars) == 40
