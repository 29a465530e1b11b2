"""Activations inside a denoiser: named inner modules, reduced on the device, kept with their denoiser call.

record(pipe, sites=["unet.mid_block", Site("unet.up_blocks.1", reduce="space")])
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.pipelines.call import is_compiled, leaves

Reduce = Literal["whole", "space", "tokens"]


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
    """

    module: str
    reduce: Reduce = "whole"
    projection: Tensor | None = None

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


def resolve(sites: "tuple[str | Site, ...]", denoisers: Mapping[str, nn.Module]) -> list[tuple[Site, nn.Module]]:
    """Sites with their modules.

    Raises
    ------
    InputError
        For a module that is not there, and for a compiled one, where an inner hook would never be called.
    """
    found = []
    for entry in sites:
        site = Site(entry) if isinstance(entry, str) else entry
        root, _, path = site.module.partition(".")
        if root not in denoisers:
            raise InputError("sites", found=repr(site.module), expected=f"a path in one of {', '.join(denoisers)}")
        _check_eager(denoisers[root], root)
        found.append((site, _inner(denoisers[root], path, site)))
    return found


def _inner(module: nn.Module, path: str, site: Site) -> nn.Module:
    for name in filter(None, path.split(".")):
        children = dict(module.named_children())
        if name not in children:
            raise InputError(
                "sites", found=repr(site.module), expected=f"one of {', '.join(children) or 'no child'} at {name!r}"
            )
        module = children[name]
    return module


def _check_eager(module: nn.Module, name: str) -> None:
    if is_compiled(module):
        raise InputError(
            "sites",
            found=f"{name}, compiled as a whole",
            expected="a module that is not compiled: its inner hooks are never called",
        )


def hook(site: Site, sink: dict[str, list[Tensor]]) -> Callable[[nn.Module, Any, Any], None]:
    """A forward hook that keeps the reduced activation."""

    def capture(module: nn.Module, inputs: Any, output: Any) -> None:
        tensors = leaves(output)
        if tensors:
            sink.setdefault(site.module, []).append(site.apply(tensors[0]))

    return capture
