"""Layers that are skipped, each passing on what it was given: guidance away from that, and a weak model of it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import GuidanceState, sample_generators
from scorescope.probes.guidance.perturbed import Perturbing, SiteHook, hooked, require_sites, rows_of_samples
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sites.outputs import ModuleCall


@displayed
@checked
@dataclass(frozen=True)
class SLG(Perturbing):
    """Skip-layer guidance (Stable Diffusion 3.5), with or without CFG beside it.

    D = D_c + (w - 1) (D_c - D_u) + s (D_c - D_p), with D_p from the network without the layers at the named sites.
    Stability AI's code for Stable Diffusion 3.5 medium skips blocks 7, 8 and 9 in the steps from 1 % to 20 %, with
    s = 2.5 beside w = 4; for video this is spatio-temporal guidance (arXiv 2411.18664).

    Attributes
    ----------
    scale : float
        s.
    sites : tuple of str
        Names of the modules in the denoiser (an `nn.Module`), or inside a pipeline in its network: whole blocks
        ("transformer_blocks.7"), or the attention or feed-forward of one ("transformer_blocks.7.ff"). A block passes
        on image and text as it was given them; a part of one passes on what it was given, and what the block adds to
        it still stands. One that changes the shape is refused.
    weight : float
        w of the CFG term; 1 is none, and then the unconditional branch is not computed.
    first, last : int
        Steps in which the term of s acts, inclusive, from 0; the CFG term acts in all.
    """

    def hook(self, module: nn.Module) -> SiteHook:
        """What the layer was given."""
        return SiteHook(module, ModuleCall.passed_on)


@displayed
@checked
@dataclass(frozen=True)
class SkippedLayers:
    """The network without some of its layers, or with dropout there: a weak model for `Autoguidance`.

    It is called under the same condition as the model that it guides, as in the paper of autoguidance; the guider of
    diffusers gives it the unconditional inputs.

    Attributes
    ----------
    sites : tuple of str
        As for `SLG`.
    dropout : float
        Share of a layer's outputs that are set to 0, the others growing by 1 / (1 - share), drawn for each sample from
        its seed; at 0 the model is not weaker. 1 skips the layer, as in diffusers: then it passes on what it was given.
    """

    sites: tuple[str, ...]
    dropout: float = 1.0

    def __post_init__(self) -> None:
        require_sites(self.sites)
        if not 0 <= self.dropout <= 1:
            raise InputError("dropout", found=str(self.dropout), expected="a share from 0 to 1")

    def hook(self, module: nn.Module) -> SiteHook:
        """What the layer was given."""
        return SiteHook(module, ModuleCall.passed_on)

    def weak_prediction(
        self, denoiser: Denoiser, x: Tensor, sigma: Tensor, condition: Condition, state: GuidanceState
    ) -> Tensor:
        """The prediction of the network without the layers, or with dropout in them."""
        generators = sample_generators(state, 3) if self.dropout < 1 else []

        def drop(call: ModuleCall) -> Any:
            return _each(call.output, lambda output: self._dropped(output, denoiser, generators))

        with hooked(denoiser, self.sites, (lambda module: SiteHook(module, drop)) if generators else self.hook):
            return denoiser(x, sigma, condition)

    def _dropped(self, output: Tensor, denoiser: Denoiser, generators: list[torch.Generator]) -> Tensor:
        draws = torch.stack([torch.rand(output.shape[1:], generator=generator) for generator in generators])
        kept = rows_of_samples(draws >= self.dropout, denoiser, output)
        return output * kept / (1 - self.dropout)


def _each(output: Any, change: Any) -> Any:
    """What a module puts out with each of its tensors changed."""
    if isinstance(output, tuple | list):
        return tuple(_each(part, change) for part in output)
    return change(output) if isinstance(output, Tensor) else output
