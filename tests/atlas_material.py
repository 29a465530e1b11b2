"""Material of the atlas with known laws: a mixture of four classes as the model, broader ones beside it, draws as data.

material = toy_material(count=16)
study = toy_images()                                       # sets of images whose features have known laws
"""

import numpy as np
import torch
from torch import nn

from scorescope.probes.approximations import Mixture
from scorescope.probes.approximations.gaussian import isotropic
from scorescope.probes.features import Extractor, extract, module_extractor, pixel_extractor, tensor_images
from scorescope.probes.features.masks import MaskSource
from scorescope.probes.models.model import Model
from scorescope.reports.entries import Material
from scorescope.reports.fid import ImageSet, Study
from scorescope.reports.gaussian import Data
from tests.planted_subject import planted_subject

CLASSES, SHAPE, RANGE = 4, (1, 4, 4), (-2.5, 2.5)  # all draws of the law lie in the range
EQUAL, OTHER = (0.25,) * 4, (0.4, 0.3, 0.2, 0.1)  # shares of the classes in sets of images
SCALE, SHIFT = 0.12, 26 / 255  # of a draw in gray, and by how much brighter a set is: 26 levels of 8 bits


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
    """Everything that an entry can need, in closed form."""
    mixture = law()
    checkpoints = {str(step): model_of(law(0.04 + 4 / step), f"step {step}") for step in (10, 40, 400)}
    sizes = {"count": 24, "steps": 6, "weights": (1.0, 2.0, 4.0), "repeats": 2}
    sizes |= {"images": toy_images, "subject": planted_subject}
    return Material(
        model_of(mixture), model_of(law(0.16), "broader"), checkpoints, data=data_of(mixture), **(sizes | how)
    )  # fmt: skip


def toy_images(count: int = 240) -> Study:
    """Real draws, others of their law, and three generated sets: of this law, brighter, of other shares of classes.

    Brightness moves all 16 features of both spaces by `SHIFT` times their range, and no class: FD is the squared length
    of that. The second half of the images is inside the mask.
    """
    fakes = [
        image_set("same law", count, 2), image_set("brighter", count, 3, shift=SHIFT),
        image_set("other classes", count, 4, OTHER),
    ]  # fmt: skip
    half = MaskSource("lower half", "masks", None, count, lambda _key, _row, size: lower_half(size))
    real, other = image_set("real", count, 0), image_set("other real", count, 1)
    return Study("toy", real, fakes, other, tile_extractor(), pixel_extractor(4), masks=[half])


def image_set(name: str, count: int, seed: int, shares: tuple[float, ...] = EQUAL, *, shift: float = 0.0) -> ImageSet:
    """Draws with their features in both spaces."""
    source = tensor_images(tiles(count, seed, shares, shift=shift), value_range=(0.0, 1.0), name=name)
    spaces = tile_extractor(), pixel_extractor(4)
    return ImageSet(name, source, *(extract(source, space, progress=False) for space in spaces))


def tiles(count: int, seed: int, shares: tuple[float, ...] = EQUAL, *, shift: float = 0.0) -> torch.Tensor:
    """Draws of the law in gray, in random order of classes, four times side by side: shape (count, 1, 8, 8)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.tensor(shares), count, replacement=True, generator=generator)
    parts = torch.stack([part.sample(count, generator=generator) for part in law().components]).float()
    draws = parts[labels, torch.arange(count)]
    return (0.5 + SCALE * (draws - draws.mean(dim=(1, 2, 3), keepdim=True)) + shift).tile(1, 1, 2, 2)


def tile_extractor() -> Extractor:
    """The four copies' mean as 16 features, and the class whose mean is nearest: blind to brightness."""
    means = torch.stack([SCALE * (part.mean - part.mean.mean()) for part in law().components]).flatten(1).float()
    head = nn.Linear(16, CLASSES)
    head.weight.data, head.bias.data = means, -means.square().sum(1) / 2
    return module_extractor(
        nn.PixelUnshuffle(4), prepare=lambda images: images[:, :1].float() / 255, name="mean of four copies", head=head,
        classes=tuple("abcd"),
    )  # fmt: skip


def lower_half(size: tuple[int, int]) -> np.ndarray:
    """A mask of the lower rows."""
    return (np.arange(size[0]) >= size[0] // 2).astype(np.float64)[:, None].repeat(size[1], 1)
