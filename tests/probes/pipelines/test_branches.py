"""The proof of the branches, on loops written here: every way that a pipeline has been seen to mix them."""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.probes import record
from scorescope.probes.pipelines.fit import fit


class Net(nn.Module):
    """A network with a branch for each condition: a fixed random map of x plus a pattern of its own."""

    def __init__(self, wrap: Callable[[Tensor], Any] = lambda out: out) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x: Tensor, condition: list[int]) -> Any:
        rows = len(x) // len(condition)
        parts = []
        for place, seed in enumerate(condition):
            pattern = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(seed))
            parts.append(torch.tanh(x[place * rows : (place + 1) * rows]) + pattern)
        return self.wrap(torch.cat(parts))


class Scheduler:
    """A user's own flow scheduler: Euler on v = n - x0, sigma from 1 to 0."""

    config = SimpleNamespace(prediction_type="flow_prediction", num_train_timesteps=1000)

    def __init__(self, steps: int = 4) -> None:
        self.sigmas = torch.linspace(0.9, 0.0, steps + 1)
        self.timesteps = self.sigmas[:-1] * 1000
        self.step_index = 0

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor) -> tuple[Tensor]:
        i = self.step_index
        self.step_index += 1
        return (sample + (self.sigmas[i + 1] - self.sigmas[i]) * model_output,)


UNCOND, COND, THIRD = 1, 2, 3
Rule = Callable[..., Tensor]


def run(
    guide: Rule, *, calls: list[list[int]], shape: tuple[int, ...] = (1, 4, 6, 6), wrap: Any = None, steps: int = 4,
    net: Net | None = None, **options: Any,
) -> Any:  # fmt: skip
    """A loop: call the network as `calls` say, let `guide` make one prediction of all outputs, step."""
    pipe = SimpleNamespace(net=net or Net(wrap or (lambda out: out)), scheduler=Scheduler(steps))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with record(pipe, keep="all", **options) as trace:
        for i, t in enumerate(pipe.scheduler.timesteps):
            outputs = [pipe.net(torch.cat([x] * len(call)), call) for call in calls]
            x = pipe.scheduler.step(guide(*outputs, i=i, x=x), t, x)[0]
    return trace


def cfg(out: Tensor, weight: float = 5.0, **_: Any) -> Tensor:
    uncond, cond = out.chunk(2)
    return uncond + weight * (cond - uncond)


def truth(trace: Any, seed: int, place: int = 0) -> Tensor:
    """What the branch of this seed was in a step."""
    x = trace.load("x", place)
    return torch.tanh(x) + torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(seed))


def check_branches(trace: Any) -> None:
    for place in range(len(trace.arrays.events)):
        assert torch.equal(trace.load("cond", place), truth(trace, COND, place))
        assert torch.equal(trace.load("uncond", place), truth(trace, UNCOND, place))


@pytest.mark.parametrize("order", [[UNCOND, COND], [COND, UNCOND]])
def test_the_order_of_a_doubled_call_is_proved(order: list[int]) -> None:
    def guide(out: Tensor, **_: Any) -> Tensor:
        parts = dict(zip(order, out.chunk(2), strict=True))
        return parts[UNCOND] + 5.0 * (parts[COND] - parts[UNCOND])

    trace = run(guide, calls=[order], shape=(2, 4, 6, 6))
    check_branches(trace)
    assert set(trace.scalars["rule"]) == {"cfg"}
    assert set(trace.scalars["evidence"]) == {"weights"}
    np.testing.assert_allclose(trace.scalars["weight"], 5.0, rtol=1e-5)


@pytest.mark.parametrize("order", [[UNCOND, COND], [COND, UNCOND]])
def test_the_order_of_two_calls_is_proved(order: list[int]) -> None:
    def guide(first: Tensor, second: Tensor, **_: Any) -> Tensor:
        parts = dict(zip(order, (first, second), strict=True))
        return parts[UNCOND] + 2.5 * (parts[COND] - parts[UNCOND])

    trace = run(guide, calls=[[order[0]], [order[1]]])
    check_branches(trace)
    np.testing.assert_allclose(trace.scalars["weight"], 2.5, rtol=1e-5)


