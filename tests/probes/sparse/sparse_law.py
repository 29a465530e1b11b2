"""Activations whose sparse features are known: rows are a few of them, with weights of 0.5 to 1.5, and a constant."""

import torch

WIDTH, FEATURES, ACTIVE, ROWS, OFFSET = 32, 64, 3, 512, 0.3


def truth():
    """(feature, width), unit rows."""
    rows = torch.randn(FEATURES, WIDTH, generator=torch.Generator().manual_seed(99))  # not a seed of first weights
    return rows / rows.norm(dim=1, keepdim=True)


def draw(seed, rows=ROWS):
    """Codes (rows, FEATURES) and activations (rows, WIDTH)."""
    generator = torch.Generator().manual_seed(seed)
    active = torch.rand(rows, FEATURES, generator=generator).topk(ACTIVE, dim=1).indices
    weights = 0.5 + torch.rand(rows, ACTIVE, generator=generator)
    codes = torch.zeros(rows, FEATURES).scatter(1, active, weights)
    return codes, codes @ truth() + OFFSET


def batches(epoch, count=100):
    """Batches of an epoch."""
    for place in range(count):
        yield draw(1000 * epoch + place + 7)[1]
