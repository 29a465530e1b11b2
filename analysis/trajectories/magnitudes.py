"""How large activations and weights are, site by site: whether they grow with training.

sites = block_sites(denoiser, images[:2], 1.0, condition=labels[:2])
table = site_magnitudes(denoiser, sites, images, [0.1, 1.0, 10.0], condition=labels)
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from scorescope.analysis.statistics.intervals import skewed_mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.probes.activations import collect
from scorescope.probes.bank import Bank
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate
from scorescope.probes.sites.modules import find_site, root_module

LEAST_BLOCKS = 3  # fewer are wrappers around the blocks

SITE_MAGNITUDES = Schema(
    "site_magnitudes",
    (
        Column("site", str, "", "name of the module"),
        Column("quantity", str, "", "activation: what it puts out; weight: all its parameters of two axes or more"),
        Column("sigma", float, "data", "noise level; NaN for weights"),
        Column("n", int, "", "images, one noise draw each; of weights how many they are"),
        Column("mean", float, "1", "root mean square over elements; of activations its mean over images"),
        *ends("1", "of the mean over images, corrected for skewness; missing for weights"),
    ),
)


@checked
def site_magnitudes(
    denoiser: Denoiser,
    sites: Sequence[str],
    images: Tensor,
    sigmas: Sequence[float],
    *,
    condition: Condition = None,
    seed: int = 0,
    batch: int = 256,
) -> pd.DataFrame:
    """Root mean square of what sites put out on noisy images, and of their weights.

    Parameters
    ----------
    denoiser : Denoiser
        A `torch.nn.Module`.
    sites : sequence of str
        Names as `site_names` has them.
    images : Tensor, shape (n, *shape)
        Clean data.
    sigmas : sequence of float
        Positive noise levels.
    condition : optional
        One row an image.
    seed : int
        Of the noise.
    batch : int
        Images computed together.

    Returns
    -------
    DataFrame
        `SITE_MAGNITUDES`: one row a (site, sigma) for activations, and one a site that has weights.

    Raises
    ------
    InputError
        As `collect` does.

    Notes
    -----
    Karras et al. 2024 (arXiv 2312.02696), figure 3. Biases and gains, of one axis, are no weights here.
    """
    rows = []
    for sigma in sigmas:  # one level at a time: whole activations are large
        bank = Bank(images, [sigma], seed=seed)
        found = collect(denoiser, bank, sites, condition=condition, how="whole", batch=batch)
        for site in sites:
            each = found.at(site, 0).double().square().mean(1).sqrt().numpy()
            low, high = skewed_mean_interval(each)
            rows.append((site, "activation", float(sigma), len(each), float(each.mean()), float(low), float(high)))
    for site in sites:
        weights = [one for one in find_site(denoiser, site).parameters() if one.ndim > 1]
        if count := sum(one.numel() for one in weights):
            mean_square = sum(float(one.detach().double().square().sum()) for one in weights) / count
            rows.append((site, "weight", np.nan, count, mean_square**0.5, np.nan, np.nan))
    return SITE_MAGNITUDES.check(pd.DataFrame(rows, columns=SITE_MAGNITUDES.names))


@checked
def block_sites(
    denoiser: Denoiser, x: Tensor, sigma: float, *, condition: Condition = None, most: int = 6
) -> list[str]:
    """Names of a network's blocks: the outermost modules inside it that have weights and put out maps or tokens, once.

    Parameters
    ----------
    denoiser : Denoiser
        A `torch.nn.Module`; it is called once, to see what is called.
    x : Tensor, shape (batch, *shape)
        Noisy images.
    sigma : float
        Their noise level.
    condition : optional
        One row an image.
    most : int
        How many are given, at even distances in their order, where there are more.

    Raises
    ------
    InputError
        For a denoiser without inner modules.
    """
    modules = {name: module for name, module in root_module(denoiser).named_modules() if name}
    called = _called(modules, denoiser, x, sigma, condition)
    left = [name for name in modules if called[name] == [True] and any(p.ndim > 1 for p in modules[name].parameters())]
    outermost = _outermost(left)
    while len(outermost) < len(left) and len(outermost) < LEAST_BLOCKS:  # those that hold the whole network
        left = [name for name in left if name not in outermost]
        outermost = _outermost(left)
    places = np.linspace(0, len(outermost) - 1, min(most, len(outermost))).round().astype(int)
    return [outermost[place] for place in places]


@torch.no_grad()
def _called(
    modules: dict[str, nn.Module], denoiser: Denoiser, x: Tensor, sigma: float, condition: Condition
) -> dict[str, list[bool]]:
    """Whether what each module puts out has places beside channels, once a call."""
    called: dict[str, list[bool]] = defaultdict(list)

    def note(name: str) -> Any:
        return lambda module, inputs, output: called[name].append(isinstance(output, Tensor) and output.ndim > 2)

    handles = [module.register_forward_hook(note(name)) for name, module in modules.items()]
    try:
        evaluate(denoiser, x, torch.full((len(x),), sigma, dtype=x.dtype, device=x.device), condition, branch="cond")
    finally:
        for handle in handles:
            handle.remove()
    return called


def _outermost(names: Sequence[str]) -> list[str]:
    """Those that lie in none of the others."""
    return [name for name in names if not any(name.startswith(f"{other}.") for other in names)]