def test_interleaved_rows_are_told_from_halves() -> None:
    class Interleaved(Net):
        def forward(self, x: Tensor, condition: list[int]) -> Tensor:
            out = super().forward(x, condition)
            return torch.stack(out.chunk(2), dim=1).flatten(0, 1)  # u0 c0 u1 c1

    def guide(out: Tensor, **_: Any) -> Tensor:
        return out[::2] + 4.0 * (out[1::2] - out[::2])

    trace = run(guide, calls=[[UNCOND, COND]], shape=(3, 4, 6, 6), net=Interleaved())
    assert set(trace.proof["order"]) == {"interleaved"}
    check_branches(trace)


def test_rows_of_several_calls_are_joined() -> None:
    """A pipeline that runs its batch in slices: each call makes one sample of the doubled batch."""
    pipe = SimpleNamespace(net=Net(), scheduler=Scheduler())
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    with record(pipe, keep="all") as trace:
        for t in pipe.scheduler.timesteps:
            out = torch.cat([pipe.net(row[None], [seed]) for seed in (UNCOND, COND) for row in x])
            x = pipe.scheduler.step(cfg(out), t, x)[0]
    assert set(trace.proof["order"]) == {"joined"}
    check_branches(trace)


@dataclass
class Output:
    sample: Tensor


WRAPPED = {
    "tuple": lambda out: (out,),
    "list": lambda out: [out],
    "rows": lambda out: [row for row in out],
    "rows with an axis": lambda out: [row[:, None] for row in out],
    "dataclass": Output,
    "mapping": lambda out: OrderedDict(sample=out),
    "flattened": lambda out: out.flatten(1),
    "nested": lambda out: ([out], {"extra": torch.zeros(1)}),
}


def _unwrap(out: Any) -> Tensor:
    if isinstance(out, Tensor):
        return out.reshape(len(out), 4, 6, 6)
    if isinstance(out, Output):
        return out.sample
    if isinstance(out, dict):
        return out["sample"]
    if isinstance(out, tuple) and len(out) == 2:
        return out[0][0]
    if len(out) == 1:
        return out[0]
    rows = torch.stack([row.reshape(4, 6, 6) for row in out])
    return rows


@pytest.mark.parametrize("kind", sorted(WRAPPED))
def test_outputs_come_in_any_wrapping(kind: str) -> None:
    trace = run(lambda out, **_: cfg(_unwrap(out)), calls=[[UNCOND, COND]], wrap=WRAPPED[kind])
    check_branches(trace)


@pytest.mark.parametrize("where", ["before", "after", "beside"])
def test_learned_variance_is_left_out(where: str) -> None:
    def wrap(out: Tensor) -> Tensor:
        return torch.cat([out, out**2], dim=1)

    class Beside(Scheduler):
        def step(self, model_output: Tensor, timestep: Any, sample: Tensor) -> tuple[Tensor]:
            return super().step(model_output[:, :4], timestep, sample)

    def guide(out: Tensor, **_: Any) -> Tensor:
        if where == "before":
            return cfg(out[:, :4])
        if where == "after":
            return cfg(out)[:, :4]
        return torch.cat([cfg(out[:, :4]), out.chunk(2)[1][:, 4:]], dim=1)

    pipe = SimpleNamespace(net=Net(wrap), scheduler=Beside())
    x = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    with record(pipe, keep="all") as trace:
        for t in pipe.scheduler.timesteps:
            x = pipe.scheduler.step(guide(pipe.net(torch.cat([x, x]), [UNCOND, COND])), t, x)[0]
    check_branches(trace)
    assert set(trace.scalars["rule"]) == {"cfg"}


def test_the_weight_may_differ_by_step_and_end_half_way() -> None:
    weights = [5.0, 3.0, 1.0, 1.0]
    trace = run(lambda out, i, **_: cfg(out, weights[i]), calls=[[UNCOND, COND]])
    np.testing.assert_allclose(trace.scalars["weight"], weights, rtol=1e-5)
    assert trace.scalars["evidence"].tolist() == ["weights", "weights", "other steps", "other steps"]
    assert trace.problems == ["run 0: which branch is which rests on other steps in 2 of 4 steps"]
    check_branches(trace)


def test_a_batch_that_shrinks_in_mid_run() -> None:
    """Guidance is cut off: the doubled batch becomes a single one."""
    pipe = SimpleNamespace(net=Net(), scheduler=Scheduler())
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    with record(pipe) as trace:
        for i, t in enumerate(pipe.scheduler.timesteps):
            out = pipe.net(torch.cat([x, x]), [UNCOND, COND]) if i < 2 else pipe.net(x, [COND])
            x = pipe.scheduler.step(cfg(out) if i < 2 else out, t, x)[0]
    assert trace.scalars["rule"].tolist() == ["cfg"] * 4 + ["none"] * 4
    late = trace.scalars.query("step >= 2")
    assert late["update_sq"].isna().all()
    assert late["cond_sq"].notna().all()
    assert (late["missing"] != "").all()


