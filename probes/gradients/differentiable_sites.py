"""A site's activation as part of a differentiable function: read with its graph, replaced, or shifted.

    with edit_site(denoiser, "network.middle1", lambda activation: activation + vector):
        denoiser(x, sigma, tokens)                      # gradients reach `vector`

    with watch_site(denoiser, "network.middle1") as seen:
        denoiser(x, sigma, tokens)
    seen[0]                                             # not detached

Unlike `capture`, nothing is copied or detached, so reverse- and forward-mode derivatives pass through.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.sites.modules import find_site, root_module
from scorescope.probes.sites.once_a_pass import once_a_pass
from scorescope.probes.sites.outputs import ModuleCall

Edit = Callable[[Tensor], Tensor]


@contextmanager
def edit_site(denoiser: object, site: str, edit: Edit) -> Iterator[None]:
    """Pass what a site puts out through a function, in every call of the denoiser.

    Parameters
    ----------
    denoiser : nn.Module
        The model.
    site : str
        Path of an inner module that puts out one tensor and is called once a forward pass.
    edit : callable
        Activation to activation of the same shape; differentiable where gradients are wanted.

    Raises
    ------
    InputError
        On entry for a site that is not there or compiled; in the call for a site that is called twice or not at
        all, puts out something else than one tensor, or is edited to another shape.
    """
    root, module = root_module(denoiser), find_site(denoiser, site)

    def apply(_site: str, call: ModuleCall) -> Tensor:
        output = call.output
        if not isinstance(output, Tensor):
            found = f"{site!r}, which puts out a {type(output).__name__}"
            raise InputError("site", found=found, expected="a module that puts out one tensor")
        edited = edit(output)
        if edited.shape != output.shape:
            found = f"shape {tuple(edited.shape)} for {site!r}"
            raise InputError("activation", found=found, expected=f"{tuple(output.shape)}, as the site puts out")
        return edited

    with once_a_pass({site: module}, apply, root=root, each=True):
        yield


@contextmanager
def watch_site(denoiser: object, site: str) -> Iterator[list[Tensor]]:
    """Keep what a site puts out, with its graph, in the latest call of the denoiser.

    Yields
    ------
    list of Tensor
        Filled by each call anew; one entry after it.

    Raises
    ------
    InputError
        As in `edit_site`.
    """
    seen: list[Tensor] = []

    def keep(activation: Tensor) -> Tensor:
        seen[:] = [activation]
        return activation

    with edit_site(denoiser, site, keep):
        yield seen
