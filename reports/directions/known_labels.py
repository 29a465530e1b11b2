"""Probes of images of which each attribute may be known of some alone."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.directions.probing import ProbeScan, probe_scan
from scorescope.analysis.statistics.splits import PARTS, Split, grouped_split
from scorescope.probes.activations.activations import Activations

DEALT = (0, 1, 0, 2, 0)  # parts that groups are dealt to in turn: train, validation, test


def scan_known(
    activations: Activations, labels: Mapping[str, Tensor], *, split: Split, groups: Tensor, resamples: int, seed: int,
    progress: bool,
) -> ProbeScan:  # fmt: skip
    """What `probe_scan` gives for labels that are -1 where they are not known.

    Attributes that are known of the same images are scanned together; images are numbered as those of the activations
    in `split` alone.
    """
    alike: dict[bytes, dict[str, Tensor]] = {}
    for name, values in labels.items():
        alike.setdefault((values >= 0).numpy().tobytes(), {})[name] = values
    found = []
    for part in alike.values():
        rows = (next(iter(part.values())) >= 0).nonzero()[:, 0]
        known = {name: values[rows].numpy() for name, values in part.items()}
        found.append(
            probe_scan(
                of_images(activations, rows), known, groups=groups[rows].numpy(), split=_among(split, rows),
                resamples=resamples, seed=seed, progress=progress,
            )
        )  # fmt: skip
    table = pd.concat([scan.table for scan in found], ignore_index=True)
    final = pd.concat([scan.final for scan in found], ignore_index=True)
    probes = {key: probe for scan in found for key, probe in scan.probes.items()}
    return ProbeScan(table, final, probes, activations.sigmas, split)


def split_known(known: Tensor, groups: Tensor, *, seed: int) -> Split:
    """A split by groups of images, three fifths and twice one, that holds every attribute alike.

    `known` (image, attribute) says of which attributes each image is known; where all images are alike in that, it is
    `grouped_split`. Otherwise groups of one kind, in random order, are dealt out in turn.
    """
    kinds = known.unique(dim=0, return_inverse=True)[1].numpy()
    if not kinds.any():
        return grouped_split(groups.numpy(), seed=seed)
    _, first, group = np.unique(groups.numpy(), return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(first))
    order = order[np.argsort(kinds[first][order], kind="stable")]
    turn = np.empty(len(first), int)
    turn[order] = np.arange(len(first)) % len(DEALT)
    part = np.array(DEALT)[turn][group]
    return Split(*(np.flatnonzero(part == place) for place in range(len(PARTS))))


def of_images(activations: Activations, rows: Tensor) -> Activations:
    """Activations of some images, numbered anew."""
    values = {site: activations.site(site)[:, rows] for site in activations.sites}
    contents = None if activations.contents is None else activations.contents[rows]
    return replace(activations, values=values, images=torch.arange(len(rows)), contents=contents)


def _among(split: Split, rows: Tensor) -> Split:
    """A split of some images, as places among them."""
    return Split(*(np.flatnonzero(np.isin(rows.numpy(), getattr(split, part))) for part in PARTS))
