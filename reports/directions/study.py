"""What the directions report studies: a denoiser, labelled images, a judge of attributes, and the contrasts asked.

    subject = shapes_subject()

For your own model, write a function that returns a `Subject` and name it on the command line:
`scorescope report directions --subject my_package.my_module:make_subject`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from scorescope.data.attribute_scorer import load_scorer
from scorescope.data.checkpoints import load_denoiser
from scorescope.data.classifiers import load_classifier
from scorescope.data.digit_measures import measure_digits
from scorescope.data.digits import load_digits
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.shapes import ATTRIBUTES, SHAPE, SIZES, render_shapes
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.factories import call_factory, import_factory
from scorescope.probes.models.model import combinations
from scorescope.probes.sites.modules import find_site

SHAPES_SITES = (
    "network.first", "network.down.0", "network.down.1", "network.down.2", "network.middle1",
    "network.attention", "network.middle2", "network.up.0", "network.up.1", "network.up.2",
)  # fmt: skip
DIGITS_SITES = (
    "network.first", "network.down.0", "network.down.1", "network.middle1", "network.attention", "network.middle2",
    "network.up.0", "network.up.1",
)  # fmt: skip
SHAPES_SEED = 100  # images that neither training nor the scorer saw


Scores = Callable[[Tensor], dict[str, Tensor]]


@checked
@dataclass(frozen=True)
class Contrast:
    """Two values of one attribute: a direction leads from `low` to `high`.

    Attributes
    ----------
    attribute : str
        Its name.
    low, high : str
        The two values.
    """

    attribute: str
    low: str
    high: str

    def __str__(self) -> str:
        return f"{self.attribute}: {self.low} to {self.high}"


@checked
@dataclass(frozen=True)
class Subject:
    """Everything that the report has to know of a model and its data.

    Attributes
    ----------
    denoiser : Denoiser
        The model: a `torch.nn.Module`, so that sites inside it can be named.
    name : str
        What figures and pages call it.
    images : Tensor, shape (n, *shape)
        Labelled images in the model's units, best not those it was trained on.
    labels : Tensor, shape (n, attribute), int64
        Value of each attribute.
    attributes : mapping of str to sequence of str
        Names of each attribute's values, in the order of the labels' columns.
    scorer : callable
        Images to {attribute: (n, values) log-probabilities}: the judge of samples. May know more attributes than
        the labels (a nuisance); those are judged as off-target.
    sites : sequence of str
        Inner modules to look at.
    contrasts : sequence of Contrast
        What is asked, the first one in most detail.
    conditions : callable
        Labels (n, attribute) to what the denoiser takes as condition.
    draw_labels : callable
        Number of samples to labels, in an order that treats values alike.
    pairs : callable, optional
        Labels to images (n, *shape) that show them and are alike in everything else, whatever the labels: makes
        counterfactual pairs. Where there is none, what needs pairs is left out.
    told : sequence of str, optional
        Attributes that the condition names, in the order of its tokens; None means all, in the order of the labels.
        The others can be read and steered, but no condition can be switched, and nothing is asked about information.
    source : str
        Where the weights come from, for the manifest.
    """

    denoiser: Denoiser
    name: str
    images: Tensor
    labels: Tensor
    attributes: Mapping[str, Sequence[str]]
    scorer: Callable[[Tensor], Mapping[str, Tensor]]
    sites: Sequence[str]
    contrasts: Sequence[Contrast]
    conditions: Callable[[Tensor], Condition]
    draw_labels: Callable[[int], Tensor]
    pairs: Callable[[Tensor], Tensor] | None = None
    told: Sequence[str] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.images), len(self.attributes)):
            found = f"shape {tuple(self.labels.shape)}"
            raise InputError("labels", found=found, expected=f"({len(self.images)}, {len(self.attributes)})")
        for site in self.sites:
            find_site(self.denoiser, site)
        for contrast in self.contrasts:
            self.values(contrast)
        for attribute in self.told or ():
            self.column(attribute)
        if not self.contrasts or not self.sites:
            raise InputError("sites, contrasts", found="none", expected="at least one of each")

    def column(self, attribute: str) -> int:
        """Column of an attribute in the labels."""
        if attribute not in self.attributes:
            raise InputError("attribute", found=repr(attribute), expected=f"one of {', '.join(self.attributes)}")
        return list(self.attributes).index(attribute)

    def values(self, contrast: Contrast) -> tuple[int, int]:
        """Label values of a contrast's two ends."""
        names = list(self.attributes[list(self.attributes)[self.column(contrast.attribute)]])
        for value in (contrast.low, contrast.high):
            if value not in names:
                raise InputError("contrast", found=f"{contrast.attribute}={value!r}", expected=f"one of {names}")
        return names.index(contrast.low), names.index(contrast.high)

    def is_told(self, attribute: str) -> bool:
        """Whether the condition names an attribute."""
        return self.told is None or attribute in self.told

    @property
    def token_names(self) -> list[str]:
        """The attributes that the condition names, in the order of its tokens."""
        return list(self.attributes if self.told is None else self.told)

    def rows(self, contrast: Contrast) -> tuple[Tensor, Tensor]:
        """Images that show one end of a contrast, and their binary labels: 1 at its high end."""
        found = self.labels[:, self.column(contrast.attribute)]
        low, high = self.values(contrast)
        rows = ((found == low) | (found == high)).nonzero()[:, 0]
        return rows, (found[rows] == high).long()

    def set_to(self, labels: Tensor, contrast: Contrast, *, high: bool) -> Tensor:
        """Labels with the contrast's attribute set to one of its ends."""
        return self.with_value(labels, contrast.attribute, self.values(contrast)[int(high)])

    def with_value(self, labels: Tensor, attribute: str, value: int) -> Tensor:
        """Labels with one attribute set to one value."""
        changed = labels.clone()
        changed[:, self.column(attribute)] = value
        return changed

    def opened(self, labels: Tensor, contrast: Contrast) -> Tensor:
        """Labels with the contrast's attribute left open: its null value, where the condition names it at all."""
        if not self.is_told(contrast.attribute):
            return labels
        return self.with_value(labels, contrast.attribute, len(self.attributes[contrast.attribute]))

    def ends(self, labels: Tensor, contrast: Contrast) -> tuple[Condition, Condition]:
        """Conditions that name the low and the high end of a contrast, and else what the labels say."""
        low, high = (self.conditions(self.set_to(labels, contrast, high=end)) for end in (False, True))
        return low, high

    def scores(self, contrasts: Sequence[Contrast] | None = None) -> Scores:
        """Images to log-odds of each contrast's high end against its low end, by attribute.

        An attribute that only the scorer knows is judged by its last value against its first.
        """
        asked = self.contrasts if contrasts is None else contrasts
        ends = {contrast.attribute: self.values(contrast) for contrast in asked}

        def score(images: Tensor) -> dict[str, Tensor]:
            found = self.scorer(images)
            others = {name: (0, -1) for name in found if name not in self.attributes}
            pairs = {**ends, **others}
            return {name: found[name][:, high] - found[name][:, low] for name, (low, high) in pairs.items()}

        return score

    def presence(self, contrast: Contrast) -> Scores:
        """Images to the log-odds of the contrast's high end against all other values."""
        high = self.values(contrast)[1]

        def score(images: Tensor) -> dict[str, Tensor]:
            found = self.scorer(images)[contrast.attribute]
            rest = [value for value in range(found.shape[1]) if value != high]
            return {contrast.attribute: found[:, high] - found[:, rest].logsumexp(1)}

        return score


