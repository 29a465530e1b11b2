"""Activations while samples are drawn, of every branch that is computed.

run, taps = sample_with_sites(denoiser, ["network.middle1"], seeds=range(64), condition=labels)
taps.at("network.middle1", step=5, call=0, branch="cond") # one row a sample
taps.activations()                                        # the same container as of a bank
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.activations.activations import Activations
from scorescope.probes.activations.collect import Sites, capturing, check_called, pools_of, reduced
from scorescope.probes.guidance.base import COND, GuidanceState
from scorescope.probes.models.denoiser import Denoiser
from scorescope.probes.sampling.sample import Run, sample
from scorescope.probes.sites.modules import Pool
from scorescope.probes.sites.outputs import Output, Outputs, OutputsRead

Key = tuple[str, int, int, str]


@displayed
@checked
@dataclass(frozen=True, eq=False)
class SampleTaps:
    """Activations along sampling.

    Attributes
    ----------
    values : dict of (site, step, call, branch) to Tensor, each of shape (sample, d), float32
        On the CPU; NaN in samples whose branch was not computed. "denoised" also has the branch "guided".
    sigmas : dict of (step, call) to float
        Noise level of each evaluation.
    how : mapping of str to Pool
        How each site was reduced.
    outputs : mapping of str to Output
        By site that is a module, which of the tensors that it puts out.
    """

    values: dict[Key, Tensor]
    sigmas: dict[tuple[int, int], float]
    how: Mapping[str, Pool]
    outputs: Mapping[str, Output] = field(default_factory=dict)

    def at(self, site: str, *, step: int, call: int = 0, branch: str = COND) -> Tensor:
        """One site in one evaluation, (sample, d).

        Raises
        ------
        InputError
            If it was not computed, naming what was.
        """
        key = (site, step, call, branch)
        if key not in self.values:
            sites, _, _, branches = (sorted(set(part), key=str) for part in zip(*self.values, strict=True))
            steps = 1 + max(s for s, _ in self.sigmas)
            expected = f"one of the sites {sites}, branches {branches} and steps 0 to {steps - 1}, where computed"
            raise InputError("site, step, call, branch", found=str(key), expected=expected)
        return self.values[key]

    def activations(self, *, branch: str = COND, call: int = 0) -> Activations:
        """One level an evaluation, of those that are the `call`-th of their step; images are the samples.

        Raises
        ------
        InputError
            For a branch that was not computed in all of them, for all samples.
        """
        places = [(step, number) for step, number in self.sigmas if number == call]
        values = {
            site: torch.stack([self.at(site, step=step, call=call, branch=branch) for step, _ in places])
            for site in self.how
        }
        count = len(next(iter(values.values()))[0])
        sigmas = tuple(self.sigmas[place] for place in places)
        return Activations(values, sigmas, torch.arange(count), self.how, branch, self.outputs)


@dataclass
class _Taps:
    """Keeps, when told of a prediction, what the sites put out on the way to it."""

    pools: Mapping[str, Pool]
    taken: dict[str, Tensor]
    count: int
    values: dict[Key, Tensor] = field(default_factory=dict)
    sigmas: dict[tuple[int, int], float] = field(default_factory=dict)

    def __call__(self, branch: str, state: GuidanceState, rows: Tensor, prediction: Tensor) -> None:
        self.sigmas[state.step, state.call] = state.sigma
        for site, value in reduced(self.pools, self.taken, state.x, prediction).items():
            key = (site, state.step, state.call, branch)
            if key not in self.values:
                self.values[key] = torch.full((self.count, value.shape[1]), torch.nan, device=value.device)
            self.values[key][rows.to(value.device)] = value
        # a branch that is predicted by another network has no activations here
        self.taken.clear()


@checked
def sample_with_sites(
    denoiser: Denoiser,
    sites: Sites,
    *,
    seeds: Sequence[int],
    how: Pool = "mean",
    output: Outputs = None,
    **options: Any,
) -> tuple[Run, SampleTaps]:
    """Sample as `sample` does, keeping activations by (sample, step, call, branch); the samples are the same.

    Parameters
    ----------
    denoiser : Denoiser
        The model, a `torch.nn.Module` where a site is a module.
    sites, how, output
        As in `collect`.
    seeds : sequence of int
        One a sample.
    **options
        Further arguments of `sample`, but for `watch`.

    Returns
    -------
    run : Run
        What `sample` gives.
    taps : SampleTaps
        The activations, on the CPU.

    Raises
    ------
    InputError
        As `collect` and `sample` do.
    """
    pools, seeds, outputs = pools_of(sites, how), list(seeds), OutputsRead(output)
    with capturing(denoiser, pools, outputs) as taken:
        taps = _Taps(pools, taken, len(seeds))
        run = sample(denoiser, seeds=seeds, watch=taps, **options)
    check_called(pools, (site for site, *_ in taps.values))
    values = {key: value.cpu() for key, value in taps.values.items()}
    return run, SampleTaps(values, taps.sigmas, pools, outputs.found)
