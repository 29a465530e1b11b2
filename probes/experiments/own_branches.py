"""Branches that a rule computes itself, inside a pipeline: which rules have them, and what they come to in a step."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.probes.experiments.pipeline_denoiser import PipelineDenoiser
from scorescope.probes.guidance.base import COND, UNCOND, BranchRule, Rule, WeakNetwork
from scorescope.probes.guidance.perturbed import TSG, Perturbing
from scorescope.probes.guidance.scheduler_step import rules_inside
from scorescope.probes.guidance.wrappers import Wrapper
from scorescope.probes.sites.modules import find_site


def has_own_branches(rule: Rule) -> bool:
    """Whether a rule, or one inside it, computes a branch in its own way."""
    return any(isinstance(inner, BranchRule) and not isinstance(inner, Wrapper) for inner in rules_inside(rule))


def pipeline_branches(rule: Rule, branches: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the branches that a pipeline has to compute."""
    own = {name for inner in rules_inside(rule) for name in getattr(inner, "own_branches", ())}
    return tuple(name for name in branches if name in (COND, UNCOND) and name not in own)


def own_predictions(rule: Rule, denoiser: PipelineDenoiser) -> dict[str, Tensor]:
    """The branches that the rule needs at this state and computes itself, in denoised space, float64."""
    state = denoiser.state
    branches = rule.branches(state)
    own = [branch for branch in branches if branch not in pipeline_branches(rule, branches)]
    if not own or not isinstance(rule, BranchRule):
        return {}
    denoiser.prove()
    sigma = torch.full((len(state.x),), state.sigma, dtype=state.x.dtype, device=state.x.device)
    found = {b: rule.predict(b, denoiser, state.x, sigma, denoiser.condition, state) for b in own}
    return {branch: value for branch, value in found.items() if value is not None}


def check_sites(rule: Rule, denoisers: Mapping[str, nn.Module]) -> None:
    """Refuse, before anything runs, sites that no denoiser has, and those that a rule cannot change in its way.

    Raises
    ------
    InputError
        The nearest names are suggested.
    """
    for inner in rules_inside(rule):
        changed = getattr(inner, "weak", inner)  # a weak network may be this one, changed inside
        sites = (inner.site,) if isinstance(inner, TSG) else ()
        for site in changed.sites if isinstance(changed, Perturbing | WeakNetwork) else sites:
            modules = [_site(denoiser, site) for denoiser in denoisers.values()]
            found = next((module for module in modules if isinstance(module, nn.Module)), None)
            if found is None:
                raise next(error for error in modules if isinstance(error, InputError))
            if isinstance(changed, Perturbing | WeakNetwork):
                changed.hook(found)


def _site(denoiser: nn.Module, site: str) -> nn.Module | InputError:
    try:
        return find_site(denoiser, site)
    except InputError as error:
        return error
