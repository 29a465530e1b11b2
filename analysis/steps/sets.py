"""Which steps can be changed together for a stated change of the end samples: a greedy search, every set run.

table = cheapest_steps(denoiser, Repeated(), within=0.05, seeds=range(64), condition=labels, sampling=sampling)
table[table["taken"]]["step"]             # steps that can repeat the prediction before them
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.intervals import skewed_mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.analysis.steps.runner import StepRunner, distance, spread
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.perturbations import Change
from scorescope.probes.sampling import Sampling

CHEAPEST_STEPS = Schema(
    "cheapest_steps",
    (
        Column("order", int, "", "when the step was tried, from 0"),
        Column("step", int, "", "step that was tried beside those taken before"),
        Column("sigma", float, "data", "noise level that it starts from"),
        Column("alone", float, "data", "damage of this step alone, mean over samples"),
        Column("changed", int, "", "steps changed in this run: those taken before and this one"),
        Column("n", int, "", "samples"),
        Column("mean", float, "data", "damage of the whole set, as it was run, mean over samples"),
        *ends("data", "of the mean over samples, corrected for skewness"),
        Column("median", float, "data", "its median over samples"),
        Column("far", float, "1", "share of samples that end further away than half of the samples' own spread"),
        Column("expected", float, "data", "root of the sum of squares of the damages of its steps alone"),
        Column("taken", bool, "", "whether the upper end of the interval is within what was allowed: the step stays"),
    ),
)


@checked
def cheapest_steps(
    denoiser: Denoiser,
    change: Change,
    *,
    within: float,
    seeds: Sequence[int],
    condition: Condition = None,
    sampling: Sampling | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Try to change one step after the other, the least harmful first, and keep what stays within a stated damage.

    Parameters
    ----------
    denoiser : Denoiser
        The model.
    change : LeftOut, Repeated, Unguided, Replaced or Nudged
        What is done to the steps.
    within : float
        Allowed damage: root mean square over elements of (end - end of the unchanged run), mean over samples, in data.
    seeds : sequence of int
        At least 8, for intervals.
    condition : optional
        One row a sample.
    sampling : Sampling, optional
        How to sample; by default as `sample` does.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        `CHEAPEST_STEPS`: one row a step, in the order of trying.

    Raises
    ------
    InputError
        For a damage that is not positive, fewer than 8 seeds, and what `sample` refuses.

    Notes
    -----
    Greedy: the order is that of the damages of single steps on these seeds, and a step that was taken is never given
    back, so a larger set may exist. What is said of each set was measured by running it, on the seeds that chose it: a
    user who wants the damage on others runs the set again, with `ChangedSteps`.
    """
    if not within > 0 or len(seeds) < 8:
        expected = "a positive damage and at least 8 seeds"
        raise InputError("within, seeds", found=f"{within}, {len(seeds)} seeds", expected=expected)
    runner = StepRunner.of(denoiser, seeds, condition, sampling)
    base = runner.run({}).samples
    elsewhere = spread(base) / 2
    steps = runner.steps(change)

    def damage(chosen: Sequence[int]) -> Floats:
        return distance(runner.run(dict.fromkeys(chosen, change)).samples, base)

    alone = {step: damage([step]) for step in tqdm(steps, desc="steps", disable=not progress, leave=False)}
    order = sorted(steps, key=lambda step: float(alone[step].mean()))
    taken: list[int] = []
    rows: list[dict[str, Any]] = []
    for place, step in enumerate(tqdm(order, desc="sets", disable=not progress, leave=False)):
        chosen = [*taken, step]
        found = damage(chosen) if taken else alone[step]
        low, high = (float(end) for end in skewed_mean_interval(found))
        apart = float(np.sqrt(sum(alone[one].mean() ** 2 for one in chosen)))
        rows.append(
            {
                "order": place, "step": step, "sigma": float(runner.sigmas[step]), "alone": float(alone[step].mean()),
                "changed": len(chosen), "n": len(found), "mean": float(found.mean()), "low": low, "high": high,
                "median": float(np.median(found)), "far": float((found > elsewhere).mean()),
                "expected": apart, "taken": high <= within,
            }
        )  # fmt: skip
        taken = chosen if high <= within else taken
    return CHEAPEST_STEPS.check(pd.DataFrame(rows))
