"""A pipeline's network as a plain denoiser: the recorded predictions at recorded states, and known closed forms."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.pipelines import ODD, PIPELINES, sd15
from tests.saved_pipelines import saved
from torch import Tensor, nn

from scorescope.data import InputError
from scorescope.probes.experiments import pipeline_model, visits
from scorescope.probes.experiments.noise_conventions import StepNumbers, learn
from scorescope.probes.models import load_pipeline
from scorescope.probes.recording import record

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

ROW = ("prompt", "negative_prompt", "class_labels")
OURS = ("generator", "output_type", "num_inference_steps", "batch_size")


def built(kind: str) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A pipeline, one row of its call, and what calls share."""
    pipe, arguments = (PIPELINES | ODD)[kind]()
    row = {name: v for name, v in arguments.items() if name in ROW or "embeds" in name or "mask" in name}
    if "class_labels" in row:
        row["class_labels"] = [1]
    return pipe, row, {name: v for name, v in arguments.items() if name not in (*row, *OURS)}


def with_scheduler(pipe: Any, name: str, **config: Any) -> Any:
    import diffusers

    pipe.scheduler = getattr(diffusers, name)(**config)
    return pipe


def compare(model: Any, pipe: Any, arguments: dict[str, Any], *, steps: int, seed: int = 11) -> int:
    """Hold the denoiser against another recorded run; the number of predictions that were compared."""
    shown = {"output_type": "np"} if "class_labels" in arguments or not arguments else {"output_type": "latent"}
    given = {"num_inference_steps": steps, "generator": torch.Generator().manual_seed(seed), **shown}
    with record(pipe, keep="branches", progress=False) as trace:
        pipe(**arguments, **given)
    count = 0
    for visit in visits(trace):
        if not model.denoiser.sigma_range[0] <= visit.sigma <= model.denoiser.sigma_range[1]:
            assert visit.sigma > 1e3  # a flow's first state holds no data
            continue
        x, sigma = visit.x.float(), torch.tensor([visit.sigma])
        for right, condition in ((visit.cond, torch.tensor([0])), (visit.uncond, None)):
            if right is not None:
                with torch.no_grad():
                    made = model.denoiser(visit.x, sigma, condition)
                # relative to what the network rounds: its own output, by a factor of at most sigma
                assert (made - right).norm() <= 1e-4 * ((right - visit.x).norm() + right.norm()), visit.sigma
                assert model.denoiser(x, sigma, condition).dtype == torch.float32
                count += 1
    return count