@pytest.mark.parametrize("axis", [1, 2])
def test_the_weight_may_differ_by_frame(axis: int) -> None:
    shape = (1, 3, 5, 6, 6)
    ramp = torch.linspace(1.5, 3.0, shape[axis]).reshape([-1 if a == axis else 1 for a in range(5)])

    trace = run(lambda out, **_: cfg(out, ramp), calls=[[UNCOND, COND]], shape=shape)  # type: ignore[arg-type]
    check_branches(trace)
    assert set(trace.scalars["rule"]) == {"cfg"}
    np.testing.assert_allclose(trace.proof["weight_low"], 1.5, rtol=1e-5)
    np.testing.assert_allclose(trace.proof["weight_high"], 3.0, rtol=1e-5)
    np.testing.assert_allclose(trace.scalars["weight"], 2.25, rtol=1e-5)


def test_the_weight_may_differ_by_modality() -> None:
    """One network call makes two predictions, each with a weight and a scheduler of its own."""

    class Pair(Net):
        def forward(self, x: Tensor, y: Tensor, condition: list[int]) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return super().forward(x, condition), super().forward(y, condition)

    pipe = SimpleNamespace(net=Pair(), scheduler=Scheduler(), audio_scheduler=Scheduler())
    x, y = torch.randn(1, 4, 6, 6), torch.randn(1, 3, 10)
    with record(pipe, keep="all") as trace:
        for t in pipe.scheduler.timesteps:
            first, second = pipe.net(torch.cat([x, x]), torch.cat([y, y]), [UNCOND, COND])
            x = pipe.scheduler.step(cfg(first, 5.0), t, x)[0]
            y = pipe.audio_scheduler.step(cfg(second, 2.0), t, y)[0]
    by = trace.scalars.groupby("stream")["weight"]
    np.testing.assert_allclose(by.mean(), [5.0, 2.0], rtol=1e-5)
    assert trace.scalars.query("step > 0")["chained"].all()
    check_branches(trace)


@pytest.mark.parametrize("flat", [True, False])
def test_a_state_put_together_from_several_outputs_is_refused(flat: bool) -> None:
    """Video and audio in one tensor: no output has the shape of the prediction, and none is made up."""

    class Pair(Net):
        def forward(self, x: Tensor, condition: list[int]) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            out = super().forward(x, condition)
            return out[:, :5], out[:, 5:]

    def guide(outputs: tuple[Tensor, Tensor], **_: Any) -> Tensor:
        return torch.cat([cfg(outputs[0], 5.0), cfg(outputs[1], 3.0 if flat else 5.0)], dim=1)

    trace = run(guide, calls=[[UNCOND, COND]], shape=(2, 8, 6), net=Pair())
    assert set(trace.scalars["rule"]) == {"unknown"}
    assert trace.scalars["missing"].str.contains("no denoiser output has the shape").all()
    assert trace.scalars[["weight", "cond_sq", "update_sq"]].isna().all().all()
    with pytest.raises(InputError, match="no denoiser output"):
        trace.load("cond", 0)


def test_one_group_of_calls_feeds_a_step_for_each_frame() -> None:
    class ByFrame(Scheduler):
        """Knows nothing of frames: steps once for each."""

        def step(self, model_output: Tensor, timestep: Any, sample: Tensor) -> tuple[Tensor]:
            i = int(self.step_index) // 3
            self.step_index += 1
            return (sample + (self.sigmas[i + 1] - self.sigmas[i]) * model_output,)

    pipe = SimpleNamespace(net=Net(), scheduler=ByFrame())
    x = torch.randn(1, 4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    states = []
    with record(pipe, keep="all") as trace:
        for t in pipe.scheduler.timesteps:
            states.append(x.clone())
            guided = cfg(pipe.net(torch.cat([x, x]), [UNCOND, COND]))
            for frame in range(3):
                x[:, :, frame] = pipe.scheduler.step(guided[:, :, frame], t, x[:, :, frame])[0]
    assert set(trace.scalars["rule"]) == {"cfg"}
    assert trace.scalars.query("event >= 3")["follows"].tolist() == list(range(9))
    pattern = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(COND))
    for event in range(12):
        step, frame = divmod(event, 3)
        expected = (torch.tanh(states[step]) + pattern)[:, :, frame]
        assert torch.equal(trace.load("cond", event), expected)


