"""A diffusers pipeline's network as a plain denoiser, at any state and noise level, for any of many conditions.

    model = pipeline_model(pipe, [{"prompt": "a lighthouse"}, {"prompt": "a tower"}])
    model.denoiser(x, sigma, torch.tensor([0, 1]))       # x = x0 + sigma n; rows of the prompts
    model.denoiser(x, sigma, None)                       # the pipeline's own unconditional branch
    model.denoiser.sigma_range                           # levels that the scheduler has

No pipeline is known here. It is run for a few steps, its branches are told apart by proof, and the network is called
again with what it was given there, but for state and time. What it is given in their place are closed forms of the
noise level that agree with every step of that run, and so does the denoiser made of them, or there is none.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.encoded_once import encoded_once
from scorescope.probes.experiments.noise_conventions import StepNumbers, learn
from scorescope.probes.experiments.pipeline_calls import check_arguments
from scorescope.probes.experiments.pipeline_identity import pipeline_identity
from scorescope.probes.experiments.pipeline_network import PipelineNetwork
from scorescope.probes.experiments.pipeline_steps import PipelineStep, precision_of, watch_calls
from scorescope.probes.models.model import Model
from scorescope.probes.pipelines import find
from scorescope.probes.pipelines.sample_calls import SampleCall

LEAST_LEVELS = 3  # of a run, by which closed forms are told apart


@checked
def pipeline_model(
    pipe: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    arguments: Mapping[str, Any] | None = None,
    name: str = "",
    batch: int | None = None,
) -> Model:
    """A pipeline's network as a `Model`, whose denoiser is D(x, sigma, condition) in the variance-exploding convention.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline; it is as it was afterwards, and the denoiser's `network` is its own.
    rows : sequence of mapping
        Arguments of its call, one row a condition, as from `read_prompts`: {"prompt": ...}, {"class_labels": [207]},
        {} for a pipeline without conditions.
    arguments : mapping, optional
        Arguments that all calls share (height, width, guidance_scale).
    name : str
        What pages call it; by default the pipeline's class.
    batch : int, optional
        Most samples that the network is given at once: bounds the memory where callers do not. Sites are called once
        a forward pass, so for these it has to be None.

    Returns
    -------
    Model
        Its denoiser is a `PipelineNetwork`: a `torch.nn.Module` whose sites begin with "network.". A condition is a
        LongTensor (batch,) of places in `rows`; None is the branch that the pipeline itself is guided away from, or
        its only one where the network is given nothing but state and time. `shape` is that of a latent (as the
        scheduler steps it), `value_range` (-1, 1) for a pipeline without a VAE.

    Raises
    ------
    InputError
        For arguments that the pipeline does not take, and a pipeline that this cannot be proved for: several networks
        that share the noise levels, a scheduler whose levels are unknown, conventions that are none of the known,
        states that the network is given with something beside them, inputs that change from step to step, a network
        that gives something else when it is called again.
    """
    if not rows or (batch is not None and batch < 1):
        raise InputError("rows, batch", found=f"{len(rows)} rows, batch {batch}", expected="at least one of each")
    shared = dict(arguments or {})
    for row in rows:
        check_arguments(pipe, {**shared, **row}, argument="rows", more=("seed",))
    with encoded_once(pipe):
        steps = watch_calls(pipe, rows[0], shared)
        others = [watch_calls(pipe, row, shared, most=1)[0] for row in rows[1:]]
    _check(pipe, steps, others)
    convention = learn(
        [_numbers(step) for step in steps], steps[0].scheduler,
        state_precision=precision_of(steps[0].cond_call.given_state),
        time_precision=precision_of(steps[0].cond_call.given_time),
    )  # fmt: skip
    conditions = [steps[0].cond_call, *(step.cond_call for step in others)]
    uncond, missing = _unconditional([steps[0], *others])
    denoiser = PipelineNetwork(convention, conditions, uncond, missing, like=steps[0], batch=batch)
    denoiser.prove(steps, others)
    return Model(
        denoiser, name or type(pipe).__name__, tuple(steps[0].x.shape[1:]), _cycle(len(rows)),
        None if "vae" in find.components(pipe) else (-1.0, 1.0), source=_source(pipe),
    )  # fmt: skip


def _cycle(count: int) -> Callable[[int], Tensor]:
    return lambda samples: torch.arange(samples) % count


def _source(pipe: Any) -> str:
    return ", ".join(f"{part} {value}" for part, value in pipeline_identity(pipe).items())


def _check(pipe: Any, steps: Sequence[PipelineStep], others: Sequence[PipelineStep]) -> None:
    """Refuse several networks, samples of several shapes, too few levels, and inputs that change along the run."""
    if len(known := find.denoisers(pipe, None)) > 1:
        found = f"{type(pipe).__name__} with several denoisers ({', '.join(known)})"
        raise InputError("pipe", found=found, expected="one network for all noise levels and branches")
    if len(shapes := {tuple(step.x.shape[1:]) for step in [*steps, *others]}) > 1:
        raise InputError("rows", found=f"samples of shapes {sorted(shapes)}", expected="samples of one shape")
    if len({step.sigma for step in steps}) < LEAST_LEVELS:
        found = f"{len(steps)} steps of known noise levels in one call"
        raise InputError("pipe", found=found, expected=f"{LEAST_LEVELS} levels or more, to tell conventions apart")
    if changed := sorted({name for step in steps for name in steps[0].cond_call.differs_in(step.cond_call)}):
        found = f"a network whose {', '.join(changed)} changes from step to step"
        raise InputError("pipe", found=found, expected="inputs beside state and time that are the same at every level")


def _numbers(step: PipelineStep) -> StepNumbers:
    """The numbers of a step, of which that of the state is measured."""
    precision = precision_of(step.cond_call.given_state)
    x, given = step.x.flatten(), step.cond_call.given_state.to(step.x).flatten()
    if given.shape != x.shape:
        found = f"a network that is given {tuple(step.cond_call.given_state.shape)} for {tuple(step.x.shape)}"
        raise InputError("pipe", found=found, expected="one that is given the scheduler's state, and nothing beside it")
    scale = float(given @ x / (x @ x))
    if float((given - scale * x).norm()) > max(1e-5, 4 * precision) * float(given.norm()):
        expected = "one that is given the scheduler's state, scaled by one number"
        raise InputError("pipe", found="a network that is given another state than the scheduler's", expected=expected)
    return StepNumbers(step.sigma, scale, step.time, step.skip, step.out)


def _unconditional(steps: Sequence[PipelineStep]) -> tuple[SampleCall | None, str]:
    """The unconditional call of all rows, or why there is none."""
    found = [step.uncond_call or (None if step.cond_call.is_conditional else step.cond_call) for step in steps]
    first = found[0]
    if first is None or any(call is None for call in found):
        return None, "a pipeline that makes no unconditional prediction (its guidance is off, or distilled)"
    if any(call is not None and first.differs_in(call) for call in found):
        return None, "rows with several unconditional branches, as their negative prompts differ"
    return first, ""
