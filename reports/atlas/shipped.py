"""The shipped models as material: what `scorescope atlas` shows where nothing else is named."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scorescope.data.checkpoints import load_snapshots
from scorescope.data.doors import checked
from scorescope.probes.features.extraction import extract
from scorescope.probes.features.extractors import Extractor, classifier_extractor
from scorescope.probes.features.images import tensor_images
from scorescope.probes.features.quantisation import quantise
from scorescope.probes.models.model import Model, load_model
from scorescope.reports.entries import Material
from scorescope.reports.gaussian.study import digits_of


@checked
def features_of(extractor: Extractor, *, value_range: tuple[float, float] = (-1.0, 1.0)) -> Callable[[Tensor], Tensor]:
    """Samples of a model as the features of a network, as if they had been saved as 8-bit images.

    Parameters
    ----------
    extractor : Extractor
        From `probes.features`.
    value_range : (float, float)
        Values of the samples that become black and white; those beyond are cut, as saving cuts them: an early
        checkpoint's, or those under strong guidance, are far beyond.
    """

    def features(samples: Tensor) -> Tensor:
        source = tensor_images(quantise(samples, value_range=value_range))
        return torch.from_numpy(extract(source, extractor, progress=False).features)

    return features


@checked
def shipped(**how: Any) -> Material:
    """The digits: their denoiser, a weaker one, snapshots of training, images, features; and the shapes.

    Parameters
    ----------
    **how
        Sizes of the material: count, seed, folder, progress, ...
    """
    from scorescope.reports.directions.shipped_subjects import load_subject
    from scorescope.reports.fid.comparisons import shipped_study

    device = how.get("device", "cpu")
    model = load_model("digits", device=device)
    extractor = classifier_extractor("digits", device=device)
    networks = {step: network.to(device) for step, network in load_snapshots().items()}
    snapshots = {str(step): snapshot_model(model, network, step) for step, network in networks.items()}
    return Material(
        model, load_model("digits_weak", device=device), snapshots, data=digits_of(model),
        features=features_of(extractor),
        space=f"features of the {extractor.name}", images=partial(shipped_study, 512, progress=False),
        subject=partial(load_subject, "shapes", device=device), **how,
    )  # fmt: skip


def snapshot_model(model: Model, network: Any, step: int) -> Model:
    """A snapshot of a model's training, as a model."""
    return Model(
        network, f"{model.name} at step {step}", model.shape, model.conditions, model.value_range, model.digits,
        source=f"snapshot {step}",
    )  # fmt: skip
