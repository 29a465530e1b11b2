"""A guidance rule as a diffusers guider.

    guider = as_guider(APG(4.0)).at(x, Level.of(alpha, s, "eps"))
    guider(pred_cond, pred_uncond).pred

In a pipeline it works inside `guide` (`guided_pipeline`), which tells it the state and the level. This module hooks
nothing.
"""

import copy
from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.own_branches import has_own_branches
from scorescope.probes.guidance.base import COND, UNCOND, GuidanceState, Rule, describe
from scorescope.probes.guidance.scheduler_step import check_rule, predict, step_state
from scorescope.probes.pipelines.level import Level
from scorescope.probes.pipelines.taps import put_back

_PREDICTIONS = {COND: ("pred_cond", 0), UNCOND: ("pred_uncond", 1)}


class Session(Protocol):
    """What a guider asks of the `guide` block that it works in."""

    def branches_ahead(self, timestep: Any) -> tuple[str, ...]:
        """Branches that the rule will need in the step that comes."""
        ...

    def receive(self, cond: Tensor, uncond: Tensor | None) -> None:
        """Take the predictions of a step."""
        ...


@checked
def as_guider(rule: Rule) -> "RuleGuider":
    """The rule as an object with diffusers' guider protocol.

    In a pipeline it works inside `guide`, which tells it the state and the level; by itself, after `at`:

        guider = as_guider(APG(4.0)).at(x, Level.of(alpha, s, "eps"))
        guider(pred_cond, pred_uncond).pred

    Raises
    ------
    InputError
        For rules that compute a branch of their own: a guider has no network to call. `guide` puts them into
        pipelines.
    """
    check_rule(rule, ())
    if has_own_branches(rule):
        found = f"{describe(rule)}, which computes a branch of its own"
        raise InputError("rule", found=found, expected="a rule of cond and uncond; guide(pipe, rule) takes every rule")
    return RuleGuider(rule)


class RuleGuider:
    """A rule with the protocol of diffusers' guiders: what `as_guider` returns."""

    _identifier_key = "__guidance_identifier__"
    _input_predictions = ("pred_cond", "pred_uncond")
    _enabled = True

    def __init__(self, rule: Rule) -> None:
        self.rule, self.guidance_scale = rule, rule.weight
        self._session: Session | None = None
        self._replaces: Any = None
        self._at: tuple[Tensor, Level, GuidanceState] | None = None
        self._wanted: tuple[str, ...] | None = None
        self._timestep: Any = None
        self._prepared = 0

    def at(self, x: Tensor, level: Level, *, step: int = 0, call: int = 0, memory: dict[str, Any] | None = None) -> Any:
        """Say where the next predictions are made, outside of a pipeline; returns the guider.

        Parameters
        ----------
        x : Tensor, shape (batch, *shape)
            State in the scheduler's convention.
        level : Level
            Its level and the space of the predictions.
        step, call, memory
            As in `GuidanceState`.
        """
        self._at = x, level, step_state(x, level, step=step, call=call, memory=memory)
        return self

    def bind(self, session: Session, replaces: Any) -> None:
        """Work inside a `guide` block, in the place of another guider."""
        self._session, self._wanted, self._replaces = session, None, replaces

    def release(self, pipe: Any, name: str) -> None:
        """The block has ended: give the place back, here or where a later guider of ours has kept us."""
        top = pipe.__dict__.get(name)
        put_back(pipe, name, self, self._replaces)
        while isinstance(top, RuleGuider):
            if top._replaces is self:
                top._replaces = self._replaces
            top = top._replaces
        self._session = self._wanted = self._replaces = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy of a pipeline has its own guider; a copy of ours works by itself."""
        return RuleGuider(self.rule) if self._replaces is None else copy.deepcopy(self._replaces, memo)

    def enable(self) -> None:
        """Called by pipelines for networks that are guided from outside."""

    def disable(self) -> None:
        """Called by pipelines for networks whose guidance is an input.

        Raises
        ------
        InputError
            There is no unconditional branch, so no rule.
        """
        found = "a guidance-distilled network, which computes one branch"
        raise InputError("pipe", found=found, expected="a network with a cond and an uncond prediction")

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        """Called by the pipeline before each step."""
        self._timestep, self._prepared = timestep, 0

    @property
    def num_conditions(self) -> int:
        """How many predictions the rule wants at this step; outside of one, how many it may want."""
        return 2 if self._wanted is None else len(self._wanted)

    @property
    def is_conditional(self) -> bool:
        """Whether the prediction that is being made is the conditional one."""
        return self._prepared == 1

    @property
    def is_unconditional(self) -> bool:
        """Whether it is not."""
        return not self.is_conditional

    def prepare_models(self, denoiser: nn.Module) -> None:
        """Called before each prediction."""
        self._prepared += 1

    def cleanup_models(self, denoiser: nn.Module) -> None:
        """Called after each prediction; the denoiser is not changed."""

    def prepare_inputs(self, data: Mapping[str, Any]) -> list[Any]:
        """One set of denoiser inputs for each prediction, from pairs (for cond, for uncond)."""
        return [
            self._block({key: value[index] if isinstance(value, tuple) else value for key, value in data.items()}, name)
            for name, index in self._predictions()
        ]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: Mapping[str, Any]) -> list[Any]:
        """The same from the names of fields of a block state."""
        found = []
        for name, index in self._predictions():
            names = {key: value[index] if isinstance(value, tuple) else value for key, value in input_fields.items()}
            values = {key: getattr(data, field) for key, field in names.items() if field and hasattr(data, field)}
            found.append(self._block(values, name))
        return found

    def _predictions(self) -> list[tuple[str, int]]:
        if self._session is None:
            expected = "with guide(pipe, rule): pipe(...), which tells the rule where it is"
            raise InputError("guider", found="a pipeline that runs outside guide()", expected=expected)
        self._wanted = self._session.branches_ahead(self._timestep)
        return [_PREDICTIONS[branch] for branch in self._wanted]

    def _block(self, values: dict[str, Any], name: str) -> Any:
        from diffusers.modular_pipelines.modular_pipeline import BlockState

        make: Any = BlockState
        return make(**values, **{self._identifier_key: name})

    def __call__(self, data: Any, pred_uncond: Tensor | None = None) -> Any:
        """Combine the predictions: block states with `noise_pred`, or the two tensors."""
        if isinstance(data, Tensor):
            return self.forward(data, pred_uncond)
        return self.forward(**{getattr(part, self._identifier_key): part.noise_pred for part in data})

    def forward(self, pred_cond: Tensor, pred_uncond: Tensor | None = None) -> Any:
        """A `GuiderOutput`. In a pipeline `pred` is `pred_cond`; the rule is applied when the scheduler steps."""
        from diffusers.guiders.guider_utils import GuiderOutput

        if self._session is not None:
            self._session.receive(pred_cond, pred_uncond)
            self._wanted = None
            return GuiderOutput(pred=pred_cond, pred_cond=pred_cond, pred_uncond=pred_uncond)
        if self._at is None:
            raise InputError("guider", found="predictions at an unknown state", expected="at(x, level) before them")
        pred, _ = predict(self.rule, pred_cond, pred_uncond, *self._at)
        return GuiderOutput(pred=pred.to(pred_cond.dtype), pred_cond=pred_cond, pred_uncond=pred_uncond)
