"""The one engine in an unmodified pipeline: it puts the taps on and tells its listeners what is called when.

    class Steps(Listener):
        def before_step(self, step):
            print(step.given.timestep, [call.module for call in step.calls])

    engine = Engine.of(pipe)
    seat = engine.join(Steps(), find.denoisers(pipe, None))
    pipe("a lighthouse")
    engine.leave(seat)

`record`, `guide`, `intervene` and `cache_activations` are listeners. Several may be on at once: they share one set of
taps, each is told once of a step, and taps that nobody needs any more leave.
"""

import operator
import sys
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from scorescope.data.doors import checked
from scorescope.probes.pipelines import find
from scorescope.probes.pipelines.call import (
    Call,
    embeds_guidance,
    inputs_of,
    is_compiled,
    is_repeated,
    leaves,
    time_of,
)
from scorescope.probes.pipelines.labels import LabelTap
from scorescope.probes.pipelines.level_reader import LevelReaders
from scorescope.probes.pipelines.listener import Listener, StepEvent
from scorescope.probes.pipelines.run_watch import LAST_METHOD, RunWatch
from scorescope.probes.pipelines.seat import Seat
from scorescope.probes.pipelines.step_arguments import StepArguments, step_arguments, step_results
from scorescope.probes.pipelines.taps import Memo, MethodTap, ModuleHook, StepTap, hooks_on, tap_step, taps_on
from scorescope.probes.pipelines.tensor_copies import Copies


