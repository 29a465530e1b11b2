"""The feature spaces in which `scorescope report fid REAL FAKE` compares, as they are named there."""

from pathlib import Path

from scorescope.data.classifiers import shipped_classifiers
from scorescope.data.digits import SHAPE
from scorescope.data.errors import InputError
from scorescope.probes.features.extractors import (
    Extractor,
    classifier_extractor,
    inception_extractor,
    pixel_extractor,
    spatial_readings,
)
from scorescope.probes.features.images import open_images
from scorescope.probes.features.inception_weights import load_class_names
from scorescope.probes.features.public_extractors import clip_extractor, dinov2_extractor, timm_extractor
from scorescope.reports.cli.options import SPACES


def named_spaces(
    real: Path,
    features: str | None,
    second: str | None,
    *,
    inception: Path | None,
    preprocessing: str,
    names: Path | None,
    device: str,
    sfid: bool,
) -> tuple[Extractor, Extractor]:
    """The space that is judged and the one beside it: those that are named, else those that fit the images."""
    space = features or ("inception" if inception is not None or not _digit_sized(real) else "digits")
    first = _extractor(space, inception, preprocessing, names, device)
    beside = "subject" if space == "pixels" else "pixels"  # a space cannot confirm itself
    other = _extractor(second or beside, inception, preprocessing, names, device)
    if sfid and not spatial_readings(first):
        raise InputError("--sfid", found=first.name, expected="--features inception, or a shipped classifier")
    return first, other


def _digit_sized(path: Path) -> bool:
    """Whether a set's first image has the size of the shipped digits."""
    _, images = next(open_images(path).batches(1, skip_bad=True), ([], None))
    return images is not None and images.shape[2:] == SHAPE[1:]


def _extractor(name: str, inception: Path | None, preprocessing: str, names: Path | None, device: str) -> Extractor:
    if name == "inception":
        classes = None if names is None else tuple(load_class_names(names))
        return inception_extractor(inception, preprocessing=preprocessing, class_names=classes, device=device)
    if name in shipped_classifiers():
        return classifier_extractor(name, device=device)
    if name == "pixels":
        return pixel_extractor(8)
    kind, _, which = name.partition(":")
    if kind in ("dinov2", "clip"):
        make = dinov2_extractor if kind == "dinov2" else clip_extractor
        return make(which, device=device) if which else make(device=device)
    if kind == "timm" and which:
        return timm_extractor(which, device=device)
    raise InputError("features", found=repr(name), expected=f"one of {SPACES}")
