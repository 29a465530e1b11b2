"""What a direction does when it is added: the judge of every direction, ours or imported.

curve = steer_curve(denoiser, direction, scores, target="size", seeds=range(32), condition=labels)
curve.curve                    # mean change of each score by arm and strength, with intervals
curve.verdicts                 # steerable, reversed, not steerable or undecided, against its controls

later = steer_curve(..., intervals=delays(sigmas, 6))      # delay scan: it begins to act later and later
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from scorescope.analysis.directions.noise_intervals import EVERYWHERE
from scorescope.analysis.directions.steered import STRENGTHS, Shuffled, SteerCurve, Steering, check_judged
from scorescope.analysis.directions.steering_arms import Distance, Scores, rms
from scorescope.analysis.statistics.bootstrap import LEAST_SEEDS, check_seeds
from scorescope.data.doors import checked
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sampling.arms import Sampling
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sites.interventions import Branch


@checked
def steer_curve(
    denoiser: Denoiser,
    direction: Direction,
    scores: Scores,
    *,
    target: str,
    seeds: Sequence[int],
    condition: Condition = None,
    strengths: Sequence[float] = STRENGTHS,
    intervals: Sequence[tuple[float, float]] = EVERYWHERE,
    branch: Branch = "both",
    random: int = 8,
    relevant: float = 0.0,
    chosen_from: int = 1,
    within: Tensor | None = None,
    shuffled: Shuffled = None,
    natural: Mapping[str, float] | None = None,
    distance: Distance | None = None,
    budget: float | None = None,
    sampling: Sampling | None = None,
    start: Tensor | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> SteerCurve:
    """Dose and response of a direction, against its controls, with the same start and the same sampler noise.

    Random directions have the norm of the direction, shuffled ones theirs as they were found.

    Parameters
    ----------
    denoiser : Denoiser
        A `torch.nn.Module` where the site is a module.
    direction : Direction
        Strength 1 adds one standard deviation of its projection. An imported one: `Direction.load(path)`.
    scores : callable
        Images (n, *shape) -> {name: (n,)}; one is the target, the others should not move.
    target : str
        Which.
    seeds : sequence of int
        At least 8, all different; intervals are over them. Every arm has the same.
    condition : optional
        One row a seed, for all arms; None samples unconditionally.
    strengths : sequence of float
        Strengths other than 0, of either sign. 0 is the arm without edit.
    intervals : sequence of (low, high)
        Noise levels between which it acts, low < sigma <= high; see `delays` and `windows`.
    branch : {"cond", "uncond", "both"}
        Calls in which it acts.
    random : int
        Random directions of the same norm. "steerable" is judged against the law of such directions, of which each is
        one draw: |effect| has to be 4.3 times their root mean square for 2 of them, 2.8 for 4, 2.3 for 8 (more, where
        several intervals are corrected for). Without any, nothing is found steerable.
    relevant : float
        Smallest |effect| that counts as moving the target, in units of its score (with `natural`, in its standard
        deviations). Without it, what moves the target by next to nothing, but more than its controls, is steerable,
        and what moves it by next to nothing is found "not steerable" only if a control moves it further.
    chosen_from : int
        Directions that this one was chosen from, by what they read, or by their effects on other seeds: so many that
        were looked at before that, not those that came last. The best of many random directions moves more than one
        that is drawn; p-values against the laws of controls are multiplied by this number, and more random arms make
        up for it: with 32 of them |effect| has to be 4.2 times their root mean square for one of 256.
    within : Tensor, shape (k, d), optional
        Draw the random directions from the span of these rows, for instance leading principal components.
    shuffled : Direction or sequence of Direction, optional
        What the same recipe finds with shuffled labels. Several (`shuffled_directions`) show the law of directions
        found from labels that mean nothing, by which a direction found from labels is judged besides: random directions
        know nothing of how it was found. Without them, no such direction is said to move. Of a single one
        (`shuffled_direction`) the part along the direction is taken out, and the rest is one more control that it has
        to outdo; it shows no law.
    natural : mapping of str to float, optional
        Natural standard deviation of each score, over data; changes are then in these units, and scores of different
        kinds can be compared. Without it they are in units of the scores.
    distance : callable, optional
        By default the root mean square difference of the pixels.
    budget : float, optional
        Mean distance within which effects are compared; by default half of that between samples of different seeds.
    sampling : Sampling, optional
        Rule, solver, noise levels, batch and device.
    start : Tensor, shape (len(seeds), *shape), optional
        States at the first noise level, for instance inverted images.
    resamples, seed : int
        Of the bootstrap; the seed also draws the random directions.
    progress : bool
        Show a progress bar.

    Returns
    -------
    SteerCurve
        The verdicts on its intervals of noise levels are one family; judge more than one curve by `judge_together`.

    Raises
    ------
    InputError
        For too few seeds, strengths or intervals that hold nothing, a target that is no score, scores that are not
        finite, no control at all, a direction of another size or site than the denoiser's, and a branch that the rule
        never calls for within an interval.
    """
    sampling, distance = sampling or Sampling(), distance or rms
    numbers = check_seeds(seeds, LEAST_SEEDS)
    check_judged(natural, budget, resamples)
    steering = Steering.of(
        direction, sampling, strengths=strengths, intervals=intervals, branch=branch, random=random, relevant=relevant,
        chosen_from=chosen_from, within=within, shuffled=shuffled, seed=seed,
    )  # fmt: skip
    found = steering.measure(
        denoiser, scores, target, seeds=numbers, condition=condition, start=start, distance=distance, progress=progress
    )
    return steering.judge(found, numbers, natural=natural, distance=distance, budget=budget, resamples=resamples)
