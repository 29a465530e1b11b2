"""One attribute along sampling: where it can be read, seen, steered, and where it is decided.

    scan = probe_scan(collect(denoiser, bank, [site]), {"size": labels})
    traced = trace_direction(
        denoiser, attribute="size", seeds=range(64), scores=scores, scan=scan, site=site,
        condition=small, other=large,
    )
    traced.curves          # probe, agreement, estimate and switch, by noise level
    traced.landmarks       # readable_from, visible_from, committed_at, steerable_until, with intervals
    traced.gaps            # differences between them, from the same draws

    scan = probe_scan(collect(denoiser, bank, [feature.site]).along(feature), {"size": labels})
    trace_direction(..., scan=scan, site=feature.site, along=feature)      # what one direction alone tells

Probe and agreement are of a run whose condition leaves the attribute open: under a condition that names it, the
network is told what the probe then reads. Everything is at guidance weight 1 unless a rule is given.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.directions.landmarks import (
    Curve,
    Places,
    Shares,
    draw_seeds,
    emergence_table,
    gap_table,
    landmark_table,
    last_fall,
    last_rise,
)
from scorescope.analysis.directions.probing import ProbeScan
from scorescope.analysis.statistics.arrays import Bools, Floats, finite_numbers
from scorescope.data.display import displayed
from scorescope.data.doors import checked, require_returned
from scorescope.data.errors import InputError
from scorescope.probes.activations.along_sampling import SampleTaps, sample_with_sites
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.sampling.condition_switch import SwitchingDenoiser
from scorescope.probes.sampling.guided_denoiser import GUIDED
from scorescope.probes.sampling.kept_predictions import KeptPredictions
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sites.interventions import OUTPUT as DENOISED

Scores = Callable[[Tensor], Mapping[str, Tensor]]
"""Images (n, *shape) to one score (n,) a name: log-odds, positive where the attribute is present."""
FEWEST = 4
"""Final images of each class, and seeds that follow the condition: with fewer, luck alone passes the thresholds."""


@checked
@dataclass(frozen=True)
class Thresholds:
    """Values of the curves at which landmarks are taken.

    Attributes
    ----------
    readable : float
        Balanced accuracy of the probe.
    visible : float
        Balanced accuracy of the classifier on the estimate, under a condition.
    committed : float
        Agreement of the estimate with the final image.
    steerable : float
        Share of seeds that follow the switch.
    """

    readable: float = 0.75
    visible: float = 0.75
    committed: float = 0.95
    steerable: float = 0.5


@displayed
@dataclass(frozen=True, eq=False)
class Emergence:
    """What `trace_direction` gives: tables declared in `CURVES`, `LANDMARKS` and `GAPS`."""

    curves: pd.DataFrame
    landmarks: pd.DataFrame
    gaps: pd.DataFrame


@checked
def trace_direction(
    denoiser: Denoiser,
    *,
    attribute: str,
    seeds: Sequence[int],
    scores: Scores,
    scan: ProbeScan | None = None,
    site: str = "",
    along: Direction | None = None,
    observed: Condition = None,
    condition: Condition = None,
    other: Condition = None,
    switches: int | None = 9,
    sigmas: Sequence[float] | None = None,
    thresholds: Thresholds | None = None,
    resamples: int = 1000,
    progress: bool = False,
    **options: Any,
) -> Emergence:
    """Follow one two-valued attribute through sampling.

    Parameters
    ----------
    denoiser : Denoiser
        The model.
    attribute : str
        Name of the target among the scores, and of the probe.
    seeds : sequence of int
        One a sample; the same in all runs.
    scores : callable
        Judge of images; positive where the attribute is present (the larger class of the probe).
    scan : ProbeScan, optional
        With a probe of `attribute` at `site`, fitted on a bank under the same `observed` condition, or on
        `SampleTaps.activations()` of other seeds with the labels of their final images: a deterministic path tells
        more of its own end than noisy data do of theirs. Each step uses the probe of the noise level nearest to it;
        steps beyond the scanned levels are left out of the probe curve.
        Without one there is no probe curve.
    site : str
        Site of the probe.
    along : Direction, optional
        A direction at the site, such as a sparse feature: the probe curve is of what the site holds of it, at every
        noise level, and the scan one of `Activations.along(direction)`.
    observed : Condition, optional
        Of the run that probe and agreement are of; one row a seed, leaving the attribute open. None is
        unconditional.
    condition, other : Condition, optional
        A and A', one row a seed, that differ in the attribute. Without them there are no estimate and switch curves.
    switches : int or None
        Noise levels at which the condition is switched, spread over the steps; None for every step. A solver with
        a second prediction a step (`Heun`) sees the other condition in the correction that ends at that level.
    sigmas : sequence of float, optional
        Falling noise levels of sampling, by default `edm_sigmas(18)`.
    thresholds : Thresholds, optional
        Where landmarks are taken: at the last crossing of a curve, after which it stays above (steerable: below).
    resamples : int
        Bootstrap draws of seeds, the same for all curves; those without a seed of each class are drawn again.
    progress : bool
        Show a progress bar.
    **options
        Further arguments of `sample`: solver, rule, batch, device.

    Returns
    -------
    Emergence
        Intervals of landmarks hold from 16 seeds on (simulated: 92 to 99 %); of 8 those of a rise cover 87 %.

    Raises
    ------
    InputError
        If the scores lack the attribute or are not finite, fewer than 4 final images show one of the classes, fewer
        than 4 seeds have other labels under A' than under A, the probe is not of two classes, or one of a pair of
        arguments is missing.
    """
    if along is not None and along.site != site:
        raise InputError("along", found=f"a direction at {along.site!r}", expected=f"one at the site, {site!r}")
    if (condition is None) != (other is None) or (scan is None) != (not site) or len(seeds) < 2 * FEWEST:
        found = f"{len(seeds)} seeds, or one of a pair without the other"
        raise InputError(
            "seeds, condition, other, scan, site", found=found, expected=f"{2 * FEWEST} seeds and both of each pair"
        )
    levels = [float(s) for s in (edm_sigmas() if sigmas is None else sigmas)]
    shared = {"seeds": list(seeds), "sigmas": levels, "progress": False, **options}
    judge = _Judge(attribute, scores)
    shares = _observed_curves(denoiser, judge, scan, site, along, {"condition": observed, **shared})
    if condition is not None:
        shares += _condition_curves(denoiser, judge, condition, other, switches, shared, progress=progress)
    weights = draw_seeds(shares, len(seeds), resamples=resamples, seed=0)
    curves = [Curve.of(part, weights) for part in shares]
    log_snr = -2 * np.log(np.asarray(levels[:-1] if levels[-1] == 0 else levels))
    places = _landmarks(curves, log_snr, thresholds or Thresholds())
    return Emergence(
        emergence_table(attribute, site, curves, levels),
        landmark_table(attribute, places),
        gap_table(attribute, places),
    )


@dataclass(frozen=True, eq=False)
class _Judge:
    """The user's scores of one attribute as labels."""

    attribute: str
    scores: Scores

    def values(self, images: Tensor) -> Floats:
        found = self.scores(images)
        require_returned("scores", found, Mapping[Any, Tensor])
        if self.attribute not in found:
            expected = f"one of {self.attribute!r}"
            raise InputError("scores", found=f"scores of {sorted(found)}", expected=expected)
        return finite_numbers("scores", found[self.attribute], len(images))

    def labels(self, images: Tensor) -> Bools:
        return self.values(images) > 0


