"""What the Gaussian report studies: a model, its data, and the laws fitted to them, each made when first needed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from scorescope.analysis.gaussian.far_field import FarField, far_field
from scorescope.analysis.gaussian.paths import seed_noise
from scorescope.analysis.gaussian.skip import FINE_STEPS, Suggestion, suggest_skip
from scorescope.analysis.statistics.studentised import LEAST_UNITS
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations import (
    Approximation,
    Gaussian,
    ImageFolder,
    Mixture,
    TrainingSet,
    fit_gaussian,
    fit_isotropic,
    fit_kmeans,
    fit_per_class,
)
from scorescope.probes.models.denoiser import Condition, Denoiser, seconds_a_call, sigma_range
from scorescope.probes.models.model import Model
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.sampling.paths import Path as NetworkPath
from scorescope.probes.sampling.paths import run_path
from scorescope.reports.page.numbers import duration

TOLERANCE = 1e-3  # relative squared error of the state up to which the closed form may carry
SIGMAS = (80.0, 57.0, 40.0, 28.0, 20.0, 14.0, 10.0, 7.0, 5.0, 3.5, 2.5, 1.8, 1.3, 0.9, 0.6, 0.4, 0.25, 0.15, 0.08, 0.04)
MEMORY_SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
LOWEST, HIGHEST = 0.002, 80.0  # noise levels of the report, where the model knows them
CALLS = {True: 770, False: 1048}  # of one seed's paths and samples, by whether the report is quick
LEAST = 12  # training images: fewer than the clusters of the finest mixture cannot be fitted
FULL_LIMIT = 2048  # features or samples up to which full covariances are fitted


@displayed
@checked
@dataclass(frozen=True)
class Data:
    """What a model was trained on, and what it was not: in the model's units.

    Attributes
    ----------
    train, held_out : Tensor, shape (n, *shape)
        Images.
    labels : Tensor, shape (n,), optional
        Classes of the training images.
    name : str
        What the page calls them.
    held_out_labels : Tensor, shape (n,), optional
        Classes of the others.
    """

    train: Tensor
    held_out: Tensor
    labels: Tensor | None = None
    name: str = "data"
    held_out_labels: Tensor | None = None

    @checked
    def limited(self, count: int | None, *, seed: int = 0) -> "Data":
        """At most so many images in all, of both sets in the shares that they have; drawn by the seed."""
        total = len(self.train) + len(self.held_out)
        if count is None or count >= total:
            return self
        held = max(2, round(count * len(self.held_out) / total))
        draw = torch.Generator().manual_seed(seed)
        train, asked = (
            torch.randperm(len(images), generator=draw)[:most]
            for images, most in ((self.train, count - held), (self.held_out, held))
        )
        labels = None if self.labels is None else self.labels[train]
        others = None if self.held_out_labels is None else self.held_out_labels[asked]
        fewer = self.train[train], self.held_out[asked]
        return replace(self, train=fewer[0], held_out=fewer[1], labels=labels, held_out_labels=others)


class _On:
    """A denoiser on a device of its own, for callers whose tensors are elsewhere."""

    def __init__(self, denoiser: Denoiser, device: str | torch.device) -> None:
        self.denoiser, self.device, self.sigma_range = denoiser, device, sigma_range(denoiser)

    def __call__(self, x: Tensor, sigma: Tensor, condition: Condition, /) -> Tensor:
        return self.denoiser(x.to(self.device), sigma.to(self.device), condition).to(x.device)


@dataclass(frozen=True)
class Study:
    """Everything that the sections share."""

    model: Model
    data: Data
    quick: bool
    progress: bool
    seed: int = 0
    device: str = "cpu"
    count: int | None = None  # of seeds, and of held-out images at most; by default as `quick` has it

    def __post_init__(self) -> None:
        if min(len(self.train), LEAST * len(self.held_out)) < LEAST:
            found = f"{len(self.train)} training and {len(self.held_out)} held-out images"
            raise InputError("data", found=found, expected=f"at least {LEAST} to fit laws to, and one to ask about")

    @property
    def seeds(self) -> range:
        """Seeds of paths and samples."""
        return range(self.seed, self.seed + (self.count or (48 if self.quick else 128)))

    @property
    def evaluations(self) -> int:
        """About how many states the network is asked about in all; a test counts what a report really asks."""
        count = len(self.held_out)
        scores = len(SIGMAS) * (2 * count if self.quick else 5 * count)
        return len(self.seeds) * CALLS[self.quick] + scores + len(MEMORY_SIGMAS) * 2 * count

    def cost(self) -> str:
        """What it takes, from a call that is timed here."""
        x = self.train[: len(self.seeds)].float()
        seconds = seconds_a_call(self.denoiser, x, None)
        return (
            f"{self.evaluations} states through the network, its unconditional branch: about "
            f"{duration(self.evaluations * seconds / len(x))} (from {seconds:.2g} s for {len(x)}), beside half a "
            "minute of fits and figures"
        )

    @cached_property
    def denoiser(self) -> Denoiser:
        """The model, for tensors on the CPU."""
        return self.model.denoiser if self.device == "cpu" else _On(self.model.denoiser, self.device)

    @cached_property
    def span(self) -> tuple[float, float]:
        """Least and largest noise level of this report."""
        return sigma_range(self.model.denoiser, low=LOWEST, high=HIGHEST)

    def within(self, sigmas: Sequence[float]) -> tuple[float, ...]:
        """Those of some levels that the denoiser knows."""
        return tuple(sigma for sigma in sigmas if self.span[0] <= sigma <= self.span[1])

    def grid(self, steps: int) -> list[float]:
        """Falling levels from the largest to the least, then 0."""
        return edm_sigmas(steps, sigma_min=self.span[0], sigma_max=self.span[1])

    @property
    def limits(self) -> str:
        """Which noise levels are left out, and why; empty where none are."""
        if self.span == (LOWEST, HIGHEST):
            return ""
        (low, high), (least, most) = self.span, sigma_range(self.model.denoiser)
        own = "no others" if (low, high) == (least, most) else f"{least:.3g} to {most:.3g}"
        return f" All noise levels lie between σ = {low:.3g} and {high:.3g}; the model knows {own}."

    @cached_property
    def train(self) -> Tensor:
        """Training images in float64: what the laws are fitted to."""
        return self.data.train.double()

    @cached_property
    def held_out(self) -> Tensor:
        """Held-out images that are asked about."""
        return self.data.held_out[: self.count or (120 if self.quick else None)]

    @property
    def rank(self) -> int | None:
        """Modes kept; all of them up to a size at which a full covariance is a matter of seconds."""
        return None if min(self.train[0].numel(), len(self.train)) <= FULL_LIMIT else 512

    @cached_property
    def gaussian(self) -> Gaussian:
        """The Gaussian that everything is compared with."""
        return fit_gaussian(self.train, rank=self.rank, name="gaussian", value_range=self.model.value_range)

    @cached_property
    def modes(self) -> Mixture:
        """What 'the same mode' means: the classes where there are labels, else k-means clusters."""
        if self.data.labels is not None:
            return fit_per_class(self.train, self.data.labels, rank=self.rank)
        return fit_kmeans(self.train, clusters=10, rank=self.rank, name="k-means 10")

    @cached_property
    def laws(self) -> list[Approximation]:
        """All laws, simplest first."""
        rank = max(1, min(16, self.gaussian.dimension // 4))
        few = min(50, len(self.train) // 20 + 1)
        return [
            fit_isotropic(self.train), self.gaussian, fit_gaussian(self.train, rank=rank), self.modes,
            fit_kmeans(self.train, clusters=few, rank=min(8, rank)), TrainingSet(self.train),
        ]  # fmt: skip

    @cached_property
    def far(self) -> FarField:
        """What the data say of the Gaussian at high noise, from at most 5000 training images."""
        return far_field(self.train[:5000])

    @cached_property
    def fine(self) -> NetworkPath:
        """The network's own path from every seed's noise, in steps so fine that their error does not count."""
        start = self.span[1] * seed_noise(self.seeds, self.gaussian.shape, torch.float32)
        return run_path(self.denoiser, start, self.grid(FINE_STEPS))

    @cached_property
    def advice(self) -> Suggestion:
        """How far the closed form may carry."""
        return suggest_skip(
            self.denoiser, self.gaussian, self.far, tolerance=TOLERANCE, seeds=self.seeds,
            candidates=self.grid(18)[1:-1], sigma_max=self.span[1], path=self.fine,
        )  # fmt: skip


def bands(count: int, units: str = "images") -> str:
    """What the bands of a figure are, as a sentence; that there are none, where units are too few for one."""
    if count < LEAST_UNITS:
        return f"Without bands: {count} {units} are fewer than the {LEAST_UNITS} that an interval takes. "
    return f"Bands are 95 % bootstrap intervals over {units}. "


@checked
def digits_of(model: Model) -> Data:
    """The shipped digits, for a model that has them; else an error that asks for data."""
    if model.digits is None:
        raise InputError("data", found=f"none for the model {model.name!r}", expected="training and held-out images")
    train, others = model.digits.train, model.digits.held_out
    name = "scikit-learn digits, 8x8, split seed 0"
    return Data(train.images, others.images, train.labels, name, others.labels)


@checked
def split(images: Tensor, *, share: float = 0.2, name: str = "data", seed: int = 0) -> Data:
    """A training and a held-out set from one set of images; the model should not have seen the latter."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    count = max(2, int(share * len(images)))
    return Data(images[order[count:]], images[order[:count]], name=name)


@checked
def from_folder(folder: Path | str, model: Model, *, size: int | None = None, seed: int = 0) -> Data:
    """The images of a folder, as the model's shape, in [-1, 1]; grey where the model has one channel.

    Raises
    ------
    InputError
        For a folder that `ImageFolder` refuses, or images of another shape than the model's.
    """
    images = torch.cat(list(ImageFolder(folder, size=size)))
    if model.shape[0] == 1:
        images = images.mean(1, keepdim=True)
    if tuple(images.shape[1:]) != model.shape:
        raise InputError(str(folder), found=f"images of shape {tuple(images.shape[1:])}", expected=f"{model.shape}")
    return split(images, name=str(folder), seed=seed)
