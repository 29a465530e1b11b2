"""Fit mixtures: one Gaussian a class, or one a k-means cluster.

    fit_per_class(images, labels)                        # conditional: D(x, sigma, labels) uses one class
    fit_kmeans(images, clusters=50, rank=8)

Where a component has too few samples for what was asked, it falls back (a lower rank, then the isotropic variance
of all components together) and says so in its `note` and in the mixture's.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations.gaussian import Gaussian, isotropic
from scorescope.probes.approximations.gaussian_fit import SHRINKAGES, Shrinkage, fit_gaussian
from scorescope.probes.approximations.mixture import Mixture
from scorescope.probes.approximations.sources import Batches, Source, filtered

HELD = 2**27  # bytes of rows of small components that are held together: a pass over the data for all of them
Stream = Callable[[], Iterator[Tensor]]


@checked
def fit_per_class(
    source: Source,
    labels: Tensor | Sequence[int],
    *,
    classes: Sequence[int] | None = None,
    rank: int | None = None,
    shrinkage: Shrinkage = "auto",
    value_range: tuple[float, float] | None = None,
    units: str = "data",
    name: str = "per class",
) -> Mixture:
    """One Gaussian a class, weighted by the class's share; mean and covariance of the whole are those of the data.

    Parameters
    ----------
    source : Tensor, array, iterable of batches, or function returning one
        Data of shape (n, *shape); see `Batches`.
    labels : Tensor or sequence of int, length n
        In the order in which the source yields its samples.
    classes : sequence of int, optional
        Classes that must be there; by default those that occur.
    rank, shrinkage, value_range, units
        As in `fit_gaussian`, for each class.
    name : str
        What tables call it.

    Returns
    -------
    Mixture
        With `labels`, so that it is conditional too.

    Notes
    -----
    Classes are read together, as many as fit into 128 MB of float64; a larger one takes passes over the data alone.

    Raises
    ------
    InputError
        For classes without samples, labels that do not match the data, and all that `fit_gaussian` refuses.
    """
    owner = torch.as_tensor(labels).reshape(-1).cpu().long()
    found = sorted(set(owner.tolist()))
    wanted = found if classes is None else [int(c) for c in classes]
    if empty := sorted(set(wanted) - set(found)):
        raise InputError("labels", found=f"no samples of classes {empty}", expected="samples of every class")
    if stray := sorted(set(found) - set(wanted)):
        raise InputError("labels", found=f"labels {stray}", expected=f"one of the classes {wanted}")
    batches = Batches(source, value_range=value_range)
    return _fit_components(batches, owner, wanted, rank, shrinkage, name, units, labelled=True)


@checked
def fit_kmeans(
    source: Source,
    *,
    clusters: int,
    rank: int | None = None,
    shrinkage: Shrinkage = "auto",
    value_range: tuple[float, float] | None = None,
    units: str = "data",
    name: str | None = None,
    epochs: int = 10,
    seed: int = 0,
) -> Mixture:
    """One Gaussian a cluster of mini-batch k-means (scikit-learn), weighted by the cluster's share.

    Parameters
    ----------
    source, rank, shrinkage, value_range, units
        As in `fit_per_class`.
    clusters : int
        Clusters asked for; those that stay empty are left out, which `note` says.
    name : str, optional
        By default "k-means <clusters>", with "ppca <rank>" where a rank is given.
    epochs : int
        Passes of mini-batch k-means over the data.
    seed : int
        Seed of k-means.

    Raises
    ------
    InputError
        For more clusters than samples in a batch, and all that `fit_gaussian` refuses.
    """
    batches = Batches(source, value_range=value_range, batch=2048)
    owner = _cluster(batches, clusters, epochs, seed)
    kept = sorted(set(owner.tolist()))
    name = name or f"k-means {clusters}" + (f" ppca {rank}" if rank is not None else "")
    mixture = _fit_components(batches, owner, kept, rank, shrinkage, name, units, labelled=False)
    if len(kept) == clusters:
        return mixture
    note = "; ".join(filter(None, [f"{clusters - len(kept)} empty clusters left out", mixture.note]))
    return Mixture(mixture.components, mixture.weights, None, name, note, units)


def _cluster(batches: Batches, clusters: int, epochs: int, seed: int) -> Tensor:
    """Index of the cluster of every row."""
    from sklearn.cluster import MiniBatchKMeans

    first = next(batches.rows(torch.float64))
    if not 1 <= clusters <= len(first):
        raise InputError("clusters", found=str(clusters), expected=f"1 to {len(first)}, the samples in the first batch")
    model: Any = MiniBatchKMeans(clusters, random_state=seed, n_init=3)
    for _ in range(epochs):
        for rows in batches.rows(torch.float64):
            model.partial_fit(rows.numpy())
    return torch.from_numpy(
        np.concatenate([model.predict(rows.numpy()) for rows in batches.rows(torch.float64)])
    ).long()


def _fit_components(
    batches: Batches, owner: Tensor, kept: Sequence[int], rank: int | None, shrinkage: Shrinkage, name: str, units: str,
    *, labelled: bool,
) -> Mixture:  # fmt: skip
    if shrinkage not in SHRINKAGES:
        raise InputError("shrinkage", found=repr(shrinkage), expected=f"one of {', '.join(SHRINKAGES)}")
    total = sum(len(rows) for rows in batches.rows(torch.float64))
    if total != len(owner):
        raise InputError("labels", found=f"{len(owner)} labels", expected=f"{total}, one for each sample")
    counts = [int((owner == k).sum()) for k in kept]
    pooled = _pooled_variance(batches, owner)
    streams = _streams(batches, owner, kept, counts)
    components = [
        _fit_one(batches, stream, count, rank, shrinkage, pooled, f"{name} {k}", units)
        for k, count, stream in zip(kept, counts, streams, strict=True)
    ]
    weights = torch.tensor(counts, dtype=torch.float64) / total
    weights = weights.to(components[0].mean.dtype)
    note = "; ".join(f"{g.name}: {g.note}" for g in components if g.note)
    return Mixture(tuple(components), weights, tuple(kept) if labelled else None, name, note, units)


def _streams(batches: Batches, owner: Tensor, kept: Sequence[int], counts: Sequence[int]) -> Iterator[Stream]:
    """The rows of each component: as many components as there is room for from one pass, larger ones streamed."""
    groups: list[list[int]] = [[]]
    room = HELD
    for k, count in zip(kept, counts, strict=True):
        size = 8 * batches.dimension * count
        if size > room and groups[-1]:
            groups.append([])
            room = HELD
        groups[-1].append(k)
        room -= size
    for group in groups:
        if len(group) > 1:
            yield from _collected(batches, owner, group)
        else:
            yield partial(_streamed, batches, owner == group[0])


def _streamed(batches: Batches, mine: Tensor) -> Iterator[Tensor]:
    return filtered(lambda: batches.rows(torch.float64), lambda first, rows: mine[first : first + len(rows)])()


def _collected(batches: Batches, owner: Tensor, group: Sequence[int]) -> Iterator[Stream]:
    parts: dict[int, list[Tensor]] = {k: [] for k in group}
    first = 0
    for rows in batches.rows(torch.float64):
        owners = owner[first : first + len(rows)]
        first += len(rows)
        places = torch.isin(owners, torch.tensor(group)).nonzero()[:, 0]
        order = places[owners[places].argsort(stable=True)]
        found, sizes = owners[order].unique_consecutive(return_counts=True)
        for k, part in zip(found.tolist(), rows[order].split(sizes.tolist()), strict=True):
            parts[k].append(part)
    for k in group:
        yield partial(iter, [torch.cat(parts.pop(k))])


def _fit_one(
    batches: Batches,
    stream: Stream,
    count: int,
    rank: int | None,
    shrinkage: Shrinkage,
    pooled: float,
    name: str,
    units: str,
) -> Gaussian:
    if count < 2:
        (point,) = torch.cat(list(stream()))
        note = "1 sample: isotropic, variance of all components together"
        return isotropic(point.reshape(batches.shape), pooled, name=name, units=units).with_note(note)
    low = rank is not None and rank < batches.dimension and rank > count - 1
    used = count - 1 if low else rank
    fitted = fit_gaussian(stream, rank=used, shrinkage=shrinkage, name=name, units=units, dtype=torch.float64)
    note = "; ".join(filter(None, [f"rank {used} for {count} samples" if low else "", fitted.note]))
    return fitted.reshaped(batches.shape).with_note(note)


def _pooled_variance(batches: Batches, owner: Tensor) -> float:
    """Mean variance an element within components, over all of them."""
    components = int(owner.max()) + 1
    counts = torch.bincount(owner, minlength=components).clamp_min(1)[:, None]
    sums = torch.zeros(components, batches.dimension, dtype=torch.float64)
    first = 0
    for rows in batches.rows(torch.float64):
        sums.index_add_(0, owner[first : first + len(rows)], rows)
        first += len(rows)
    means, first, within = sums / counts, 0, 0.0
    for rows in batches.rows(torch.float64):
        within += float((rows - means[owner[first : first + len(rows)]]).square().sum())
        first += len(rows)
    return within / len(owner) / batches.dimension
