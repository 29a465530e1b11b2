"""The quality figures on a denoiser's card: `scorescope card data/weights/digits.safetensors`."""

from pathlib import Path

import pandas as pd
import torch

from scorescope.analysis.quality import class_agreement, error_by_sigma, nearest_distances
from scorescope.data.checkpoints import load_denoiser, write_card
from scorescope.data.digits import load_digits
from scorescope.probes.noise import edm_sigmas
from scorescope.probes.sampling import sample

SAMPLES, STEPS = 1000, 18
SIGMAS = [0.01, 0.03, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 30.0, 80.0]


def measure_card(weights: Path) -> pd.DataFrame:
    """Measure a digits denoiser and write the figures on the card beside its weights.

    At w = 1, Heun with 18 steps, 1000 samples: class agreement, distance to the nearest training image; and
    the denoising error on training and held-out images at each noise level.

    Returns
    -------
    DataFrame
        The class agreement.
    """
    denoiser, card = load_denoiser(weights)
    digits = load_digits()
    labels = torch.arange(SAMPLES) % denoiser.classes
    samples = sample(denoiser, seeds=range(SAMPLES), condition=labels, sigmas=edm_sigmas(STEPS)).samples
    agreement = class_agreement(samples, labels, train=digits.train, held_out=digits.held_out)
    distances = nearest_distances({"samples": samples, "held out": digits.held_out.images}, digits.train.images)
    errors = error_by_sigma(denoiser, digits.train, digits.held_out, SIGMAS)
    quality = {
        "command": "scorescope card <weights>",
        "sampling": f"w = 1, Heun, {STEPS} steps, seeds 0 to {SAMPLES - 1}, labels in turn",
        "classifier": "support-vector machine (RBF, C = 10) fitted on the training images",
        "class_agreement": agreement.to_dict("records"),
        "nearest_training_image": distances.to_dict("records"),
        "denoising_error": errors.to_dict("records"),
    }
    write_card(weights.with_suffix(".json"), {**card, "quality": quality})
    return agreement
