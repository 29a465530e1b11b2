"""Subjects of the directions report that ship with the package, and the one that a name on a command line stands for.

subject = shapes_subject()
subject = load_subject("my_package.my_module:make_subject")
"""

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
from scorescope.probes.models.factories import call_factory, import_factory
from scorescope.probes.models.model import combinations
from scorescope.reports.directions.study import Contrast, Subject

SHAPES_SITES = (
    "network.first", "network.down.0", "network.down.1", "network.down.2", "network.middle1",
    "network.attention", "network.middle2", "network.up.0", "network.up.1", "network.up.2",
)  # fmt: skip
DIGITS_SITES = (
    "network.first", "network.down.0", "network.down.1", "network.middle1", "network.attention", "network.middle2",
    "network.up.0", "network.up.1",
)  # fmt: skip
IMAGES = 2000  # of the shapes that are rendered
SHAPES_SEED = 100  # images that neither training nor the scorer saw


@checked
def shapes_subject(weights: str | Path = "shapes", *, images: int = IMAGES, device: str = "cpu") -> Subject:
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
        pairs=lambda labels: _render_pairs(labels).to(device), masks={"shape": shapes.mask},
        source=f"sha256 {card.get('weights_sha256', 'unknown')}",
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
def load_subject(name: str, *, images: int = IMAGES, device: str = "cpu") -> Subject:
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
    subject = _loaded(name, images, device)
    if images == IMAGES:  # the command line names no other number
        object.__setattr__(subject, "loaded_as", name)
    return subject


def _loaded(name: str, images: int, device: str) -> Subject:
    if name == "digits":
        return digits_subject(device=device)
    if name == "shapes" or name.endswith(".safetensors"):
        return shapes_subject(name, images=images, device=device)
    factory = import_factory(name, argument="subject", known=["shapes", "digits", "a safetensors file"])
    found = call_factory(factory, name, argument="subject")
    if not isinstance(found, Subject):
        raise InputError("subject", found=f"a {type(found).__name__} from {name!r}", expected="a Subject")
    return found
