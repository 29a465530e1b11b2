"""A run that stores activations, and a slow one, to be killed in a process of its own."""

import time

import torch
from torch import nn

from scorescope.probes.activations import StoredActivations, collect, store_samples
from scorescope.probes.bank import Bank
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Euler


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


def store_sampled(folder) -> StoredActivations:
    """12 samples of 6 steps in 12 shards."""
    sites = {"convolution": "whole", "x": "mean"}
    return store_samples(Small(), sites, seeds=range(12), sigmas=edm_sigmas(6), solver=Euler(), path=folder, shard=1200)


def store_slowly(folder, what="store") -> None:
    """The same, in a few tenths of a second."""
    fast = nn.Conv2d.forward
    nn.Conv2d.forward = lambda self, x: (time.sleep(0.02), fast(self, x))[1]
    {"store": store, "store_sampled": store_sampled}[what](folder)
