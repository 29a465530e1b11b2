"""Unmodified pipelines, built from configurations: what is recorded is what happened."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.pipelines import GUIDANCE, ODD, PIPELINES, generator, output_of, sd3, sd15

from scorescope.analysis.guidance.decomposition import decompose
from scorescope.probes import record
from scorescope.probes.decomposition.products import branch_products, guided_products

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

UNGUIDED = {"flux_distilled", "ddpm"}


def _schedulers() -> dict[str, Any]:
    import diffusers as d

    zero = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    return {
        "ddim": lambda: d.DDIMScheduler(clip_sample=False, steps_offset=1),
        "ddim_v_zero_snr": lambda: d.DDIMScheduler(clip_sample=False, **zero),
        "ddim_sample": lambda: d.DDIMScheduler(clip_sample=False, steps_offset=1, prediction_type="sample"),
        "ddpm": lambda: d.DDPMScheduler(clip_sample=False),
        "pndm": lambda: d.PNDMScheduler(skip_prk_steps=True, steps_offset=1),
        "lms": lambda: d.LMSDiscreteScheduler(),
        "euler": lambda: d.EulerDiscreteScheduler(),
        "euler_karras": lambda: d.EulerDiscreteScheduler(use_karras_sigmas=True),
        "euler_exponential": lambda: d.EulerDiscreteScheduler(use_exponential_sigmas=True),
        "euler_beta": lambda: d.EulerDiscreteScheduler(use_beta_sigmas=True),
        "euler_v_zero_snr": lambda: d.EulerDiscreteScheduler(**zero),
        "euler_ancestral": lambda: d.EulerAncestralDiscreteScheduler(),
        "heun": lambda: d.HeunDiscreteScheduler(),
        "kdpm2": lambda: d.KDPM2DiscreteScheduler(),
        "kdpm2_ancestral": lambda: d.KDPM2AncestralDiscreteScheduler(),
        "dpm": lambda: d.DPMSolverMultistepScheduler(),
        "dpm_karras": lambda: d.DPMSolverMultistepScheduler(use_karras_sigmas=True),
        "dpm_v": lambda: d.DPMSolverMultistepScheduler(prediction_type="v_prediction"),
        "dpm_flow": lambda: d.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        "dpm_singlestep": lambda: d.DPMSolverSinglestepScheduler(),
        "unipc": lambda: d.UniPCMultistepScheduler(),
        "unipc_zero_snr": lambda: d.UniPCMultistepScheduler(**zero),
        "deis": lambda: d.DEISMultistepScheduler(),
        "sasolver": lambda: d.SASolverScheduler(),
        "lcm": lambda: d.LCMScheduler(),
        "tcd": lambda: d.TCDScheduler(),
        "edm_euler": lambda: d.EDMEulerScheduler(),
        "edm_dpm_v": lambda: d.EDMDPMSolverMultistepScheduler(prediction_type="v_prediction"),
        "flow_euler": lambda: d.FlowMatchEulerDiscreteScheduler(shift=3.0),
        "flow_heun": lambda: d.FlowMatchHeunDiscreteScheduler(),
    }


SCHEDULERS = sorted(_schedulers())


def _with_scheduler(name: str) -> tuple[Any, dict[str, Any]]:
    if not name.startswith("flow"):
        return sd15(_schedulers()[name](), steps=5)
    pipe, arguments = sd3()
    pipe.scheduler = _schedulers()[name]()
    return pipe, arguments | {"num_inference_steps": 5}


def _both(pipe: Any, arguments: dict[str, Any], **options: Any) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """The output without and with a recording, and the trace."""
    bare = output_of(pipe(**arguments))
    arguments["generator"] = generator()
    with record(pipe, **options) as trace:
        recorded = output_of(pipe(**arguments))
    return bare, recorded, trace


def _check_rebuilt(trace: Any, weights: list[float]) -> None:
    """What the scheduler received is, bit for bit, the pipeline's own sum of the recorded branches."""
    for place, weight in enumerate(weights):
        cond, uncond, guided = (trace.load(name, place) for name in ("cond", "uncond", "guided"))
        rebuilt = uncond + weight * (cond - uncond)
        guided = guided[: len(rebuilt), : rebuilt.shape[1]]
        assert torch.equal(rebuilt, guided)