def _observed_curves(
    denoiser: Denoiser, judge: _Judge, scan: ProbeScan | None, site: str, along: Direction | None,
    options: dict[str, Any],
) -> list[Shares]:  # fmt: skip
    """Probe and classifier against the label of the image that each seed ends in."""
    if scan is not None:
        classes = len(scan.probe(judge.attribute, site, sigma=1.0).classes)
        if classes != 2:
            found = f"{classes or 'continuous'} classes of {judge.attribute!r}"
            raise InputError("scan", found=found, expected="a probe of two classes: labels == value")
    pools: dict[str, Any] = {DENOISED: "whole"} | ({site: "mean"} if scan is not None else {})
    run, taps = sample_with_sites(denoiser, pools, **options)
    final = judge.labels(run.samples)
    if min(final.sum(), (~final).sum()) < FEWEST:
        found = f"{final.sum()} of {len(final)} final images that score above zero"
        expected = f"at least {FEWEST} above and below: a condition that leaves the attribute open, or more seeds"
        raise InputError("observed", found=found, expected=expected)
    steps = _steps(taps)
    seen = _seen(judge, taps, run.samples)
    curves = [Shares.balanced("agreement", seen, final, steps)]
    if scan is not None:
        covered = [step for step in steps if _covers(scan, taps.sigmas[step, 0])]
        if not covered:
            found = f"noise levels from {min(scan.sigmas):.3g} to {max(scan.sigmas):.3g}"
            raise InputError("scan", found=found, expected="some of those of sampling")
        read = []
        for step in covered:
            probe = scan.probe(judge.attribute, site, sigma=taps.sigmas[step, 0])
            values = taps.at(site, step=step)
            values = values if along is None else values @ along.unit.to(values)[:, None]
            read.append(probe.predict(values) == probe.classes[1])
        curves.append(Shares.balanced("probe", np.stack(read), final, covered))
    return curves


