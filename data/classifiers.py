"""Small convolutional classifiers that ship with the package, as feature networks that need no download.

    classifier, card = load_classifier("digits")
    maps = classifier.activations(images)       # (batch, channel, y, x), after a ReLU
    features = maps.mean(dim=(2, 3))            # what the distances use
    logits = classifier(images)

Features are the plain spatial average of the last maps, as in the Inception network of the FID.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.data.checkpoints import SHIPPED, Card, load_network, save_network, shipped_names
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import parse_json

FORMAT = "scorescope-classifier-1"
FOLDER = SHIPPED / "classifiers"
SPATIAL_CHANNELS = 7  # as many as sFID takes of Inception


@dataclass(frozen=True)
class ClassifierConfig:
    """Size of a classifier; stored beside its weights.

    Attributes
    ----------
    shape : tuple of int
        (channel, height, width) of the images.
    channels : tuple of int
        Output channels of each 3 x 3 convolution.
    strides : tuple of int
        Its stride.
    classes : tuple of str
        Class names, in the order of the logits.
    """

    shape: tuple[int, int, int]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    classes: tuple[str, ...]


@checked
class Classifier(nn.Module):
    """Convolutions with ReLU, spatial average, and one linear layer.

    Parameters
    ----------
    config : ClassifierConfig
        Its size.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        inputs = (config.shape[0], *config.channels[:-1])
        self.layers = nn.ModuleList(
            nn.Conv2d(i, o, 3, stride=s, padding=1)
            for i, o, s in zip(inputs, config.channels, config.strides, strict=True)
        )
        self.head = nn.Linear(config.channels[-1], len(config.classes))

    def activations(self, images: Tensor) -> Tensor:
        """Last maps, shape (batch, channel, y, x), not negative.

        Parameters
        ----------
        images : Tensor, shape (batch, *config.shape)
            Pixel values in [-1, 1].
        """
        return self._run(images, len(self.layers))

    @property
    def spatial_readings(self) -> dict[str, str]:
        """What `spatial_features` returns: name to meaning."""
        last = len(self.layers) - 1
        return {f"layer_{last}": f"first {SPATIAL_CHANNELS} channels of layer {last}, the last but one"}

    def spatial_features(self, images: Tensor) -> dict[str, Tensor]:
        """The first maps of the last layer but one, flattened: where things are, in the manner of sFID.

        Parameters
        ----------
        images : Tensor, shape (batch, *config.shape)
            Pixel values in [-1, 1].
        """
        last = len(self.layers) - 1
        return {f"layer_{last}": self._run(images, last)[:, :SPATIAL_CHANNELS].flatten(1)}

    def _run(self, images: Tensor, layers: int) -> Tensor:
        if tuple(images.shape[1:]) != self.config.shape:
            expected = f"(batch, {', '.join(map(str, self.config.shape))})"
            raise InputError("images", found=f"shape {tuple(images.shape)}", expected=expected)
        h = images
        for layer in list(self.layers)[:layers]:
            h = functional.relu(layer(h))
        return h

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape (batch, classes)."""
        logits: Tensor = self.head(self.activations(images).mean(dim=(2, 3)))
        return logits


def save_classifier(path: Path, classifier: Classifier, card: Card) -> None:
    """Write weights to `path` (safetensors, with the network's size) and `card` beside it."""
    save_network(path, classifier, card, kind=FORMAT, config=classifier.config)


@checked
def load_classifier(name: str | Path, *, device: str | torch.device = "cpu") -> tuple[Classifier, Card]:
    """Load a classifier in evaluation mode, with its card.

    Parameters
    ----------
    name : str or Path
        One of `shipped_classifiers()`, or a file that `save_classifier` wrote.
    device : str or torch.device
        Where the weights go.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another kind, or does not match the hash on its card.
    """
    return load_network(name, _build, folder=FOLDER, kind=FORMAT, device=device)


def _build(metadata: dict[str, str]) -> Classifier:
    config = parse_json(metadata["config"], source="config", expected="the network's size")
    return Classifier(ClassifierConfig(**{key: tuple(value) for key, value in config.items()}))


@checked
def shipped_classifiers() -> list[str]:
    """Names that `load_classifier` knows without a path."""
    return shipped_names(FOLDER)
