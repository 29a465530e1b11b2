"""Models of few steps: consistency along a teacher's path, distance from the teacher, and how many steps are enough.

consistency_errors(student, run_path(teacher, start, edm_sigmas(40)), condition=labels)
student_gaps({"4 steps": samples}, teacher=fine, teacher_coarse=coarse)      # all of the same noise
enough_steps({4: ends_4, 8: ends_8, 16: ends_16}, fine, within=0.02)
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.statistics.bootstrap import draw_units, tails
from scorescope.analysis.statistics.intervals import skewed_mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.analysis.steps.runner import distance, spread
from scorescope.data.doors import checked, require_some
from scorescope.data.errors import InputError
from scorescope.probes.models.conditions import select_rows
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate
from scorescope.probes.sampling import Path

CONSISTENCY_ERRORS = Schema(
    "consistency_errors",
    (
        Column("quantity", str, "", "next: distance of f(x, sigma) from f at the next level of the path; end: from the "
               "end of the path"),
        Column("sigma", float, "data", "noise level"),
        Column("sigma_next", float, "data", "next noise level of the path; missing for `end`"),
        Column("n", int, "", "samples"),
        Column("mean", float, "data", "root mean square over elements, mean over samples"),
        Column("median", float, "data", "its median over samples"),
        *ends("data", "of the mean over samples, corrected for skewness"),
    ),
)  # fmt: skip
STUDENT_GAPS = Schema(
    "student_gaps",
    (
        Column("student", str, "", "its name"),
        Column("n", int, "", "samples"),
        Column("mean", float, "data", "root mean square over elements of (student - teacher), mean over samples"),
        Column("median", float, "data", "its median over samples"),
        *ends("data", "of the mean over samples, corrected for skewness"),
        Column("teacher_error", float, "data", "the same of the teacher's coarser samples; missing without them"),
        Column("beyond", float, "data^2", "mean square of the student's distance less that of the coarser teacher's"),
        *ends("data^2", "over samples, paired, corrected for skewness", of="beyond"),
        Column("far", float, "1", "share of samples further from the teacher than half the teacher's own spread, which "
               "have gone elsewhere"),
    ),
)  # fmt: skip
ENOUGH_STEPS = Schema(
    "enough_steps",
    (
        Column("within", float, "data", "error that is small enough"),
        Column("n", int, "", "samples"),
        Column("steps", float, "", "fewest steps from which on the mean error is within that; missing if it never is"),
        *ends("", "percentile bootstrap over samples; infinite where it is not reached in so many draws"),
        Column("reached", float, "1", "share of the draws in which it is reached"),
        Column("error", float, "data", "mean error at that number of steps, or at the most that were tried"),
    ),
)


@checked
@torch.no_grad()
def consistency_errors(
    student: Denoiser, path: Path, *, condition: Condition = None, batch: int = 256, progress: bool = False
) -> pd.DataFrame:
    """How far a consistency function's answers differ along one path of the teacher.

    Parameters
    ----------
    student : Denoiser
        f(x, sigma, condition), which is to be the same at every point of a path.
    path : Path
        The teacher's, from `run_path`: exact pairs of states, not noised anew.
    condition : optional
        One row a sample.
    batch : int
        Samples computed together.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        `CONSISTENCY_ERRORS`: one row a (quantity, level).

    Raises
    ------
    InputError
        For a path with missing levels, or of a single one.

    Notes
    -----
    Song et al. 2023 (arXiv 2303.01469). Of a Gaussian f = m + sqrt(l / (l + sigma^2)) (x - m) along each mode; its
    denoiser, l / (l + sigma^2), falls short of it.
    """
    if any(path.missing) or len(path.sigmas) < 2:
        found = f"{len(path.sigmas)} levels, {sum(map(bool, path.missing))} missing"
        raise InputError("path", found=found, expected="at least two levels, all of them known")
    answers = [
        _answers(student, states, float(sigma), condition, batch)
        for states, sigma in zip(tqdm(path.states, disable=not progress, leave=False), path.sigmas, strict=True)
    ]
    frames = [_error("next", *pair, distance(*both))
              for pair, both in zip(pairwise(path.sigmas), pairwise(answers), strict=True)]  # fmt: skip
    frames += [_error("end", sigma, np.nan, distance(one, path.end))
               for sigma, one in zip(path.sigmas, answers, strict=True)]  # fmt: skip
    return CONSISTENCY_ERRORS.check(pd.DataFrame(frames))


def _answers(student: Denoiser, states: Tensor, sigma: float, condition: Condition, batch: int) -> Tensor:
    parts = []
    for first in range(0, len(states), batch):
        x = states[first : first + batch]
        level = torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)
        rows = select_rows(condition, slice(first, first + batch))
        parts.append(evaluate(student, x, level, rows, branch="student"))
    return torch.cat(parts)


def _error(quantity: str, sigma: float, after: float, found: Any) -> dict[str, Any]:
    low, high = skewed_mean_interval(found)
    return {
        "quantity": quantity, "sigma": float(sigma), "sigma_next": float(after), "n": len(found),
        "mean": float(found.mean()), "median": float(np.median(found)), "low": float(low), "high": float(high),
    }  # fmt: skip


@checked
def student_gaps(
    students: Mapping[str, Tensor], *, teacher: Tensor, teacher_coarse: Tensor | None = None
) -> pd.DataFrame:
    """Distance of students' samples from the teacher's of the same noise and conditions.

    Parameters
    ----------
    students : mapping of str to Tensor, shape (n, *shape)
        Samples by name, in the order of the teacher's seeds.
    teacher : Tensor, shape (n, *shape)
        The teacher's, by as many steps as there are.
    teacher_coarse : Tensor, shape (n, *shape), optional
        The teacher's by fewer steps, say half of them: how far the teacher itself is from its flow.

    Returns
    -------
    DataFrame
        `STUDENT_GAPS`: one row a student. Students that are trained to match laws, not paths (adversarial, DMD), may be
        as good as the teacher far away from it.

    Raises
    ------
    InputError
        Without students, and for samples of different shapes.
    """
    require_some("students", students)
    for name, samples in {**students, "teacher_coarse": teacher if teacher_coarse is None else teacher_coarse}.items():
        if samples.shape != teacher.shape:
            raise InputError(name, found=f"shape {tuple(samples.shape)}", expected=f"{tuple(teacher.shape)}")
    own = None if teacher_coarse is None else distance(teacher_coarse, teacher)
    elsewhere = spread(teacher) / 2
    rows = []
    for name, samples in students.items():
        gap = distance(samples, teacher)
        low, high = skewed_mean_interval(gap)
        beyond = np.full(len(gap), np.nan) if own is None else gap**2 - own**2
        beyond_low, beyond_high = skewed_mean_interval(beyond)
        rows.append(
            {
                "student": name, "n": len(gap), "mean": gap.mean(), "median": np.median(gap), "low": float(low),
                "high": float(high), "teacher_error": np.nan if own is None else own.mean(), "beyond": beyond.mean(),
                "beyond_low": float(beyond_low), "beyond_high": float(beyond_high), "far": (gap > elsewhere).mean(),
            }
        )  # fmt: skip
    return STUDENT_GAPS.check(pd.DataFrame(rows))


@checked
def enough_steps(
    ended: Mapping[int, Tensor], fine: Tensor, *, within: float, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Number of steps from which on more of them stop helping, by a stated error of the end samples.

    Parameters
    ----------
    ended : mapping of int to Tensor, shape (n, *shape)
        Samples by number of steps, all of the same seeds.
    fine : Tensor, shape (n, *shape)
        Samples of the same seeds by so many steps that their error does not count.
    within : float
        Error that is small enough: root mean square over elements, mean over samples, in data.
    resamples, seed : int
        Of the bootstrap over samples.

    Returns
    -------
    DataFrame
        `ENOUGH_STEPS`: one row. Only the numbers of steps that were run are told apart.

    Raises
    ------
    InputError
        Without samples, for an error that is not positive, and samples of another shape than the fine ones.
    """
    require_some("ended", ended)
    if not within > 0:
        raise InputError("within", found=str(within), expected="a positive error")
    for steps, samples in ended.items():
        if samples.shape != fine.shape:
            raise InputError(f"ended[{steps}]", found=f"{tuple(samples.shape)}", expected=f"{tuple(fine.shape)}")
    counts = np.array(sorted(ended), dtype=np.float64)
    errors = np.stack([distance(ended[int(count)], fine) for count in counts])  # (numbers of steps, samples)
    draws = draw_units(errors.shape[1], resamples=resamples, seed=seed) / errors.shape[1]
    value, drawn = _enough(errors.mean(1)[None], counts, within)[0], _enough(draws @ errors.T, counts, within)
    # of numbers that were run, or infinite
    low, high = np.quantile(drawn, tails(errors.shape[1]), method="inverted_cdf")
    place = int(np.searchsorted(counts, value)) if np.isfinite(value) else len(counts) - 1
    return ENOUGH_STEPS.check(
        pd.DataFrame(
            {
                "within": within, "n": errors.shape[1], "steps": value if np.isfinite(value) else np.nan,
                "low": low, "high": high, "reached": np.isfinite(drawn).mean(), "error": errors.mean(1)[place],
            },
            index=[0],
        )
    )  # fmt: skip


def _enough(means: Any, counts: Any, within: float) -> Any:
    """Of each row of means, the number of steps from which on all are within; infinite where the last is not."""
    good = np.flip(np.logical_and.accumulate(np.flip(means <= within, 1), 1), 1)
    first = good.argmax(1)
    return np.where(good.any(1), counts[first], np.inf)
