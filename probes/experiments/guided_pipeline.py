"""A guidance rule inside a diffusers pipeline.

    with guide(pipe, APG(4.0, norm=15.0)):
        image = pipe("a lighthouse").images[0]

Classic pipelines go on computing their own guidance; the scheduler receives the rule's prediction in place of it,
from the same branches. Pipelines that take guiders get one (`as_guider`) that asks for the branches that the rule
needs. Both ways the rule works in denoised space, at the state and the level of `scheduler.step`, and nothing stays
on the pipeline afterwards. To record a guided run, put `record(pipe)` outside: it sees what the scheduler got.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.diffusers_guider import RuleGuider
from scorescope.probes.experiments.guider_calls import GuiderCalls
from scorescope.probes.experiments.own_branches import (
    check_sites,
    has_own_branches,
    own_predictions,
    pipeline_branches,
)
from scorescope.probes.experiments.pipeline_denoiser import PipelineDenoiser
from scorescope.probes.guidance.base import UNCOND, GuidanceState, Rule, describe, evaluations_needed, weight_at
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
from scorescope.probes.pipelines.call import Call
from scorescope.probes.pipelines.engine import Engine
from scorescope.probes.pipelines.level import Level
from scorescope.probes.pipelines.level_reader import LevelFunction, LevelReaders
from scorescope.probes.pipelines.listener import Listener, Made, StepEvent
from scorescope.probes.pipelines.naming import check_names
from scorescope.probes.pipelines.run_watch import Stream
from scorescope.probes.pipelines.seat import Seat, check_left
from scorescope.probes.pipelines.separator import Separated, Separator
from scorescope.probes.pipelines.step_arguments import step_results
from scorescope.probes.sampling.sample import parameters_of

Unguided = Literal["after guided steps", "always", "never"]


@checked
def guide(
    pipe: Any,
    rule: Rule,
    *,
    modules: find.Modules = None,
    level: LevelFunction | None = None,
    branches: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    unguided: Unguided = "after guided steps",
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
        itself (Autoguidance, ICG, PAG, SEG, SLG, TSG) come from the denoiser call that made cond, made again in the
        steps that need them: see Notes. Its sites are named from the pipeline's network ("mid_block.attentions.0...").
    modules : str, sequence or mapping, optional
        Denoisers; see `record`.
    level : callable, optional
        (scheduler, timestep, state) -> Level, for a scheduler whose noise levels cannot be recognised.
    branches : sequence of str
        Names of the branches in the order of the calls, where numbers cannot tell them apart; see `record`.
    seeds : sequence of int, optional
        One a sample, for rules that draw at random (ICG, TSG); by default the sample's place in the batch.
    unguided : {"after guided steps", "always", "never"}
        Where the pipeline makes one prediction and the rule needs two, because its own guidance has ended (an
        interval, a scale of 1) or has not begun, whether the step goes on with that prediction, without the rule. By
        default only in a run that had guided steps before; else, and with "never", it is an error. The first such
        step of a block is said in a warning, and `Guide.evaluations` and `Guide.unguided` tell them all.

    Returns
    -------
    Guide
        A context manager.

    Raises
    ------
    InputError
        For sites that the network has not (the nearest are named) or that are no self-attention (PAG, SEG), CFGPP on a
        scheduler of higher order, and, while the pipeline runs, for a step whose branches cannot be told apart or
        whose level is unknown, or that has one prediction where the rule needs two (see `unguided`). For branches of
        the rule's own: a weak network that does not take the arguments of the pipeline's or puts out other shapes,
        drawn conditions of other shapes, and a network that gives something else when it is called again (caching
        between steps, dropout). A rule's prediction that is not finite is refused in its step on the CPU, and at the
        end of the block on an accelerator, which no step waits for.

    Notes
    -----
    A call that is made again passes through the hooks of others, so an `intervene` outside acts in it as in the call
    that it repeats; hooks of `record` and of `cache_activations` pass it by: a recording outside sees the calls of
    the pipeline and what the scheduler got. It is told the rule, and the branches as they were proved here.

    Where the call held several branches, the rows of cond alone are given to the network, if in the first step that
    needs it this proves to give cond again; else the whole batch, at the cost of its other rows. The proof is one
    more evaluation in that step, once a run. `Guide.evaluations` counts all of them.
    """
    if unguided not in get_args(Unguided):
        raise InputError("unguided", found=repr(unguided), expected=" or ".join(map(repr, get_args(Unguided))))
    engine = Engine(pipe)
    check_rule(rule, list(engine.schedulers.values()))
    needed = _guider_name(pipe) is None or has_own_branches(rule)
    denoisers = find.denoisers(pipe, modules) if needed else {}
    check_sites(rule, denoisers)
    return Guide(engine, rule, denoisers, level, check_names(branches), seeds, unguided)


