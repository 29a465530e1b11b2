"""Runs with changed steps from the same seeds, and how far apart their ends are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats
from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser, working_dtype
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.perturbations import Change, ChangedSteps
from scorescope.probes.perturbations.step_changes import NEEDS_EARLIER
from scorescope.probes.recording import Recording
from scorescope.probes.sampling import Heun, KeptPredictions, Run, Sampling, sample


@displayed
@dataclass(frozen=True)
class StepRunner:
    """Runs with changed steps from the same seeds, which share the calls before them."""

    denoiser: Denoiser
    seeds: Sequence[int]
    condition: Condition
    sampling: Sampling
    sigmas: Sequence[float]

    @classmethod
    def of(
        cls, denoiser: Denoiser, seeds: Sequence[int], condition: Condition, sampling: Sampling | None
    ) -> "StepRunner":
        """What is not said is as `sample` has it.

        Raises
        ------
        InputError
            For fewer than three steps.
        """
        sampling = sampling or Sampling()
        sigmas = edm_sigmas() if sampling.sigmas is None else sampling.sigmas
        if len(sigmas) < 4:
            raise InputError("sampling", found=f"{len(sigmas)} noise levels", expected="at least 3 steps")
        return cls(KeptPredictions(denoiser), seeds, condition, sampling, sigmas)

    def steps(self, change: Change) -> range:
        """Steps that can be changed so."""
        return range(1 if isinstance(change, NEEDS_EARLIER) else 0, len(self.sigmas) - 1)

    def run(self, changes: Mapping[int, Change], *, record: bool = False) -> Run:
        """Samples with these steps changed."""
        how = {name: getattr(self.sampling, name) for name in ("rule", "shape", "batch", "device", "dtype")}
        solver = self.sampling.solver or Heun()
        return sample(
            self.denoiser, seeds=self.seeds, condition=self.condition, sigmas=self.sigmas, **how, progress=False,
            solver=ChangedSteps(solver, changes) if changes else solver,
            record=Recording(keep=True) if record else None,
        )  # fmt: skip


def distance(samples: Tensor, others: Tensor) -> Floats:
    """Root mean square over elements of the difference of each pair."""
    wide = working_dtype(samples)
    found: Floats = (samples.to(wide) - others.to(wide)).flatten(1).square().mean(1).sqrt().cpu().double().numpy()
    return found


def spread(samples: Tensor) -> float:
    """Root mean square over elements and samples of the distance from their mean."""
    return float(np.sqrt((distance(samples, samples.mean(0, keepdim=True).expand_as(samples)) ** 2).mean()))