def _covers(scan: ProbeScan, sigma: float) -> bool:
    """Whether a noise level is among those scanned, or at most 1.5 times beyond: a probe elsewhere reads nothing."""
    return min(scan.sigmas) / 1.5 <= sigma <= 1.5 * max(scan.sigmas)


def _condition_curves(
    denoiser: Denoiser, judge: _Judge, condition: Condition, other: Condition, switches: int | None,
    options: dict[str, Any], *, progress: bool,
) -> list[Shares]:  # fmt: skip
    """Classifier on the estimate under both conditions, and what a switch between them does."""
    finals, estimates = [], []
    denoiser = KeptPredictions(denoiser)  # a switch at either end is one of these two runs
    for given in (condition, other):
        run, taps = sample_with_sites(denoiser, {DENOISED: "whole"}, condition=given, **options)
        finals.append(judge.labels(run.samples))
        estimates.append(_seen(judge, taps, run.samples))
    follows = finals[0] != finals[1]
    if follows.sum() < FEWEST:
        found = f"{int(follows.sum())} of {len(follows)} seeds whose label depends on it"
        expected = f"conditions that differ in the attribute, for at least {FEWEST} seeds"
        raise InputError("condition, other", found=found, expected=expected)
    # the label that A' asks for is the one that most of the seeds that follow have under it
    wanted = bool(finals[1][follows].mean() > 0.5)
    asked = zip(estimates, (not wanted, wanted), strict=True)
    every, steps = np.ones(len(follows), bool), _steps(taps)
    estimate = Shares("estimate", [(estimate == label, every) for estimate, label in asked], steps)
    places = _switch_steps(len(steps), switches)
    switching = SwitchingDenoiser(denoiser, reuse=False)
    changed = []
    for step in tqdm(places, desc="switches", disable=not progress, leave=False):
        at = math.inf if step == 0 else options["sigmas"][step]
        samples = switching.sample(condition, other, at=at, **options).samples
        changed.append(judge.labels(samples) == finals[1])
    return [estimate, Shares("switch", [(np.stack(changed), follows)], places)]


def _steps(taps: SampleTaps) -> list[int]:
    return sorted({step for step, call in taps.sigmas if call == 0})


def _seen(judge: _Judge, taps: SampleTaps, samples: Tensor) -> Bools:
    """Labels of the denoised estimates, (step, seed): taps are on the CPU in float32, the judge is not."""
    estimates = (taps.at(DENOISED, step=step, branch=GUIDED) for step in _steps(taps))
    return np.stack([judge.labels(estimate.reshape(samples.shape).to(samples)) for estimate in estimates])


def _switch_steps(count: int, switches: int | None) -> list[int]:
    if switches is None or switches >= count:
        return list(range(count))
    if switches < 2:
        raise InputError("switches", found=str(switches), expected="at least 2, or None for every step")
    return sorted({round(i) for i in np.linspace(0, count - 1, switches)})


def _landmarks(curves: Sequence[Curve], log_snr: Floats, thresholds: Thresholds) -> Places:
    by_name = {curve.name: curve for curve in curves}
    rules = {
        "readable_from": ("probe", thresholds.readable, last_rise),
        "visible_from": ("estimate", thresholds.visible, last_rise),
        "steerable_until": ("switch", thresholds.steerable, last_fall),
        "committed_at": ("agreement", thresholds.committed, last_rise),
    }
    found = {}
    for landmark, (name, threshold, place) in rules.items():
        if name in by_name:
            curve = by_name[name]
            found[landmark] = (curve, threshold, place(log_snr[curve.steps], curve.draws, threshold))
    return found
