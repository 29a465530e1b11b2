"""Features of sets of images, streaming.

    extractor = classifier_extractor("digits")
    found = extract(open_images("samples/"), extractor)
    found.features, found.logits, found.names
    moments = stream_moments(open_images("samples/"), extractor)   # constant memory

This module knows nothing of distances.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.extractors import Extractor, spatial_extractor, spatial_readings
from scorescope.probes.features.images import ImageSource, ReadLog
from scorescope.probes.features.moments import Moments, RunningMoments

Singles = NDArray[np.float32]


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Features:
    """Features of a set of images.

    Attributes
    ----------
    features : ndarray, shape (n, d), float32
        One row an image.
    logits : ndarray, shape (n, classes), float32, or None
        With bias; None without a classifier's head.
    names : list of str
        Of the images.
    log : ReadLog
        What was read, left out and converted.
    extractor : str
        Name of the feature space.
    """

    features: Singles
    logits: Singles | None
    names: list[str]
    log: ReadLog = field(default_factory=ReadLog)
    extractor: str = ""

    @property
    def top1(self) -> NDArray[np.int64] | None:
        """Index of each image's largest logit."""
        return None if self.logits is None else self.logits.argmax(axis=1)

    def take(self, rows: NDArray[np.integer[Any]]) -> "Features":
        """The same for some of the images."""
        logits = None if self.logits is None else self.logits[rows]
        return replace(self, features=self.features[rows], logits=logits, names=[self.names[row] for row in rows])


@checked
def extract(
    source: ImageSource, extractor: Extractor, *, batch: int = 64, skip_bad: bool = False, progress: bool = True
) -> Features:
    """Features, and logits where there is a head, of every image of a source.

    Parameters
    ----------
    source : ImageSource
        The images.
    extractor : Extractor
        The network.
    batch : int
        Images at a time; bounds the memory.
    skip_bad : bool
        Leave out and note images that cannot be read.
    progress : bool
        Show a progress bar.

    Raises
    ------
    InputError
        For an image that cannot be read or does not fit the network, features that are not finite (naming the
        images), or fewer than two images.
    """
    log = ReadLog()
    names: list[str] = []
    parts: list[Singles] = []
    for labels, part in _stream(source, extractor, batch, skip_bad, log, progress):
        names += labels
        parts.append(part)
    if len(names) < 2:
        raise InputError(source.name, found=f"{len(names)} images", expected="at least two")
    features = np.concatenate(parts)
    return Features(features, _logits(extractor, features), names, log, extractor.name)


@checked
def extract_spatial(
    source: ImageSource, base: Extractor, *, batch: int = 64, skip_bad: bool = False, progress: bool = True
) -> dict[str, Singles]:
    """Features for sFID by each reading that the network offers, shape (n, d) each, in one pass.

    Parameters
    ----------
    source, batch, skip_bad, progress
        As in `extract`.
    base : Extractor
        Its network gives the readings.

    Raises
    ------
    InputError
        If it offers none (see `spatial_readings`), or as `extract` does.
    """
    readings = list(spatial_readings(base))
    together = spatial_extractor(base, *readings)
    rows = extract(source, together, batch=batch, skip_bad=skip_bad, progress=progress).features
    parts = np.split(rows, len(readings), axis=1)  # a network's readings have one size
    return dict(zip(readings, parts, strict=True))


@checked
def stream_moments(
    source: ImageSource, extractor: Extractor, *, batch: int = 64, skip_bad: bool = False, progress: bool = True
) -> Moments:
    """Moments of the features of a source, keeping one batch and one d x d matrix; see `extract`.

    Parameters
    ----------
    source, extractor, batch, skip_bad, progress
        As in `extract`.
    """
    moments = RunningMoments()
    for _, part in _stream(source, extractor, batch, skip_bad, ReadLog(), progress):
        moments.add(part)
    return moments.result()


