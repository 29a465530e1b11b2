"""A guidance rule inside a diffusers pipeline.

    with guide(pipe, APG(4.0, norm=15.0)):
        image = pipe("a lighthouse").images[0]

Classic pipelines go on computing their own guidance; the scheduler receives the rule's prediction in place of it,
from the same branches. Pipelines that take guiders get one (`as_guider`) that asks for the branches that the rule
needs. Both ways the rule works in denoised space, at the state and the level of `scheduler.step`, and nothing stays
on the pipeline afterwards. To record a guided run, put `record(pipe)` outside: it sees what the scheduler got.
"""

import functools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.probes.guidance import GuidanceState, Rule, evaluations_needed
from scorescope.probes.guider import RuleGuider
from scorescope.probes.guiding import (
    Separator,
    check_first_order,
    check_rule,
    depends_on_step_size,
    predict,
    step_state,
)
from scorescope.probes.recording import find
from scorescope.probes.recording.branches import without_variance
from scorescope.probes.recording.labels import LabelTap
from scorescope.probes.recording.level import Level
from scorescope.probes.recording.levels import LevelFunction, LevelReader
from scorescope.probes.recording.proof import check_names
from scorescope.probes.recording.steps import Stream
from scorescope.probes.recording.taps import (
    Call,
    Listener,
    StepArguments,
    StepTap,
    is_compiled,
    leaves,
    remove_instance_attribute,
    step_arguments,
    step_results,
    tap_step,
)


def guide(
    pipe: Any,
    rule: Rule,
    *,
    modules: find.Modules = None,
    level: LevelFunction | None = None,
    branches: Sequence[str] = (),
) -> "Guide":
    """Use a rule in a pipeline, for the length of a with block.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline, standard or modular, or any object with a denoiser module and a scheduler. A pipeline
        that takes no guider has to run with its guidance on (guidance_scale above 1), so that both branches are
        computed; its own weight then has no effect.
    rule : Rule
        A rule of cond and uncond. What it remembers starts afresh with every run of the pipeline.
    modules : str, sequence or mapping, optional
        Denoisers; see `record`.
    level : callable, optional
        (scheduler, timestep, state) -> Level, for a scheduler whose noise levels cannot be recognised.
    branches : sequence of str
        Names of the branches in the order of the calls, where numbers cannot tell them apart; see `record`.

    Returns
    -------
    Guide
        A context manager.

    Raises
    ------
    InputError
        For rules that need branches which pipelines do not compute (Autoguidance, ICG, PAG, TSG), CFGPP on a
        scheduler of higher order, and, while the pipeline runs, for a step whose branches cannot be told apart or
        whose level is unknown.
    """
    schedulers = find.schedulers(pipe)
    check_rule(rule, list(schedulers.values()))
    guided = _guider_name(pipe) is not None
    denoisers = {} if guided else find.denoisers(pipe, modules)
    return Guide(pipe, rule, schedulers, denoisers, level, check_names(branches))


def _guider_name(pipe: Any) -> str | None:
    parts = find.components(pipe)
    return next((name for name, part in parts.items() if "guider" in name and hasattr(part, "prepare_inputs")), None)


@dataclass(frozen=True, eq=False)
class Evaluations:
    """Denoiser evaluations of one scheduler step, by their number.

    Attributes
    ----------
    asked : Tensor, shape (batch,), int64
        What the rule asked for, one number a sample; on the device, which a step does not wait for.
    made : int
        What the pipeline made for each sample; 0 in a step that used those of an earlier one.
    """

    asked: Tensor
    made: int

    @property
    def needed(self) -> list[int]:
        """What the rule asked for, read from the device."""
        return [int(count) for count in self.asked.tolist()]


@dataclass
class _Path:
    """One scheduler in one run: where it is, and what the rule remembers there."""

    stream: Stream
    reader: LevelReader
    separator: Separator
    memory: dict[str, Any] = field(default_factory=dict)


