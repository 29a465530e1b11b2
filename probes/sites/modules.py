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
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.pipelines.call import is_compiled, leaves
from scorescope.probes.sites.once_a_pass import never_called, once_a_pass
from scorescope.probes.sites.outputs import ModuleCall, OutputsRead
from scorescope.probes.sites.watched_tensor import plain

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
        If there is none; the nearest names are suggested. If it, or a module around it, is compiled, or it is a
        container: its hooks would never be called.
    """
    root = root_module(denoiser)
    if not site:
        raise unknown_site(site, site_names(root), "site")
    return inner_module(root, site, site=site)


def inner_module(root: nn.Module, path: str, *, site: str, prefix: str = "", argument: str = "site") -> nn.Module:
    """The module at a path inside another, whose hooks are called whenever it is.

    Parameters
    ----------
    root : nn.Module
        The denoiser.
    path : str
        Inside it; "" is the denoiser itself.
    site, prefix, argument : str
        What errors say: how the user named the site, how the names of others begin, in which argument.

    Raises
    ------
    InputError
        See `find_site`.
    """
    modules: dict[str, nn.Module] = dict(root.named_modules(remove_duplicate=False))
    parts = path.split(".")
    around = [modules[name] for count in range(len(parts)) if (name := ".".join(parts[:count])) in modules]
    found = modules.get(path)
    if any(map(_silences, around)) or (found is not None and is_compiled(found)):
        expected = "a module that is not compiled, nor inside of one that is: inner hooks stay silent"
        raise InputError(argument, found=f"{site!r}, compiled", expected=expected)
    if found is None:
        raise unknown_site(site, [f"{prefix}{name}" for name in modules if name], argument)
    if type(found).forward is nn.Module.forward and "forward" not in found.__dict__:  # ModuleList, for instance
        raise never_called(site, argument=argument)
    return found


def unknown_site(site: str, names: Sequence[str], argument: str, *, of: str = "the denoiser") -> InputError:
    """The error for a site that is not there; the nearest names are suggested."""
    near = difflib.get_close_matches(site, names, n=3, cutoff=0.3) or names[:5]
    return InputError(argument, found=repr(site), expected=f"a module of {of}, such as {', '.join(near)}")


def _silences(module: nn.Module) -> bool:
    """Whether the hooks of a module's inner modules stay silent: it is compiled, or its forward is."""
    return is_compiled(module) or hasattr(module.__dict__.get("forward"), "_torchdynamo_orig_callable")


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
    denoiser: object,
    sites: Sequence[str],
    *,
    how: Pool | Mapping[str, Pool] = "whole",
    outputs: OutputsRead | None = None,
    update: bool = False,
) -> Iterator[dict[str, Tensor]]:
    """Keep what each site puts out in the latest call of the denoiser, reduced as `pool` says, or each in its way.

    Without sites nothing is kept, and the denoiser may be any callable. `outputs` says which of several tensors is
    meant, by default that of the image, and is told which it was. With `update` what is kept is what the module adds:
    what it puts out less what it was given.

    Yields
    ------
    dict of str to Tensor
        By site, detached; filled by every call anew.

    Raises
    ------
    InputError
        On entry for sites that are not there; in the call for a site that is called twice within it, or puts out
        several tensors of which none is known to be the image's; with `update` for a site that puts out another shape
        than it was given.
    """
    if not sites:
        yield {}
        return
    root = root_module(denoiser)
    modules = {site: find_site(denoiser, site) for site in sites}
    pools = how if isinstance(how, Mapping) else dict.fromkeys(sites, how)
    taken: dict[str, Tensor] = {}
    read = OutputsRead() if outputs is None else outputs

    def keep(site: str, call: ModuleCall) -> None:
        value = read.take(site, call).detach()
        if update:
            value = value - plain(leaves(call.passed_on())[read.found[site].place]).detach()
        taken[site] = pool(value, pools[site])

    with once_a_pass(modules, keep, root=root, begin=taken.clear):
        yield taken
