"""A subject of squares in a plain scene: one channel paints them, another only looks as if, and groups in two points.

subject = squares_subject()          # units: `gate`, its copy, and idle ones, with masks of the squares
subject = two_points_subject()       # groups: a class that the condition names, and a side that it does not
"""

import math

import torch
from torch import Tensor, nn

from scorescope.reports.directions import Contrast, Subject

SIDE, SQUARE, SPREAD = 12, 5, 0.2  # pixels of an image and of a square; standard deviation of the data at every pixel
IDLE = 14
SHARES = (0.3, 0.7)  # of the upper point in classes 0 and 1; one half without a class


def places() -> Tensor:
    """All squares that touch no border, (36, y, x) of 0 and 1."""
    inside = torch.zeros(SIDE - SQUARE - 1, SIDE)
    for corner, row in enumerate(inside, start=1):
        row[corner : corner + SQUARE] = 1
    return (inside[:, None, :, None] * inside[None, :, None, :]).flatten(0, 1)


class Squares(nn.Module):
    """The exact denoiser of a square somewhere, each place as likely, and noise of SPREAD.

    `units` puts out maps: the posterior mean of the square, which alone is painted; a copy of it that nothing reads;
    and idle ones, of the image through filters of their own.
    """

    shape = (1, SIDE, SIDE)

    def __init__(self) -> None:
        super().__init__()
        self.places = places()
        self.filters = torch.randn(IDLE, 1, 3, 3, generator=torch.Generator().manual_seed(0))
        self.units = nn.Identity()

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        total = SPREAD**2 + sigma**2
        fit = x.flatten(1) @ self.places.flatten(1).T.to(x) / total[:, None]  # squares are of one size
        where = torch.einsum("bk,kyx->byx", fit.softmax(1), self.places.to(x))[:, None]
        idle = torch.nn.functional.conv2d(x, self.filters.to(x), padding=1)
        mean = self.units(torch.cat([where, where, idle], dim=1))[:, :1]
        return torch.lerp(mean, x, (SPREAD**2 / total).reshape(-1, 1, 1, 1))


def squares_subject(count: int = 80) -> Subject:
    """Draws with the masks of their squares; the attribute is the half in which one is, which nothing is asked of."""
    known = places()
    which = torch.randint(len(known), (count,), generator=torch.Generator().manual_seed(1))
    noise = SPREAD * torch.randn(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    labels = (which >= len(known) // 2).long()[:, None]
    return Subject(
        Squares(), "squares", known[which][:, None] + noise, labels, {"half": ("upper", "lower")}, _half, ("units",),
        [Contrast("half", "upper", "lower")], lambda labels: None, lambda n: torch.arange(n)[:, None] % 2,
        masks={"square": known[which]}, told=(),
    )  # fmt: skip


def _half(images: Tensor) -> dict[str, Tensor]:
    lower = images[:, 0, SIDE // 2 :].sum((1, 2)) - images[:, 0, : SIDE // 2].sum((1, 2))
    return {"half": torch.stack([-lower, lower], dim=1).log_softmax(1)}


class TwoPoints(nn.Module):
    """Data at -1 and 1; the share of 1 depends on the class: D(x) = tanh(x / sigma^2 + h), h half the log odds."""

    shape = (1,)

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Identity()

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        odds = torch.tensor([math.log(share / (1 - share)) / 2 for share in SHARES], dtype=x.dtype)
        bias = 0.0 if condition is None else odds[condition][:, None]
        return self.out(torch.tanh(x / sigma[:, None] ** 2 + bias))


def two_points_subject(count: int = 400) -> Subject:
    """As many images of each class, of which the shares are those of the law; the judge knows the side alone."""
    labels = torch.arange(count) % 2
    turn = 7 * (torch.arange(count) // 2) % 10
    upper = turn < (10 * torch.tensor(SHARES)).round()[labels]  # of every ten as many as of all
    return Subject(
        TwoPoints(), "two points", (2.0 * upper - 1)[:, None], labels[:, None], {"class": ("0", "1")},
        lambda images: {"side": torch.nn.functional.logsigmoid(6 * torch.cat([-images, images], 1))}, ("out",),
        [Contrast("class", "0", "1")], lambda labels: labels[:, 0], lambda n: torch.arange(n)[:, None] % 2,
    )  # fmt: skip