@checked
def shapes_subject(weights: str | Path = "shapes", *, images: int = 2000, device: str = "cpu") -> Subject:
    """A model of the shapes, by default the shipped one, with freshly rendered images and the shipped scorer.

    Raises
    ------
    InputError
        For weights of a model that is not conditioned on the attributes of the shapes.
    """
    denoiser, card = load_denoiser(weights, device=device)
    if denoiser.config.attributes != SIZES or denoiser.shape != SHAPE:
        found = f"a model of {denoiser.shape} data with attributes {denoiser.config.attributes}"
        raise InputError("weights", found=found, expected=f"one of the shapes: {SHAPE}, {SIZES}")
    scorer, _ = load_scorer("shapes", device=device)
    shapes = render_shapes(images, seed=SHAPES_SEED)
    contrasts = [
        Contrast("size", "small", "large"), Contrast("hue", "red", "blue"), Contrast("position", "left", "right"),
        Contrast("background", "dark", "light"), Contrast("saturation", "pale", "vivid"),
        Contrast("shape", "disc", "square"),
    ]  # fmt: skip
    return Subject(
        denoiser, Path(weights).stem, shapes.images.to(device), shapes.labels, ATTRIBUTES, scorer, SHAPES_SITES,
        contrasts,
        conditions=lambda labels: labels, draw_labels=combinations(denoiser.config.attributes),
        pairs=lambda labels: _render_pairs(labels).to(device), source=f"sha256 {card.get('weights_sha256', 'unknown')}",
    )  # fmt: skip


