"""Captum on one denoiser step: which tokens, pixels or units the head's number comes from.

    step = make_step(denoiser, x, 1.0, labels, head=projection(direction), weight=3.0)
    found = attribute_step(step, "IntegratedGradients")                       # condition tokens against null tokens
    found.by_token, found.residual
    attribute_step(step, "Occlusion", to="x", baseline=same_noise(x, x0, other), patch=4)
    attribute_step(step, "LayerIntegratedGradients", to="network.middle1")

What is attributed is the effect F(input) - F(baseline) of one step. For a site that is the site's own effect: the
rest of the network keeps the condition, and only what the site puts out goes from its baseline to its value. Where a
denoiser has skip connections, or takes its condition at many places, that is less than the effect of the condition;
captum's own convergence delta compares with the latter. The residual here compares with what the sum stands for.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.gradients.captum_methods import INPUT_METHODS, LAYER_METHODS, REFUSED, Job
from scorescope.probes.gradients.differentiable_sites import watch_site
from scorescope.probes.gradients.memory_budget import rows_within
from scorescope.probes.gradients.step import Step, check_differentiable, condition_tokens
from scorescope.probes.sites.modules import find_site

TOLERANCE = 0.05
_NO_SUM = {"Saliency", "LayerGradCam"}


class CompletenessWarning(UserWarning):
    """Attributions that do not add up to the effect."""


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Attribution:
    """Attributions of one step.

    Attributes
    ----------
    method, to, head : str
        Captum's method; "tokens", "x" or a site; the head.
    values : Tensor
        Shaped like the input (LayerGradCam: (batch, y, x)), in the head's unit. Effects of groups (tokens, patches,
        channels) are spread evenly over their elements, so that a sum over elements is an effect.
    effect : Tensor, shape (batch,)
        F(input) - F(baseline).
    residual : Tensor, shape (batch,)
        (sum of values - effect) / |effect|, not finite where the effect is 0; NaN for Saliency and LayerGradCam, whose
        sums stand for no effect.
    internal_batch_size : int
        Samples in one pass through the network, from the memory budget.
    """

    method: str
    to: str
    head: str
    values: Tensor
    effect: Tensor
    residual: Tensor
    internal_batch_size: int

    @property
    def total_residual(self) -> float:
        """Norm over samples of (sum - effect) against the norm of the effect: not blown up by one small effect."""
        if self.method in _NO_SUM:
            return float("nan")
        missed = (self.values.flatten(1).sum(1) - self.effect).norm()
        return float(missed / self.effect.norm()) if missed else 0.0

    @property
    def by_token(self) -> Tensor:
        """Sums over the width of each token, shape (batch, token).

        Raises
        ------
        InputError
            For attributions to something else than tokens.
        """
        if self.values.ndim != 3 or self.to == "x" or self.method == "LayerGradCam":
            raise InputError("to", found=repr(self.to), expected="attributions to tokens, (batch, token, width)")
        return self.values.sum(2)


@checked
def attribute_step(
    step: Step,
    method: str,
    *,
    to: str = "tokens",
    baseline: Tensor | None = None,
    n_steps: int = 50,
    samples: int = 25,
    patch: int = 4,
    groups: Tensor | None = None,
    memory: int = 2**30,
    seed: int = 0,
    progress: bool = False,
) -> Attribution:
    """Attribute a step's number by one of captum's methods.

    Parameters
    ----------
    step : Step
        From `make_step`.
    method : str
        On tokens, x or a site's activation: IntegratedGradients, InputXGradient (gradient times the distance from the
        baseline), Saliency, FeatureAblation, Occlusion (maps only: windows without overlap), ShapleyValueSampling. On a
        site through captum's own hooks: LayerIntegratedGradients, LayerGradCam (maps only, without ReLU).
    to : str
        "tokens", "x" or a site.
    baseline : Tensor, optional
        Shaped like the input, or one row. Default for tokens: the null tokens, token by token. For x it has to be
        given, best by `same_noise`. For a site: its activation under the null tokens, at the same x; give
        `activation_baseline` otherwise. The Layer methods of captum take none.
    n_steps : int
        Points of the path integral (Gauss-Legendre).
    samples : int
        Permutations of ShapleyValueSampling.
    patch : int
        Side of patches of x, for methods that remove groups.
    groups : Tensor of int, optional
        Groups that are removed together, shaped like one sample of the input. By default tokens, patches of x over
        all channels, channels of a site's maps, single elements otherwise.
    memory : int
        Bytes that gradients may take beyond model and data; decides how many samples pass at once.
    seed : int
        Of the permutations.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Attribution
        With the completeness residual.

    Raises
    ------
    InputError
        For an unknown or refused method, an unknown or compiled site (the nearest are suggested) or one called twice a
        pass, sizes that do not fit, gradients asked where autograd is off, a budget below one sample.

    Warns
    -----
    CompletenessWarning
        If the sums miss the effect by more than 5 %, over all samples.
    """
    adapter = _adapter(method, to)
    if n_steps < 1 or samples < 1 or patch < 1:
        raise InputError("n_steps, samples, patch", found=f"{n_steps}, {samples}, {patch}", expected="at least 1 each")
    layer = None if to in ("tokens", "x") else find_site(step.denoiser, to)
    check_differentiable(step)
    inputs, reference = _endpoints(step, method, to, baseline)
    function = _function(step, method, to)
    spatial = to == "x" or method == "Occlusion"
    mask = _groups(inputs, spatial, patch) if groups is None else _check_groups(groups, inputs)
    layer = layer if method in LAYER_METHODS else None
    rows = rows_within(memory, lambda count: _probe(step, function, inputs, count))
    context = step.context(slice(None))
    job = Job(function, inputs, reference, context, mask.contiguous(), layer, rows, n_steps, samples, seed, patch)
    values = torch.cat([adapter(part).detach() for part in _chunks(job, progress)])
    ends = torch.cat([_ends(step, part, to) for part in _chunks(job, False)], dim=1)
    effect = ends[0] - ends[1]
    residual = (values.flatten(1).sum(1) - effect) / effect.abs()
    if method in _NO_SUM:
        residual = torch.full_like(effect, float("nan"))
    found = Attribution(method, to, step.head.name, values, effect, residual, job.rows)
    _warn(found, ends)
    return found


@checked
def activation_baseline(
    denoiser: Any, site: str, x: Tensor, sigma: float, condition: Any, *, batch: int = 64
) -> Tensor:
    """Mean over samples of what a site puts out at one noise level: a baseline, shape (1, *activation).

    Parameters
    ----------
    denoiser : nn.Module
        The model.
    site : str
        Module path.
    x : Tensor, shape (n, *shape)
        States at `sigma`.
    sigma : float
        Noise level.
    condition : Tensor
        Labels or tokens, one row a sample.
    batch : int
        Samples computed together.
    """
    tokens = condition_tokens(denoiser, condition, len(x), "condition").to(x)
    total: Tensor | None = None
    with torch.no_grad(), watch_site(denoiser, site) as seen:
        for rows in torch.arange(len(x)).split(batch):
            denoiser(x[rows], torch.full((len(rows),), sigma).to(x), tokens[rows])
            part = seen[0].double().sum(0, keepdim=True)
            total = part if total is None else total + part
    if total is None:
        raise InputError("x", found="no samples", expected="at least one")
    return (total / len(x)).to(seen[0].dtype)


def _adapter(method: str, to: str) -> Callable[[Job], Tensor]:
    if method in REFUSED:
        raise InputError("method", found=method, expected=f"another one: {REFUSED[method]}")
    if method not in INPUT_METHODS | LAYER_METHODS:
        raise InputError("method", found=repr(method), expected=f"one of {', '.join([*INPUT_METHODS, *LAYER_METHODS])}")
    if method in LAYER_METHODS and to in ("tokens", "x"):
        raise InputError("to", found=repr(to), expected=f"a site of the denoiser, for {method}")
    return (INPUT_METHODS | LAYER_METHODS)[method]


def _activation(step: Step, site: str, tokens: Tensor) -> Tensor:
    """What a site puts out in the conditional call, and the check that it is one tensor, once a call."""
    parts = []
    with torch.no_grad(), watch_site(step.denoiser, site) as seen:
        for rows in torch.arange(len(step)).split(64):
            step.denoise(step.x[rows], tokens[rows])
            parts += seen
    return torch.cat(parts)


def _endpoints(step: Step, method: str, to: str, baseline: Tensor | None) -> tuple[Tensor, Tensor]:
    """Input and baseline of the attribution, row by row."""
    if method in LAYER_METHODS:
        if baseline is not None:
            expected = f"none for {method}; IntegratedGradients takes an activation as baseline"
            raise InputError("baseline", found="a tensor", expected=expected)
        if (activation := _activation(step, to, step.tokens[:])).ndim != 4 and method == "LayerGradCam":
            found = f"{to!r}, which puts out {tuple(activation.shape)}"
            raise InputError("site", found=found, expected="maps (batch, channel, y, x), which GradCam pools over")
        return step.tokens.contiguous(), step.null.contiguous()
    if to == "tokens":
        inputs, default = step.tokens, step.null
    elif to == "x":
        if baseline is None:
            raise InputError("baseline", found="None", expected="a state to compare with, such as same_noise(x, x0, y)")
        inputs, default = step.x, step.x
    else:
        inputs = _activation(step, to, step.tokens)
        default = _activation(step, to, step.null) if baseline is None else inputs
    reference = default if baseline is None else baseline.detach().to(inputs)
    if reference.shape[1:] != inputs.shape[1:] or len(reference) not in (1, len(inputs)):
        found = f"shape {tuple(reference.shape)}"
        raise InputError("baseline", found=found, expected=f"{tuple(inputs.shape)}, like the input, or one row of it")
    return inputs.contiguous(), reference.expand_as(inputs).contiguous()


def _function(step: Step, method: str, to: str) -> Callable[..., Tensor]:
    """(input, tokens, x, uncond, null, *constants) -> numbers; the input stands in for one of them."""
    if to == "tokens" or method in LAYER_METHODS:
        return lambda given, _tokens, *rest: step.value(given, *rest)
    if to == "x":
        return lambda given, tokens, _x, _uncond, *rest: step.value(tokens, given, None, *rest)
    return lambda given, *rest: step.value_at_site(to, given, *rest)


def _probe(step: Step, function: Callable[..., Tensor], inputs: Tensor, count: int) -> Tensor:
    """The function over a number of copies of the first sample, with its graph."""
    first = [part[:1].expand(count, *part.shape[1:]) for part in (inputs, *step.context(slice(0, 1)))]
    return function(first[0].clone().requires_grad_(), *first[1:])


def _chunks(job: Job, progress: bool) -> Iterator[Job]:
    starts = range(0, len(job.inputs), job.rows)
    for first in tqdm(starts, desc="attribution", disable=not progress, leave=False):
        rows = slice(first, first + job.rows)
        context = tuple(part[rows].contiguous() for part in job.context)
        yield replace(job, inputs=job.inputs[rows].clone(), baselines=job.baselines[rows].clone(), context=context)


def _ends(step: Step, job: Job, to: str) -> Tensor:
    """F(input) and F(baseline), shape (2, batch); for captum's layer methods, of the site's activation alone."""
    with torch.no_grad():
        if job.layer is None:
            return torch.stack([job.function(given, *job.context) for given in (job.inputs, job.baselines)])
        ends = []
        for tokens in (job.inputs, job.baselines):
            with watch_site(step.denoiser, to) as seen:
                step.denoise(job.context[1], tokens)
            ends.append(step.value_at_site(to, seen[0], *job.context))
        return torch.stack(ends)


def _groups(inputs: Tensor, spatial: bool, patch: int) -> Tensor:
    """Default groups, shape (1, *shape of one input), numbered from 0."""
    shape, device = inputs.shape[1:], inputs.device
    if len(shape) == 2 and not spatial:
        return torch.arange(shape[0], device=device)[None, :, None].expand(1, *shape)
    if len(shape) == 3 and spatial:
        across = -(-shape[2] // patch)
        y, x = (torch.arange(size, device=device) // patch for size in shape[1:])
        return (y[:, None] * across + x).expand(1, *shape)
    if len(shape) == 3:
        return torch.arange(shape[0], device=device)[None, :, None, None].expand(1, *shape)
    return torch.arange(shape.numel(), device=device).reshape(1, *shape)


def _check_groups(groups: Tensor, inputs: Tensor) -> Tensor:
    if tuple(groups.shape) != tuple(inputs.shape[1:]) or groups.dtype != torch.int64 or int(groups.min()) < 0:
        found = f"{groups.dtype} of shape {tuple(groups.shape)}"
        raise InputError("groups", found=found, expected=f"int64 >= 0 of shape {tuple(inputs.shape[1:])}")
    return groups[None].to(inputs.device)


def _warn(found: Attribution, ends: Tensor) -> None:
    missed = found.values.flatten(1).sum(1) - found.effect
    rounding = 100 * torch.finfo(ends.dtype).eps * ends.norm()  # an effect that is rounding only cannot be met
    if found.method not in _NO_SUM and not bool(missed.norm() <= TOLERANCE * found.effect.norm() + rounding):
        text = (
            f"{found.method} to {found.to}: sums miss the effect by {found.total_residual:.0%} over all samples; "
            "raise n_steps, or read the parts as local sensitivities that do not add up"
        )
        warnings.warn(text, CompletenessWarning, stacklevel=3)