KINDS = ["sd15", "sdxl", "sd3", "flux_true", "flux_distilled", "pixart", "wan21", "stable_audio", "dit", "ddpm", "ltx"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_pipelines_network_at_the_states_of_another_run(kind: str) -> None:
    pipe, row, shared = built(kind)
    model = pipeline_model(pipe, [row], arguments=shared)
    both = 1 if kind in ("ddpm", "flux_distilled") else 2
    assert compare(model, pipe, {**row, **shared}, steps=7) >= both * 6


SCHEDULERS = [
    ("DDIMScheduler", {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear"}),
    ("DDIMScheduler", {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
     | {"timestep_spacing": "trailing"}),
    ("DDPMScheduler", {"prediction_type": "sample"}),
    ("PNDMScheduler", {"skip_prk_steps": True}),
    ("LCMScheduler", {}),
    ("EulerDiscreteScheduler", {"timestep_spacing": "linspace"}),
    ("EulerDiscreteScheduler", {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("EulerAncestralDiscreteScheduler", {}),
    ("HeunDiscreteScheduler", {}),
    ("KDPM2DiscreteScheduler", {}),
    ("LMSDiscreteScheduler", {}),
    ("DPMSolverMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    ("DPMSolverSinglestepScheduler", {}),
    ("UniPCMultistepScheduler", {}),
    ("DEISMultistepScheduler", {}),
    ("EDMEulerScheduler", {}),
    ("EDMDPMSolverMultistepScheduler", {"prediction_type": "v_prediction"}),
    ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}),
    ("CMStochasticIterativeScheduler", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "config"), SCHEDULERS)
def test_schedulers(name: str, config: dict[str, Any]) -> None:
    pipe, row, shared = built("sd15")
    with_scheduler(pipe, name, **config)
    model = pipeline_model(pipe, [row], arguments=shared)
    steps = 8 if "use_flow_sigmas" in config else 9  # of 9, one is at time 0.444, which that scheduler cuts to 443
    assert compare(model, pipe, {**row, **shared}, steps=steps) >= 8


@pytest.mark.parametrize(("name", "config"), [
    ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": False, "shift": 7.0}),
    ("FlowMatchEulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("FlowMatchHeunDiscreteScheduler", {}),
    ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}),
])  # fmt: skip
def test_flow_schedulers(name: str, config: dict[str, Any]) -> None:
    pipe, row, shared = built("sd3")
    with_scheduler(pipe, name, **config)
    model = pipeline_model(pipe, [row], arguments=shared)
    assert compare(model, pipe, {**row, **shared}, steps=9) >= 8


class GaussianNetwork(nn.Module):
    """Predicts the noise in variance-preserving states of N(mean, spread^2), exactly; the mean is the condition's."""

    def __init__(self, products: Tensor, spread: float = 0.7) -> None:
        super().__init__()
        self.inner, self.spread = nn.Identity(), spread
        self.register_buffer("levels", ((1 - products) / products).sqrt().double())
        self.dtype, self.device = torch.float32, torch.device("cpu")
        self.config = SimpleNamespace(in_channels=4, sample_size=8, time_cond_proj_dim=None)

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, **_: Any) -> tuple[Tensor]:
        time = timestep.double().expand(len(sample))
        low = time.floor().long().clamp(max=len(self.levels) - 2)
        log = self.levels.log()
        sigma = (log[low] + (time - low) * (log[low + 1] - log[low])).exp().reshape(-1, 1, 1, 1)
        mean = self.inner(encoder_hidden_states).double().mean((1, 2)).reshape(-1, 1, 1, 1)
        x = sample.double() * (1 + sigma**2).sqrt()
        denoised = mean + self.spread**2 / (self.spread**2 + sigma**2) * (x - mean)
        return (((x - denoised) / sigma).to(sample.dtype),)


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_a_network_that_is_a_gaussians_gives_the_gaussians_denoiser_between_the_schedulers_levels(name: str) -> None:
    import diffusers

    scheduler = getattr(diffusers, name)()
    network = GaussianNetwork(scheduler.alphas_cumprod)
    pipe, _ = sd15(scheduler, unet=network)
    means = (0.3, -1.2)
    rows = [{"prompt_embeds": torch.full((1, 5, 16), mean)} for mean in means]
    shared = {"negative_prompt_embeds": torch.full((1, 5, 16), 0.1), "height": 16, "width": 16}
    model = pipeline_model(pipe, rows, arguments=shared)
    assert model.shape == (4, 8, 8) and model.value_range is None
    sigma = torch.tensor([0.0123, 0.5, 1.234, 17.3, 101.7, 0.77], dtype=torch.float64)
    x = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for condition, mean in (
        (torch.tensor([0, 1, 1, 0, 1, 0]), torch.tensor(means)[[0, 1, 1, 0, 1, 0]]), (None, torch.full((6,), 0.1))
    ):  # fmt: skip
        mean, level = (one.double().reshape(-1, 1, 1, 1) for one in (mean, sigma))
        right = mean + 0.49 / (0.49 + level**2) * (x * level - mean)
        made = model.denoiser(x * level, sigma, condition)
        assert torch.allclose(made, right, atol=2e-5 * float(sigma.max()), rtol=0)
        near = slice(0, 3)
        assert torch.allclose(made[near], right[near], atol=2e-5, rtol=0)


def test_gradients_and_sites() -> None:
    from scorescope.probes.sites import ActivationCache, Intervention, cached, intervened, site_names

    pipe, row, shared = built("sd15")
    denoiser: Any = pipeline_model(pipe, [row], arguments=shared).denoiser
    x, sigma = torch.randn(3, 4, 8, 8), torch.tensor([0.3, 1.0, 5.0])
    x.requires_grad_()
    denoiser(x, sigma, torch.zeros(3, dtype=torch.long)).square().sum().backward()
    assert x.grad is not None and bool(x.grad.flatten(1).norm(dim=1).gt(0).all())
    site = "network.mid_block.attentions.0"
    assert site in site_names(denoiser)
    with torch.no_grad():
        cache = ActivationCache()
        plain = cached(denoiser, [site], cache)(x, torch.ones(3), None)
        pushed = intervened(denoiser, [Intervention("add", site, torch.ones(16))])(x, torch.ones(3), None)
    assert not torch.allclose(plain, pushed)


def test_rows_of_other_lengths_go_through_the_network_in_calls_of_their_own() -> None:
    pipe, row, shared = built("sd15")
    longer = {**row, "prompt_embeds": torch.randn(1, 9, 16), "negative_prompt_embeds": torch.randn(1, 9, 16)}
    model = pipeline_model(pipe, [row, longer], arguments=shared, batch=2)
    x, sigma, rows = torch.randn(5, 4, 8, 8), torch.tensor([0.3, 1.0, 5.0, 20.0, 0.7]), torch.tensor([0, 1, 0, 1, 0])
    with torch.no_grad():
        together = model.denoiser(x, sigma, rows)
        alone = [model.denoiser(x[i : i + 1], sigma[i : i + 1], rows[i : i + 1]) for i in range(5)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)
    with pytest.raises(InputError, match="negative prompts differ"):
        model.denoiser(x, sigma, None)


def test_half_precision() -> None:
    pipe, row, shared = built("sd15")
    pipe.to(dtype=torch.bfloat16)
    model = pipeline_model(pipe, [row], arguments=shared)
    assert model.denoiser(torch.randn(2, 4, 8, 8), torch.ones(2), None).dtype == torch.float32


def test_a_network_of_whole_times_is_given_whole_times() -> None:
    pipe, row, shared = built("sd15")

    def refuse(module: Any, args: Any, kwargs: Any) -> None:
        if torch.as_tensor(kwargs.get("timestep", args[1] if len(args) > 1 else 0)).is_floating_point():
            raise TypeError("whole times only")

    pipe.unet.register_forward_pre_hook(refuse, with_kwargs=True)
    model = pipeline_model(pipe, [row], arguments=shared)
    assert model.denoiser(torch.randn(2, 4, 8, 8), torch.ones(2), None).isfinite().all()


def refused(match: str, pipe: Any, rows: list[dict[str, Any]], shared: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=match):
        pipeline_model(pipe, rows, arguments=shared)


def test_what_cannot_be_proved_is_refused() -> None:
    pipe, row, shared = built("wan22")
    refused("several denoisers", pipe, [row], shared)
    pipe, row, shared = built("ip2p")
    refused("more than two branches|beside it", pipe, [row], shared)
    pipe, row, shared = built("zimage")
    refused("state is a list", pipe, [row], shared)
    pipe, row, shared = built("svd")
    refused("nothing beside it", pipe, [row], shared)
    pipe, row, shared = built("skyreels")
    refused("3 levels", pipe, [row], shared)
    pipe, row, shared = built("controlnet")
    with torch.no_grad():  # its last layers are zero at first
        for weight in pipe.controlnet.parameters():
            weight.add_(0.1)
    refused("residual.* changes from step to step", pipe, [row], shared)
    pipe, row, shared = built("sd15")
    refused("rows", pipe, [], shared)
    refused("'promt'", pipe, [{"promt": "a"}], shared)
    refused("shapes", pipe, [row, {**row, "height": 32}], {**shared, "height": 16})
    pipe.unet.register_forward_hook(lambda module, args, output: (output[0] + torch.randn_like(output[0]),))
    refused("something else when called again, which differs by", pipe, [row], shared)


def test_schedulers_that_are_not_understood_are_refused() -> None:
    pipe, row, shared = built("sd15")
    pipe.scheduler.register_to_config(num_vec_classes=3)
    refused("no continuous noise level", pipe, [row], shared)


def test_what_the_denoiser_refuses() -> None:
    pipe, row, shared = built("sd15")
    denoiser = pipeline_model(pipe, [row], arguments=shared).denoiser
    x = torch.zeros(2, 4, 8, 8)
    with pytest.raises(InputError, match="levels that the scheduler has"):
        denoiser(x, torch.tensor([1.0, 500.0]), None)
    with pytest.raises(InputError, match="from 0 to 0"):
        denoiser(x, torch.ones(2), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="x, sigma"):
        denoiser(x[:, :3], torch.ones(2), None)
    pipe, row, shared = built("flux_distilled")
    model = pipeline_model(pipe, [row], arguments=shared)
    with pytest.raises(InputError, match="no unconditional prediction"):
        model.denoiser(torch.zeros(1, *model.shape), torch.ones(1), None)
    pipe, row, shared = built("sd15")
    model = pipeline_model(pipe, [row], arguments={**shared, "guidance_scale": 1.0})
    with pytest.raises(InputError, match="no unconditional prediction"):
        model.denoiser(x, torch.ones(2), None)


def test_the_pipeline_is_as_it_was_and_recordings_pass_the_denoisers_calls_by() -> None:
    pipe, row, shared = built("sd15")
    before = dict(vars(pipe.scheduler))
    model = pipeline_model(pipe, [row], arguments=shared)
    assert "step" not in vars(pipe.scheduler) and before.keys() <= vars(pipe.scheduler).keys()
    assert not pipe.unet._forward_hooks and not pipe.unet._forward_pre_hooks
    with record(pipe, progress=False) as trace:
        model.denoiser(torch.zeros(1, 4, 8, 8), torch.ones(1), None)
        pipe(**row, **shared, num_inference_steps=3)
    assert len(trace.scalars) == 3 and (trace.scalars["rule"] == "cfg").all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["sd15", "sdxl", "sd3", "flux_true", "flux_distilled", "pixart", "wan21", "stable_audio"]
)
def test_saved_pipelines_by_their_prompts(kind: str, tmp_path: Path) -> None:
    folder, shared = saved(kind, tmp_path)
    pipe = load_pipeline(folder)
    rows = [{"prompt": prompt, "negative_prompt": "grey"} for prompt in ("a red square", "two", "a red square")]
    rows = [{"prompt": row["prompt"]} for row in rows] if kind == "flux_distilled" else rows
    model = pipeline_model(pipe, rows, arguments=shared)
    x, sigma = torch.randn(3, *model.shape), torch.full((3,), 0.9)
    with torch.no_grad():
        first, _, third = model.denoiser(x[:1].expand_as(x), sigma, model.conditions(3))
    assert torch.allclose(first, third, atol=1e-5)
    assert compare(model, pipe, {**rows[0], **shared}, steps=6) >= (5 if kind == "flux_distilled" else 10)


def test_clocks_of_schedulers_that_no_pipeline_here_has() -> None:
    """Numbers of a run, made of the papers' own formulas."""
    sigmas = torch.tensor([40.0, 7.0, 1.3, 0.4], dtype=torch.float64)

    def steps(scale: Tensor, time: Tensor, skip: Tensor, out: Tensor) -> list[StepNumbers]:
        columns = (sigmas, scale, time, skip, out)
        return [StepNumbers(*map(float, row)) for row in zip(*columns, strict=True)]

    spread = 0.5  # TrigFlow: x_t = cos(t) x0 + sin(t) sigma_data n, and D = cos(t) x_t - sin(t) F of x_t / sigma_data
    angle = (sigmas / spread).atan()
    given = steps(angle.cos() / spread, angle, angle.cos() ** 2, -angle.sin())
    found = learn(given, SimpleNamespace(config=SimpleNamespace(sigma_data=spread)))
    assert "atan(sigma / sigma_data)" in found.name and "trigflow" in found.name
    assert float(found.time(sigmas)[1]) == pytest.approx(float(angle[1]))

    total = (sigmas**2 + 1).sqrt()  # EDM with the clock of Stable Audio's cosine schedule
    given = steps(1 / total, sigmas.atan() * 2 / torch.pi, 1 / total**2, -sigmas / total)
    found = learn(given, SimpleNamespace(config=SimpleNamespace(sigma_data=1.0, sigma_min=0.3, sigma_max=500.0)))
    assert "2 atan(sigma) / pi" in found.name and found.sigma_range == (0.3, 500.0)

    with pytest.raises(InputError, match="time"):
        learn(steps(1 / total, sigmas**0.7, 1 / total**2, -sigmas / total), SimpleNamespace(config=None))
    with pytest.raises(InputError, match="skip"):
        learn(steps(1 / total, sigmas, 1 / total**3, -sigmas / total), SimpleNamespace(config=None))
    with pytest.raises(InputError, match="the state times"):
        learn(steps(1 / total**2, sigmas, 1 / total**2, -sigmas / total), SimpleNamespace(config=None))