@checked
def digits_subject(*, device: str = "cpu") -> Subject:
    """The shipped digits model: real images, with stroke thickness and slant measured on them.

    Thickness and slant are halved at their medians; the judge's log-odds grow linearly with the measure. The condition
    names the digit only.
    """
    denoiser, card = load_denoiser("digits", device=device)
    classifier, _ = load_classifier("digits", device=device)
    digits = load_digits()
    images = torch.cat([digits.train.images, digits.held_out.images])
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, classes = images[order], torch.cat([digits.train.labels, digits.held_out.labels])[order]
    measures = measure_digits(images)
    middles = {name: (float(value.median()), float(value.std())) for name, value in measures.items()}
    halves = [(value > value.median()).long() for value in measures.values()]
    attributes = {"thickness": ("thin", "thick"), "slant": ("left", "right"), "digit": tuple("0123456789")}

    def judge(samples: Tensor) -> dict[str, Tensor]:
        found = {"digit": classifier(samples).log_softmax(1)}
        for name, value in measure_digits(samples.cpu()).items():
            middle, spread = middles[name]
            z = ((value - middle) / spread).to(samples)
            found[name] = torch.stack([-z, z], dim=1).log_softmax(1)
        return {name: found[name] for name in attributes}

    def draw(count: int) -> Tensor:
        cycled = torch.arange(count)
        return torch.stack([cycled % 2, cycled // 2 % 2, cycled % 10], dim=1)

    return Subject(
        denoiser, "digits", images.to(device), torch.stack([*halves, classes], dim=1), attributes, judge, DIGITS_SITES,
        [Contrast("thickness", "thin", "thick"), Contrast("slant", "left", "right"), Contrast("digit", "3", "8")],
        conditions=lambda labels: denoiser.embed(labels[:, 2]), draw_labels=draw, told=["digit"],
        source=f"sha256 {card.get('weights_sha256', 'unknown')}",
    )  # fmt: skip


def _render_pairs(labels: Tensor) -> Tensor:
    without = torch.zeros(len(labels), dtype=torch.int64)  # the same frame, whatever the size
    return render_shapes(len(labels), seed=SHAPES_SEED + 1, labels=labels, frame=without).images


@checked
def load_subject(name: str, *, images: int = 2000, device: str = "cpu") -> Subject:
    """The subject that a name on a command line stands for.

    Parameters
    ----------
    name : str
        "shapes" or "digits"; a safetensors file of another model of the shapes; or "package.module:factory", whose
        factory takes no arguments and returns a `Subject`.
    images : int
        Labelled images of the shapes to render.
    device : str
        Where the shapes' weights go.

    Raises
    ------
    InputError
        If there is no such factory, or it returns something else.
    """
    if name == "digits":
        return digits_subject(device=device)
    if name == "shapes" or name.endswith(".safetensors"):
        return shapes_subject(name, images=images, device=device)
    factory = import_factory(name, argument="subject", known=["shapes", "digits", "a safetensors file"])
    found = call_factory(factory, name, argument="subject")
    if not isinstance(found, Subject):
        raise InputError("subject", found=f"a {type(found).__name__} from {name!r}", expected="a Subject")
    return found


def site_name(site: str) -> str:
    """A site without what all sites of the shipped models have in front."""
    return site.removeprefix("network.")
