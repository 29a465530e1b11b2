"""Sites inside a pipeline's denoisers, each call with its noise level, and with the rows of each branch where known.

The noise level comes from the scheduler as it is when the denoiser is called. The branch comes from the names that
the pipeline itself gives to its calls or that the user gives, else from `BranchRows`.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from scorescope.data.display import displayed
from scorescope.probes.pipelines import find
from scorescope.probes.pipelines.call import Call, leaves
from scorescope.probes.pipelines.engine import Engine
from scorescope.probes.pipelines.level_reader import LevelFunction, LevelReaders
from scorescope.probes.pipelines.listener import Listener
from scorescope.probes.pipelines.naming import LABELS
from scorescope.probes.pipelines.seat import Seat, check_left
from scorescope.probes.pipelines.taps import ModuleHook
from scorescope.probes.sites.modules import inner_module, unknown_site
from scorescope.probes.sites.once_a_pass import PassCalls
from scorescope.probes.sites.outputs import ModuleCall


@displayed
@dataclass(frozen=True, eq=False)
class DenoiserCall:
    """A call that is about to be made.

    Attributes
    ----------
    module : str
        Name of the denoiser.
    batch : int
        Its rows.
    sigma : Tensor, shape (batch,)
        Variance-exploding noise level, on the host wherever the denoiser is; NaN where it is unknown.
    label : str
        The branch, as the pipeline names it; empty where it does not.
    note : str
        Why the level is unknown.
    made : Call
        The same call, as the engine tells of it.
    """

    module: str
    batch: int
    sigma: Tensor
    label: str
    note: str
    made: Call

    @property
    def key(self) -> str:
        """The branch under which activations are kept."""
        return self.label or "all"


class PipelineSites(Listener):
    """Hooks on a pipeline's denoisers and their inner modules, for the length of a with block.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline, or any object with a denoiser module and a scheduler.
    sites : sequence of str
        Denoiser and path inside it, for instance "unet.mid_block".
    modules : str, sequence or mapping, optional
        Denoisers; see `record`.
    level : callable, optional
        (scheduler, timestep, state) -> Level, for a scheduler whose noise levels cannot be recognised.

    Raises
    ------
    InputError
        For sites that are not there or compiled.
    """

    in_repeated_calls = True
    """Whether calls count that a guidance rule makes again for a branch of its own (see `guide`)."""

    changes_calls = True

    def __init__(
        self, pipe: Any, sites: Sequence[str], modules: find.Modules = None, level: LevelFunction | None = None
    ) -> None:
        self.readers = LevelReaders(level)
        self._denoisers = find.denoisers(pipe, modules)
        self._engine = Engine(pipe)
        self._modules = {site: site_in(site, self._denoisers) for site in dict.fromkeys(sites)}
        self._seat: Seat | None = None
        self._hooks: list[ModuleHook] = []
        self._called = PassCalls()
        self._now: DenoiserCall | None = None

    def before(self, call: DenoiserCall, args: Any, kwargs: Any) -> Any:
        """A denoiser is about to be called; what is returned takes the place of (args, kwargs), if not None."""
        return None

    def at_site(self, site: str, call: DenoiserCall, inner: ModuleCall) -> Any:
        """A site has put something out; what is returned takes its place, if not None."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        check_left(self._seat)
        self._engine = Engine.of(self._engine.pipe)
        try:
            self._seat = self._engine.join(self, self._denoisers)
            for site, module in self._modules.items():
                hook = ModuleHook(module, functools.partial(self._at, site), first=True, with_kwargs=True)
                self._hooks.append(hook)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._leave()

    def _leave(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self._seat is not None:
            self._engine.leave(self._seat)
        self._seat = self._now = None

    def before_call(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See `Listener`."""
        self._now = None
        if call.repeated and not self.in_repeated_calls:
            return None
        tensors = leaves([*args, *kwargs.values()])
        batch = len(tensors[0]) if tensors and tensors[0].ndim else 1
        sigma, note = self._engine.level(call, args, kwargs, self.readers)
        levels = torch.full((batch,), sigma, dtype=torch.float64)
        label = LABELS.get(call.label, call.label)
        self._now = DenoiserCall(call.module, batch, levels, label, note, call)
        self._called = PassCalls(site for site in self._modules if site.partition(".")[0] == call.module)
        return self.before(self._now, args, kwargs)

    def after_call(self, call: Call, outputs: list[Tensor]) -> None:
        """See `Listener`."""
        if self._now is not None:
            self._now = None
            self._called.check_all()

    def _at(self, site: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        if self._now is None or site not in self._called:
            return None  # called by itself, outside of its denoiser
        self._called.count(site)
        return self.at_site(site, self._now, ModuleCall(module, args, kwargs, output))


def site_in(site: str, denoisers: Mapping[str, nn.Module], *, argument: str = "site", whole: bool = False) -> nn.Module:
    """The module that "<denoiser>.<path>" names; with `whole` the name of a denoiser is one too.

    Raises
    ------
    InputError
        If there is none (the nearest are suggested), if it, or a module around it, is compiled, or it is a container.
    """
    root, _, path = site.partition(".")
    if root not in denoisers or not (path or whole):
        names = [f"{name}.{inner}" for name, part in denoisers.items() for inner, _ in part.named_modules() if inner]
        raise unknown_site(site, names, argument, of="a denoiser")
    return inner_module(denoisers[root], path, site=site, prefix=f"{root}.", argument=argument)
