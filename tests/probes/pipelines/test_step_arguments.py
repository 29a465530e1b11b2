"""Prediction, timestep and state are told apart, and never by the address of a tensor that is gone."""

from typing import Any

import pytest
import torch
from tests.pipelines import generator, sd15

from scorescope.probes import record

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def subclassed(scheduler: Any) -> Any:
    class Mine(type(scheduler)):
        def step(self, *args: Any, **kwargs: Any) -> Any:
            return super().step(*args, **kwargs)

    return Mine.from_config(scheduler.config)


def patched(scheduler: Any) -> Any:
    inner = scheduler.step
    scheduler.step = lambda *args, **kwargs: inner(*args, **kwargs)
    return scheduler


def without_names(scheduler: Any) -> Any:
    """Names that say nothing, in the order of diffusers."""
    inner = scheduler.step
    kind = type("Bare", (), {"step": lambda self, a, b, c, **more: inner(a, b, c, **more)})
    bare = kind()
    bare.__dict__.update({name: getattr(scheduler, name) for name in ("timesteps", "alphas_cumprod", "config")})
    for name in ("set_timesteps", "scale_model_input", "init_noise_sigma", "order", "final_alpha_cumprod"):
        bare.__dict__[name] = getattr(scheduler, name)
    return bare


@pytest.mark.parametrize("change", [subclassed, patched, without_names])
def test_a_step_without_named_arguments_is_read_as_the_schedulers_own(change: Any) -> None:
    """In several recordings each, since what the old way took for a state depended on freed memory."""
    pipe, arguments = sd15(steps=4)
    with record(pipe) as trace:
        pipe(**arguments)
    expected = trace.scalars[["rule", "weight", "cond_sq", "update_sq"]]
    pipe.scheduler = change(pipe.scheduler)
    for _ in range(4):
        with record(pipe) as again:
            pipe(**arguments | {"generator": generator()})
        found = again.scalars[["rule", "weight", "cond_sq", "update_sq"]]
        assert found["rule"].eq("cfg").all()
        assert torch.allclose(torch.tensor(found.iloc[:, 1:].to_numpy()), torch.tensor(expected.iloc[:, 1:].to_numpy()))


@torch.no_grad()
def test_where_names_say_nothing_the_state_is_the_tensor_that_was_returned() -> None:
    class Odd:
        """(state, time, prediction): another order than that of diffusers."""

        timesteps = torch.tensor([900, 500, 100])
        alphas_cumprod = torch.linspace(0.99, 0.01, 1000)

        def step(self, a: torch.Tensor, b: Any, c: torch.Tensor) -> torch.Tensor:
            return a - 0.1 * c

    class Pipe:
        def __init__(self, net: torch.nn.Module) -> None:
            self.net, self.scheduler = net, Odd()

        def __call__(self) -> torch.Tensor:
            x = torch.randn(1, 4, 6, 6, generator=generator())
            for t in self.scheduler.timesteps:
                uncond, cond = self.net(x, 0.0), self.net(x, 1.0)
                x = self.scheduler.step(x, t, uncond + 3 * (cond - uncond))
            return x

    class Net(torch.nn.Conv2d):
        def forward(self, x: torch.Tensor, condition: float) -> torch.Tensor:
            return super().forward(x + condition)

    pipe = Pipe(Net(4, 4, 1))
    with record(pipe) as trace:
        pipe()
    assert trace.scalars["weight"].round(4).tolist() == [3.0] * 3
