"""A guidance rule inside a diffusers pipeline.

    with guide(pipe, APG(4.0, norm=15.0)):
        image = pipe("a lighthouse").images[0]

Classic pipelines go on computing their own guidance; the scheduler receives the rule's prediction in place of it,
from the same branches. Pipelines that take guiders get one (`as_guider`) that asks for the branches that the rule
needs. Both ways the rule works in denoised space, at the state and the level of `scheduler.step`, and nothing stays
on the pipeline afterwards. To record a guided run, put `record(pipe)` outside: it sees what the scheduler got.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.probes.experiments.diffusers_guider import RuleGuider
from scorescope.probes.experiments.own_branches import (
    check_sites,
    has_own_branches,
    own_predictions,
    pipeline_branches,
)
from scorescope.probes.experiments.pipeline_denoiser import PipelineDenoiser
from scorescope.probes.guidance.base import GuidanceState, Rule, evaluations_needed
from scorescope.probes.guidance.scheduler_step import (
    FiniteFlags,
    check_first_order,
    check_rule,
    depends_on_step_size,
    predict,
    step_state,
)
from scorescope.probes.pipelines import find
from scorescope.probes.pipelines.branches import without_variance
from scorescope.probes.pipelines.call_tap import CallTap
from scorescope.probes.pipelines.level import Level
from scorescope.probes.pipelines.level_reader import LevelFunction, LevelReader
from scorescope.probes.pipelines.proof import check_names
from scorescope.probes.pipelines.separator import Separated, Separator
from scorescope.probes.pipelines.taps import (
    Listener,
    StepArguments,
    StepTap,
    remove_instance_attribute,
    step_arguments,
    step_results,
    tap_step,
)
from scorescope.probes.recording.steps import Stream


def guide(
    pipe: Any,
    rule: Rule,
    *,
    modules: find.Modules = None,
    level: LevelFunction | None = None,
    branches: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
) -> "Guide":
    """Use a rule in a pipeline, for the length of a with block.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline, standard or modular, or any object with a denoiser module and a scheduler. For rules
        of cond and uncond, a pipeline that takes no guider has to run with its guidance on (guidance_scale above 1),
        so that both branches are computed; its own weight then has no effect.
    rule : Rule
        Guidance rule. What it remembers starts afresh with every run of the pipeline. Branches that it computes
        itself (Autoguidance, ICG, PAG, TSG) come from the denoiser call that made cond, made again in the steps that
        need them: see Notes. Its sites are named from the pipeline's network ("mid_block.attentions.0...").
    modules : str, sequence or mapping, optional
        Denoisers; see `record`.
    level : callable, optional
        (scheduler, timestep, state) -> Level, for a scheduler whose noise levels cannot be recognised.
    branches : sequence of str
        Names of the branches in the order of the calls, where numbers cannot tell them apart; see `record`.
    seeds : sequence of int, optional
        One a sample, for rules that draw at random (ICG, TSG); by default the sample's place in the batch.

    Returns
    -------
    Guide
        A context manager.

    Raises
    ------
    InputError
        For sites that the network has not (the nearest are named) or that are no self-attention (PAG), CFGPP on a
        scheduler of higher order, and, while the pipeline runs, for a step whose branches cannot be told apart or
        whose level is unknown. For branches of the rule's own: a weak network that does not take the arguments of
        the pipeline's or puts out other shapes, drawn conditions of other shapes, and a network that gives something
        else when it is called again (caching between steps, dropout). A rule's prediction that is not finite is
        refused in its step on the CPU, and at the end of the block on an accelerator, which no step waits for.

    Notes
    -----
    A call that is made again passes through the hooks of others, so an `intervene` outside acts in it as in the call
    that it repeats; hooks of `record` and of `cache_activations` pass it by: a recording outside sees the calls of
    the pipeline and what the scheduler got. That is then no combination of the recorded branches, so its branches
    have names only where the user gives them (`branches=`).

    Where the call held several branches, the rows of cond alone are given to the network, if in the first step that
    needs it this proves to give cond again; else the whole batch, at the cost of its other rows. The proof is one
    more evaluation in that step, once a run. `Guide.evaluations` counts all of them.
    """
    schedulers = find.schedulers(pipe)
    check_rule(rule, list(schedulers.values()))
    needed = _guider_name(pipe) is None or has_own_branches(rule)
    denoisers = find.denoisers(pipe, modules) if needed else {}
    check_sites(rule, denoisers)
    return Guide(pipe, rule, schedulers, denoisers, level, check_names(branches), seeds)


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
        What was made for each sample: by the pipeline, 0 in a step that used those of an earlier one, and for
        branches of the rule's own.
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
    repeats: dict[Any, bool] = field(default_factory=dict)


class Guide(Listener):
    """The context manager that `guide` returns.

    Attributes
    ----------
    evaluations : list of Evaluations
        One for each scheduler step that received the rule's prediction.
    """

    def __init__(
        self, pipe: Any, rule: Rule, schedulers: Mapping[str, Any], denoisers: Mapping[str, nn.Module],
        level: LevelFunction | None, names: Sequence[str], seeds: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        self.evaluations: list[Evaluations] = []
        self._pipe, self._rule, self._schedulers, self._denoisers = pipe, rule, schedulers, denoisers
        self._level, self._names, self._seeds = level, names, seeds
        self._own = has_own_branches(rule)
        self._calls = CallTap(repeatable=self._own, guider=_guider_name(pipe) is not None)
        self._finite = FiniteFlags()
        self._active = False
        self._taps: list[StepTap] = []
        self._undo: list[Any] = []
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
            self._calls.hook(self._denoisers)
            if (guider := _guider_name(self._pipe)) is not None:
                self._put_guider(guider)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        unused = len(self._calls.pending)
        self._leave()
        if error is None and unused and not self.steps:
            found = f"{unused} denoiser calls and not one scheduler step"
            raise InputError("pipe", found=found, expected="a run on the scheduler that was there when guide() began")
        if error is None or isinstance(error, InputError):  # what comes later may come of it: it is named first
            self._finite.check()
        return False

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
        for tap in reversed(self._taps):
            tap.remove()
        for undo in reversed(self._undo):
            undo()
        self._calls.remove()
        self._taps.clear()
        self._undo.clear()
        self._paths, self._grids = {}, {}

    def receive(self, cond: Tensor, uncond: Tensor | None) -> None:
        """The predictions of a pipeline that uses our guider."""
        self._calls.receive(cond, uncond)

    def branches_ahead(self, timestep: Any) -> tuple[str, ...]:
        """Branches that the rule will need in the step that comes."""
        scheduler = self._schedulers.get("scheduler", next(iter(self._schedulers.values())))
        scheduler = getattr(self._pipe, "scheduler", scheduler)
        path = self._path(scheduler, scheduler)
        step, call = path.stream.step, path.stream.call
        first = getattr(scheduler, "state_in_first_order", True) or step < 0
        step, call = (step + 1, 0) if first else (step, call + 1)
        level = path.reader.read(scheduler, timestep, torch.zeros(1))
        state = step_state(torch.zeros(1), level, step=step, call=call, memory=path.memory)
        return pipeline_branches(self._rule, self._rule.branches(state))

    def on_copy(self, tap: StepTap, copy: StepTap) -> None:
        """See `Listener.on_copy`."""
        if self._active:
            self._taps.append(copy)

    def on_step(self, tap: StepTap, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See `Listener.on_step`: step with the rule's prediction in place of the pipeline's."""
        if not self._active:
            return tap.below(*args, **kwargs)
        given = step_arguments(tap.signature, args, kwargs, set(self._calls.known))
        path = self._path(tap.owner, tap.root)
        path.stream.count()
        level = path.reader.read(tap.owner, given.timestep, given.state, given.extra)
        prediction, guided, state = self._predict(path, given, level)
        args = tuple(prediction if value is given.prediction else value for value in args)
        kwargs = {name: prediction if value is given.prediction else value for name, value in kwargs.items()}
        result = tap.below(*args, **kwargs)
        after, _ = step_results(result, given.state)
        if after is not None:
            self._calls.known.append(after.data_ptr())
            if depends_on_step_size(self._rule):
                check_first_order(self._rule, tap.owner, guided, state, after, given.prediction.dtype)
        return result

    def _predict(self, path: _Path, given: StepArguments, level: Level) -> tuple[Tensor, Tensor, GuidanceState]:
        """What the scheduler receives, shaped and typed as before; the same as D; where the rule was asked."""
        calls, place = self._calls.calls(), self._calls.place
        found = path.separator.separate(calls, given.prediction.detach(), given.state.detach(), level, place)
        state = step_state(found.state, level, step=path.stream.step, call=path.stream.call, memory=path.memory)
        state.seeds = range(len(found.state)) if self._seeds is None else self._seeds
        own, more = self._own_predictions(path, found, level, state)
        made = more + (0 if place else 1 if found.uncond is None else 2)
        self.evaluations.append(Evaluations(evaluations_needed(self._rule, state), made))
        self._calls.place += 1
        predicted, guided = predict(
            self._rule, found.cond, found.uncond, found.state, level, state, own, flags=self._finite
        )
        if found.doubled:
            predicted = torch.cat([predicted, predicted])
        prediction = given.prediction.detach().clone(memory_format=torch.contiguous_format)
        target = without_variance(prediction, given.state)
        assert target is not None  # the branches were told apart with it
        target.copy_(predicted)  # learned variance, where there is some, stays the pipeline's
        return prediction, guided, state

    def _own_predictions(
        self, path: _Path, found: Separated, level: Level, state: GuidanceState
    ) -> tuple[dict[str, Tensor], int]:
        """Branches that the rule computes itself, in denoised space, and the evaluations that they took."""
        if not self._own:
            return {}, 0
        denoiser = PipelineDenoiser(found, level, state, path.repeats)
        return own_predictions(self._rule, denoiser), denoiser.evaluations

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