def _check_chained(trace: Any) -> None:
    arrays = trace.arrays
    places = {(e["run"], e["event"]): place for place, e in enumerate(arrays.events)}
    for place, event in enumerate(arrays.events):
        rows = trace.scalars.query("run == @event['run'] and event == @event['event']")
        for number, (chained, follows) in enumerate(zip(rows["chained"], rows["follows"], strict=True)):
            if chained:
                before = arrays.load("x_prev", places[event["run"], follows])
                assert torch.equal(before[number], arrays.load("x", place)[number])


def _check_scalars(trace: Any) -> None:
    """The scalars of every step against the same numbers from the arrays, converted one by one."""
    arrays = trace.arrays
    for place, event in enumerate(arrays.events):
        rows = trace.scalars[(trace.scalars["run"] == event["run"]) & (trace.scalars["event"] == event["event"])]
        if not math.isfinite(rows["cond_sq"].iloc[0]):
            continue
        guided = trace.load("guided", place, space="denoised")
        lone = rows["rule"].iloc[0] == "none"
        cond = guided if lone else trace.load("cond", place, space="denoised")
        uncond = None if lone else trace.load("uncond", place, space="denoised")
        alpha = event["level"]["alpha"]
        x = trace.load("x", place).double()[: len(cond)] / (alpha if alpha else 1.0)
        expected = branch_products(cond, uncond, x) | guided_products(guided[: len(cond)], cond, None)
        for name in ("cond_sq", "uncond_sq", "update_sq", "update_cond", "applied_sq", "applied_cond", "contrast"):
            scale = expected["cond_sq"].numpy() if name.startswith(("applied", "update_c")) else 0.0
            np.testing.assert_allclose(
                rows[name], expected[name].numpy(), rtol=1e-6, atol=1e-12 * np.max(scale), err_msg=f"{name}, {place}"
            )
        skip = event["level"]["skip"]
        if isinstance(skip, float) and not rows["cond_output_sq"].isna().any():
            state = skip * trace.load("x", place).double()[: len(cond)]
            for name, branch in (("cond_output_sq", cond), ("uncond_output_sq", uncond)):
                if branch is not None:
                    put_out = (branch - state).square().flatten(1).sum(1).numpy()
                    np.testing.assert_allclose(rows[name], put_out, rtol=1e-6)
        if alpha:
            np.testing.assert_allclose(rows["noise_sq"], expected["noise_sq"].numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_every_pipeline_is_recorded_as_it_is(name: str) -> None:
    pipe, arguments = PIPELINES[name]()
    if name == "modular_sdxl":
        pipe.set_progress_bar_config(disable=True)
    bare, recorded, trace = _both(pipe, arguments, keep="all")
    assert torch.equal(bare, recorded)
    assert trace.status == "complete"
    if name in UNGUIDED:
        assert set(trace.scalars["rule"]) == {"none"}
        assert trace.scalars["update_sq"].isna().all()
        assert (trace.scalars["missing"] != "").all()
    else:
        assert set(trace.scalars["rule"]) == {"cfg"}
        weights = [GUIDANCE] * 4 if name != "wan22" else [GUIDANCE, GUIDANCE, 3.0, 3.0]
        _check_rebuilt(trace, weights)
        np.testing.assert_allclose(trace.scalars["weight"], np.repeat(weights, len(trace.samples)), rtol=1e-4)
    assert trace.scalars.query("event > 0")["chained"].all()
    assert not trace.scalars.query("event == 0")["chained"].any()
    _check_chained(trace)
    _check_scalars(trace)


@pytest.mark.parametrize(
    ("name", "rules", "weight", "evidence"),
    [
        ("inpaint", {"cfg"}, 5.0, {"weights"}),
        ("controlnet", {"cfg"}, 5.0, {"weights"}),
        ("ip2p", {"multi-branch"}, 1.5, {"weights and inputs"}),
        ("pag", {"multi-branch"}, 5.0, {"weights and inputs"}),
        ("rescale", {"unknown"}, math.nan, {""}),
        ("slg", {"cfg", "multi-branch"}, None, {"weights", "weights and inputs"}),
        ("skyreels", {"cfg"}, 5.0, {"labels"}),
        ("zimage", {"negated cfg"}, 6.0, {"weights"}),
    ],
)
def test_odd_pipelines_are_told_apart(name: str, rules: set[str], weight: float | None, evidence: set[str]) -> None:
    bare, recorded, trace = _both(*ODD[name](), keep="all")
    assert torch.equal(bare, recorded)
    assert set(trace.scalars["rule"]) == rules
    assert set(trace.scalars["evidence"]) == evidence
    if weight is not None:
        np.testing.assert_allclose(trace.scalars["weight"], weight, rtol=1e-4)
    _check_chained(trace)
    later = trace.scalars.query("follows < 0")
    assert (later["event"].gt(0).any()) == (name in ("inpaint", "skyreels"))
    if name in ("inpaint", "controlnet", "slg", "skyreels"):
        _check_rebuilt(trace, [GUIDANCE] * (1 if name == "slg" else len(trace.arrays.events)))


@pytest.mark.parametrize(
    ("name", "cond", "uncond", "coefficients"),
    [
        ("pag", 1, 0, (-4.0, 8.0, -3.0)),  # u + 5 (c - u) + 3 (c - perturbed)
        ("ip2p", 0, 2, (7.5, -6.0, -0.5)),  # u + 7.5 (text - image) + 1.5 (image - u)
        ("slg", 1, 0, (-4.0, 7.8, -2.8)),  # u + 5 (c - u) + 2.8 (c - skipped), in the steps that skip
    ],
)
def test_three_branches_are_named_by_weights_and_inputs(
    name: str, cond: int, uncond: int, coefficients: tuple[float, ...]
) -> None:
    """The perturbed branch had the inputs of cond; that of the image shares the image with it, or the prompt."""
    _, _, trace = _both(*ODD[name](), keep="all")
    three = trace.proof.query("rule == 'multi-branch'")
    assert len(three) == (3 if name == "slg" else 4)
    for found in three["coefficients"]:
        np.testing.assert_allclose(found, coefficients, rtol=1e-4)
    assert set(three["cond"]) == {cond}
    assert set(three["uncond"]) == {uncond}
    assert trace.scalars["missing"].eq("").all()
    place = int(three["event"].iloc[0])
    calls = [trace.load(f"call{n}", place) for n in range(3)]
    assert torch.equal(trace.load("cond", place), calls[cond])
    assert torch.equal(trace.load("uncond", place), calls[uncond])
    rebuilt = sum(weight * branch for weight, branch in zip(coefficients, calls, strict=True))
    torch.testing.assert_close(rebuilt, trace.load("guided", place), rtol=1e-5, atol=1e-5)


def test_a_weight_for_each_frame_of_a_video() -> None:
    """Stable Video Diffusion: frames before channels, the scale grows along them."""
    bare, recorded, trace = _both(*ODD["svd"](), keep="all")
    assert torch.equal(bare, recorded)
    assert set(trace.scalars["rule"]) == {"cfg"}
    np.testing.assert_allclose(trace.proof["weight_low"], 2.0, rtol=1e-3)
    np.testing.assert_allclose(trace.proof["weight_high"], 5.0, rtol=1e-3)
    scale = torch.linspace(2.0, 5.0, 3)[None, :, None, None, None]
    for place in range(3):
        cond, uncond = trace.load("cond", place), trace.load("uncond", place)
        assert torch.equal(uncond + scale * (cond - uncond), trace.load("guided", place))
    _check_chained(trace)
    _check_scalars(trace)


def test_views_of_a_panorama_are_steps_of_their_own() -> None:
    bare, recorded, trace = _both(*ODD["panorama"](), keep="all")
    assert torch.equal(bare, recorded)
    assert set(trace.scalars["rule"]) == {"cfg"}
    assert trace.scalars["event"].tolist() == list(range(len(trace.scalars)))
    assert len(trace.scalars) > 2
    assert trace.scalars["sigma"].nunique() == 2  # two noise levels, whatever the number of views
    _check_rebuilt(trace, [GUIDANCE] * len(trace.scalars))
    _check_chained(trace)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_is_recorded_as_it_is(name: str) -> None:
    pipe, arguments = _with_scheduler(name)
    bare, recorded, trace = _both(pipe, arguments, keep="all")
    assert torch.equal(bare, recorded)
    _check_rebuilt(trace, [GUIDANCE] * len(trace.arrays.events))
    _check_chained(trace)
    _check_scalars(trace)
    assert (trace.scalars["x0_gap"].dropna() < 1e-5).all()
    if name in ("tcd", "lcm", "ddim"):  # TCD returns a sample at another level, the others x0
        assert ("x0" in trace.arrays.names()) == (name != "tcd")
        assert trace.scalars["x0_gap"].isna().all() == (name == "tcd")


@pytest.mark.parametrize("name", SCHEDULERS)
def test_levels_agree_with_the_schedulers_own_add_noise(name: str) -> None:
    """x = alpha x0 + s n: noising ones with zeros, and zeros with ones, gives alpha and s."""
    pipe, arguments = _with_scheduler(name)
    with record(pipe) as trace:
        pipe(**arguments)
    scheduler = copy.deepcopy(pipe.scheduler)  # the pipeline may have corrected its configuration
    scheduler.set_timesteps(5)
    for event in trace.arrays.events:
        if event["call"] or (name.startswith("heun") and event["event"] == 0):
            continue  # second calls lie between grid points; see the test on denoiser inputs
        one, none = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
        t = scheduler.timesteps[event["event"]][None]
        fresh = copy.deepcopy(scheduler)  # scale_noise remembers where it was first asked
        noised = fresh.scale_noise if hasattr(fresh, "scale_noise") else None
        alpha = noised(one, t, none) if noised else fresh.add_noise(one, none, t)
        s = noised(none, t, one) if noised else fresh.add_noise(none, one, t)
        assert event["level"]["alpha"] == pytest.approx(alpha.item(), rel=2e-5, abs=1e-7)
        expected = s.item() / alpha.item() if alpha.item() else math.inf
        assert event["level"]["sigma"] == pytest.approx(expected, rel=2e-4)


EXPLODING = ["euler", "euler_karras", "euler_ancestral", "heun", "kdpm2", "kdpm2_ancestral", "lms"]


@pytest.mark.parametrize("name", EXPLODING)
def test_levels_agree_with_what_the_network_was_given(name: str) -> None:
    """Variance-exploding schedulers divide the state by sqrt(sigma^2 + 1): the ratio tells sigma."""
    pipe, arguments = _with_scheduler(name)
    inputs: list[torch.Tensor] = []
    handle = pipe.unet.register_forward_pre_hook(lambda module, args: inputs.append(args[0].clone()))
    with record(pipe, keep="latents") as trace:
        pipe(**arguments)
    handle.remove()
    for place, given in enumerate(inputs):
        x = trace.load("x", place)
        ratio = ((given[:1] * x).sum() / (x * x).sum()).double().item()
        assert ratio == pytest.approx((trace.scalars["sigma"].iloc[place] ** 2 + 1) ** -0.5, rel=1e-5)


def test_heun_counts_two_calls_a_step() -> None:
    pipe, arguments = sd15(_schedulers()["heun"](), steps=3)
    with record(pipe) as trace:
        pipe(**arguments)
    assert trace.scalars["step"].tolist() == [0, 0, 1, 1, 2]
    assert trace.scalars["call"].tolist() == [0, 1, 0, 1, 0]
    assert not trace.scalars.duplicated(["sample", "step", "call"]).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_proved_within_its_rounding(dtype: torch.dtype) -> None:
    pipe, arguments = sd15(steps=3)
    pipe.to(dtype)
    arguments |= {k: v.to(dtype) for k, v in arguments.items() if isinstance(v, torch.Tensor)}
    bare, recorded, trace = _both(pipe, arguments, keep="all")
    assert torch.equal(bare, recorded)
    assert trace.load("cond", 0).dtype == dtype
    _check_rebuilt(trace, [GUIDANCE])
    assert set(trace.scalars["rule"]) == {"cfg"}
    assert set(trace.scalars["evidence"]) == {"weights"}
    np.testing.assert_allclose(trace.scalars["weight"], GUIDANCE, rtol=0.02)


@pytest.mark.parametrize("batch", [2, 3])
def test_samples_of_a_batch_are_rows_of_their_own(batch: int) -> None:
    pipe, arguments = sd15(batch=batch)
    bare, recorded, trace = _both(pipe, arguments, keep="all")
    assert torch.equal(bare, recorded)
    assert list(trace.samples["sample"]) == list(range(batch))
    _check_rebuilt(trace, [GUIDANCE] * 4)
    _check_scalars(trace)


@pytest.mark.parametrize("name", ["sd15", "flux_true", "flux_distilled", "wan22"])
def test_a_recorded_pipeline_is_decomposed_like_any_run(name: str) -> None:
    pipe, arguments = PIPELINES[name]()
    with record(pipe, keep="branches") as trace:
        pipe(**arguments)
    table = decompose(trace)
    assert len(table) == 4
    if name == "flux_distilled":
        assert table["update_norm"].isna().all()
        assert table["missing"].str.contains("distilled").all()
        return
    cond, uncond = (trace.load(branch, 1, space="denoised") for branch in ("cond", "uncond"))
    assert table["update_norm"][1] == pytest.approx((cond - uncond).norm().item(), rel=1e-6)
    cosine = (cond * uncond).sum() / cond.norm() / uncond.norm()
    assert table["cos_denoised"][1] == pytest.approx(cosine.item(), abs=1e-12)


def test_decomposed_columns_are_those_of_the_sampler() -> None:
    from scorescope.probes.recording.trace import Recording, ScalarRecorder

    recorder = ScalarRecorder(Recording())
    x = torch.randn(2, 3)
    recorder.add(x, x, x, x, step=0, call=0, sigma=1.0, sigma_next=0.5, needed=2, observed=0, missing="")
    pipe, arguments = sd15(steps=2)
    with record(pipe) as trace:
        pipe(**arguments)
    assert set(recorder.table().columns) <= set(trace.scalars.columns)
    assert {"sample", "seed", "condition"} <= set(trace.samples.columns)


def test_without_a_table_of_pipelines_there_is_nothing_to_empty() -> None:
    """No module of the recorder names a pipeline class: what is told apart is told apart by the proof."""
    from pathlib import Path

    import diffusers

    import scorescope.probes.recording as room

    classes = [name for name in dir(diffusers) if name.endswith("Pipeline") and name != "DiffusionPipeline"]
    sources = "".join(file.read_text() for file in Path(room.__file__).parent.glob("*.py"))
    assert not [name for name in classes if name in sources]


def test_a_renamed_pipeline_class_makes_no_difference() -> None:
    pipe, arguments = sd15()
    unknown = type("NobodyKnowsThis", (type(pipe),), {})
    pipe.__class__ = unknown
    _, _, trace = _both(pipe, arguments, keep="all")
    _check_rebuilt(trace, [GUIDANCE] * 4)