@checked
@torch.no_grad()
def extract_maps(
    source: ImageSource,
    extractor: Extractor,
    *,
    rows: NDArray[np.integer[Any]] | Sequence[int] | None = None,
    batch: int = 64,
) -> Singles:
    """Last maps of some images, shape (m, d, y, x), in the order of `rows`.

    Parameters
    ----------
    source, batch
        As in `extract`.
    extractor : Extractor
        One with maps (`activations`).
    rows : array of int, optional
        Images, by their place; by default all.

    Raises
    ------
    InputError
        If the extractor has no maps whose mean are its features.
    """
    run = _maps_of(extractor)
    wanted = None if rows is None else {int(row) for row in rows}
    kept: dict[int, Singles] = {}
    first = 0
    for _, images in source.batches(batch, skip_bad=True):
        chosen = [i for i in range(len(images)) if wanted is None or first + i in wanted]
        if chosen:
            maps = run(_input(source, extractor, images[chosen])).float().cpu().numpy()
            kept |= {first + i: maps[k] for k, i in enumerate(chosen)}
        first += len(images)
    order = range(first) if rows is None else [int(row) for row in rows]
    if absent := [row for row in order if row not in kept]:
        raise InputError("rows", found=f"{absent[:5]}", expected=f"rows from 0 to {first - 1}")
    return np.stack([kept[row] for row in order])


@checked
def stream_maps(
    source: ImageSource, extractor: Extractor, *, batch: int = 64, progress: bool = True
) -> Iterator[tuple[list[str], tuple[int, int], Singles]]:
    """Last maps of all images, a batch at a time.

    Parameters
    ----------
    source, batch, progress
        As in `extract`.
    extractor : Extractor
        One with maps (`activations`).

    Yields
    ------
    names : list of str
    size : (int, int)
        Height and width of these images.
    maps : ndarray, shape (batch, d, y, x), float32
    """
    run = _maps_of(extractor)
    bar = tqdm(total=source.count, desc=f"maps of {source.name}", disable=not progress, leave=False, unit="image")
    with bar:
        for names, images in source.batches(batch, skip_bad=True):
            with torch.no_grad():
                maps = run(_input(source, extractor, images)).float().cpu().numpy()
            bar.update(len(names))
            yield names, (images.shape[2], images.shape[3]), maps


def _maps_of(extractor: Extractor) -> Callable[[Tensor], Tensor]:
    if extractor.activations is None:
        expected = "one whose features are the spatial mean of maps; see `gradcam_maps` for others"
        raise InputError("extractor", found=extractor.name, expected=expected)
    return extractor.activations


def _stream(
    source: ImageSource, extractor: Extractor, batch: int, skip_bad: bool, log: ReadLog, progress: bool
) -> Iterator[tuple[list[str], Singles]]:
    bar = tqdm(total=source.count, desc=f"features of {source.name}", disable=not progress, leave=False, unit="image")
    with bar, torch.no_grad():
        for names, images in source.batches(batch, skip_bad=skip_bad, log=log):
            features = extractor.features(_input(source, extractor, images)).float().cpu().numpy()
            bad = [name for name, fine in zip(names, np.isfinite(features).all(axis=1), strict=True) if not fine]
            if bad:
                found = f"features with NaN or infinite values for {len(bad)} images: {', '.join(bad[:8])}"
                raise InputError(source.name, found=found, expected="finite features")
            bar.update(len(names))
            yield names, features


def _input(source: ImageSource, extractor: Extractor, images: Tensor) -> Tensor:
    try:
        return extractor.prepare(images.to(extractor.device))
    except InputError as error:
        found, expected = f"{error.argument}: {error.found}", error.expected
        raise InputError(f"{source.name} for {extractor.name}", found=found, expected=expected) from None


@torch.no_grad()
def _logits(extractor: Extractor, features: Singles) -> Singles | None:
    if extractor.head is None:
        return None
    rows = torch.from_numpy(features).to(extractor.device)
    logits: Singles = extractor.head(rows).float().cpu().numpy()
    return logits
