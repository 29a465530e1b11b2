"""The quality figures on a shipped denoiser's card: `scorescope card data/weights/digits.safetensors`."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.guidance.quality import attribute_agreement, class_agreement, error_by_sigma, nearest_distances
from scorescope.data.attribute_scorer import load_scorer
from scorescope.data.checkpoints import load_denoiser, write_card
from scorescope.data.digits import Labelled, load_digits
from scorescope.data.training_images import TrainingImages, training_images
from scorescope.data.unet import EDMDenoiser
from scorescope.probes.models.model import combinations
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.sampling.sample import sample

SAMPLES, STEPS = 1000, 18
SHAPES = 200  # images of the shapes whose distances and errors are measured
SIGMAS = [0.01, 0.03, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 30.0, 80.0]


def measure_card(weights: Path) -> pd.DataFrame:
    """Measure a denoiser of digits or of shapes and write the figures on the card beside its weights.

    At w = 1, Heun with 18 steps, 1000 samples: agreement of class or attributes, distance to the nearest training
    image; and the denoising error on training and held-out images at each noise level. A card that has these figures
    already is left alone.

    Returns
    -------
    DataFrame
        The agreement.
    """
    denoiser, card = load_denoiser(weights)
    quality, agreement = _measure_shapes(denoiser) if denoiser.config.attributes else _measure_digits(denoiser)
    quality = {
        "command": "scorescope card <weights>",
        "sampling": f"w = 1, Heun, {STEPS} steps, seeds 0 to {SAMPLES - 1}, labels in turn",
        **quality,
    }
    measured = {**card, "quality": json.loads(json.dumps(quality))}
    if measured != card:
        write_card(weights.with_suffix(".json"), measured)
    return agreement


def _measure_digits(denoiser: EDMDenoiser) -> tuple[dict[str, Any], pd.DataFrame]:
    digits = load_digits()
    labels = torch.arange(SAMPLES) % denoiser.classes
    samples = sample(denoiser, seeds=range(SAMPLES), condition=labels, sigmas=edm_sigmas(STEPS)).samples
    agreement = class_agreement(samples, labels, train=digits.train, held_out=digits.held_out)
    distances = nearest_distances({"samples": samples, "held out": digits.held_out.images}, digits.train.images)
    errors = error_by_sigma(denoiser, digits.train, digits.held_out, SIGMAS)
    quality = {
        "classifier": "support-vector machine (RBF, C = 10) fitted on the training images",
        "class_agreement": agreement.to_dict("records"),
        "nearest_training_image": distances.to_dict("records"),
        "denoising_error": errors.to_dict("records"),
    }
    return quality, agreement


def _measure_shapes(denoiser: EDMDenoiser) -> tuple[dict[str, Any], pd.DataFrame]:
    images = training_images("shapes")
    labels = combinations(denoiser.config.attributes)(SAMPLES)
    samples = sample(denoiser, seeds=range(SAMPLES), condition=labels, sigmas=edm_sigmas(STEPS)).samples
    scorer, _ = load_scorer("shapes")
    agreement = attribute_agreement(scorer, {"samples": (samples, labels), "held out": _held_out(images, SAMPLES)})
    held_out = Labelled(images.held_out_images[:SHAPES], images.held_out_labels[:SHAPES])
    sets = {"samples": samples[:SHAPES], "held out": held_out.images}
    errors = error_by_sigma(denoiser, Labelled(images.images, images.labels), held_out, SIGMAS)
    quality = {
        "classifier": "the shipped attribute scorer, trained on images whose frame is independent of the size",
        "attribute_agreement": agreement.to_dict("records"),
        "nearest_training_image": nearest_distances(sets, images.images).to_dict("records"),
        "denoising_error": errors.to_dict("records"),
    }
    return quality, agreement


def _held_out(images: TrainingImages, count: int) -> tuple[Tensor, Tensor]:
    return images.held_out_images[:count], images.held_out_labels[:count]