def test_flipped_signs_are_named() -> None:
    trace = run(lambda out, **_: -cfg(out), calls=[[UNCOND, COND]])
    assert set(trace.scalars["rule"]) == {"negated cfg"}
    np.testing.assert_allclose(trace.scalars["weight"], 5.0, rtol=1e-5)
    check_branches(trace)
    # a branch in denoised space is that of the prediction as the scheduler takes it
    x, level = trace.load("x", 0).double(), trace.arrays.events[0]["level"]
    expected = level["skip"] * x - level["out"] * truth(trace, COND).double()
    torch.testing.assert_close(trace.load("cond", 0, space="denoised"), expected)
    assert trace.scalars["cond_sq"].iloc[0] == pytest.approx(expected.square().sum().item(), rel=1e-9)


def test_the_unit_offset_shows_in_the_weight() -> None:
    def guide(out: Tensor, **_: Any) -> Tensor:
        uncond, cond = out.chunk(2)
        return cond + 4.0 * (cond - uncond)

    np.testing.assert_allclose(run(guide, calls=[[UNCOND, COND]]).scalars["weight"], 5.0, rtol=1e-5)


def test_a_prediction_mixed_with_the_state() -> None:
    """Guidance in denoised space, then back: D = x - 0.7 F, and (x - D_w) / 0.9 goes to the scheduler."""

    def guide(out: Tensor, x: Tensor, **_: Any) -> Tensor:
        uncond, cond = (0.3 * x - 0.7 * part for part in out.chunk(2))
        return (x - (uncond + 5.0 * (cond - uncond))) / 0.9

    trace = run(guide, calls=[[UNCOND, COND]])
    assert set(trace.scalars["rule"]) == {"mixed cfg"}
    np.testing.assert_allclose(trace.scalars["weight"], 5.0, rtol=1e-4)
    check_branches(trace)
    x, level = trace.load("x", 0).double(), trace.arrays.events[0]["level"]
    as_prediction = (x - (0.3 * x - 0.7 * truth(trace, COND).double())) / 0.9
    expected = level["skip"] * x + level["out"] * as_prediction
    assert trace.scalars["cond_sq"].iloc[0] == pytest.approx(expected.square().sum().item(), rel=1e-5)


def _rescale(out: Tensor, **_: Any) -> Tensor:
    cond, guided = out.chunk(2)[1], cfg(out)
    axes = list(range(1, cond.ndim))
    return guided * (0.7 * cond.std(axes, keepdim=True) / guided.std(axes, keepdim=True) + 0.3)


def _norm_match(out: Tensor, **_: Any) -> Tensor:
    cond, guided = out.chunk(2)[1], cfg(out)
    return guided * cond.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True)


def _project(out: Tensor, **_: Any) -> Tensor:
    uncond, cond = out.chunk(2)
    update = cond - uncond
    parallel = (update * cond).sum() / (cond * cond).sum() * cond
    return cond + 4.0 * (update - parallel)


def _threshold(out: Tensor, **_: Any) -> Tensor:
    return cfg(out).clamp(-1, 1)


@pytest.mark.parametrize("rule", [_rescale, _norm_match, _project, _threshold])
def test_other_rules_are_named_unknown(rule: Rule) -> None:
    trace = run(rule, calls=[[UNCOND, COND]])
    assert set(trace.scalars["rule"]) == {"unknown"}


@pytest.mark.parametrize("rule", [_rescale, _project, _norm_match, _threshold])
def test_branches_may_be_named_where_numbers_do_not(rule: Rule) -> None:
    trace = run(rule, calls=[[UNCOND, COND]], branches=("uncond", "cond"))
    assert set(trace.scalars["rule"]) == {"unknown"}
    assert set(trace.scalars["evidence"]) == {"labels"}
    check_branches(trace)
    assert trace.scalars["update_sq"].notna().all()


@pytest.mark.parametrize("rule", [_rescale, _project, _norm_match])
def test_steps_that_prove_the_order_prove_it_for_the_run(rule: Rule) -> None:
    """The rule sets in after the first step, which is plain guidance."""
    trace = run(lambda out, i, **_: rule(out) if i else cfg(out), calls=[[UNCOND, COND]])
    assert trace.scalars["evidence"].tolist() == ["weights", *["other steps"] * 3]
    check_branches(trace)


