"""Denoisers whose insides are known: a planted unit with a decoy, and the nuisance model."""

import math

import torch
from torch import Tensor, nn

from scorescope.probes import Direction

SPREAD = 0.2  # standard deviation of the data around its mean, at every pixel


def patterns() -> Tensor:
    """Two orthogonal images of unit length, (2, 1, 4, 4): the attribute's and the other one's."""
    flat = torch.zeros(2, 16)
    flat[0, :8], flat[1, 8:] = 8**-0.5, 8**-0.5
    return flat.reshape(2, 1, 4, 4)


def scores(images: Tensor) -> dict[str, Tensor]:
    """How much of each pattern an image holds: exact, in units of its length."""
    flat = images.flatten(1).double()
    return {name: flat @ row for name, row in zip(("attribute", "other"), patterns().flatten(1).double(), strict=True)}


class Known(nn.Module):
    """The exact denoiser of N(mean, SPREAD^2) with a mean that its inner modules make of condition and noise-free x.

    D = mean + g (x - mean), g = SPREAD^2 / (SPREAD^2 + sigma^2).
    """

    shape = (1, 4, 4)

    def mean(self, x: Tensor, condition: Tensor | None) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None) -> Tensor:
        gain = (SPREAD**2 / (SPREAD**2 + sigma**2)).reshape(-1, 1, 1, 1)
        return torch.lerp(self.mean(x, condition), x, gain)


class Planted(Known):
    """Labels 0 and 1. The unit `gate` alone makes the attribute; `decoy` holds the label too, and nothing reads it.

    `units` puts out (batch, 3 + idle): gate, decoy, one that follows x and makes the other pattern, and idle ones.
    """

    def __init__(self, idle: int = 0) -> None:
        super().__init__()
        self.idle = idle
        self.gate, self.decoy, self.units = nn.Identity(), nn.Identity(), nn.Identity()

    def mean(self, x: Tensor, condition: Tensor | None) -> Tensor:
        label = x.new_zeros(len(x)) if condition is None else 2.0 * condition.to(x) - 1
        shown = x.flatten(1) @ patterns()[1].flatten().to(x)
        own = torch.tanh(shown / 80)
        busy = torch.stack([self.gate(label), self.decoy(label + 0.1 * own), own], dim=1)
        units = self.units(torch.nn.functional.pad(busy, (0, self.idle)))
        return torch.einsum("bk,kcyx->bcyx", units[:, [0, 2]], patterns().to(x))


class PlantedMaps(Known):
    """Conditioned on where something is, (batch, 8, 8) of 0 and 1: the image has mean 1 there and 0 elsewhere.

    `units` puts out (batch, 3 + idle, 8, 8): gate, the map that is painted; decoy, the same map, and shifted, the same
    a column to the right, which nothing reads; and idle ones, x through filters of their own.
    """

    shape = (1, 8, 8)

    def __init__(self, idle: int = 0) -> None:
        super().__init__()
        self.filters = torch.randn(idle, 1, 3, 3, generator=torch.Generator().manual_seed(0))
        self.units = nn.Identity()

    def mean(self, x: Tensor, condition: Tensor | None) -> Tensor:
        where = x.new_zeros(len(x), 8, 8) if condition is None else condition.to(x)
        known = torch.stack([where, where, where.roll(1, 2)], dim=1)
        idle = torch.nn.functional.conv2d(x, self.filters.to(x), padding=1) if len(self.filters) else x[:, :0]
        return self.units(torch.cat([known, idle], dim=1))[:, :1]


def squares(count: int, seed: int = 0) -> Tensor:
    """A square of 3 x 3 pixels somewhere in each image, (count, 8, 8) of 0 and 1; none touches a border."""
    corners = torch.randint(1, 5, (count, 2), generator=torch.Generator().manual_seed(seed))
    places = torch.arange(8)
    inside = (places >= corners[:, :, None]) & (places < corners[:, :, None] + 3)
    return (inside[:, 0, :, None] & inside[:, 1, None]).float()


class Nuisance(Known):
    """A site `h` of 64 numbers, h = y v + z u, from which the image takes y and z exactly; cos(v, u) = 0.6."""

    def __init__(self) -> None:
        super().__init__()
        basis = torch.linalg.qr(torch.randn(64, 2, generator=torch.Generator().manual_seed(0)))[0].T
        v = basis[0]
        self.axes = torch.stack([v, 0.6 * v + 0.8 * basis[1]])  # v, u
        self.h = nn.Identity()

    def mean(self, x: Tensor, condition: Tensor | None) -> Tensor:
        start = torch.tanh(x.flatten(1)[:, :2] / 80)
        h = self.h(start @ self.axes.to(x))
        factors = h @ torch.linalg.pinv(self.axes).to(x)
        return torch.einsum("bk,kcyx->bcyx", factors, patterns().to(x))

    def reader(self) -> Direction:
        """Population LDA of h = 0.7 y v + 3 z u + 0.5 noise: (9 u u' + 0.25)^-1 v, up to length."""
        v, u = self.axes
        weights = torch.linalg.solve(9 * torch.outer(u, u) + 0.25 * torch.eye(64), v)
        return Direction(weights / weights.norm(), "h", "attribute", "population lda", scale=1.0)

    def mover(self) -> Direction:
        """Population difference of means: v."""
        return Direction(self.axes[0], "h", "attribute", "population difference", scale=1.0)


def unit_direction(unit: int, scale: float = 1.0, *, idle: int = 0) -> Direction:
    """A direction along one of the units of `Planted`."""
    return Direction(torch.eye(3 + idle)[unit], "units", "attribute", "planted", scale=scale)


def gain_of(sigma: float) -> float:
    """Share of the start noise that an exact solver leaves in the sample: SPREAD / sqrt(SPREAD^2 + sigma^2)."""
    return SPREAD / math.hypot(SPREAD, sigma)
