"""Named inner modules of a denoiser, and what passes through them in one call.

    site_names(denoiser)                                     # what can be named
    with capture(denoiser, ["network.middle1"]) as taken:
        denoiser(x, sigma, labels)
    taken["network.middle1"]                                 # (batch, channel, y, x)

A site must be called exactly once a forward pass: what a second call would mean is not defined.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.pipelines.call import is_compiled, leaves
from scorescope.probes.sites.once_a_pass import once_a_pass

Pool = Literal["whole", "mean"] | int


def root_module(denoiser: object) -> nn.Module:
    """The module whose inner modules are sites.

    Raises
    ------
    InputError
        If the denoiser is not a `torch.nn.Module`, or is compiled, so that inner hooks are never called.
    """
    if not isinstance(denoiser, nn.Module):
        found = f"a {type(denoiser).__name__}"
        raise InputError("denoiser", found=found, expected="a torch.nn.Module, for sites inside it")
    if is_compiled(denoiser):
        expected = "a module that is not compiled: its inner hooks are never called"
        raise InputError("denoiser", found="a compiled module", expected=expected)
    return denoiser


@checked
def site_names(denoiser: object) -> list[str]:
    """Paths of all inner modules, in the order of registration.

    Parameters
    ----------
    denoiser : nn.Module
        The model; another object, or a compiled one, is an `InputError`.
    """
    return [name for name, _ in root_module(denoiser).named_modules() if name]


def find_site(denoiser: object, site: str) -> nn.Module:
    """The inner module at a path.

    Raises
    ------
    InputError
        If there is none; the nearest names are suggested. If it, or a module around it, is compiled.
    """
    modules: dict[str, nn.Module] = dict(root_module(denoiser).named_modules())
    if not site or site not in modules:
        near = difflib.get_close_matches(site, list(modules), n=3, cutoff=0.3) or list(modules)[1:6]
        raise InputError("site", found=repr(site), expected=f"a module of the denoiser, such as {', '.join(near)}")
    parts = site.split(".")
    for count in range(1, len(parts) + 1):
        if is_compiled(modules[".".join(parts[:count])]):
            raise InputError("site", found=f"{site!r}, compiled", expected="a module that is not compiled")
    return modules[site]


def pool(activation: Tensor, how: Pool) -> Tensor:
    """Reduce an activation on its device.

    Parameters
    ----------
    activation : Tensor
        (batch, channel, *space) maps or (batch, token, channel) sequences.
    how : {"whole", "mean"} or int
        `mean` averages over space or tokens, to (batch, channel) float32; `whole` copies; a number k averages maps
        over a k x k grid, to (batch, channel * k * k) float32, channels varying slowest.

    Raises
    ------
    InputError
        For a grid over an activation that is not (batch, channel, y, x), or finer than it.
    """
    if how == "whole":
        return activation.clone()
    if not isinstance(how, str):
        return _grid(activation, how)
    return mean_over_positions(activation.float())


def channel_axis(activation: Tensor) -> int:
    """The axis of the channels: the last of (batch, token, channel), else the second."""
    return 2 if activation.ndim == 3 else 1


def at_channels(values: Tensor, activation: Tensor) -> Tensor:
    """Numbers (channel,) or (row, channel) with axes of length 1 for all other axes of an activation."""
    shape = [1] * activation.ndim
    shape[0], shape[channel_axis(activation)] = len(values) if values.ndim == 2 else 1, values.shape[-1]
    return values.reshape(shape)


def mean_over_positions(activation: Tensor) -> Tensor:
    """The mean over space or tokens, (batch, channel), in the activation's dtype."""
    if activation.ndim == 3:
        return activation.mean(1)
    return activation.flatten(2).mean(2) if activation.ndim > 3 else activation


def _grid(activation: Tensor, cells: int) -> Tensor:
    if activation.ndim != 4 or not 1 <= cells <= min(activation.shape[2:]):
        expected = f"maps (batch, channel, y, x) of at least {cells} x {cells}"
        raise InputError("how", found=f"a grid over shape {tuple(activation.shape)}", expected=expected)
    return functional.adaptive_avg_pool2d(activation.float(), cells).flatten(1)


@contextmanager
def capture(
    denoiser: object, sites: Sequence[str], *, how: Pool | Mapping[str, Pool] = "whole"
) -> Iterator[dict[str, Tensor]]:
    """Keep what each site puts out in the latest call of the denoiser, reduced as `pool` says, or each in its way.

    Without sites nothing is kept, and the denoiser may be any callable.

    Yields
    ------
    dict of str to Tensor
        By site, detached; filled by every call anew.

    Raises
    ------
    InputError
        On entry for sites that are not there; in the call for a site that is called twice within it.
    """
    if not sites:
        yield {}
        return
    root = root_module(denoiser)
    modules = {site: find_site(denoiser, site) for site in sites}
    pools = how if isinstance(how, Mapping) else dict.fromkeys(sites, how)
    taken: dict[str, Tensor] = {}

    def keep(site: str, output: Any) -> None:
        found = [leaf for leaf in leaves(output) if isinstance(leaf, torch.Tensor)]
        if not found:
            expected = "a module with a tensor output"
            raise InputError("site", found=f"{site!r}, which puts out no tensor", expected=expected)
        taken[site] = pool(found[0].detach(), pools[site])

    with once_a_pass(modules, keep, root=root, begin=taken.clear):
        yield taken
