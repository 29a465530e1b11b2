"""A network that names every attribute of a rendered image: the judge of samples and of edits.

    scorer, card = load_scorer("shapes")
    scorer(images)["hue"]                                   # (n, 4) log-probabilities
    scores = log_odds(scorer, {"size": "large", "hue": "red"})
    scores(images)["size"]                                  # (n,) log-odds of "large"

It was trained on images whose attributes and nuisance are independent, so that it names what it sees.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.data.checkpoints import SHIPPED, Card, load_network, save_network
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import parse_json

FORMAT = "scorescope-attribute-scorer-1"
FOLDER = SHIPPED / "scorers"
Scores = Callable[[Tensor], dict[str, Tensor]]


@displayed
@dataclass(frozen=True)
class ScorerConfig:
    """Size of a scorer and what it names; stored beside its weights.

    Attributes
    ----------
    shape : tuple of int
        (channel, height, width) of the images.
    channels : tuple of int
        Output channels of each 3 x 3 convolution; each halves height and width.
    attributes : dict of str to tuple of str
        Names of each attribute's values.
    """

    shape: tuple[int, int, int]
    channels: tuple[int, ...]
    attributes: dict[str, tuple[str, ...]]


@checked
class AttributeScorer(nn.Module):
    """Convolutions with ReLU and one linear layer over the last maps, which keeps the position.

    Parameters
    ----------
    config : ScorerConfig
        Its size.
    """

    def __init__(self, config: ScorerConfig) -> None:
        super().__init__()
        self.config = config
        inputs = (config.shape[0], *config.channels[:-1])
        self.layers = nn.ModuleList(
            nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in zip(inputs, config.channels, strict=True)
        )
        cells = [-(-size // 2 ** len(config.channels)) for size in config.shape[1:]]
        outputs = sum(len(values) for values in config.attributes.values())
        self.head = nn.Linear(config.channels[-1] * cells[0] * cells[1], outputs)

    def features(self, images: Tensor) -> Tensor:
        """Last maps, flattened, shape (batch, feature)."""
        if tuple(images.shape[1:]) != self.config.shape:
            expected = f"(batch, {', '.join(map(str, self.config.shape))})"
            raise InputError("images", found=f"shape {tuple(images.shape)}", expected=expected)
        h = images.to(self.head.weight.dtype)
        for layer in self.layers:
            h = functional.relu(layer(h))
        return h.flatten(1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Log-probabilities of each attribute's values.

        Parameters
        ----------
        images : Tensor, shape (batch, *config.shape)
            Pixel values in [-1, 1].

        Returns
        -------
        dict of str to Tensor
            By attribute, shape (batch, values).
        """
        sizes = [len(values) for values in self.config.attributes.values()]
        parts = self.head(self.features(images)).split(sizes, dim=1)
        return {name: part.log_softmax(1) for name, part in zip(self.config.attributes, parts, strict=True)}


@checked
def log_odds(scorer: AttributeScorer, targets: Mapping[str, str]) -> Scores:
    """A function from images to the log-odds of one value of each attribute.

    Parameters
    ----------
    scorer : AttributeScorer
        The judge.
    targets : mapping of str to str
        The value of each attribute whose log-odds are asked, for instance {"size": "large"}.

    Returns
    -------
    callable
        Images (n, *shape) to {attribute: (n,)}; differentiable.

    Raises
    ------
    InputError
        For an attribute or value that the scorer does not know.
    """
    places = {}
    for attribute, value in targets.items():
        known = scorer.config.attributes.get(attribute)
        if known is None or value not in known:
            expected = f"one of {known}" if known else f"one of {', '.join(scorer.config.attributes)}"
            raise InputError("targets", found=f"{attribute}={value!r}", expected=expected)
        places[attribute] = known.index(value)

    def scores(images: Tensor) -> dict[str, Tensor]:
        found = scorer(images)
        return {name: _log_odds(found[name], place) for name, place in places.items()}

    return scores


def _log_odds(log_probabilities: Tensor, place: int) -> Tensor:
    others = [i for i in range(log_probabilities.shape[1]) if i != place]
    return log_probabilities[:, place] - log_probabilities[:, others].logsumexp(1)


def save_scorer(path: Path, scorer: AttributeScorer, card: Card) -> None:
    """Write weights to `path` (safetensors, with the network's size) and `card` beside it."""
    save_network(path, scorer, card, kind=FORMAT, config=scorer.config)


@checked
def load_scorer(name: str | Path, *, device: str | torch.device = "cpu") -> tuple[AttributeScorer, Card]:
    """Load a scorer in evaluation mode, with its card.

    Parameters
    ----------
    name : str or Path
        "shapes", or a file that `save_scorer` wrote.
    device : str or torch.device
        Where the weights go.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another kind, or does not match the hash on its card.
    """
    return load_network(name, _build, folder=FOLDER, kind=FORMAT, device=device)


def _build(metadata: dict[str, str]) -> AttributeScorer:
    config = parse_json(metadata["config"], source="config", expected="the network's size")
    attributes = {key: tuple(values) for key, values in config["attributes"].items()}
    return AttributeScorer(ScorerConfig(tuple(config["shape"]), tuple(config["channels"]), attributes))
