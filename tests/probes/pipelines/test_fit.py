"""The proof under rounding: every type, weights from 1.1 to 15, branches from independent to almost the same."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scorescope.probes import record
from scorescope.probes.decomposition.gram import gram
from scorescope.probes.pipelines.fit import Fit, fit, fit_all

SIZE = 16384
TYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
WEIGHTS = [1.1, 1.2, 1.5, 3.0, 7.5, 15.0]
DIFFERENCES = [1.0, 0.1, 0.03, 0.02, 0.01, 0.005, 0.003, 0.001, 0.0003]
FORMS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "from uncond": lambda uncond, cond, weight: uncond + weight * (cond - uncond),
    "from cond": lambda uncond, cond, weight: cond + (weight - 1) * (cond - uncond),
    "two products": lambda uncond, cond, weight: weight * cond - (weight - 1) * uncond,
    "negated": lambda uncond, cond, weight: -(uncond + weight * (cond - uncond)),
}


def branches(dtype: torch.dtype, difference: float, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """uncond and cond, a share of their size apart."""
    first, second = torch.randn(2, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return first.to(dtype), (first + difference * second).to(dtype)


def fitted(parts: list[Tensor], guided: Tensor) -> Fit:
    x = torch.zeros_like(guided)
    products = gram([row[None] for row in (*parts, guided, x)])[0, :-1, :-1].numpy()
    return fit(products, torch.finfo(guided.dtype).eps, guided.numel(), state=False)


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("dtype", TYPES)
def test_guidance_in_any_type_is_a_combination(dtype: torch.dtype, form: str) -> None:
    """With room: what other sizes and values round to may be somewhat more."""
    for difference in DIFFERENCES:
        uncond, cond = branches(dtype, difference)
        for weight in WEIGHTS:
            found = fitted([uncond, cond], FORMS[form](uncond, cond, weight))
            assert 1.4 * found.residual < found.tolerance, (difference, weight)
            share = found.weights[1] / found.total
            # rounding of the result is not independent of so small a difference: that weight is what was applied
            allowed = 1e-5 if dtype in TYPES[2:] else 0.1 * torch.finfo(dtype).eps / difference + 0.01
            assert share == pytest.approx(weight, rel=min(allowed, 0.2))


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("dtype", TYPES)
def test_the_branch_that_guidance_pushes_to_is_never_mistaken(dtype: torch.dtype, place: int) -> None:
    for size in (144, SIZE):
        for difference in DIFFERENCES:
            uncond, cond = branches(dtype, difference, size)
            for form in FORMS.values():
                for weight in WEIGHTS:
                    parts = [cond, uncond] if place == 0 else [uncond, cond]
                    found = fitted(parts, form(uncond, cond, weight))
                    beyond = [i for i in found.used() if found.weights[i] / found.total > 1 + 1e-5]
                    assert beyond in ([place], []), (size, difference, weight)
                    clear = 0.02 * torch.finfo(dtype).eps / difference < (weight - 1) * (size / SIZE) ** 0.5
                    assert len(found.used()) == 2 or not clear, (size, difference, weight)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_weight_that_varies_is_not_taken_for_one_weight(dtype: torch.dtype) -> None:
    uncond, cond = branches(dtype, 1.0)
    for low, high in ((5.0, 10.0), (7.0, 8.0), (1.1, 1.3), (14.0, 16.0)):
        assert not fitted([uncond, cond], uncond + torch.linspace(low, high, SIZE).to(dtype) * (cond - uncond)).exact
    close = branches(dtype, 0.1)  # in bf16 a spread of half the weight is then 3 times the tolerance
    assert not fitted([*close], close[0] + torch.linspace(5.0, 10.0, SIZE).to(dtype) * (close[1] - close[0])).exact


@pytest.mark.parametrize("dtype", TYPES)
def test_three_branches_in_any_type(dtype: torch.dtype) -> None:
    for difference in (1.0, 0.1, 0.03):
        uncond, cond = branches(dtype, difference)
        noise = torch.randn(SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        weak = (cond.double() + 0.5 * difference * noise).to(dtype)
        for weight in (3.0, 7.5):
            found = fitted([uncond, cond, weak], uncond + weight * (cond - uncond) + 3.0 * (cond - weak))
            assert found.exact
            assert found.used() == [0, 1, 2]
            np.testing.assert_allclose(found.weights, [1 - weight, weight + 3, -3], rtol=0.05)


@pytest.mark.parametrize("size", [64, 4096])
def test_standard_errors_are_those_of_least_squares(size: int) -> None:
    """Against the spread over many draws of the noise."""
    random = np.random.default_rng(0)
    a, b, x = random.standard_normal((3, size))
    b = a + 0.1 * b
    found = []
    for _ in range(400):
        g = 3.0 * b - 2.0 * a + 1e-2 * random.standard_normal(size)
        basis = np.stack([a, b - a, g - a, x])
        found.append(fit(basis @ basis.T, 1e-7, size, state=False))
    spread = np.std([one.weights for one in found], axis=0)
    np.testing.assert_allclose(np.mean([one.errors for one in found], axis=0), spread, rtol=0.15)  # 3.5 % a draw


class Close(nn.Module):
    """Two predictions a share of their size apart, in the type of the state."""

    def __init__(self, difference: float, *, cond: int = 1) -> None:
        super().__init__()
        self.difference, self.cond = difference, cond

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn(x[:1].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        whole = torch.tanh(x[:1].double()) + noise.flip(-1)
        parts = [whole, whole]
        parts[self.cond] = whole + self.difference * noise
        return torch.cat(parts).to(x.dtype)


class Descent:
    """Moves a little along the prediction."""

    config = SimpleNamespace(prediction_type="epsilon")
    alphas_cumprod = torch.linspace(0.999, 0.01, 1000)
    timesteps = torch.arange(999, -1, -500)

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor) -> tuple[Tensor]:
        return ((sample - 0.1 * model_output).to(sample.dtype),)


def recorded(dtype: torch.dtype, net: Close, guide: Callable[[Tensor, Tensor], Tensor], **options: Any) -> Any:
    pipe = SimpleNamespace(net=net, scheduler=Descent())
    x = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    with record(pipe, keep="branches", progress=False, **options) as trace:
        for t in pipe.scheduler.timesteps:
            parts = pipe.net(torch.cat([x, x])).chunk(2)
            x = pipe.scheduler.step(guide(parts[1 - net.cond], parts[net.cond]), t, x)[0]
    return trace


@pytest.mark.parametrize("cond", [0, 1])
@pytest.mark.parametrize("difference", [0.03, 0.003, 0.001])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_close_branches_are_named_in_half_precision(dtype: torch.dtype, difference: float, cond: int) -> None:
    trace = recorded(dtype, Close(difference, cond=cond), lambda u, c: u + 7.5 * (c - u))
    assert set(trace.scalars["rule"]) == {"cfg"}
    assert set(trace.proof["cond"]) == {cond}
    assert set(trace.scalars["evidence"]) == {"weights"}
    np.testing.assert_allclose(trace.scalars["weight"], 7.5, rtol=0.02)


@pytest.mark.parametrize("weight", [1.1, 1.2])
def test_small_weights_are_named_in_half_precision(weight: float) -> None:
    trace = recorded(torch.bfloat16, Close(1.0), lambda u, c: u + weight * (c - u))
    np.testing.assert_allclose(trace.scalars["weight"], weight, rtol=0.01)
    assert set(trace.proof["uncond"]) == {0}


@pytest.mark.parametrize("difference", [1.0, 0.1])
def test_a_weight_over_the_image_is_no_plain_guidance_in_half_precision(difference: float) -> None:
    ramp = torch.linspace(5.0, 10.0, 64).to(torch.bfloat16)
    trace = recorded(torch.bfloat16, Close(difference), lambda u, c: u + ramp * (c - u))
    assert set(trace.scalars["rule"]) == {"unknown"}


def test_equal_branches_keep_the_names_that_they_have() -> None:
    trace = recorded(torch.float32, Close(0.0), lambda u, c: u + 7.5 * (c - u), branches=("cond", "uncond"))
    assert set(trace.scalars["rule"]) == {"equal"}
    assert set(trace.scalars["evidence"]) == {"labels"}
    assert set(trace.proof["cond"]) == {0}


def test_equal_branches_that_nothing_names_claim_no_evidence() -> None:
    trace = recorded(torch.float32, Close(0.0), lambda u, c: u + 7.5 * (c - u))
    assert set(trace.scalars["evidence"]) == {""}
    assert (trace.scalars["update_sq"] == 0).all()


def test_equal_branches_are_named_by_other_steps() -> None:
    net = Close(0.0, cond=0)

    def guide(uncond: Tensor, cond: Tensor) -> Tensor:
        net.difference = 0.1  # from the second step on
        return uncond + 7.5 * (cond - uncond)

    trace = recorded(torch.float32, net, guide)
    assert trace.scalars["rule"].tolist() == ["equal", "cfg"]
    assert trace.scalars["evidence"].tolist() == ["other steps", "weights"]
    assert set(trace.proof["cond"]) == {0}


def test_fits_of_a_batch_are_those_of_each_sample():
    """Also where columns drop out, of zeros, and where a prediction is not finite."""
    rng = np.random.default_rng(0)
    for m in (3, 4, 5):
        vectors = rng.normal(size=(30, m, 50))
        vectors[:5, -2] = 0
        vectors[5:8, m - 3] *= 1e-9
        vectors[8] = 0
        grams = vectors @ vectors.transpose(0, 2, 1)
        for found, one in zip(fit_all(grams, 1e-3, 50), grams, strict=True):
            expected = fit(one, 1e-3, 50, state=False)
            for name in ("weights", "residual", "tolerance", "total_error", "errors"):
                np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6, atol=1e-8)
