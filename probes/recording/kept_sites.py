"""Activations inside a denoiser: named inner modules, reduced on the device, kept with their denoiser call.

record(pipe, sites=["unet.mid_block", Site("unet.up_blocks.1", reduce="space")])
"""

import functools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.pipelines.taps import ModuleHook
from scorescope.probes.sites.once_a_pass import never_called
from scorescope.probes.sites.outputs import ModuleCall, OutputsRead, checked_output
from scorescope.probes.sites.pipeline_sites import site_in

Reduce = Literal["whole", "space", "tokens"]


@displayed
@checked
@dataclass(frozen=True)
class Site:
    """Where to capture, and what to keep of it.

    Attributes
    ----------
    module : str
        Name of the denoiser and path inside it, for instance `unet.mid_block`.
    reduce : {"whole", "space", "tokens"}
        `whole` keeps the activation; `space` averages over all axes after the channel axis (batch, channel,
        *space); `tokens` averages over the axis between batch and channel (batch, token, channel).
    projection : Tensor, optional, shape (channel, directions)
        Applied after the reduction, along the channel axis, in float32.
    output : int, optional
        Which of the tensors that the module puts out, from 0; by default that of the image. The trace says which it
        was (`trace.site_outputs`).
    """

    module: str
    reduce: Reduce = "whole"
    projection: Tensor | None = None
    output: int | None = None

    def __post_init__(self) -> None:
        checked_output(self.output)

    def apply(self, activation: Tensor) -> Tensor:
        """The kept part of an activation, as a copy."""
        value = activation.detach()
        axis = -1 if self.reduce == "tokens" or value.ndim == 3 else 1
        if self.reduce == "space":
            value = value.float().flatten(2).mean(2) if value.ndim > 2 else value
            axis = -1
        elif self.reduce == "tokens":
            value = value.float().mean(tuple(range(1, value.ndim - 1))) if value.ndim > 2 else value
        if self.projection is None:
            return value.clone()
        with torch.autocast(value.device.type, enabled=False):  # it would take the product to half precision
            product = torch.movedim(value.float(), axis, -1) @ self.projection.to(value.device).float()
        return torch.movedim(product, -1, axis)


class KeptSites:
    """The sites of a recording: hooks on their modules, and what was kept in the denoiser call that is under way.

    Parameters
    ----------
    sites : sequence of str or Site
        As the user names them.
    denoisers : mapping of str to nn.Module
        By name.

    Raises
    ------
    InputError
        For a module that is not there; for a compiled one, one inside of such, and a container, whose hooks would never
        be called; for two outputs of one module.
    """

    def __init__(self, sites: Sequence[str | Site], denoisers: Mapping[str, nn.Module]) -> None:
        self.sites = [Site(entry) if isinstance(entry, str) else entry for entry in sites]
        self._modules = [site_in(site.module, denoisers, argument="sites", whole=True) for site in self.sites]
        asked = {site.module: site.output for site in reversed(self.sites)}
        for site in self.sites:
            if site.output != asked[site.module]:
                found = f"outputs {site.output} and {asked[site.module]} of {site.module!r}"
                raise InputError("sites", found=found, expected="one output of a module in a recording")
        self._outputs = OutputsRead({name: output for name, output in asked.items() if output is not None})
        self._hooks: list[ModuleHook] = []
        self._kept: dict[str, list[Tensor]] = {}
        self._heard: set[str] = set()
        self._denoisers: set[str] = set()  # whose sites have been looked for

    def hook(self) -> None:
        """Put the hooks on."""
        for site, module in zip(self.sites, self._modules, strict=True):
            whole = "." not in site.module  # a denoiser itself: before its call is told to have ended
            self._hooks.append(ModuleHook(module, functools.partial(self._keep, site), first=whole, with_kwargs=True))

    def remove(self) -> None:
        """Take them off."""
        for inner in self._hooks:
            inner.remove()
        self._hooks.clear()

    def _keep(self, site: Site, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        value = self._outputs.take(site.module, ModuleCall(module, args, kwargs, output))
        self._kept.setdefault(site.module, []).append(site.apply(value))

    def forget(self) -> None:
        """Leave out what was kept since: it belongs to no call of the pipeline's."""
        self._kept = {}

    def take(self) -> dict[str, list[Tensor]]:
        """What was kept since it was last taken, by site."""
        kept, self._kept = self._kept, {}
        self._heard.update(kept)
        return kept

    def check_heard(self, denoisers: Iterable[str]) -> None:
        """Calls of these denoisers have fed a step; `InputError` for sites in them that stayed silent in the first."""
        for name in set(denoisers) - self._denoisers:
            self._denoisers.add(name)
            for site in self.sites:
                if site.module.partition(".")[0] == name and site.module not in self._heard:
                    raise never_called(site.module, argument="sites")

    def warn_unheard(self) -> None:
        """The recording is over: say which sites have kept nothing, their denoiser having never been called."""
        if unheard := [site.module for site in self.sites if site.module not in self._heard]:
            text = f"nothing was kept at {', '.join(unheard)}: no step was fed by a call of that denoiser"
            warnings.warn(text, UserWarning, stacklevel=3)

    def outputs(self) -> dict[str, dict[str, Any]]:
        """By site that was called, which of the tensors that it put out was kept."""
        return {site: asdict(output) for site, output in self._outputs.found.items()}

    def describe(self) -> dict[str, Any]:
        """What the manifest says of them."""
        asked = {site.module: site.output for site in self.sites if site.output is not None}
        return {"sites": [site.module for site in self.sites]} | ({"outputs_asked": asked} if asked else {})
