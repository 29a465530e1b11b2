"""The path of a recorded run: its states and the predictions that it stepped with, of `sample` or of a pipeline.

    path = recorded_path(trace)              # what `path_geometry` and its kin take; they take the trace itself too,
    path_geometry(Trace.open("runs/a"))      # and then read some samples at a time, however large it is

States and predictions must have been kept: `Recording(keep=True)`, or `record(pipe, keep="branches")`.
"""

from dataclasses import replace

from scorescope.analysis.trajectories.path_blocks import recorded_blocks
from scorescope.data.doors import checked
from scorescope.probes.experiments import visits
from scorescope.probes.recording import Trace
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
        For a trace without kept states, no such run, and runs with other noise levels or of other shapes.
    """
    # branches are not needed: what they take is let go while the trace is read
    light = [replace(visit, cond=visit.guided, uncond=None, others={}) for visit in visits(trace)]
    whole = sum(2 * visit.x.numel() for visit in light)
    (path,) = recorded_blocks(trace, light, run=run, stream=stream, at_once=max(1, whole))
    return path
