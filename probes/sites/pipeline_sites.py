"""Where a pipeline's denoiser call is, before it is made: its noise level, and which rows belong to which branch.

Hooks go on the denoisers and on inner modules, and leave by handle. The noise level comes from the scheduler as it is
when the denoiser is called. The branch comes from the names that the pipeline itself gives to its calls or, where one
call holds several branches, from the order that the user gives; the proof that a recording makes comes too late here.
"""

import difflib
import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.probes.pipelines import find
from scorescope.probes.pipelines.labels import LabelTap
from scorescope.probes.pipelines.level_reader import LevelFunction, LevelReader
from scorescope.probes.pipelines.made_call import TIME_ARGUMENTS
from scorescope.probes.pipelines.proof import LABELS, check_names
from scorescope.probes.pipelines.taps import is_compiled, is_repeated, leaves
from scorescope.probes.sites.once_a_pass import PassCalls


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
    """

    module: str
    batch: int
    sigma: Tensor
    label: str
    note: str

    @property
    def key(self) -> str:
        """The branch under which activations are kept."""
        return self.label or "all"


class PipelineSites:
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

    def __init__(
        self, pipe: Any, sites: Sequence[str], modules: find.Modules = None, level: LevelFunction | None = None
    ) -> None:
        self._pipe, self._level = pipe, level
        self._denoisers = find.denoisers(pipe, modules)
        self._schedulers = find.schedulers(pipe)
        self._modules = {site: _module(site, self._denoisers) for site in dict.fromkeys(sites)}
        self._readers: dict[int, LevelReader] = {}
        self._calls: list[Any] = []
        self._labels = LabelTap(self._calls)
        self._handles: list[Any] = []
        self._called = PassCalls()
        self._now: DenoiserCall | None = None

    def before(self, call: DenoiserCall, args: Any, kwargs: Any) -> Any:
        """A denoiser is about to be called; what is returned takes the place of (args, kwargs), if not None."""
        return None

    def at_site(self, site: str, call: DenoiserCall, output: Any) -> Any:
        """A site has put something out; what is returned takes its place, if not None."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            for guider in find.guiders(self._pipe):
                self._labels.tap_guider(guider)
            for name, module in self._denoisers.items():
                pre = functools.partial(self._before, name)
                self._handles.append(module.register_forward_pre_hook(pre, with_kwargs=True))
                self._handles.append(module.register_forward_hook(functools.partial(self._after, name)))
                self._labels.tap_module(module)
            for site, module in self._modules.items():
                hook = functools.partial(self._at, site)
                self._handles.append(module.register_forward_hook(hook, prepend=True))
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._leave()

    def _leave(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._labels.remove()
        self._handles.clear()
        self._calls.clear()
        self._now = None

    def _before(self, name: str, module: nn.Module, args: Any, kwargs: Any) -> Any:
        if is_repeated(module) and not self.in_repeated_calls:
            self._now = None
            return None
        tensors = leaves([*args, *kwargs.values()])
        batch = len(tensors[0]) if tensors and tensors[0].ndim else 1
        sigma, note = self._sigma(module, args, kwargs)
        label = self._labels.current or self._labels.of(len(self._calls))
        levels = torch.full((batch,), sigma, dtype=torch.float64)
        self._now = DenoiserCall(name, batch, levels, LABELS.get(label, label), note)
        self._called = PassCalls(site for site in self._modules if site.partition(".")[0] == name)
        return self.before(self._now, args, kwargs)

    def _at(self, site: str, module: nn.Module, inputs: Any, output: Any) -> Any:
        if self._now is None or site not in self._called:
            return None  # called by itself, outside of its denoiser
        self._called.count(site)
        return self.at_site(site, self._now, output)

    def _after(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if is_repeated(module) and not self.in_repeated_calls:
            return
        if not is_repeated(module):
            self._calls.append(None)  # labels are counted in calls
        self._now = None
        self._called.check_all()

    def _sigma(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[float, str]:
        """The noise level of this call and, where it is unknown, why."""
        scheduler = getattr(self._pipe, "scheduler", next(iter(self._schedulers.values())))
        reader = self._readers.setdefault(id(scheduler), LevelReader(self._level))
        given = _timestep(module, args, kwargs)
        time = None if given is None else reader.scheduled(scheduler, given)
        if time is None:
            return float("nan"), "the denoiser takes no timestep, or one a row"
        level = reader.read(scheduler, time, torch.zeros(1))
        sigma = level.sigma
        if level.note or (isinstance(sigma, Tensor) and sigma.numel() != 1):
            return float("nan"), level.note or "the level differs inside a sample"
        return float(sigma), ""


def block_weights(branch: str, call: DenoiserCall, branches: Sequence[str]) -> Tensor | None:
    """1 in the rows that belong to a branch, 0 in others; None for all rows.

    Raises
    ------
    InputError
        If it cannot be known which rows those are.
    """
    if branch == "both":
        return None
    if call.label:
        return torch.full((call.batch,), float(call.label == branch), dtype=torch.float64)
    names = check_names(branches)
    if not names or call.batch % len(names):
        found = f"{branch!r} in an unnamed call of {call.batch} rows, branches {names}"
        expected = "branches=, the order of the equal blocks of a batch, such as ('uncond', 'cond'); or branch 'both'"
        raise InputError("branch", found=found, expected=expected)
    marks = torch.tensor([float(name == branch) for name in names], dtype=torch.float64)
    return marks.repeat_interleave(call.batch // len(names))


def _module(site: str, denoisers: Mapping[str, nn.Module]) -> nn.Module:
    root, _, path = site.partition(".")
    names = [f"{name}.{inner}" for name, module in denoisers.items() for inner, _ in module.named_modules() if inner]
    if site not in names:
        near = difflib.get_close_matches(site, names, n=3, cutoff=0.3) or names[:5]
        raise InputError("site", found=repr(site), expected=f"a module of a denoiser, such as {', '.join(near)}")
    module = denoisers[root]
    for part in ["", *path.split(".")]:
        module = module.get_submodule(part)
        if is_compiled(module):
            found, expected = (
                f"{site!r}, in a compiled module",
                "a module that is not compiled: inner hooks stay silent",
            )
            raise InputError("site", found=found, expected=expected)
    return module


def _timestep(module: nn.Module, args: Any, kwargs: Any) -> Any:
    """What a denoiser is given as its timestep, or None."""
    try:
        bound = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
    except TypeError:
        return None
    return next((bound[name] for name in TIME_ARGUMENTS if bound.get(name) is not None), None)
