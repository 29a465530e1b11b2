"""A hook at each site that is called exactly once a forward pass: what a second call would mean is not defined."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import nn

from scorescope.data.errors import InputError
from scorescope.probes.sites.outputs import ModuleCall


class PassCalls:
    """How often sites were called in the forward pass that is under way.

    Parameters
    ----------
    sites : iterable of str
        Those that it has.
    """

    def __init__(self, sites: Iterable[str] = ()) -> None:
        self._counts = dict.fromkeys(sites, 0)

    def __contains__(self, site: str) -> bool:
        return site in self._counts

    def begin(self) -> None:
        """Another pass over the same sites."""
        self._counts = dict.fromkeys(self._counts, 0)

    def count(self, site: str) -> None:
        """One more call of a site; `InputError` if it is the second."""
        self._counts[site] += 1
        if self._counts[site] > 1:
            raise InputError("site", found=f"{site!r}, called twice in one forward pass", expected="one call a pass")

    def check_all(self) -> None:
        """Raise `InputError` for a site that was not called."""
        if unused := [site for site, count in self._counts.items() if not count]:
            raise never_called(unused[0])


def never_called(site: str, *, argument: str = "site") -> InputError:
    """The error for a site that stayed silent."""
    expected = "a module called in every forward pass (a container is not called, nor one that another has replaced)"
    return InputError(argument, found=f"{site!r}, never called", expected=expected)


@contextmanager
def once_a_pass(
    modules: Mapping[str, nn.Module],
    change: Callable[[str, ModuleCall], Any],
    *,
    root: nn.Module | None = None,
    begin: Callable[[], Any] | None = None,
    first: bool = False,
    each: bool = False,
) -> Iterator[PassCalls]:
    """Call a function with what each site puts out, for the length of a with block; nothing of ours stays.

    Parameters
    ----------
    modules : mapping of str to nn.Module
        By site.
    change : callable
        (site, call) -> what takes the output's place, or None.
    root : nn.Module, optional
        A call of it is a pass; without one the block is a single pass.
    begin : callable, optional
        Is called at the beginning of each pass of `root`.
    first : bool
        Before the hooks that are there already, which then see what the network goes on with.
    each : bool
        Every pass of `root` has to call every site.

    Raises
    ------
    InputError
        In the second call of a site within a pass; with `each`, at the end of a pass that left one out.
    """
    calls = PassCalls(modules)

    def start(*_: Any) -> None:
        calls.begin()
        if begin is not None:
            begin()

    def pass_on(site: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        calls.count(site)
        return change(site, ModuleCall(module, args, kwargs, output))

    with ExitStack() as stack:
        if root is not None:
            stack.callback(root.register_forward_pre_hook(start).remove)
        if root is not None and each:
            stack.callback(root.register_forward_hook(lambda *_: calls.check_all()).remove)
        for site, module in modules.items():
            hook = module.register_forward_hook(partial(pass_on, site), prepend=first, with_kwargs=True)
            stack.callback(hook.remove)
        yield calls
