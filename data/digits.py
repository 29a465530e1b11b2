"""Real handwritten digits, 8x8, with a fixed train / held-out split.

    digits = load_digits()
    digits.train.images        # (1437, 1, 8, 8) float32 in [-1, 1]
    digits.held_out.labels     # (360,) int64

The images come with scikit-learn (1797 scans from the UCI Optical Recognition of Handwritten
Digits set); nothing is downloaded. This module knows nothing of models.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked

CLASSES = 10
SHAPE = (1, 8, 8)
HELD_OUT = 360


@displayed
@checked
@dataclass(frozen=True)
class Labelled:
    """Images with their class labels.

    Attributes
    ----------
    images : Tensor, shape (n, 1, 8, 8), float32
        Pixel values in [-1, 1].
    labels : Tensor, shape (n,), int64
        Digit shown, 0 to 9.
    """

    images: Tensor
    labels: Tensor


@displayed
@checked
@dataclass(frozen=True)
class Digits:
    """The two halves of the split and the hash of all 1797 images and labels.

    Attributes
    ----------
    train, held_out : Labelled
        1437 and 360 images.
    sha256 : str
        Hash of all images and labels.
    """

    train: Labelled
    held_out: Labelled
    sha256: str


@checked
def load_digits(*, split_seed: int = 0) -> Digits:
    """Load the digits and split them, class by class, into 1437 and 360 images.

    Parameters
    ----------
    split_seed : int
        Seed of the stratified split. The shipped models were trained with 0.

    Returns
    -------
    Digits
        Images scaled from 0..16 to [-1, 1].
    """
    from sklearn import datasets, model_selection  # one second to import, so only when asked

    pixels, labels = datasets.load_digits(return_X_y=True)
    images = (pixels / 8.0 - 1.0).astype(np.float32).reshape(-1, *SHAPE)
    labels = labels.astype(np.int64)
    train, held_out = model_selection.train_test_split(
        np.arange(len(labels)), test_size=HELD_OUT, random_state=split_seed, stratify=labels
    )
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return Digits(_take(images, labels, train), _take(images, labels, held_out), digest)


def _take(images: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> Labelled:
    rows = np.sort(rows)
    return Labelled(torch.from_numpy(images[rows]), torch.from_numpy(labels[rows]))