class Guide(Listener):
    """The context manager that `guide` returns.

    Attributes
    ----------
    evaluations : list of Evaluations
        One for each scheduler step that received the rule's prediction.
    """

    def __init__(
        self, pipe: Any, rule: Rule, schedulers: Mapping[str, Any], denoisers: Mapping[str, nn.Module],
        level: LevelFunction | None, names: Sequence[str],
    ) -> None:  # fmt: skip
        self.evaluations: list[Evaluations] = []
        self._pipe, self._rule, self._schedulers, self._denoisers = pipe, rule, schedulers, denoisers
        self._level, self._names = level, names
        self._active = False
        self._pending: list[Any] = []
        self._group: list[Call] = []
        self._place = 0
        self._known: deque[int] = deque(maxlen=32)  # where denoiser inputs and returned states lie
        self._taps: list[StepTap] = []
        self._handles: list[Any] = []
        self._undo: list[Any] = []
        self._labels = LabelTap(self._pending)
        self._grids: dict[int, Any] = {}
        self._paths: dict[int, _Path] = {}

    @property
    def steps(self) -> int:
        """How many scheduler steps received the rule's prediction."""
        return len(self.evaluations)

    def __enter__(self) -> "Guide":
        try:
            self._active = True
            self._taps += [tap_step(scheduler, self) for scheduler in self._schedulers.values()]
            for name, module in self._denoisers.items():
                self._hook(name, module)
            if (guider := _guider_name(self._pipe)) is not None:
                self._put_guider(guider)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        unused = len(self._pending)
        self._leave()
        if error is None and unused and not self.steps:
            found = f"{unused} denoiser calls and not one scheduler step"
            raise InputError("pipe", found=found, expected="a run on the scheduler that was there when guide() began")
        return False

    def _hook(self, name: str, module: nn.Module) -> None:
        keep = self._append if is_compiled(module) else self._copy
        self._handles.append(module.register_forward_hook(functools.partial(keep, name), with_kwargs=True))
        self._labels.tap_module(module)

    def _put_guider(self, name: str) -> None:
        guider = RuleGuider(self._rule)
        guider.bind(self)
        before = self._pipe.__dict__.get(name)
        self._pipe.__dict__[name] = guider  # past the pipeline's bookkeeping: its configuration is not ours to change
        self._undo.append(lambda: remove_instance_attribute(self._pipe, name, guider, before))
        self._undo.append(lambda: guider.bind(None))

    def _leave(self) -> None:
        """Take off everything of ours, and nothing else."""
        self._active = False
        for handle in self._handles:
            handle.remove()
        for tap in reversed(self._taps):
            tap.remove()
        for undo in reversed(self._undo):
            undo()
        self._labels.remove()
        for kept in (self._handles, self._taps, self._undo, self._pending, self._group):
            kept.clear()
        self._paths, self._grids = {}, {}

    def _copy(self, name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self._known.extend(tensor.data_ptr() for tensor in leaves([*args, *kwargs.values()])[:1])
        self._pending.append(Call(name, [leaf.detach().clone() for leaf in leaves(output)]))

    def _append(self, name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """The hook of a compiled module runs no operation: it would be compiled with it."""
        self._pending.append((name, output))

    def receive(self, cond: Tensor, uncond: Tensor | None) -> None:
        """The predictions of a pipeline that uses our guider."""
        self._pending.append(Call("guider", [cond.detach().clone()], label="cond"))
        if uncond is not None:
            self._pending.append(Call("guider", [uncond.detach().clone()], label="uncond"))

    def branches_ahead(self, timestep: Any) -> tuple[str, ...]:
        """Branches that the rule will need in the step that comes."""
        scheduler = self._schedulers.get("scheduler", next(iter(self._schedulers.values())))
        scheduler = getattr(self._pipe, "scheduler", scheduler)
        path = self._path(scheduler, scheduler)
        step, call = path.stream.step, path.stream.call
        first = getattr(scheduler, "state_in_first_order", True) or step < 0
        step, call = (step + 1, 0) if first else (step, call + 1)
        level = path.reader.read(scheduler, timestep, torch.zeros(1))
        return self._rule.branches(step_state(torch.zeros(1), level, step=step, call=call, memory=path.memory))

    def on_copy(self, tap: StepTap, copy: StepTap) -> None:
        """See `Listener.on_copy`."""
        if self._active:
            self._taps.append(copy)

    def on_step(self, tap: StepTap, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See `Listener.on_step`: step with the rule's prediction in place of the pipeline's."""
        if not self._active:
            return tap.below(*args, **kwargs)
        given = step_arguments(tap.signature, args, kwargs, set(self._known))
        path = self._path(tap.owner, tap.root)
        path.stream.count()
        level = path.reader.read(tap.owner, given.timestep, given.state, given.extra)
        prediction, guided, state = self._predict(path, given, level)
        args = tuple(prediction if value is given.prediction else value for value in args)
        kwargs = {name: prediction if value is given.prediction else value for name, value in kwargs.items()}
        result = tap.below(*args, **kwargs)
        after, _ = step_results(result, given.state)
        if after is not None:
            self._known.append(after.data_ptr())
            if depends_on_step_size(self._rule):
                check_first_order(self._rule, tap.owner, guided, state, after, given.prediction.dtype)
        return result

    def _predict(self, path: _Path, given: StepArguments, level: Level) -> tuple[Tensor, Tensor, GuidanceState]:
        """What the scheduler receives, shaped and typed as before; the same as D; where the rule was asked."""
        calls = self._calls()
        found = path.separator.separate(calls, given.prediction.detach(), given.state.detach(), level, self._place)
        state = step_state(found.state, level, step=path.stream.step, call=path.stream.call, memory=path.memory)
        made = 0 if self._place else 1 if found.uncond is None else 2
        self.evaluations.append(Evaluations(evaluations_needed(self._rule, state), made))
        self._place += 1
        predicted, guided = predict(self._rule, found.cond, found.uncond, found.state, level, state)
        if found.doubled:
            predicted = torch.cat([predicted, predicted])
        prediction = given.prediction.detach().clone(memory_format=torch.contiguous_format)
        target = without_variance(prediction, given.state)
        assert target is not None  # the branches were told apart with it
        target.copy_(predicted)  # learned variance, where there is some, stays the pipeline's
        return prediction, guided, state

    def _calls(self) -> list[Call]:
        """The denoiser calls that feed this step: those since the last one, else the same again."""
        if self._pending:
            self._group = [self._call(entry, place) for place, entry in enumerate(self._pending)]
            self._pending.clear()
            self._labels.spans.clear()
            self._place = 0
        return self._group

    def _call(self, entry: Any, place: int) -> Call:
        call = entry if isinstance(entry, Call) else Call(entry[0], [leaf.detach() for leaf in leaves(entry[1])])
        call.label = call.label or self._labels.of(place)
        return call

    def _path(self, owner: Any, root: Any) -> _Path:
        """Where this scheduler is; a new grid of timesteps is a new run, in which everything starts afresh."""
        grid = getattr(root, "timesteps", None)
        if self._grids.get(id(root), grid) is not grid:
            self._paths, self._grids = {}, {}
        self._grids[id(root)] = grid
        path = self._paths.get(id(owner))
        if path is None or path.stream.owner is not owner:
            path = _Path(Stream(owner, len(self._paths)), LevelReader(self._level), Separator(self._names))
            self._paths[id(owner)] = path
        return path
