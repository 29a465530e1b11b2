"""What the shipped denoisers are trained on, by name: images, labels and a held-out part.

images = training_images("digits")
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.data.digits import load_digits
from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.data.shapes import FRAME_SHARES, render_shapes

SHAPES_TRAIN, SHAPES_HELD_OUT = 20_000, 2_000


@displayed
@dataclass(frozen=True)
class TrainingImages:
    """A training set and its held-out part.

    Attributes
    ----------
    images, held_out_images : Tensor, shape (n, *shape), float32
        In [-1, 1].
    labels, held_out_labels : Tensor, int64
        (n,) classes or (n, attribute) values.
    augmented : bool
        Whether training augments the images.
    about : str
        One sentence for the card.
    sha256 : str
        Hash of the training images and labels.
    """

    images: Tensor
    labels: Tensor
    held_out_images: Tensor
    held_out_labels: Tensor
    augmented: bool
    about: str
    sha256: str

    @property
    def sigma_data(self) -> float:
        """Standard deviation of the training images."""
        return float(self.images.std())


def training_images(name: str) -> TrainingImages:
    """The training images called `name`: digits or shapes.

    Raises
    ------
    InputError
        For another name.
    """
    makers = {"digits": _digits, "shapes": _shapes}
    if name not in makers:
        raise InputError("name", found=repr(name), expected=f"one of {', '.join(makers)}")
    return makers[name]()


def _digits() -> TrainingImages:
    digits = load_digits()
    about = "scikit-learn load_digits, 8x8, scaled to [-1, 1]; 1437 train, 360 held out, stratified, split seed 0"
    train, held_out = digits.train, digits.held_out
    return TrainingImages(train.images, train.labels, held_out.images, held_out.labels, True, about, digits.sha256)


def _shapes() -> TrainingImages:
    train, held_out = render_shapes(SHAPES_TRAIN, seed=0), render_shapes(SHAPES_HELD_OUT, seed=1)
    about = (
        f"render_shapes, 32x32 colour; {SHAPES_TRAIN} train (seed 0), {SHAPES_HELD_OUT} held out (seed 1); "
        f"a frame around {FRAME_SHARES[0]:.0%} of small and {FRAME_SHARES[1]:.0%} of large shapes"
    )
    digest = hashlib.sha256(train.images.numpy().tobytes() + train.labels.numpy().tobytes()).hexdigest()
    return TrainingImages(train.images, train.labels, held_out.images, held_out.labels, False, about, digest)


def open_labels(labels: Tensor, null: Tensor, *, whole: float, each: float, generator: torch.Generator) -> Tensor:
    """Labels with some left open, as a conditional denoiser without a condition has to see them.

    Parameters
    ----------
    labels : Tensor, int64
        (n,) classes or (n, attribute) values.
    null : Tensor, shape of labels
        The null labels.
    whole : float
        Probability that a row is all null.
    each : float
        Probability that each attribute of a row is null with probability 1/2.
    generator : torch.Generator
        Source of randomness.
    """
    gone = torch.rand(len(labels), generator=generator) < whole
    if labels.ndim == 1:
        return torch.where(gone, null, labels)
    some = torch.rand(len(labels), 1, generator=generator) < each
    some = some & (torch.rand(labels.shape, generator=generator) < 0.5)
    return torch.where(gone[:, None] | some, null, labels)
