"""A run that stores activations, and a slow one, to be killed in a process of its own."""

import time

import torch
from torch import nn

from scorescope.probes.activations import StoredActivations, collect
from scorescope.probes.bank import Bank


class Small(nn.Module):
    """A site of 3 channels."""

    shape = (1, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, x, sigma, condition=None):
        return self.convolution(x).mean(1, keepdim=True)


def store(folder) -> StoredActivations:
    """72 evaluations in 18 shards."""
    bank = Bank(torch.randn(12, 1, 4, 4, generator=torch.Generator().manual_seed(1)), [4.0, 1.0, 0.2], draws=2)
    return collect(Small(), bank, {"convolution": "whole", "x": "mean"}, batch=2, path=folder, shard=1200)


def store_slowly(folder) -> None:
    """The same, in a few tenths of a second."""
    fast = nn.Conv2d.forward
    nn.Conv2d.forward = lambda self, x: (time.sleep(0.02), fast(self, x))[1]
    store(folder)
