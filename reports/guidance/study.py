"""What the guidance report studies: a model, sampled under several rules from the same seeds, each once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.guidance.decomposition import decompose, decompose_centred, summarise
from scorescope.analysis.guidance.information import suggest_interval
from scorescope.analysis.guidance.quality import class_scorer
from scorescope.analysis.guidance.run_keys import PATH, summarise_runs
from scorescope.analysis.guidance.sweeps import sample_metrics
from scorescope.data.checkpoints import load_denoiser
from scorescope.data.doors import checked
from scorescope.probes.experiments.sweep import Setting
from scorescope.probes.guidance import (
    APG,
    CFG,
    AdaptiveGuidance,
    Autoguidance,
    CFGZeroStar,
    FrequencyDecoupled,
    Interval,
    MagnitudeAware,
    Rescaled,
    Rule,
    TangentialCFG,
)
from scorescope.probes.models.denoiser import seconds_a_call
from scorescope.probes.models.model import Model
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.recording.trace import Recording, Trace
from scorescope.probes.sampling.kept_predictions import KeptPredictions
from scorescope.probes.sampling.sample import Run, sample
from scorescope.reports.page.numbers import duration

WEIGHTS = (1.0, 2.0, 4.0, 8.0)
CALLS = 35  # of one branch along a path: Heun with 18 steps
WEIGHT = 4.0  # of figures that show one run, and of the rules that are compared with each other
STRONG = 8.0
PAPER_THRESHOLD = 0.991  # of adaptive guidance (arXiv 2312.12487): the one that the claim is tested at
THRESHOLDS = (0.98, PAPER_THRESHOLD, 0.995, 0.998, 0.9999)
SAVED = 0.2  # share of the calls that adaptive guidance is said to save
KEPT = 0.02  # largest change of class agreement that counts as none
BAND_EDGES = (0.125, 0.3)  # cycles a pixel
INFORMATION_STEPS = 60  # of the run that the information is read from: 18 steps move the interval's ends by 8 %


@dataclass(frozen=True, eq=False)
class Study:
    """A model, how much is sampled of it, and what was recorded of it once for all sections.

    Attributes
    ----------
    model : Model
        What is sampled from.
    count : int
        Samples a setting.
    device : str
        Where.
    progress : bool
        Show progress bars.
    failed : callable
        Told of a setting that cannot be sampled: its name and the error.
    seed : int
        Of the first sample.
    """

    model: Model
    count: int
    device: str
    progress: bool
    failed: Callable[[str, BaseException], None]
    seed: int = 0

    def cost(self) -> str:
        """What it takes to the first figure, and in all, by two calls that are timed here."""
        x = torch.randn(self.count, *self.model.shape, device=self.device)
        seconds = seconds_a_call(self.model.denoiser, x, self.model.conditions(self.count))
        one = seconds * 2 * CALLS  # of one setting: two branches
        # about: which others there are depends on the first; what settings share is computed once
        first, every = 2 * len(WEIGHTS) - 1, 2 * len(WEIGHTS) + 9
        return (
            f"{self.count} samples a setting: the network takes about {duration(first * one)} to the first figure and "
            f"{duration(every * one)} in all (from {seconds:.2g} s a call), beside about a minute of analysis and "
            "figures; fewer samples with --count"
        )

    @cached_property
    def denoiser(self) -> KeptPredictions:
        """The model, asked once of what several settings share: their first steps, w = 1, the paths of some samples."""
        return KeptPredictions(self.model.denoiser)

    @cached_property
    def swept(self) -> list[Setting]:
        """CFG and APG at every weight."""
        recording = replace(self._counting, all_branches=True, centred=True, band_edges=self._edges)
        return self._record({f"{kind.__name__}, w = {w:g}": kind(w) for kind in (CFG, APG) for w in WEIGHTS}, recording)

    @property
    def runs(self) -> dict[tuple[str, float], Run]:
        """Their runs by rule and weight."""
        return {(type(setting.rule).__name__, setting.rule.weight): setting.run for setting in self.swept}

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Their decomposition."""
        return pd.concat([decompose(trace) for trace in self._traces], ignore_index=True)

    @cached_property
    def steps(self) -> pd.DataFrame:
        """Its summary, step by step."""
        return summarise(self.rows)

    @cached_property
    def centred(self) -> pd.DataFrame:
        """The same with channel means removed."""
        rows = pd.concat([decompose_centred(trace) for trace in self._traces], ignore_index=True)
        quantities = [str(name) for name in rows if str(name).startswith("centred_")]
        return summarise_runs(rows, by=[*PATH, "step", "call", "sigma"], quantities=quantities, reasons=True)

    @cached_property
    def unguided(self) -> Trace:
        """An unguided run with so many steps that the suggested interval does not depend on them."""
        recording = Recording(all_branches=True, band_edges=self._edges)
        return self._trace(None, self.count, recording, edm_sigmas(INFORMATION_STEPS))

    @cached_property
    def interval(self) -> pd.DataFrame:
        """Noise levels to guide at, as the information along the unguided run suggests them."""
        return suggest_interval(self.unguided)

    @cached_property
    def below(self) -> float:
        """Largest noise level at which adaptive guidance looks at the cosine."""
        return look_below(self.unguided)

    @cached_property
    def compared(self) -> list[Setting]:
        """Settings that are compared with each other: the swept ones, and other rules."""
        # of these only samples and needed calls are asked about: no branch is computed to be looked at alone
        return self.swept + self._record(compared_rules(self.model, self.interval, below=self.below), self._counting)

    @property
    def sampled(self) -> list[Setting]:
        """Settings that were sampled so far."""
        made: list[Setting] = vars(self).get("compared", self.swept)
        return made

    @cached_property
    def labels(self) -> Tensor | None:
        """Class of every sample, where the condition is one."""
        condition = self.model.conditions(self.count)
        return condition if isinstance(condition, Tensor) and condition.ndim == 1 else None

    @cached_property
    def scorer(self) -> Callable[[Tensor], NDArray[np.float64]] | None:
        """Whether each sample shows its class, by a classifier of the real data, where the model is one of digits."""
        if self.model.digits is None or self.labels is None:
            return None
        return class_scorer(self.labels, train=self.model.digits.train)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Sample-level metrics of every compared setting."""
        return sample_metrics(self.compared, value_range=self.model.value_range, scorer=self.scorer, labels=self.labels)

    def path(self, rule: Rule, count: int) -> Trace:
        """A run of which states and branches are kept."""
        return self._trace(rule, count, Recording(keep=True))

    @property
    def _edges(self) -> tuple[float, ...]:
        return BAND_EDGES if len(self.model.shape) == 3 else ()

    @property
    def _traces(self) -> list[Trace]:
        return [run.trace for run in self.runs.values() if run.trace is not None]

    @property
    def _counting(self) -> Recording:
        return Recording(value_range=self.model.value_range)

    def _record(self, rules: Mapping[str, Rule], recording: Recording) -> list[Setting]:
        """Sample every setting; one that fails is noted, and the others go on."""
        settings: list[Setting] = []
        for name, rule in tqdm(rules.items(), desc="recording guidance", disable=not self.progress):
            try:
                settings.append(Setting(name, rule, self._sample(rule, self.count, recording)))
            except Exception as error:
                self.failed(name, error)
        return settings

    def _trace(
        self, rule: Rule | None, count: int, recording: Recording, sigmas: Sequence[float] | None = None
    ) -> Trace:
        trace = self._sample(rule, count, recording, sigmas).trace
        assert trace is not None  # it was recorded
        return trace

    def _sample(
        self, rule: Rule | None, count: int, recording: Recording, sigmas: Sequence[float] | None = None
    ) -> Run:
        return sample(
            self.denoiser, seeds=range(self.seed, self.seed + count), condition=self.model.conditions(count),
            shape=self.model.shape, sigmas=sigmas, rule=rule, record=recording, device=self.device,
            progress=False,
        )  # fmt: skip


@checked
def compared_rules(model: Model, interval: pd.DataFrame, *, below: float) -> dict[str, Rule]:
    """Rules that are compared with CFG and APG, by name.

    Parameters
    ----------
    model : Model
        Says which rules there can be.
    interval : DataFrame
        The one that the information curve suggests; where none is suggested, no rule has one.
    below : float
        Largest noise level at which adaptive guidance looks at the cosine, from `look_below`.
    """
    rules: dict[str, Rule] = {}
    if not interval["missing"].iloc[0]:
        low, high = float(interval["low"].iloc[0]), float(interval["high"].iloc[0])
        rules |= {
            f"interval, w = {WEIGHT:g}": Interval(CFG(WEIGHT), low=low, high=high),
            f"interval, w = {STRONG:g}": Interval(CFG(STRONG), low=low, high=high),
            f"interval APG, w = {STRONG:g}": Interval(APG(STRONG), low=low, high=high),
        }
    rules |= {
        f"rescaled (v, 0.7), w = {WEIGHT:g}": Rescaled(CFG(WEIGHT), phi=0.7, space="v"),
        f"tangential, w = {WEIGHT:g}": TangentialCFG(WEIGHT),
        f"CFG-Zero*, w = {WEIGHT:g}": CFGZeroStar(WEIGHT),
        f"magnitude-aware, w = {WEIGHT:g}": MagnitudeAware(WEIGHT),
    }
    if len(model.shape) == 3 and min(model.shape[1:]) >= 2:
        rules[f"frequency-decoupled, w = 1, {WEIGHT:g}"] = FrequencyDecoupled((1.0, WEIGHT))
    if model.name == "digits":
        rules["autoguidance, w = 2"] = Autoguidance(2.0, load_denoiser("digits_weak")[0])
    for threshold in THRESHOLDS:
        rules[f"adaptive, threshold {threshold:g}"] = AdaptiveGuidance(CFG(WEIGHT), threshold=threshold, below=below)
    return rules


@checked
def look_below(unguided: Trace) -> float:
    """Noise level at which the branches disagree most in eps space, in the mean of an unguided run.

    Adaptive guidance supposes that the cosine rises along the path. It does from here on; above it the branches agree
    because both are the noise, and a rule that looks there stops before it has guided. Where they never disagree a rule
    may look from the start.
    """
    rows = decompose(unguided)
    means = rows[rows["call"] == 0].groupby("sigma")["one_minus_cos_eps"].mean()
    return float(means[means == means.max()].index.max()) * (1 + 1e-6)  # the level itself is looked at