@pytest.mark.parametrize("rule", [_rescale, _project, _norm_match, _threshold])
def test_where_nothing_is_proved_branches_are_numbered_and_numbers_missing(rule: Rule) -> None:
    trace = run(rule, calls=[[UNCOND, COND]])
    assert trace.scalars[["cond_sq", "uncond_sq", "update_sq"]].isna().all().all()
    assert trace.scalars["missing"].str.contains("not linear|not plain").all()
    with pytest.raises(InputError, match=r"not linear|not plain"):
        trace.load("cond", 0)
    assert torch.equal(trace.load("call0", 0), truth(trace, UNCOND))
    assert torch.equal(trace.load("call1", 0), truth(trace, COND))


def test_weights_between_zero_and_one_prove_nothing() -> None:
    trace = run(lambda out, **_: cfg(out, 0.4), calls=[[UNCOND, COND]])
    assert trace.scalars["update_sq"].isna().all()
    assert trace.scalars["missing"].str.contains("between 0 and 1").all()


def test_labels_of_the_pipeline_settle_what_weights_do_not() -> None:
    from contextlib import contextmanager

    class Labelled(Net):
        @contextmanager
        def cache_context(self, name: str) -> Any:
            yield

    pipe = SimpleNamespace(net=Labelled(), scheduler=Scheduler())
    x = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    with record(pipe, keep="all") as trace:
        for t in pipe.scheduler.timesteps:
            with pipe.net.cache_context("cond"):
                cond = pipe.net(x, [COND])
            with pipe.net.cache_context("uncond"):
                uncond = pipe.net(x, [UNCOND])
            x = pipe.scheduler.step(uncond + 0.4 * (cond - uncond), t, x)[0]
    assert set(trace.scalars["evidence"]) == {"labels"}
    np.testing.assert_allclose(trace.scalars["weight"], 0.4, rtol=1e-5)
    check_branches(trace)
    assert "cache_context" not in vars(pipe.net)


def test_equal_branches_have_no_update() -> None:
    trace = run(lambda out, **_: cfg(out), calls=[[COND, COND]])
    assert set(trace.scalars["rule"]) == {"equal"}
    assert (trace.scalars["update_sq"] == 0).all()


def _perturbed(out: Tensor, **_: Any) -> Tensor:
    uncond, cond, weak = out.chunk(3)
    return uncond + 5.0 * (cond - uncond) + 3.0 * (cond - weak)


def _image_and_text(out: Tensor, **_: Any) -> Tensor:
    text, image, uncond = out.chunk(3)
    return uncond + 7.5 * (text - image) + 1.5 * (image - uncond)


def test_three_branches_are_fitted() -> None:
    trace = run(_perturbed, calls=[[UNCOND, COND, THIRD]])
    assert set(trace.scalars["rule"]) == {"multi-branch"}
    np.testing.assert_allclose(trace.proof["coefficients"].iloc[0], (-4.0, 8.0, -3.0), rtol=1e-4)
    assert torch.equal(trace.load("cond", 0), truth(trace, COND))
    trace = run(_image_and_text, calls=[[COND, THIRD, UNCOND]])
    np.testing.assert_allclose(trace.proof["coefficients"].iloc[0], (7.5, -6.0, -0.5), rtol=1e-4)
    assert torch.equal(trace.load("cond", 0), truth(trace, COND))
    assert trace.scalars["missing"].str.contains("several branches").all()


def test_a_third_call_that_is_not_used_does_not_matter() -> None:
    trace = run(lambda out, preview, **_: cfg(out), calls=[[UNCOND, COND], [THIRD]])
    assert set(trace.scalars["rule"]) == {"cfg"}
    check_branches(trace)


