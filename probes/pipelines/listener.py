"""What listens to a pipeline, and what it is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from scorescope.data.display import displayed
from scorescope.probes.pipelines.branches import Layout
from scorescope.probes.pipelines.call import Call
from scorescope.probes.pipelines.naming import Verdict
from scorescope.probes.pipelines.step_arguments import StepArguments


@displayed
@dataclass(frozen=True)
class Made:
    """What a listener says of a prediction that it gave in place of another one.

    Attributes
    ----------
    name : str
        Of the rule that made it.
    parameters : mapping
        Of the rule.
    weight : float
        Its one guidance weight; NaN for a rule that has none, or several.
    layout : Layout or None
        How the branches lie in the calls; None where the listener was given them otherwise.
    verdicts : sequence of Verdict
        What was proved about each sample's branches, from the prediction that was replaced.
    """

    name: str
    parameters: Mapping[str, Any]
    weight: float
    layout: Layout | None
    verdicts: Sequence[Verdict]


@displayed
@dataclass(frozen=True)
class StepEvent:
    """A step that a scheduler is about to make.

    Attributes
    ----------
    owner : object
        The scheduler; pipelines may copy one for a stream of its own.
    given : StepArguments
        Prediction, timestep and state, as listeners that came later have left them.
    received : StepArguments
        The same as the pipeline handed them over.
    calls : sequence of Call
        The denoiser calls that feed it: those since the last step, else the same again.
    place : int
        How many steps they have fed before.
    begins : bool
        It is the first of another run than the step before it.
    restarts : bool
        It is that, or the schedule starts again in the same run: the levels go back up.
    returns_x0 : bool
        What the scheduler returns beside the state, if anything, is its estimate of x0.
    made : Made or None
        Who made `given.prediction`; None where it is the pipeline's own.
    heard : sequence of Call
        The calls that feed it as that listener knows them, of those with outputs, which listens to most denoisers.
    replaced : Made or None
        After the step: who made the prediction that the scheduler received in place of `given.prediction`.
    """

    owner: Any
    given: StepArguments
    received: StepArguments
    calls: Sequence[Call]
    place: int
    begins: bool
    restarts: bool
    returns_x0: bool
    made: Made | None = None
    heard: Sequence[Call] = ()
    replaced: Made | None = None


class Listener:
    """Is told of every call of its denoisers and of every step; what it does not care for it leaves out.

    Attributes
    ----------
    wants_outputs : bool
        Outputs of calls are copied for it.
    wants_arguments : bool
        What calls were given is kept with them, to make them again.
    changes_calls : bool
        `before_call` may change what a denoiser is given, so it has to be asked inside compiled modules too.
    epoch : object
        Another object in every run that it begins itself: calls before that feed no step after it.
    made : Made or None
        Of the prediction that it gave last.
    """

    wants_outputs = False
    wants_arguments = False
    changes_calls = False
    epoch: object = None
    made: Made | None = None

    def before_call(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A denoiser is about to be called; (args, kwargs) to be given in their place, or None."""
        return None

    def after_call(self, call: Call, outputs: list[Tensor]) -> None:
        """It has returned these tensors, which are not copies."""

    def before_step(self, step: StepEvent) -> Tensor | None:
        """A scheduler is about to step; a prediction to be given in place of `step.given.prediction`, or None."""
        return None

    def after_step(self, step: StepEvent, result: Any) -> None:
        """It has returned `result`."""
