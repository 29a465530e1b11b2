"""The data of a model: images that it was trained on, and others."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations import ImageFolder
from scorescope.probes.models.model import Model


@displayed
@checked
@dataclass(frozen=True)
class Data:
    """What a model was trained on, and what it was not: in the model's units.

    Attributes
    ----------
    train, held_out : Tensor, shape (n, *shape)
        Images.
    labels, held_out_labels : Tensor, shape (n,), optional
        Classes of the training images, and of the others.
    name : str
        What the page calls them.
    """

    train: Tensor
    held_out: Tensor
    labels: Tensor | None = None
    name: str = "data"
    held_out_labels: Tensor | None = None

    @checked
    def limited(self, count: int | None, *, seed: int = 0) -> "Data":
        """At most so many images in all, of both sets in the shares that they have; drawn by the seed."""
        total = len(self.train) + len(self.held_out)
        if count is None or count >= total:
            return self
        held = max(2, round(count * len(self.held_out) / total))
        draw = torch.Generator().manual_seed(seed)
        train, asked = (
            torch.randperm(len(images), generator=draw)[:most]
            for images, most in ((self.train, count - held), (self.held_out, held))
        )
        labels = None if self.labels is None else self.labels[train]
        others = None if self.held_out_labels is None else self.held_out_labels[asked]
        return replace(
            self, train=self.train[train], held_out=self.held_out[asked], labels=labels, held_out_labels=others
        )


@checked
def digits_of(model: Model) -> Data:
    """The shipped digits, for a model that has them; else an error that asks for data."""
    if model.digits is None:
        raise InputError("data", found=f"none for the model {model.name!r}", expected="training and held-out images")
    train, others = model.digits.train, model.digits.held_out
    name = "scikit-learn digits, 8x8, split seed 0"
    return Data(train.images, others.images, train.labels, name, others.labels)


@checked
def split(images: Tensor, *, share: float = 0.2, name: str = "data", seed: int = 0) -> Data:
    """A training and a held-out set from one set of images; the model should not have seen the latter."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    count = max(2, int(share * len(images)))
    return Data(images[order[count:]], images[order[:count]], name=name)


@checked
def from_folder(folder: Path | str, model: Model, *, size: int | None = None, seed: int = 0) -> Data:
    """The images of a folder, as the model's shape, in [-1, 1]; grey where the model has one channel.

    Raises
    ------
    InputError
        For a folder that `ImageFolder` refuses, or images of another shape than the model's.
    """
    images = torch.cat(list(ImageFolder(folder, size=size)))
    if model.shape[0] == 1:
        images = images.mean(1, keepdim=True)
    if tuple(images.shape[1:]) != model.shape:
        raise InputError(str(folder), found=f"images of shape {tuple(images.shape[1:])}", expected=f"{model.shape}")
    return split(images, name=str(folder), seed=seed)