def _guider_name(pipe: Any) -> str | None:
    parts = find.components(pipe)
    return next((name for name, part in parts.items() if "guider" in name and hasattr(part, "prepare_inputs")), None)


@displayed
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
    guided : bool
        The scheduler received the rule's prediction; else the pipeline's own, which was the only one.
    """

    asked: Tensor
    made: int
    guided: bool = True

    @property
    def needed(self) -> list[int]:
        """What the rule asked for, read from the device."""
        return [int(count) for count in self.asked.tolist()]


@dataclass
class _Path:
    """One scheduler in one run: where it is, and what the rule remembers there."""

    stream: Stream
    separator: Separator = field(default_factory=Separator)
    memory: dict[str, Any] = field(default_factory=dict)
    repeats: dict[Any, bool] = field(default_factory=dict)
    guided: bool = False


@checked
class Guide(Listener):
    """The context manager that `guide` returns.

    Attributes
    ----------
    evaluations : list of Evaluations
        One for each scheduler step.
    """

    def __init__(
        self, engine: Engine, rule: Rule, denoisers: Mapping[str, nn.Module], level: LevelFunction | None,
        names: Sequence[str], seeds: Sequence[int] | None = None, unguided: Unguided = "after guided steps",
    ) -> None:  # fmt: skip
        self.evaluations: list[Evaluations] = []
        self._engine, self._rule, self._denoisers = engine, rule, denoisers
        self._names, self._seeds, self._unguided = names, seeds, unguided
        self._own = self.wants_arguments = has_own_branches(rule)
        self._guider = None if _guider_name(engine.pipe) is None else GuiderCalls()
        self.wants_outputs = self._guider is None
        self._named = describe(rule), parameters_of(rule)
        self._finite = FiniteFlags()
        self._seat: Seat | None = None
        self._undo: list[Callable[[], None]] = []
        self._readers = LevelReaders(level)
        self._paths: dict[int, _Path] = {}
        self._asked: tuple[Tensor, GuidanceState] | None = None

    @property
    def steps(self) -> int:
        """How many scheduler steps received the rule's prediction."""
        return sum(one.guided for one in self.evaluations)

    @property
    def unguided(self) -> list[int]:
        """Places among `evaluations` of the steps that went on with the pipeline's one prediction."""
        return [place for place, one in enumerate(self.evaluations) if not one.guided]

    def __enter__(self) -> "Guide":
        check_left(self._seat)
        self._engine = Engine.of(self._engine.pipe)  # of others who have come since
        try:
            self._seat = self._engine.join(self, self._denoisers)
            if (guider := _guider_name(self._engine.pipe)) is not None:
                self._put_guider(guider)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        self._engine.catch_up()
        unused = len(self._seat or ()) if self._guider is None else len(self._guider)
        self._leave()
        if error is None and unused and not self.steps:
            found = f"{unused} denoiser calls and not one scheduler step"
            raise InputError("pipe", found=found, expected="a run on the scheduler that was there when guide() began")
        if error is None or isinstance(error, InputError):  # what comes later may come of it: it is named first
            self._finite.check()
        return False

    def _put_guider(self, name: str) -> None:
        pipe = self._engine.pipe
        guider = RuleGuider(self._rule)
        guider.bind(self, pipe.__dict__.get(name))
        pipe.__dict__[name] = guider  # past the pipeline's bookkeeping: its configuration is not ours to change
        self._undo.append(lambda: guider.release(pipe, name))
        self._engine.follow_guiders()

    def _leave(self) -> None:
        """Take off everything of ours, and nothing else."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        if self._seat is not None:
            self._engine.leave(self._seat)
            self._seat = None
        if self._guider is not None:
            self._guider.clear()
        self._paths = {}

    def receive(self, cond: Tensor, uncond: Tensor | None) -> None:
        """The predictions of a pipeline that uses our guider."""
        self._engine.catch_up()
        if self._guider is not None:
            self._guider.receive(cond, uncond)

    def branches_ahead(self, timestep: Any) -> tuple[str, ...]:
        """Branches that the rule will need in the step that comes."""
        scheduler = self._engine.scheduler
        path = self._path(scheduler) if self._engine.goes_on() else _Path(Stream(scheduler, 0))
        step, call = path.stream.ahead()
        level = self._readers.of(scheduler).read(scheduler, timestep, torch.zeros(1))
        state = step_state(torch.zeros(1), level, step=step, call=call, memory=path.memory)
        return pipeline_branches(self._rule, self._rule.branches(state))

    def after_call(self, call: Call, outputs: list[Tensor]) -> None:
        """See `Listener`."""
        if self._guider is not None and not call.repeated:
            self._guider.feed(call, outputs)

    def before_step(self, step: StepEvent) -> Tensor | None:
        """See `Listener`: step with the rule's prediction in place of the pipeline's, where the rule acts."""
        if step.restarts:
            self._paths = {}
            self._readers.forget()
        path = self._path(step.owner)
        path.stream.count()
        given = step.given
        level = self._readers.of(step.owner).read(step.owner, given.timestep, given.state, given.extra)
        return self._predict(path, step, level)

    def after_step(self, step: StepEvent, result: Any) -> None:
        """See `Listener`."""
        after, _ = step_results(result, step.given.state)
        if self._asked is not None and after is not None and depends_on_step_size(self._rule):
            dtype = step.given.prediction.dtype
            check_first_order(self._rule, step.owner, *self._asked, after, dtype)
        self._asked = None

    def _predict(self, path: _Path, step: StepEvent, level: Level) -> Tensor | None:
        """What the scheduler receives, shaped and typed as before; None for what the pipeline gives it."""
        given = step.given
        calls, place = (step.calls, step.place) if self._guider is None else self._guider.take()
        found = path.separator.separate(calls, given.prediction.detach(), given.state.detach(), level, place)
        state = step_state(found.state, level, step=path.stream.step, call=path.stream.call, memory=path.memory)
        state.seeds = range(len(found.state)) if self._seeds is None else self._seeds
        made = 0 if place else 1 if found.uncond is None else 2
        if self._goes_unguided(path, found, state):
            one = torch.ones(len(state.x), dtype=torch.int64, device=state.x.device)
            self.evaluations.append(Evaluations(one, made, guided=False))
            return None
        path.guided = path.guided or found.uncond is not None
        own, more = self._own_predictions(path, found, level, state)
        self.evaluations.append(Evaluations(evaluations_needed(self._rule, state), made + more))
        predicted, guided = predict(
            self._rule, found.cond, found.uncond, found.state, level, state, own, flags=self._finite
        )
        self._asked = guided, state
        layout = found.layout if self._guider is None else None
        self.made = Made(*self._named, weight_at(self._rule, state), layout, list(found.verdicts))
        if found.doubled:
            predicted = torch.cat([predicted, predicted])
        prediction = given.prediction.detach().clone(memory_format=torch.contiguous_format)
        target = without_variance(prediction, given.state)
        assert target is not None  # the branches were told apart with it
        target.copy_(predicted)  # learned variance, where there is some, stays the pipeline's
        return prediction

    def _goes_unguided(self, path: _Path, found: Separated, state: GuidanceState) -> bool:
        """Whether the rule needs a branch that the pipeline does not make in this step, and may be left out."""
        needed = UNCOND in pipeline_branches(self._rule, self._rule.branches(state))
        allowed = self._unguided == "always" or (self._unguided == "after guided steps" and path.guided)
        if found.uncond is not None or not needed or not allowed:
            return False
        if not self.unguided:
            how = f"the pipeline makes one prediction, without {describe(self._rule)}: its own guidance is off there"
            warnings.warn(f"from step {state.step} (sigma {state.sigma:.4g}) on {how}", stacklevel=2)
        return True

    def _own_predictions(
        self, path: _Path, found: Separated, level: Level, state: GuidanceState
    ) -> tuple[dict[str, Tensor], int]:
        """Branches that the rule computes itself, in denoised space, and the evaluations that they took."""
        if not self._own:
            return {}, 0
        denoiser = PipelineDenoiser(found, level, state, path.repeats)
        return own_predictions(self._rule, denoiser), denoiser.evaluations

    def _path(self, owner: Any) -> _Path:
        """Where this scheduler is."""
        path = self._paths.get(id(owner))
        if path is None or path.stream.owner is not owner:
            path = _Path(Stream(owner, len(self._paths)), Separator(self._names))
            self._paths[id(owner)] = path
        return path
