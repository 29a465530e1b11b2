"""Material of the atlas with known laws: a mixture of four classes as the model, broader ones beside it, draws as data.

material = toy_material(count=16)
"""

import torch

from scorescope.probes.approximations import Mixture
from scorescope.probes.approximations.gaussian import isotropic
from scorescope.probes.models.model import Model
from scorescope.reports.entries import Material
from scorescope.reports.gaussian import Data
from tests.planted_subject import planted_subject

CLASSES, SHAPE, RANGE = 4, (1, 4, 4), (-2.5, 2.5)  # all draws of the law lie in the range


def law(variance: float = 0.04, *, spread: float = 0.5) -> Mixture:
    """Four isotropic classes with means that are images."""
    generator = torch.Generator().manual_seed(0)
    means = spread * torch.randn(CLASSES, *SHAPE, generator=generator, dtype=torch.float64)
    weights = torch.full((CLASSES,), 1 / CLASSES, dtype=torch.float64)
    return Mixture(tuple(isotropic(mean, variance) for mean in means), weights, labels=tuple(range(CLASSES)))


def conditions(count: int) -> torch.Tensor:
    return torch.arange(count) % CLASSES


def model_of(mixture: Mixture, name: str = "mixture") -> Model:
    """A mixture as the model that is studied."""
    return Model(mixture, name, SHAPE, conditions, RANGE)


def data_of(mixture: Mixture, count: int = 240) -> Data:
    """Draws of it with their classes, a third of them held out."""
    labels = conditions(count)
    generator = torch.Generator().manual_seed(1)
    images = torch.cat([mixture.components[k].sample(1, generator=generator) for k in labels.tolist()]).float()
    held = count // 3
    return Data(images[held:], images[:held], labels[held:], "draws of the mixture", labels[:held])


def toy_material(**how) -> Material:
    """Everything that an entry can need, in closed form, but for sets of images."""
    mixture = law()
    checkpoints = {str(step): model_of(law(0.04 + 4 / step), f"step {step}") for step in (10, 40, 400)}
    sizes = {"count": 24, "steps": 6, "weights": (1.0, 2.0, 4.0), "repeats": 2, "subject": planted_subject}
    return Material(
        model_of(mixture), model_of(law(0.16), "broader"), checkpoints, data=data_of(mixture), **(sizes | how)
    )  # fmt: skip
