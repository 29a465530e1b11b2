"""Feature networks by their names, as a command line or a spec of some work has them.

extractor = named_extractor("digits")
extractor = named_extractor("inception", weights=Path("inception-2015.safetensors"), device="cuda")
"""

from collections.abc import Sequence
from pathlib import Path

from scorescope.data.classifiers import shipped_classifiers
from scorescope.data.errors import InputError
from scorescope.probes.features.efficientnet import efficientnet_extractor
from scorescope.probes.features.extractors import (
    Extractor,
    classifier_extractor,
    inception_extractor,
    pixel_extractor,
)
from scorescope.probes.features.public_extractors import clip_extractor, dinov2_extractor, timm_extractor


def named_extractor(
    name: str,
    *,
    weights: Path | None = None,
    preprocessing: str = "tf",
    class_names: Sequence[str] | None = None,
    device: str = "cpu",
) -> Extractor:
    """The feature network that a name stands for.

    Parameters
    ----------
    name : str
        A shipped classifier, inception, efficientnet_lite0, pixels, dinov2[:FOLDER], clip[:FOLDER], or timm:NAME.
    weights : Path, optional
        Weight file of inception or efficientnet_lite0.
    preprocessing, class_names
        Of inception; see `inception_extractor`.
    device : str
        Where it computes.

    Raises
    ------
    InputError
        For a name that stands for none, and what the networks refuse.
    """
    if name == "inception":
        classes = None if class_names is None else tuple(class_names)
        return inception_extractor(weights, preprocessing=preprocessing, class_names=classes, device=device)
    if name == "efficientnet_lite0":
        return efficientnet_extractor(weights, device=device)
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
    known = ", ".join([*shipped_classifiers(), "inception", "efficientnet_lite0", "pixels"])
    expected = f"one of {known}, dinov2[:FOLDER], clip[:FOLDER], or timm:NAME"
    raise InputError("features", found=repr(name), expected=expected)
