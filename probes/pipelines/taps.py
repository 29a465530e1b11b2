"""What is put on a pipeline's parts: a stand-in for a bound method, one for `step`, and a hook on a module.

All leave by identity: what other people have hooked or wrapped stays, in whatever order things leave. And none goes
with a deep copy of the pipeline: a copy has its own methods and no hook of ours.
"""

import copy
import functools
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from torch import nn

from scorescope.probes.pipelines.step_arguments import may_return_x0, signature_of

Memo = dict[Any, Any]


class Watcher(Protocol):
    """What the taps on one pipeline report to (an `Engine`)."""

    def is_copied(self, memo: Memo) -> bool:
        """Whether the deep copy that `memo` belongs to is one of the pipeline or of its denoisers."""
        ...

    def on_step(self, tap: "StepTap", args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A step was asked for; has to call `tap.below` and return what it returns."""
        ...

    def on_copy(self, copied: "StepTap") -> None:
        """A tapped scheduler was copied by itself, as pipelines do for a stream or a view of their own."""
        ...


class MethodTap:
    """Stands in for a bound method of one object, until `remove`.

    Parameters
    ----------
    owner : object
        Whose method.
    name : str
        Its name.
    around : callable
        (method, *args, **kwargs) -> what the caller gets.
    """

    def __init__(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        below = getattr(owner, name)
        functools.update_wrapper(self, below, updated=())
        self.owner, self.name, self.below = owner, name, below
        self._around, self._before = around, owner.__dict__.get(name)
        owner.__dict__[name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What `around` makes of the method."""
        return self._around(self.below, *args, **kwargs)

    def __deepcopy__(self, memo: Memo) -> Any:
        return _own_method(self, self.name, self._before, memo)

    def __reduce__(self) -> Any:
        """What a pickled pipeline, as spawned workers are given, has in our place: the method below."""
        return _itself, (self.below,)

    def remove(self) -> None:
        """Put back what was there, unless somebody has put something else in our place; pass every call on."""
        top = self.owner.__dict__.get(self.name)
        put_back(self.owner, self.name, self, self._before)
        while isinstance(top, MethodTap):
            if top.below is self:
                top.below, top._before = self.below, self._before
            top = top.below
        self._around = _pass_on  # a shallow copy of the owner may keep us


class StepTap:
    """Stands in for one scheduler's bound `step`.

    A deep copy of a scheduler alone has a tap of its own, bound to the copy. Copying only its `__dict__`, to restore
    it later, keeps this tap, so that both keep working on the state that they should. So does `copy.copy`, which gives
    a scheduler whose `step` is that of the original. A copy of the whole pipeline has no tap. After its watcher has
    gone a tap passes every call through.
    """

    def __init__(self, owner: Any, below: Callable[..., Any], before: Any, watcher: Watcher, root: Any = None) -> None:
        functools.update_wrapper(self, below, updated=())
        self.owner, self.below, self.before, self.watcher = owner, below, before, watcher
        self.root = owner if root is None else root  # the scheduler that this one was copied from
        self.signature = signature_of(owner, below)
        self.returns_x0 = may_return_x0(below)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Step, and tell the watcher."""
        return self.watcher.on_step(self, args, kwargs)

    def __deepcopy__(self, memo: Memo) -> Any:
        owner = memo.get(id(self.owner))
        if owner is None:
            return self
        if self.watcher.is_copied(memo):
            return _own_method(self, "step", self.before, memo)
        below = copy.deepcopy(self.below, memo)
        before = below if isinstance(below, StepTap) else copy.deepcopy(self.before, memo)
        copied = StepTap(owner, below, before, self.watcher, self.root)
        self.watcher.on_copy(copied)
        return copied

    def __reduce__(self) -> Any:
        """As that of `MethodTap`."""
        return _itself, (self.below,)

    def remove(self) -> None:
        """Leave: restore what was there, or unlink from below other taps of ours."""
        put_back(self.owner, "step", self, self.before)
        for above in taps_on(self.owner):
            if above.below is self:
                above.below, above.before = self.below, self.before


def tap_step(scheduler: Any, watcher: Watcher) -> StepTap:
    """Put a tap on `scheduler.step`."""
    tap = StepTap(scheduler, scheduler.step, scheduler.__dict__.get("step"), watcher)
    scheduler.__dict__["step"] = tap
    return tap


def taps_on(scheduler: Any) -> list[StepTap]:
    """Those of ours on `scheduler.step`, above any wrapper of other people."""
    found, top = [], getattr(scheduler, "__dict__", {}).get("step")
    while isinstance(top, StepTap):
        found.append(top)
        top = top.below
    return found


class ModuleHook:
    """A hook of ours on a module, until `remove`.

    Parameters
    ----------
    module : Module
        Where.
    does : callable
        What torch calls, with keyword arguments where `with_kwargs` says so.
    before : bool
        Before the module is called, else after.
    first : bool
        Before the hooks that are there already.
    """

    def __init__(
        self, module: nn.Module, does: Callable[..., Any], *, before: bool = False, first: bool = False,
        with_kwargs: bool = False,
    ) -> None:  # fmt: skip
        self.module, self.does = module, does
        register = module.register_forward_pre_hook if before else module.register_forward_hook
        self._handle = register(self, prepend=first, with_kwargs=with_kwargs)

    def __call__(self, *given: Any) -> Any:
        """Called by torch."""
        return self.does(*given)

    def __deepcopy__(self, memo: Memo) -> Any:
        module = memo.get(id(self.module))
        if module is not None:
            _after_copying(memo, functools.partial(_drop_hooks, module))
        return _nothing

    def __reduce__(self) -> Any:
        """A pickled module has a hook in our place that does nothing."""
        return _itself, (_nothing,)

    def remove(self) -> None:
        """Take it off."""
        self._handle.remove()


def hooks_on(module: nn.Module) -> list[ModuleHook]:
    """Those of ours on a module."""
    found = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    return [hook for hook in found if isinstance(hook, ModuleHook)]


def _pass_on(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return method(*args, **kwargs)


def put_back(owner: Any, name: str, ours: Any, before: Any) -> None:
    """Put `before` back where `owner.name` is still ours; None deletes the instance attribute."""
    if owner.__dict__.get(name) is not ours:
        return
    if before is None:
        del owner.__dict__[name]
    else:
        owner.__dict__[name] = before


def _own_method(tap: MethodTap | StepTap, name: str, before: Any, memo: Memo) -> Any:
    """What a copy of the tap's owner has in place of it: what it would have without us."""
    owner = memo.get(id(tap.owner))
    if owner is None:
        return tap  # its `__dict__` alone is copied, to be put back later
    method = copy.deepcopy(tap.below, memo)
    if before is None:
        _after_copying(memo, lambda: owner.__dict__.pop(name, None) if owner.__dict__.get(name) is method else None)
    return method


def _itself(part: Any) -> Any:
    return part


def _nothing(*_: Any) -> None:
    """In place of a hook of ours on a copied module, until the copy is complete, or on a pickled one."""


def _drop_hooks(module: nn.Module) -> None:
    tables: list[list[dict[int, Any]]] = [
        [module._forward_hooks, module._forward_hooks_with_kwargs, module._forward_hooks_always_called],
        [module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs],
    ]
    for hooks, *more in tables:
        for key in [key for key, hook in hooks.items() if hook is _nothing]:
            for table in (hooks, *more):
                table.pop(key, None)


class _Copying:
    """Lies in the memo of a deep copy; what it is to do is done when the copy is complete and the memo goes."""


def _after_copying(memo: Memo, does: Callable[[], Any]) -> None:
    if _Copying not in memo:
        memo[_Copying] = _Copying()
    weakref.finalize(memo[_Copying], does).atexit = False
