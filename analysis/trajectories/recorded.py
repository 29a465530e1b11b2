"""The path of a recorded run: its states and the predictions that it stepped with, of `sample` or of a pipeline.

    path = recorded_path(trace)              # what `path_geometry` and its kin take

States and predictions must have been kept: `Recording(keep=True)`, or `record(pipe, keep="branches")`.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments import visits
from scorescope.probes.recording import Trace, Visit
from scorescope.probes.sampling import Path


@checked
def recorded_path(trace: Trace, *, run: int | None = None, stream: int = 0) -> Path:
    """States and guided predictions of every step, samples of all batches side by side.

    Parameters
    ----------
    trace : Trace
        A run whose states and predictions were kept; of a step with several calls its first one is taken.
    run : int, optional
        One run of a pipeline; by default all of them, which must have gone through the same noise levels.
    stream : int
        Which of a pipeline's schedulers.

    Returns
    -------
    Path
        In denoised space, variance exploding. Its `end` is the last prediction where the last step goes to noise
        level 0, as all solvers here then end there, else NaN. A level whose state or prediction is unknown for any
        sample is NaN, with the reason in `missing`.

    Raises
    ------
    InputError
        For a trace without kept states, no such run, and runs with other noise levels.
    """
    batches: dict[tuple[int, int], list[Visit]] = defaultdict(list)
    for visit in visits(trace):
        if visit.stream == stream and run in (None, visit.run):
            batches[visit.run, visit.first].append(visit)
    if not batches:
        raise InputError("run, stream", found=f"{run}, {stream}, which the trace has not", expected="one that it has")
    firsts = [[visit for visit in batch if not visit.call] for batch in batches.values()]
    levels = {tuple(visit.sigma for visit in batch) for batch in firsts}
    if len(levels) > 1:
        found = f"runs through {len(levels)} lists of noise levels"
        raise InputError("run", found=found, expected="one run, or runs through the same levels")
    steps = [list(step) for step in zip(*firsts, strict=True)]
    states = torch.stack([torch.cat([visit.x for visit in step]) for step in steps])
    denoised = torch.stack([torch.cat([visit.guided for visit in step]) for step in steps])
    last = steps[-1][0].sigma_next == 0
    end = denoised[-1] if last else torch.full_like(denoised[-1], torch.nan)
    calls = max(len(batch) for batch in batches.values())
    return Path(levels.pop(), states, denoised, end, calls, _missing(steps, states, denoised), _resolution(trace))


def _resolution(trace: Trace) -> float:
    """Of the coarser of the two as they were kept; 0 for those of `sample`, which are here as they were."""
    if not trace.of_pipeline:
        return 0.0
    return max(torch.finfo(trace.arrays.load(name, 0).dtype).eps for name in ("x", "guided"))


def _missing(steps: Sequence[Sequence[Visit]], states: Tensor, denoised: Tensor) -> tuple[str, ...]:
    """Why a level is not known; empty where it is."""
    known = (torch.isfinite(states).flatten(1).all(1) & torch.isfinite(denoised).flatten(1).all(1)).tolist()
    return tuple(
        "" if good else next((visit.why for visit in step if visit.why), "values that are not finite")
        for step, good in zip(steps, known, strict=True)
    )
