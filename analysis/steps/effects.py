"""What a change of one step does to the end sample, beside what caching methods look at instead.

    changes = {"left out": LeftOut(), "repeated": Repeated(), "4 bits": Replaced(Rounded(denoiser, bits=4))}
    effects = change_steps(denoiser, changes, seeds=range(64), condition=labels, sampling=Sampling(sigmas=grid))
    step_damage(effects)                 # by step: change of the end sample, and the proxies
    proxy_ranks(effects)                 # does a proxy order the steps as their damage does?

Of a pipeline: `pipeline_model(pipe, rows).denoiser`. Each run is made with the same seeds as the unchanged one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.bootstrap import interval
from scorescope.analysis.statistics.intervals import skewed_mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.analysis.steps.runner import StepRunner, distance, spread
from scorescope.analysis.trajectories import recorded_path
from scorescope.data.display import displayed
from scorescope.data.doors import checked, require_some
from scorescope.probes.models.denoiser import Condition, Denoiser, working_dtype
from scorescope.probes.perturbations import Change, Nudged
from scorescope.probes.sampling import Path, Sampling

LEAST_STEPS = 4  # of which ranks are correlated
NUDGE = Nudged()  # by which responses to small changes are measured

STEP_DAMAGE = Schema(
    "step_damage",
    (
        Column("kind", str, "", "damage: of a change; proxy: what is known without running on"),
        Column("name", str, "", "of the change or the proxy"),
        Column("step", int, "", "step that is changed, from 0"),
        Column("sigma", float, "data", "noise level that it starts from"),
        Column("n", int, "", "samples"),
        Column("mean", float, "", "damage: root mean square over elements of (end - end of the unchanged run), mean "
               "over samples, in data; proxies: see `change_steps`"),
        Column("median", float, "", "its median over samples"),
        *ends("", "of the mean over samples, corrected for skewness"),
        Column("far", float, "1", "share of samples that end further away than half of the samples' own spread, which "
               "have gone elsewhere and rule the mean; missing for proxies"),
        Column("missing", str, "", "why there is no number; empty where there is"),
    ),
)  # fmt: skip
PROXY_RANKS = Schema(
    "proxy_ranks",
    (
        Column("change", str, "", "whose damage"),
        Column("proxy", str, "", "what is held against it"),
        Column("steps", int, "", "steps of which both are known"),
        Column("n", int, "", "samples"),
        Column("rank", float, "1", "Spearman's correlation over steps of the medians over samples"),
        *ends("1", "percentile bootstrap over samples: of this grid, not of other steps"),
    ),
)


@displayed
@checked
@dataclass(frozen=True, eq=False)
class StepEffects:
    """What changes of single steps did.

    Attributes
    ----------
    sigmas : tuple of float
        Noise level that each step starts from.
    damage, proxies : mapping of str to array, shape (steps, samples)
        By change, and by proxy; NaN where a step cannot have it.
    samples : Tensor, shape (samples, *shape)
        Of the unchanged run.
    runs : int
        Runs that were made, the unchanged one too.
    """

    sigmas: tuple[float, ...]
    damage: Mapping[str, Floats]
    proxies: Mapping[str, Floats]
    samples: Tensor
    runs: int


@checked
def change_steps(
    denoiser: Denoiser,
    changes: Mapping[str, Change],
    *,
    seeds: Sequence[int],
    condition: Condition = None,
    sampling: Sampling | None = None,
    amplified: bool = True,
    sigma_data: float = 1.0,
    progress: bool = True,
) -> StepEffects:
    """Change every step alone, in every way, and compare the ends with those of the unchanged run.

    Parameters
    ----------
    denoiser : Denoiser
        The model.
    changes : mapping of str to LeftOut, Repeated, Unguided, Replaced or Nudged
        What is done to a step, by name.
    seeds : sequence of int
        One a sample.
    condition : optional
        One row a sample.
    sampling : Sampling, optional
        How to sample; by default as `sample` does.
    amplified : bool
        Also measure how a small random change of a prediction grows to the end, for the proxy `amplified`; a run a
        step.
    sigma_data : float
        Root mean square of the data, for the scale of a network's input x / sqrt(sigma^2 + sigma_data^2).
    progress : bool
        Show a progress bar.

    Returns
    -------
    StepEffects
        Proxies of a step, of its first call against that of the step before: `denoised`, `eps`, `input`: sum of
        |change| over the sum of |before|, as caching methods gate by; `difference`: root mean square of the change of
        D; `amplified`: that times the response of the end sample to a small random change of D in this step, an
        amplification.

    Raises
    ------
    InputError
        Without changes or for two steps or fewer, and what `sample` refuses.

    Notes
    -----
    Runs share the calls before the changed step (see `KeptPredictions`): a change of each of N steps costs about
    N^2 / 2 calls a sample.
    The proxies are those of TeaCache (Liu et al. 2024, arXiv 2411.19108: of the input of the first block) and its kin.
    """
    require_some("changes", changes)
    runner = StepRunner.of(denoiser, seeds, condition, sampling)
    base = runner.run({}, record=True)
    assert base.trace is not None
    path = recorded_path(base.trace)
    todo = [*changes.values(), *([NUDGE] if amplified else [])]
    jobs = [(place, step) for place, change in enumerate(todo) for step in runner.steps(change)]
    found = np.full((len(todo), len(path.sigmas), len(seeds)), np.nan)
    for place, step in tqdm(jobs, desc="steps", disable=not progress, leave=False):
        found[place, step] = distance(runner.run({step: todo[place]}).samples, base.samples)
    proxies = _proxies(path, sigma_data)
    if amplified:
        response = found[-1] / (NUDGE.size * _root_mean_square(path.denoised))
        proxies["amplified"] = response * proxies["difference"]
    damage = dict(zip(changes, found, strict=False))
    return StepEffects(path.sigmas, damage, proxies, base.samples, 1 + len(jobs))


@checked
def step_damage(effects: StepEffects) -> pd.DataFrame:
    """Damage and proxies by step, with intervals over samples.

    Parameters
    ----------
    effects : StepEffects
        From `change_steps`.

    Returns
    -------
    DataFrame
        `STEP_DAMAGE`: one row a (change or proxy, step).
    """
    frames, elsewhere = [], spread(effects.samples) / 2
    for kind, found in (("damage", effects.damage), ("proxy", effects.proxies)):
        for name, values in found.items():
            low, high = skewed_mean_interval(values.T)
            keys = {"kind": kind, "name": name, "step": range(len(values)), "sigma": effects.sigmas}
            known = np.isfinite(values).sum(1)
            rows = {"n": known, "mean": values.mean(1), "median": np.median(values, axis=1), "low": low, "high": high}
            why = ["" if count else "there is no step before the first" for count in known]
            far = np.where(known > 0, (values > elsewhere).mean(1), np.nan) if kind == "damage" else np.nan
            frames.append(pd.DataFrame({**keys, **rows, "far": far, "missing": why}))
    return STEP_DAMAGE.check(pd.concat(frames, ignore_index=True))


@checked
def proxy_ranks(effects: StepEffects, *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """How well each proxy orders the steps by their damage.

    By medians over samples: one sample in a hundred that ends in another mode rules the means of the steps before.

    Parameters
    ----------
    effects : StepEffects
        From `change_steps`.
    resamples, seed : int
        Of the bootstrap over samples.

    Returns
    -------
    DataFrame
        `PROXY_RANKS`: one row a (change, proxy); NaN for fewer than four steps of which both are known.
    """
    count = len(effects.samples)
    drawn = np.random.default_rng(seed).integers(count, size=(resamples, count))
    draws, rows = np.concatenate([np.arange(count)[None], drawn]), []
    for change, damage in effects.damage.items():
        for proxy, values in effects.proxies.items():
            both = np.isfinite(damage).all(1) & np.isfinite(values).all(1)
            row = {"change": change, "proxy": proxy, "steps": int(both.sum()), "n": count}
            if both.sum() < LEAST_STEPS:
                rows.append(row | {"rank": np.nan, "low": np.nan, "high": np.nan})
                continue
            medians = ([np.median(step[draws], axis=1) for step in one[both]] for one in (damage, values))
            ranked = [scipy.stats.rankdata(np.stack(one, 1), axis=1) for one in medians]
            value, low, high = interval(_correlations(*ranked), len(effects.samples))
            rows.append(row | {"rank": float(value), "low": float(low), "high": float(high)})
    return PROXY_RANKS.check(pd.DataFrame(rows))


def _proxies(path: Path, sigma_data: float) -> dict[str, Floats]:
    """Changes from each step to the next, (steps, samples); NaN for the first."""
    sigma = torch.tensor(path.sigmas, dtype=torch.float64).reshape(-1, *(1,) * (path.states.ndim - 1))
    sigma = sigma.to(path.states.device, working_dtype(path.states))
    states, denoised = path.states.to(sigma.dtype), path.denoised.to(sigma.dtype)
    inputs = states / (sigma**2 + sigma_data**2).sqrt()
    watched = {"denoised": denoised, "eps": (states - denoised) / sigma, "input": inputs}
    found = {name: _relative_change(values) for name, values in watched.items()}
    return found | {"difference": _with_first(_root_mean_square(denoised.diff(dim=0)))}


def _relative_change(values: Tensor) -> Floats:
    change, before = values.diff(dim=0).abs().flatten(2).sum(2), values[:-1].abs().flatten(2).sum(2)
    return _with_first((change / before).cpu().double().numpy())


def _root_mean_square(values: Tensor) -> Floats:
    found: Floats = values.flatten(2).to(working_dtype(values)).square().mean(2).sqrt().cpu().double().numpy()
    return found


def _with_first(values: Floats) -> Floats:
    return np.concatenate([np.full((1, values.shape[1]), np.nan), values])


def _correlations(first: Floats, second: Floats) -> Floats:
    """Pearson's correlation of each row, which of ranks is Spearman's."""
    a, b = (rows - rows.mean(1, keepdims=True) for rows in (first, second))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return found
