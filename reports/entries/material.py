"""What figures of the atlas are made from, and the runs that they share: each setting is sampled once.

material = Material(load_model("digits"), weak=load_model("digits_weak"), folder=Path("atlas/runs"))
material.sweep({"CFG": CFG(1.0)}, weights=(1.0, 2.0, 4.0))       # settings, from disk where they are made already
material.once("fine path", lambda: run_path(...))               # anything else that several figures need
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.sweep import Setting, sweep
from scorescope.probes.guidance import Rule
from scorescope.probes.models.denoiser import sigma_range
from scorescope.probes.models.fingerprint import fingerprint
from scorescope.probes.models.model import Model
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.recording.trace import Recording, Trace
from scorescope.probes.sampling.kept_predictions import KeptPredictions
from scorescope.probes.sampling.sample import Run, sample
from scorescope.probes.sampling.solvers import Heun

T = TypeVar("T")
LEAST = 8  # samples a setting
LOWEST, HIGHEST = 0.002, 80.0  # noise levels, where the model knows them


class RealImages(Protocol):
    """Images that a model was trained on, others, and the classes of both where they are known."""

    @property
    def train(self) -> Tensor:
        """Shape (n, *shape)."""

    @property
    def held_out(self) -> Tensor:
        """Shape (m, *shape)."""

    @property
    def labels(self) -> Tensor | None:
        """Of the first, shape (n,)."""

    @property
    def held_out_labels(self) -> Tensor | None:
        """Of the others, shape (m,)."""

    @property
    def name(self) -> str:
        """What captions call them."""


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Material:
    """What the user brings, and how much is sampled of it.

    Attributes
    ----------
    model : Model, optional
        What is studied.
    weak : Model, optional
        A weaker one of the same data, to guide with.
    checkpoints : mapping of str to Model
        By name, in the order of training; a name that is a number is where it stands on an axis.
    traces : sequence of Trace
        Recorded runs.
    data : RealImages, optional
        Real images in the model's units, as `reports.gaussian.Data` holds them.
    features : callable, optional
        Samples (n, *shape) to features (n, d), for distances; by default the values themselves.
    space : str
        What captions call the features, such as "features of DINOv2".
    images : callable, optional
        Makes a comparison of image sets, a `reports.fid.Study`: asked once.
    subject : callable, optional
        Makes a model with labelled images and a judge, a `reports.directions.Subject`: asked once.
    count : int
        Samples a setting.
    seed : int
        Of the first sample; the next has the next.
    steps : int
        Heun steps along the grid of EDM.
    weights : sequence of float
        Guidance weights that are swept.
    weight : float
        Of figures that show one run.
    repeats : int
        Seed sets of what is repeated for a band.
    band : str
        "interval": 95 % intervals; "minmax": least and largest of the repeats, as in many papers.
    device : str
        Where to sample.
    folder : Path, optional
        Where sampled settings are kept, and looked for first; None keeps them in memory.
    progress : bool
        Show progress bars.
    """

    model: Model | None = None
    weak: Model | None = None
    checkpoints: Mapping[str, Model] = field(default_factory=dict)
    traces: Sequence[Trace] = ()
    data: RealImages | None = None
    features: Callable[[Tensor], Tensor] | None = None
    space: str = ""
    images: Callable[[], Any] | None = None
    subject: Callable[[], Any] | None = None
    count: int = 96
    seed: int = 0
    steps: int = 18
    weights: Sequence[float] = (1.0, 2.0, 4.0, 8.0)
    weight: float = 4.0
    repeats: int = 3
    band: str = "interval"
    device: str = "cpu"
    folder: Path | None = None
    progress: bool = False
    _made: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.band not in ("interval", "minmax"):
            raise InputError("band", found=repr(self.band), expected="'interval' or 'minmax'")
        if self.count < LEAST or self.steps < 2 or self.repeats < 2:
            found = f"{self.count} samples, {self.steps} steps, {self.repeats} repeats"
            raise InputError("count, steps, repeats", found=found, expected=f"at least {LEAST}, 2 and 2")
        if not self.weights or self.weight not in self.weights:
            found = f"weight {self.weight:g}, of {', '.join(f'{w:g}' for w in self.weights) or 'none'}"
            raise InputError("weight, weights", found=found, expected="some weights, and one of them")

    @checked
    def has(self, need: str) -> bool:
        """Whether it holds what an entry calls by one of the words of `NEEDS`."""
        model, data = self.model, self.data
        return {
            "model": model is not None,
            "run": model is not None or len(self.traces) > 0,
            "conditions": model is None or self.once(("branches", id(model)), lambda: _has_branches(self)),
            "weak": self.weak is not None,
            "checkpoints": len(self.checkpoints) > 1,
            "data": data is not None,
            "labels": data is not None and data.labels is not None,
            "pictures": model is not None and is_picture(model),
            "images": self.images is not None,
            "subject": self.subject is not None,
        }[need]

    @property
    def studied(self) -> Model:
        """The model; an entry that asks for it has "model" among its needs."""
        if self.model is None:
            raise InputError("model", found="none", expected="a model")
        return self.model

    @property
    def seeds(self) -> range:
        """Of all samples."""
        return range(self.seed, self.seed + self.count)

    @property
    def sigmas(self) -> list[float]:
        """The grid of noise levels, ending with 0."""
        return self.grid(self.steps)

    @property
    def span(self) -> tuple[float, float]:
        """Least and largest noise level that the model knows, within those of the atlas."""
        return sigma_range(self.studied.denoiser, low=LOWEST, high=HIGHEST)

    @checked
    def grid(self, steps: int, model: Model | None = None, *, rho: float = 7.0) -> list[float]:
        """The grid of EDM within the levels that the model, or another one, knows, ending with 0."""
        low, high = sigma_range((model or self.studied).denoiser, low=LOWEST, high=HIGHEST)
        return edm_sigmas(steps, sigma_min=low, sigma_max=high, rho=rho)

    @checked
    def within(self, levels: Sequence[float], *models: Model | None) -> list[float]:
        """Those of some levels that all of several models know; by default the one that is studied."""
        spans = [sigma_range(one.denoiser) for one in models or (self.studied,) if one is not None]
        return [level for level in levels if all(low <= level <= high for low, high in spans)]

    @checked
    def first(self, count: int) -> dict[str, Any]:
        """Facts of the first samples alone."""
        return {"n": count, "seeds": f"{self.seed} to {self.seed + count - 1}"}

    @property
    def facts(self) -> dict[str, Any]:
        """What captions may name of it."""
        recorded = self.model is None and len(self.traces) > 0
        n = sum(len(trace.samples) for trace in self.traces) if recorded else self.count
        return {
            "model": self.model.name if self.model else "recorded traces" if recorded else "what was brought",
            "n": n,
            "seeds": "as recorded" if recorded else f"{self.seed} to {self.seed + self.count - 1}",
            "solver": "as recorded" if recorded else f"Heun, {self.steps} steps",
            "weight": self.weight,
            "weights": ", ".join(f"{w:g}" for w in self.weights),
            "space": self.space or ("values of elements" if self.features is None else "the user's own features"),
            "repeats": self.repeats,
        }

    @checked
    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` gives, made at the first call with this key."""
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found

    @checked
    def sweep(
        self,
        rules: Mapping[str, Rule],
        *,
        weights: Sequence[float] | None = None,
        over: Any = None,
        record: Recording | None = None,
        model: Model | None = None,
        seeds: Sequence[int] | None = None,
        **how: Any,
    ) -> list[Setting]:
        """Settings of the model, or another one, as `probes.experiments.sweep` samples them.

        Parameters
        ----------
        rules, weights, over
            As for `sweep`.
        record : Recording, optional
            By default the range of values alone: entries that record the same share their runs.
        model : Model, optional
            Another one than that which is studied.
        seeds : sequence of int, optional
            By default those of the material.
        **how
            `solver`, `sigmas`.

        Raises
        ------
        InputError
            As `sweep` does.
        """
        model, seeds = model or self.studied, list(seeds or self.seeds)
        how = {"sigmas": self.grid(self.steps, model), "solver": Heun(), **how}
        record = record or Recording(value_range=model.value_range)
        varied = {"weights": weights, "over": over}
        return [
            setting for name, rule in rules.items()
            for setting in self._swept(model, name, rule, varied, record=record, seeds=seeds, **how)
        ]  # fmt: skip

    @checked
    def path(self, rule: Rule | None, *, count: int | None = None, sigmas: Sequence[float] | None = None) -> Trace:
        """A run of the first `count` seeds with its states and branches kept, in memory."""
        seeds, sigmas = list(self.seeds)[:count], list(sigmas or self.sigmas)
        key = ("path", fingerprint([rule, len(seeds), sigmas], argument="rule"))
        return self.once(key, lambda: self._path(rule, seeds, sigmas))

    def _path(self, rule: Rule | None, seeds: Sequence[int], sigmas: Sequence[float]) -> Trace:
        model = self.studied
        denoiser: Any = model.denoiser if _perturbs(rule) else self._kept(model)
        record = Recording(keep=True, value_range=model.value_range)
        run: Run = sample(
            denoiser, seeds=seeds, condition=model.conditions(len(seeds)), shape=model.shape, sigmas=sigmas, rule=rule,
            record=record, device=self.device, progress=False,
        )  # fmt: skip
        assert run.trace is not None  # it was recorded
        return run.trace

    def _kept(self, model: Model) -> KeptPredictions:
        """A model that is asked once of what several settings share: first steps, w = 1, CFG under any recording."""
        return self.once(("kept", id(model)), lambda: KeptPredictions(model.denoiser))

    def _swept(self, model: Model, name: str, rule: Rule, varied: Mapping[str, Any], **how: Any) -> list[Setting]:
        """Settings of one rule: in a folder of `sweep`, of one model and way of sampling, a name is of one rule."""
        denoiser: Any = model.denoiser if _perturbs(rule) else self._kept(model)
        run = fingerprint([rule, how], argument="rules")
        key = ("sweep", id(model), name, run, fingerprint(varied, argument="weights, over"))
        folder = None
        if self.folder is not None:
            asked = [model.denoiser, model.shape, model.conditions(len(how["seeds"])), run]
            folder = self.folder / fingerprint(asked, argument="model")[:12]
            folder.parent.mkdir(parents=True, exist_ok=True)
        return self.once(
            key,
            lambda: sweep(
                denoiser, {name: rule}, condition=model.conditions(len(how["seeds"])), shape=model.shape,
                folder=folder, device=self.device, progress=self.progress, **varied, **how,
            ),
        )  # fmt: skip


def _has_branches(material: Material) -> bool:
    """Whether the model has conditions, and predicts without one: it is asked once, at one sample."""
    model = material.studied
    if model.conditions(1) is None:
        return False
    low, high = material.span
    x, sigma = torch.zeros(1, *model.shape, device=material.device), torch.full((1,), (low * high) ** 0.5)
    try:
        with torch.no_grad():
            model.denoiser(x, sigma.to(x.device), None)
    except Exception:  # of whatever kind: the network is the user's
        return False
    return True


def _perturbs(rule: Any) -> bool:
    """Whether a rule, or one inside of it, changes the model or its conditions: then a state says not all."""
    if not is_dataclass(rule):
        return False
    return bool(getattr(rule, "branch_parameters", ())) or any(map(_perturbs, vars(rule).values()))


def is_picture(model: Model) -> bool:
    """Whether a sample is an image that can be shown."""
    shape = model.shape
    return model.value_range is not None and len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) >= 2