@checked
class Engine:
    """Taps on one pipeline, for as long as anybody listens.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline, or any object with a denoiser module and a scheduler.

    Attributes
    ----------
    schedulers : dict of str to object
        Those that the pipeline had when listening began, by the names of its components.
    copies : Copies
        Where outputs of calls are copied to.

    Raises
    ------
    InputError
        For a pipeline without a scheduler.
    """

    def __init__(self, pipe: Any) -> None:
        self.pipe, self.schedulers, self.copies = pipe, find.schedulers(pipe), Copies()
        self._labels = LabelTap(lambda: self._made + len(self._unseen))
        self._runs = RunWatch(pipe)
        self._seats: list[Seat] = []
        self._current: dict[str, Any] = {}  # by name, the scheduler that is in place
        self._replaced: dict[int, tuple[Any, Any]] = {}  # a scheduler, and the one whose place it has taken
        self._taps: list[StepTap] = []
        self._copied: weakref.WeakSet[StepTap] = weakref.WeakSet()  # on copies that pipelines make and forget
        self._methods: list[MethodTap] = []
        self._hooks: list[ModuleHook] = []
        self._stepping = False
        self._known: deque[weakref.ref[Tensor]] = deque(maxlen=32)  # denoiser inputs and states that were returned
        self._made = 0
        self._unseen: list[tuple[nn.Module, Any, Any]] = []  # calls of compiled modules since they were last looked at
        self._inside: set[int] = set()
        self._grids: list[Any] = []

    @property
    def scheduler(self) -> Any:
        """The scheduler that is in place, or the first one."""
        return getattr(self.pipe, "scheduler", next(iter(self.schedulers.values())))

    @classmethod
    def of(cls, pipe: Any) -> "Engine":
        """The engine that is on a pipeline already, else a new one."""
        parts = find.components(pipe).values()
        hooks = [hook for part in parts if isinstance(part, nn.Module) for hook in hooks_on(part)]
        found = [getattr(hook.does, "__self__", None) for hook in hooks]
        found += [tap.watcher for part in parts for tap in taps_on(part)]
        there = [one for one in found if isinstance(one, cls) and one.pipe is pipe and one._seats]
        return there[0] if there else cls(pipe)

    @checked
    def join(self, listener: Listener, denoisers: Mapping[str, nn.Module]) -> Seat:
        """Tell a listener from now on, last of all of calls and first of all of steps.

        Parameters
        ----------
        listener : Listener
            Who is told.
        denoisers : mapping of str to Module
            Whose calls it is told of.
        """
        seat = Seat(listener, denoisers)
        self._seats.append(seat)
        try:
            if not self._taps:
                self._begin()
            for module in denoisers.values():
                self._hook(module, within=listener.changes_calls)
            self.follow_guiders()
        except BaseException:
            self.leave(seat)
            raise
        return seat

    def leave(self, seat: Seat) -> None:
        """Tell a listener no more; what nobody needs is taken off."""
        self._seats = [one for one in self._seats if one is not seat]
        needed = {id(module) for one in self._seats for module in one.denoisers.values()}
        for hook in [hook for hook in self._hooks if id(hook.module) not in needed]:
            hook.remove()
            self._labels.remove(hook.module)
            self._hooks.remove(hook)
        if not self._seats:
            self._end()

    def _begin(self) -> None:
        for name, scheduler in self.schedulers.items():
            self._current[name] = scheduler
            self._taps.append(tap_step(scheduler, self))
        if callable(getattr(self.pipe, LAST_METHOD, None)) and hasattr(self.pipe, "__dict__"):
            self._methods.append(MethodTap(self.pipe, LAST_METHOD, self._after_call_of_pipe))

    def _end(self) -> None:
        for tap in (*self._copied, *reversed(self._taps)):
            tap.remove()
        for method in self._methods:
            method.remove()
        self._labels.remove()
        self._runs.forget()
        self._taps, self._methods = [], []
        self._unseen.clear()

    def _after_call_of_pipe(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        if self._runs.end_call(sys._getframe(2)):  # past the tap
            for seat in self._seats:
                seat.drop(all_calls=True)
        return method(*args, **kwargs)

    def follow_guiders(self) -> None:
        """Read the labels of guiders that have come since."""
        for guider in find.guiders(self.pipe):
            self._labels.tap_guider(guider)

    def _hook(self, module: nn.Module, *, within: bool) -> None:
        """Hook a module; in one that is compiled in place only if we have to, for it would be compiled with it."""
        silent = is_compiled(module) and not hasattr(module, "_orig_mod") and not within
        there = [hook for hook in self._hooks if hook.module is module]
        if any(hook.does != self._after_compiled for hook in there) or (there and silent):
            return
        for hook in there:
            hook.remove()
            self._hooks.remove(hook)
        if silent:
            self._hooks.append(ModuleHook(module, self._after_compiled, with_kwargs=True))
        else:  # before other hooks, which change a call that is made again too
            self._hooks.append(ModuleHook(module, self._before, before=True, first=True, with_kwargs=True))
            self._hooks.append(ModuleHook(module, self._after, with_kwargs=True))
        self._labels.tap_module(module)

    def _before(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        repeated = is_repeated(module)
        if not repeated:
            self.catch_up()
            self._follow_swaps()
            self._enter(module)
        given = (args, kwargs)
        for seat, call in self._begun(module, args, kwargs, repeated=repeated):
            given = seat.listener.before_call(call, *given) or given
        return None if given[0] is args and given[1] is kwargs else given

    def _begun(self, module: nn.Module, args: Any, kwargs: Any, *, repeated: bool) -> list[tuple[Seat, Call]]:
        """The call, as each listener that is told of it knows it."""
        context, embedded, (inputs, visible) = (
            self._labels.context,
            embeds_guidance(kwargs),
            inputs_of(module, args, kwargs),
        )
        label, told = context or self._labels.of(self._made), []
        for seat in self._seats:
            if (name := seat.name_of(module)) is not None:
                call = Call(
                    name, [], label, embedded, inputs=inputs, visible=visible, repeated=repeated, network=module
                )
                call.context = context
                if seat.listener.wants_arguments:
                    call.args, call.kwargs = args, kwargs
                seat.begin(module, call)
                told.append((seat, call))
        return told

    def _enter(self, module: nn.Module) -> None:
        """A call that raised ends its group. So does a new grid of timesteps: whoever starts again makes all again."""
        grids = [self._grid(part) for part in self._current.values()]
        moved = len(grids) != len(self._grids) or any(a is not b for a, b in zip(grids, self._grids, strict=True))
        if id(module) in self._inside or moved:
            for seat in self._seats:
                seat.drop()
            self._inside.clear()
        self._grids = grids
        self._inside.add(id(module))

    @staticmethod
    def _grid(scheduler: Any) -> Any:
        grid = getattr(scheduler, "timesteps", None)
        # a property that makes a new table whenever it is read tells nothing
        return grid if grid is getattr(scheduler, "timesteps", None) else None

    def _after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if not is_repeated(module):
            self._inside.discard(id(module))
            self._known.extend(map(weakref.ref, leaves([*args, *kwargs.values()])[:1]))
        self._returned(module, leaves(output))
        self._made += not is_repeated(module)

    def _returned(self, module: nn.Module, outputs: list[Tensor]) -> None:
        copies: list[Tensor] | None = None
        for seat in self._seats:
            call = seat.end(module)
            if call is None:
                continue
            if seat.listener.wants_outputs and not call.repeated:
                copies = [self.copies.of(leaf) for leaf in outputs] if copies is None else copies
                call.outputs = list(copies)
            seat.listener.after_call(call, outputs)

    def _after_compiled(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """The hook of a compiled module runs no operation."""
        if not is_repeated(module):
            self._unseen.append((module, (args, kwargs), output))

    def catch_up(self) -> None:
        """Look at calls of compiled modules, which have been noted but not told."""
        while self._unseen:
            module, given, output = self._unseen.pop(0)
            for seat, call in self._begun(module, *given, repeated=False):
                seat.listener.before_call(call, *given)
            self._returned(module, leaves(output))
            self._made += 1

    def _follow_swaps(self) -> None:
        """A scheduler that was put in the place of another one is listened to as well."""
        for name, before in list(self._current.items()):
            part = getattr(self.pipe, name, None)
            if part is None or not hasattr(part, "__dict__") or not callable(getattr(part, "step", None)):
                continue
            if part is not before:
                self._replaced[id(part)] = part, before
                self._current[name] = part
            if not any(tap.watcher is self for tap in taps_on(part)):
                self._taps.append(tap_step(part, self))

    def follows_all(self) -> bool:
        """Whether every scheduler in place is listened to: a compiled network does not say when it is called."""
        current = [getattr(self.pipe, name, part) for name, part in self.schedulers.items()]
        return all(any(tap.owner is part for tap in (*self._taps, *self._copied)) for part in current)

    def is_copied(self, memo: Memo) -> bool:
        """See `Watcher.is_copied`."""
        ours = [self.pipe, *(module for seat in self._seats for module in seat.denoisers.values())]
        return not self._seats or any(id(part) in memo for part in ours)

    def on_copy(self, copied: StepTap) -> None:
        """See `Watcher.on_copy`."""
        self._copied.add(copied)

    def on_step(self, tap: StepTap, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See `Watcher.on_step`; a step inside of a step is part of it, whoever wrapped what."""
        if not self._seats:
            tap.remove()  # somebody has put it back
        if not self._seats or self._stepping or self._is_elsewhere(tap):
            return tap.below(*args, **kwargs)
        self._stepping = True
        try:
            return self._step(tap, args, kwargs)
        finally:
            self._stepping = False

    def _is_elsewhere(self, tap: StepTap) -> bool:
        """Whether a scheduler, or its copy, is used by somebody else: no call of our denoisers feeds its step."""
        self.catch_up()
        if any(len(seat) for seat in self._seats):
            return False
        return self._runs.is_away() or (tap.owner is not tap.root and not self._runs.goes_on())

    def _step(self, tap: StepTap, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        known = [tensor for one in self._known if (tensor := one()) is not None]
        given = step_arguments(tap.signature, args, kwargs, known)
        _, replaced = self._replaced.get(id(tap.root), (None, None))
        begins = self._runs.begins(tap.root, given.timestep, replaced)
        received, told, made = given, list[tuple[Seat, StepEvent]](), None
        taken = [(seat, seat.take()) for seat in reversed(self._seats)]
        heard = max((calls for seat, (calls, _) in taken if seat.listener.wants_outputs), key=len, default=[])
        for seat, fed in taken:
            event = StepEvent(tap.owner, given, received, *fed, *begins, tap.returns_x0, made, heard)
            told.append((seat, event))
            if (prediction := seat.listener.before_step(event)) is not None:
                args, kwargs, given = _with_prediction(args, kwargs, given, prediction)
                made = seat.listener.made
        self._labels.forget()
        result = tap.below(*args, **kwargs)
        state, _ = step_results(result, given.state, second=tap.returns_x0)
        if state is not None:
            self._known.append(weakref.ref(state))
        for seat, event in reversed(told):
            seat.listener.after_step(event if event.made is made else replace(event, replaced=made), result)
        return result

    def is_cut_off(self, *, before: bool = False) -> bool:
        """Whether the pipeline was left in the run of the latest step, or in that `before` it where it began one."""
        return self._runs.cut_before if before else self._runs.is_cut_off()

    def goes_on(self, *, on_one_grid: bool = False) -> bool:
        """Whether a call that is about to be made belongs to the run of the latest step, as far as can be told.

        A grid that was set anew, if to the same values, begins another run where it has to be `on_one_grid`.
        """
        return self._runs.goes_on(same=operator.is_) if on_one_grid else self._runs.goes_on()

    def level(self, call: Call, args: Any, kwargs: Any, readers: LevelReaders) -> tuple[float, str]:
        """The noise level of a call that is about to be made and, where it is unknown, why.

        Returns
        -------
        (float, str)
            Variance-exploding level; NaN and the reason.
        """
        scheduler = self.scheduler
        reader, given = readers.of(scheduler), time_of(call.network, args, kwargs)
        time = None if given is None else reader.scheduled(scheduler, given)
        if time is None:
            return float("nan"), "the denoiser takes no timestep, or one a row"
        level = reader.read(scheduler, time, torch.zeros(1))
        if level.note or (isinstance(level.sigma, Tensor) and level.sigma.numel() != 1):
            return float("nan"), level.note or "the level differs inside a sample"
        return float(level.sigma), ""


def _with_prediction(
    args: tuple[Any, ...], kwargs: dict[str, Any], given: StepArguments, prediction: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any], StepArguments]:
    """The arguments of a step with another prediction."""
    args = tuple(prediction if value is given.prediction else value for value in args)
    kwargs = {name: prediction if value is given.prediction else value for name, value in kwargs.items()}
    return args, kwargs, replace(given, prediction=prediction)
