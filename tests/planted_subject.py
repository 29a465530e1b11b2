"""A subject of which all is known: two attributes along two patterns, and sites inside an exact denoiser.

subject = planted_subject()
subject.denoiser(x, sigma, labels)           # labels (n, 2): 0 or 1 of each attribute, 2 where it is left open
"""

import torch
from torch import Tensor, nn

from scorescope.reports.directions import Contrast, Subject

SEED = 9  # of the patterns: about half of the first starts are on either side of both
SPREAD = 0.25  # standard deviation of the data around its mean, at every pixel
OPEN = 2
ATTRIBUTES = {"size": ("small", "large"), "hue": ("red", "blue")}
SITES = ("means", "read", "free", "decoy")
WIDTH = 64  # numbers that `means` and `decoy` put out: of many, random directions hardly move the two that count


def basis() -> Tensor:
    """Sixteen orthonormal images as rows, those of the attributes first."""
    return torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(SEED)))[0].T


class PlantedAttributes(nn.Module):
    """Exact denoiser of a p_0 + b p_1 + SPREAD n with a, b = -1 or 1, each as likely; a condition names either or both.

    `read` puts out x along the basis, in its own standard deviation; `free` the posterior means of a and b without a
    condition; `means` those with it, and numbers that nothing reads, of which `decoy` is a copy. A condition is labels
    (n, 2), or tokens (n, 2, 2): a value and whether it is known.
    """

    shape = (1, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.read, self.free, self.means, self.decoy = (nn.Identity() for _ in range(4))
        self.basis = basis()
        self.idle = 0.03 * torch.randn(14, WIDTH - 2, generator=torch.Generator().manual_seed(1))

    def embed(self, labels: Tensor | None, batch: int = 1) -> Tensor:
        """Tokens (n, 2, 2)."""
        labels = torch.full((batch, 2), OPEN) if labels is None else labels
        known = (labels != OPEN).float()
        return torch.stack([(2.0 * labels - 1) * known, known], dim=2)

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        named = condition is not None and condition.is_floating_point()
        tokens = (condition if named else self.embed(condition, batch=len(x))).to(x)
        total = SPREAD**2 + sigma[:, None] ** 2
        read = self.read(x.flatten(1) @ self.basis.T.to(x) / total.sqrt())
        free = self.free(torch.tanh(read[:, :2] / total.sqrt()))
        told = free + tokens[:, :, 1] * (tokens[:, :, 0] - free)
        means = self.means(torch.cat([told, read[:, 2:] @ self.idle.to(x)], dim=1))
        self.decoy(means)
        mean = (means[:, :2] @ self.basis[:2].to(x)).reshape(x.shape)
        gain = (SPREAD**2 / total).reshape(-1, 1, 1, 1)
        return mean + gain * (x - mean)


def judge(images: Tensor) -> dict[str, Tensor]:
    """Log-odds that are four times what an image holds of a pattern."""
    flat = images.flatten(1) @ basis()[:2].T.to(images)
    return {
        name: torch.stack([-2 * part, 2 * part], dim=1).log_softmax(1)
        for name, part in zip(ATTRIBUTES, flat.T, strict=True)
    }


def clean(labels: Tensor) -> Tensor:
    """Images of both attributes and nothing else."""
    return ((2.0 * labels - 1) @ basis()[:2]).reshape(-1, *PlantedAttributes.shape)


def draw_labels(count: int) -> Tensor:
    """All four pairs of values in turn."""
    turn = torch.arange(count)
    return torch.stack([turn % 2, turn // 2 % 2], dim=1)


def planted_subject(count: int = 400, **changed) -> Subject:
    """The denoiser with draws of its own law."""
    labels = draw_labels(count)
    images = clean(labels) + SPREAD * torch.randn(
        count, *PlantedAttributes.shape, generator=torch.Generator().manual_seed(3)
    )
    given = {
        "denoiser": PlantedAttributes(), "name": "planted", "images": images, "labels": labels,
        "attributes": ATTRIBUTES, "scorer": judge, "sites": SITES,
        "contrasts": [Contrast("size", "small", "large"), Contrast("hue", "red", "blue")],
        "conditions": lambda labels: labels, "draw_labels": draw_labels, "pairs": clean,
    }  # fmt: skip
    return Subject(**(given | changed))
