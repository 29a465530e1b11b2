"""Captum's methods on one chunk of samples: each a function of a `Job`, with captum imported when it is called.

    METHODS["IntegratedGradients"](job)                # shaped like job.inputs

`REFUSED` names the methods that are not offered, with the reason.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scorescope.data.display import displayed
from scorescope.data.errors import InputError

_RULES = "its rules do not cover SiLU, GroupNorm and attention: it runs, and misses 40 to 80 % of the effect"
_RELU = "it changes ReLU modules alone: on a SiLU network it is the plain gradient under another name"
REFUSED = {
    "DeepLift": _RULES,
    "DeepLiftShap": _RULES,
    "LayerDeepLift": _RULES,
    "LRP": "it has no rules for SiLU, GroupNorm and attention",
    "LayerLRP": "it has no rules for SiLU, GroupNorm and attention",
    "GuidedBackprop": _RELU,
    "GuidedGradCam": _RELU,
    "Deconvolution": _RELU,
    "NoiseTunnel": "the noise that it adds changes the noise level, which the denoiser is told is fixed",
}
"""Methods of captum that are not offered, and why."""


@displayed
@dataclass(frozen=True)
class Job:
    """What captum is given for some samples.

    Attributes
    ----------
    function : callable
        (input, *context) -> (rows,), where rows is that of the input.
    inputs, baselines : Tensor
        One row a sample.
    context : tuple of Tensor
        What else the function needs, one row a sample; captum expands it with the input.
    mask : Tensor of int, shape (1, *shape of one input)
        Groups that are removed together.
    layer : nn.Module or None
        The site, for captum's layer methods.
    rows : int
        Samples in one pass, at most.
    n_steps, samples, seed, patch : int
        See `attribute_step`.
    """

    function: Callable[..., Tensor]
    inputs: Tensor
    baselines: Tensor
    context: tuple[Tensor, ...]
    mask: Tensor
    layer: nn.Module | None
    rows: int
    n_steps: int
    samples: int
    seed: int
    patch: int

    @property
    def at_once(self) -> int:
        """Perturbations in one pass."""
        # captum copies its input so many times, however few groups there are
        return max(1, min(self.rows // len(self.inputs), int(self.mask.max()) + 1))

    @property
    def frame(self) -> dict[str, Any]:
        """Arguments that captum's methods share."""
        return {"inputs": self.inputs, "baselines": self.baselines, "additional_forward_args": self.context}


def _integrated(job: Job) -> Tensor:
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(job.function)
    found: Tensor = method.attribute(**job.frame, n_steps=job.n_steps, internal_batch_size=job.rows)
    return found


def _input_x_gradient(job: Job) -> Tensor:
    from captum.attr import InputXGradient

    # a function of the distance from the baseline: captum then multiplies by that, not by the input itself
    method = InputXGradient(lambda delta, base, *rest: job.function(base + delta, *rest))
    context = (job.baselines, *job.context)
    found: Tensor = method.attribute((job.inputs - job.baselines).requires_grad_(), additional_forward_args=context)
    return found


def _saliency(job: Job) -> Tensor:
    from captum.attr import Saliency

    found: Tensor = Saliency(job.function).attribute(job.inputs.requires_grad_(), additional_forward_args=job.context)
    return found


def _ablation(job: Job) -> Tensor:
    from captum.attr import FeatureAblation

    with torch.no_grad():
        found: Tensor = FeatureAblation(job.function).attribute(
            **job.frame, feature_mask=job.mask, perturbations_per_eval=job.at_once
        )
    return found / _group_sizes(job.mask)


def _shapley(job: Job) -> Tensor:
    from captum.attr import ShapleyValueSampling

    # captum draws permutations from the global generator: the same ones for every chunk, and none missed elsewhere
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(job.seed)
        found: Tensor = ShapleyValueSampling(job.function).attribute(
            **job.frame, feature_mask=job.mask, n_samples=job.samples, perturbations_per_eval=job.at_once
        )
    return found.to(job.inputs) / _group_sizes(job.mask)


def _occlusion(job: Job) -> Tensor:
    from captum.attr import Occlusion

    if job.inputs.ndim != 4:
        found = f"an input of shape {tuple(job.inputs.shape)}"
        raise InputError("to", found=found, expected="maps (batch, channel, y, x) for Occlusion")
    window = (job.inputs.shape[1], min(job.patch, job.inputs.shape[2]), min(job.patch, job.inputs.shape[3]))
    with torch.no_grad():
        values: Tensor = Occlusion(job.function).attribute(
            **job.frame, sliding_window_shapes=window, strides=window, perturbations_per_eval=job.at_once
        )
    return values / _group_sizes(job.mask)


def _layer_integrated(job: Job) -> Tensor:
    from captum.attr import LayerIntegratedGradients

    method = LayerIntegratedGradients(job.function, job.layer)
    found: Tensor = method.attribute(**job.frame, n_steps=job.n_steps, internal_batch_size=job.rows)
    return found


def _grad_cam(job: Job) -> Tensor:
    from captum.attr import LayerGradCam

    method = LayerGradCam(job.function, job.layer)
    found: Tensor = method.attribute(job.inputs, additional_forward_args=job.context, relu_attributions=False)
    return found[:, 0]


INPUT_METHODS: dict[str, Callable[[Job], Tensor]] = {
    "IntegratedGradients": _integrated,
    "InputXGradient": _input_x_gradient,
    "Saliency": _saliency,
    "FeatureAblation": _ablation,
    "Occlusion": _occlusion,
    "ShapleyValueSampling": _shapley,
}
LAYER_METHODS: dict[str, Callable[[Job], Tensor]] = {
    "LayerIntegratedGradients": _layer_integrated,
    "LayerGradCam": _grad_cam,
}


def _group_sizes(mask: Tensor) -> Tensor:
    """Number of elements in the group of each element."""
    return torch.bincount(mask.flatten())[mask]