def test_a_side_network_is_not_a_branch() -> None:
    class Side(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [x[:, :2], x.mean((2, 3), keepdim=True)]

    pipe = SimpleNamespace(unet=Net(), side=Side(), scheduler=Scheduler())
    x = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    modules = {"side": pipe.side, "unet": pipe.unet}
    with record(pipe, keep="all", modules=modules) as trace:
        for t in pipe.scheduler.timesteps:
            pipe.side(x)
            x = pipe.scheduler.step(cfg(pipe.unet(torch.cat([x, x]), [UNCOND, COND])), t, x)[0]
    assert set(trace.scalars["rule"]) == {"cfg"}
    check_branches(trace)


def test_the_tokens_of_the_image_are_found_in_a_longer_sequence() -> None:
    class Longer(Net):
        def forward(self, x: Tensor, condition: list[int]) -> Tensor:
            out = super().forward(x, condition)
            return torch.cat([out, torch.ones(len(out), 3, out.shape[2])], dim=1)

    trace = run(lambda out, **_: cfg(out[:, :8]), calls=[[UNCOND, COND]], shape=(1, 8, 5), net=Longer())
    assert set(trace.proof["view"]) == {"head:1"}
    check_branches(trace)


def test_video_that_is_flattened_to_frames_before_the_step() -> None:
    """Guidance on (batch, channel, frame, y, x), the step on (batch * frame, channel, y, x)."""
    pipe = SimpleNamespace(net=Net(), scheduler=Scheduler())
    x = torch.randn(1, 4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    with record(pipe, keep="all") as trace:
        for t in pipe.scheduler.timesteps:
            guided = cfg(pipe.net(torch.cat([x, x]), [UNCOND, COND]))
            flat = [part.transpose(1, 2).flatten(0, 1) for part in (guided, x)]
            x = pipe.scheduler.step(flat[0], t, flat[1])[0].unflatten(0, (1, 3)).transpose(1, 2)
    assert set(trace.scalars["rule"]) == {"cfg"}
    np.testing.assert_allclose(trace.scalars["weight"], 5.0, rtol=1e-5)


def test_an_output_edited_in_place_is_recorded_as_it_was() -> None:
    def guide(out: Tensor, **_: Any) -> Tensor:
        guided = cfg(out)
        out.zero_()
        return guided

    check_branches(run(guide, calls=[[UNCOND, COND]]))


def test_what_is_not_finite_is_missing() -> None:
    trace = run(lambda out, **_: cfg(out) * float("nan"), calls=[[UNCOND, COND]])
    assert trace.scalars["missing"].str.contains("not finite").all()
    assert trace.scalars["update_sq"].isna().all()


def test_no_output_of_the_right_shape() -> None:
    trace = run(
        lambda out, **_: out.mean() * torch.ones(1, 4, 6, 6), calls=[[UNCOND, COND]], wrap=lambda out: out[:, :3, :5]
    )
    assert trace.scalars["missing"].str.contains("no denoiser output").all()


@pytest.mark.parametrize("size", [16, 4096])
def test_the_fit_against_least_squares(size: int) -> None:
    """The same combination by numpy's least squares on the vectors themselves."""
    random = np.random.default_rng(0)
    a, b, x = random.standard_normal((3, size))
    g = 3.0 * b - 2.0 * a + 0.25 * x + 1e-3 * random.standard_normal(size)
    basis = np.stack([a, b - a, g - a, x])
    found = fit(basis @ basis.T, 1e-7, size, state=True)
    expected, residue, *_ = np.linalg.lstsq(np.stack([a, b, x], axis=1), g, rcond=None)
    np.testing.assert_allclose([*found.weights, found.mix], expected, rtol=1e-8)
    assert found.residual == pytest.approx(float(np.sqrt(residue[0]) / np.linalg.norm(g)), rel=1e-6)


def test_a_rule_that_no_weight_fits_does_not_pass_for_no_guidance() -> None:
    def squared(out: Tensor, **_: Any) -> Tensor:
        uncond, cond = out.chunk(2)
        return cond + (cond - uncond) ** 3

    trace = run(squared, calls=[[UNCOND, COND]])
    assert set(trace.scalars["rule"]) == {"unknown"} and math.isnan(trace.manifest["weight"])
    assert run(lambda out, **_: out, calls=[[COND]]).manifest["weight"] == 1.0


def test_the_weight_of_three_branches_is_that_of_the_unconditional_one() -> None:
    # D_c + (w - 1) (D_c - D_u) + s (D_c - D_p) with w = 5, s = 3: the weight of D_c is 8, and w is not
    def pushed(out: Tensor, **_: Any) -> Tensor:
        uncond, cond, perturbed = out.chunk(3)
        return cond + 4.0 * (cond - uncond) + 3.0 * (cond - perturbed)

    trace = run(pushed, calls=[[UNCOND, COND, 7]], branches=("uncond", "cond", "perturbed"))
    assert set(trace.scalars["rule"]) == {"multi-branch"}
    np.testing.assert_allclose(trace.scalars["weight"], 5.0, rtol=1e-4)
    np.testing.assert_allclose(trace.manifest["weight"], 5.0, rtol=1e-4)
