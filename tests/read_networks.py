"""Networks whose inner site and output are known up to a seed: what varies there, and what the output reads of it."""

import torch
from torch import Tensor, nn

FAMILIES = ("isotropic", "anisotropic", "aligned")
CHANNELS = 32


class Reader(nn.Module):
    """D = x / (1 + s^2) + s / (1 + s^2) V h, h = M tanh(W x / sqrt(1 + s^2)), h in `mid`.

    Isotropic: M = 1, V random. Anisotropic: M symmetric with eigenvalues 3 / k, V random. Aligned: the same M,
    V = R M / |M| sqrt(32), so that the output reads what varies most.
    """

    shape = (1, 4, 4)

    def __init__(self, family: str, seed: int = 0) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.w = torch.randn(CHANNELS, 16, generator=g) / 4
        axes = torch.linalg.qr(torch.randn(CHANNELS, CHANNELS, generator=g))[0]
        spread = axes @ torch.diag(3 / torch.arange(1.0, CHANNELS + 1)) @ axes.T
        self.m = torch.eye(CHANNELS) if family == "isotropic" else spread
        self.v = torch.randn(16, CHANNELS, generator=g) / CHANNELS**0.5
        if family == "aligned":
            self.v = self.v @ self.m / torch.linalg.matrix_norm(self.m) * CHANNELS**0.5
        self.mid = nn.Identity()

    def hidden(self, x: Tensor, sigma: Tensor) -> Tensor:
        return torch.tanh(x.flatten(1) @ self.w.T / (1 + sigma[:, None] ** 2).sqrt()) @ self.m

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        h = self.mid(self.hidden(x, sigma)[:, :, None, None])[:, :, 0, 0]
        share = (1 / (1 + sigma**2)).reshape(-1, 1, 1, 1)
        return share * x + share * sigma.reshape(-1, 1, 1, 1) * (h @ self.v.T).reshape(-1, 1, 4, 4)


def score(images: Tensor) -> dict[str, Tensor]:
    """One target: the first pixel."""
    return {"target": images[:, 0, 0, 0].double()}
