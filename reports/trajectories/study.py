"""What the trajectories report studies: a model, its guidance and levels, and the runs that its sections share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from scorescope.analysis.gaussian.paths import seed_noise
from scorescope.analysis.trajectories import reference_ends
from scorescope.data.classifiers import load_classifier
from scorescope.data.display import displayed
from scorescope.probes.approximations import Gaussian, fit_gaussian
from scorescope.probes.guidance import CFG
from scorescope.probes.models.conditions import to_device
from scorescope.probes.models.denoiser import Condition, Denoiser, seconds_a_call, sigma_range
from scorescope.probes.models.model import Model
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.sampling import (
    DPMSolverPP2M,
    Euler,
    Heun,
    Path,
    RuleField,
    Sampling,
    Solver,
    ays_sigmas,
    run_path,
    run_to_end,
    uniform_log_sigmas,
)
from scorescope.reports.page.numbers import duration

LOWEST, HIGHEST = 0.002, 80.0  # noise levels of the report, where the model knows them
SOLVERS: dict[str, Solver] = {"Euler": Euler(), "Heun": Heun(), "DPM++ 2M": DPMSolverPP2M()}
MAIN, STEPS = "DPM++ 2M", 10  # whose steps are looked at one by one
CALLS = (6, 10, 20)
TUNED_CALLS = 8
FINE_STEPS = 60
LAW_STEPS = 20  # of samples that a Gaussian is fitted to
FULL_LIMIT = 2048  # values of a sample up to which a full covariance is fitted
BITS = 4  # of the weights of a network that stands in for the model in one step
BAND_EDGES = (0.125, 0.25)  # cycles per pixel
EVALUATIONS = {True: 5500, False: 8500}  # a seed, about, unguided


@displayed
@dataclass(frozen=True)
class Study:
    """Everything that the sections share."""

    model: Model
    quick: bool
    progress: bool
    weight: float = 1.0
    count: int | None = None  # of seeds; by default as `quick` has it
    seed: int = 0
    device: str = "cpu"
    images: Tensor | None = None  # what the model was trained on

    @property
    def seeds(self) -> range:
        """Of all runs but those that judge a schedule."""
        return range(self.seed, self.seed + (self.count or (24 if self.quick else 64)))

    @property
    def held_out_seeds(self) -> range:
        """Four times as many, which had no part in finding a schedule."""
        return range(self.seeds.stop, self.seeds.stop + 4 * len(self.seeds))

    @cached_property
    def denoiser(self) -> Denoiser:
        """The model, guided if a weight says so."""
        return self.model.denoiser if self.weight == 1.0 else RuleField(self.model.denoiser, CFG(self.weight))

    def condition(self, count: int) -> Condition:
        """One row a sample, on the device."""
        return to_device(self.model.conditions(count), torch.device(self.device))

    def start(self, seeds: range) -> Tensor:
        """Noise at the highest level, on the device; a row depends on its seed alone."""
        dtype = torch.float32 if self.network is None else next(self.network.parameters()).dtype
        dtype = dtype if dtype in (torch.float32, torch.float64) else torch.float32
        return (self.span[1] * seed_noise(seeds, self.model.shape, dtype)).to(self.device)

    @cached_property
    def span(self) -> tuple[float, float]:
        """Least and largest noise level of this report."""
        return sigma_range(self.model.denoiser, low=LOWEST, high=HIGHEST)

    def grid(self, steps: int) -> list[float]:
        """EDM's levels from the highest to the lowest, then 0."""
        return edm_sigmas(steps, sigma_min=self.span[0], sigma_max=self.span[1])

    def schedules(self, steps: int) -> dict[str, list[float]]:
        """Levels of the same ends by the rules that are compared."""
        low, high = self.span
        return {
            "ρ = 7": self.grid(steps), "uniform ln σ": uniform_log_sigmas(steps, high=high, low=low),
            "AYS, stretched": ays_sigmas(steps, high=high, low=low),
        }  # fmt: skip

    @cached_property
    def sampling(self) -> Sampling:
        """The sampler whose steps are changed one by one."""
        rule = None if self.weight == 1.0 else CFG(self.weight)
        return Sampling(
            sigmas=self.grid(STEPS), solver=SOLVERS[MAIN], shape=self.model.shape, device=self.device, rule=rule
        )

    @cached_property
    def fine(self) -> Path:
        """Every seed's path in steps so fine that their error does not count beside the shapes that are read of it."""
        return run_path(
            self.denoiser, self.start(self.seeds), self.grid(FINE_STEPS), condition=self.condition(len(self.seeds))
        )

    @cached_property
    def exact(self) -> Tensor:
        """Where the exact flow of the seeds ends."""
        return reference_ends(
            self.denoiser, self.start(self.seeds), self.grid(STEPS), condition=self.condition(len(self.seeds))
        )

    @cached_property
    def law(self) -> Gaussian:
        """The Gaussian that stands beside the model: of the images if there are enough, else of samples of other seeds.

        Of the same seeds it would be nearer to their own starts than a law is.
        """
        if self._has_many:
            assert self.images is not None
            return self._fitted(self.images)
        start, condition = self.start(self.held_out_seeds), self.condition(len(self.held_out_seeds))
        ended, _ = run_to_end(self.denoiser, start, self.grid(LAW_STEPS), condition=condition, solver=SOLVERS[MAIN])
        return self._fitted(ended.cpu())

    def _fitted(self, images: Tensor) -> Gaussian:
        return fit_gaussian(images.double(), rank=None if images[0].numel() <= FULL_LIMIT else 512)

    @property
    def _has_many(self) -> bool:
        return self.images is not None and len(self.images) >= 4 * len(self.seeds)

    @property
    def law_source(self) -> str:
        """Where its mean and covariance are from."""
        return (
            f"of {len(self.images if self.images is not None else ())} images"
            if self._has_many
            else f"of {len(self.held_out_seeds)} samples of other seeds, {LAW_STEPS} steps of {MAIN}"
        )

    @property
    def edges(self) -> tuple[float, ...]:
        """Of frequency bands, for images."""
        return BAND_EDGES if len(self.model.shape) == 3 else ()

    @cached_property
    def classify(self) -> Callable[[Tensor], Tensor] | None:
        """Classes of predictions, where the package has a classifier of the model's data."""
        if self.model.digits is None:
            return None
        classifier = load_classifier("digits", device=self.device)[0]
        return lambda images: classifier(images.float()).argmax(1)

    @property
    def network(self) -> nn.Module | None:
        """The model as a network with weights; None where it has none."""
        denoiser = self.model.denoiser
        if isinstance(denoiser, nn.Module) and next(denoiser.parameters(), None) is not None:
            return denoiser
        return None

    @property
    def how(self) -> str:
        """How the samples were made, for captions."""
        guided = "without guidance" if self.weight == 1.0 else f"CFG at w = {self.weight:g}"
        return f"{len(self.seeds)} seeds, {guided}, σ from {self.span[1]:.3g} to {self.span[0]:.3g}"

    def cost(self) -> str:
        """What it takes, from a call that is timed here."""
        count = len(self.seeds)
        seconds = seconds_a_call(self.model.denoiser, self.start(self.seeds), self.condition(count))
        states = count * EVALUATIONS[self.quick] * (1 if self.weight == 1.0 else 2)
        return (
            f"about {states} states through the network: {duration(states * seconds / count)} (from {seconds:.2g} s "
            f"for {count}), beside some ten seconds of figures"
        )
