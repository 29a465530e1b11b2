"""How good a model of a small labelled set is: is it faithful to what was asked for, and has it memorised?

    class_agreement(samples, labels, train=digits.train, held_out=digits.held_out)
    attribute_agreement(scorer, {"samples": (samples, labels), "held out": (images, labels)})
    nearest_distances({"samples": samples, "held out": digits.held_out.images}, digits.train.images)
    nearest_images({"samples": samples}, digits.train.images)          # the same, image by image
    error_by_sigma(denoiser, digits.train, digits.held_out, sigmas)

Real held-out images belong beside the samples: they say what can be had.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats, host_array
from scorescope.analysis.statistics.intervals import share_interval
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.denoising_errors import denoising_errors, error_bank
from scorescope.data.digits import Labelled
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Denoiser

_WHAT = Column("what", str, "", "which images: samples, or real ones")
_SHARE = (
    Column("n", int, "", "images"),
    Column("agreement", float, "1", "share whose value by the scorer is the requested (real: true) one"),
    *ends("1", "exact (Clopper & Pearson)"),
)
CLASS_AGREEMENT = Schema("class_agreement", (_WHAT, *_SHARE))
ATTRIBUTE_AGREEMENT = Schema(
    "attribute_agreement",
    (_WHAT, Column("attribute", str, "", "its name; all: every attribute of an image at once"), *_SHARE),
)

DISTANCES = Schema(
    "nearest_distances",
    (
        Column("what", str, "", "which images"),
        Column("n", int, "", "images"),
        Column("mean", float, "data", "mean L2 distance to the nearest training image"),
        Column("quantile05", float, "data", "5 % quantile of that distance"),
        Column("median", float, "data", "its median"),
        Column("nearer_share", float, "1", "share nearer than the 5 % quantile of the reference images"),
    ),
)

NEAREST_IMAGES = Schema(
    "nearest_images",
    (
        Column("what", str, "", "which images"),
        Column("image", int, "", "row of these"),
        Column("distance", float, "data", "L2 distance to the nearest training image"),
        Column("nearest", int, "", "row of that one"),
    ),
)

DENOISING_ERRORS = Schema(
    "denoising_errors",
    (
        Column("images", str, "", "train or held out"),
        Column("sigma", float, "data", "noise level"),
        Column("n", int, "", "images, one noise draw each"),
        Column("mean", float, "data^2", "mean squared denoising error per element"),
        *ends("data^2", "over images, corrected for skewness"),
    ),
)


@checked
def class_agreement(samples: Tensor, labels: Tensor, *, train: Labelled, held_out: Labelled) -> pd.DataFrame:
    """How often a classifier of real images names the class that was asked for.

    The classifier is a support-vector machine with an RBF kernel, fitted on `train`; its accuracy on `held_out`
    stands beside the agreement, since it bounds what agreement can mean.

    Parameters
    ----------
    samples : Tensor, shape (n, *shape)
        Generated images.
    labels : Tensor, shape (n,)
        Class requested of each.

    Returns
    -------
    DataFrame
        Columns declared in `CLASS_AGREEMENT`.
    """
    rows = []
    for what, images, wanted in (("samples", samples, labels), ("held out", held_out.images, held_out.labels)):
        right = class_scorer(wanted, train=train)(images)
        rows.append((what, len(images), float(right.mean()), *share_interval(right)))
    return CLASS_AGREEMENT.check(pd.DataFrame(rows, columns=CLASS_AGREEMENT.names))


@checked
def class_scorer(labels: Tensor, *, train: Labelled) -> Callable[[Tensor], Floats]:
    """A scorer for sweeps: 1 where the classifier gives a sample the class requested of it, else 0.

    The classifier is that of `class_agreement`, fitted once.

    Parameters
    ----------
    labels : Tensor, shape (n,)
        Class requested of each sample.
    train : Labelled
        Images that the classifier is fitted on.

    Returns
    -------
    callable
        Samples (n, *shape) to (n,) zeros and ones.
    """
    from sklearn.svm import SVC  # a second to import

    classifier = SVC(C=10.0).fit(_flat(train.images), train.labels.numpy())
    wanted = labels.cpu().numpy()

    def score(samples: Tensor) -> Floats:
        found: Floats = (classifier.predict(_flat(samples)) == wanted).astype(np.float64)
        return found

    return score


@checked
@torch.no_grad()
def attribute_agreement(
    scorer: Callable[[Tensor], Mapping[str, Tensor]], sets: Mapping[str, tuple[Tensor, Tensor]], *, batch: int = 500
) -> pd.DataFrame:
    """How often a scorer of attributes names the values that were asked for.

    Parameters
    ----------
    scorer : callable
        Images to {attribute: (n, values)}, the largest of which is its answer. Attributes beyond the labels'
        columns (a nuisance) are left out.
    sets : mapping of str to (images, labels)
        By name: images (n, *shape) and requested values (n, attribute), in the scorer's order of attributes.

    Returns
    -------
    DataFrame
        Columns declared in `ATTRIBUTE_AGREEMENT`.

    Raises
    ------
    InputError
        If a set's images and labels differ in number.
    """
    rows = []
    for what, (images, labels) in sets.items():
        if len(images) != len(labels) or not len(images):
            raise InputError("sets", found=f"{len(images)} images, {len(labels)} labels", expected="as many, >= 1")
        parts = [scorer(part) for part in images.split(batch)]
        names = list(parts[0])[: labels.shape[1]]
        right = torch.stack([torch.cat([part[name] for part in parts]).argmax(1) for name in names], dim=1) == labels
        for name, found in [*zip(names, right.unbind(1), strict=True), ("all", right.all(1))]:
            named = host_array(found)
            rows.append((what, name, len(named), float(named.mean()), *share_interval(named)))
    return ATTRIBUTE_AGREEMENT.check(pd.DataFrame(rows, columns=ATTRIBUTE_AGREEMENT.names))


@checked
def nearest_distances(sets: Mapping[str, Tensor], train: Tensor, *, reference: str = "held out") -> pd.DataFrame:
    """Distance to the nearest training image, for several sets of images.

    A model that has memorised gives samples nearer to the training images than fresh real ones are.

    Parameters
    ----------
    sets : mapping of str to Tensor, shape (n, *shape)
        Images by name; must hold `reference`.
    train : Tensor, shape (m, *shape)
        Training images.
    reference : str
        The set whose 5 % quantile is the yardstick.

    Returns
    -------
    DataFrame
        Columns declared in `DISTANCES`.
    """
    if reference not in sets:
        raise InputError("reference", found=repr(reference), expected=f"one of {list(sets)}")
    each = nearest_images(sets, train)
    found = {name: each.loc[each["what"] == name, "distance"].to_numpy() for name in sets}
    limit = float(np.quantile(found[reference], 0.05))
    rows = [
        (name, len(d), float(d.mean()), float(np.quantile(d, 0.05)), float(np.median(d)), float((d < limit).mean()))
        for name, d in found.items()
    ]
    return DISTANCES.check(pd.DataFrame(rows, columns=DISTANCES.names))


@checked
def nearest_images(sets: Mapping[str, Tensor], train: Tensor) -> pd.DataFrame:
    """The nearest training image of every image, by the L2 distance of all values.

    Parameters
    ----------
    sets : mapping of str to Tensor, shape (n, *shape)
        Images by name.
    train : Tensor, shape (m, *shape)
        Training images.

    Returns
    -------
    DataFrame
        Columns declared in `NEAREST_IMAGES`, in the order of the images.
    """
    parts = []
    for name, images in sets.items():
        # by way of inner products a small distance of float32 images would lose its digits
        mode = "donot_use_mm_for_euclid_dist"
        found = torch.cdist(images.flatten(1), train.flatten(1), compute_mode=mode).min(1)
        columns = {"distance": found.values.cpu().numpy(), "nearest": found.indices.cpu().numpy()}
        parts.append(pd.DataFrame({"what": name, "image": np.arange(len(images)), **columns}))
    return NEAREST_IMAGES.check(pd.concat(parts, ignore_index=True).astype({"distance": float}))


@checked
def error_by_sigma(
    denoiser: Denoiser, train: Labelled, held_out: Labelled, sigmas: Sequence[float], *, seed: int = 1
) -> pd.DataFrame:
    """Denoising error on training and on held-out images at each noise level.

    Parameters
    ----------
    denoiser : Denoiser
        A class-conditional one.
    train, held_out : Labelled
        Images with their classes.
    sigmas : sequence of float
        Noise levels, in units of the data.
    seed : int
        Of the noise.

    Returns
    -------
    DataFrame
        Columns declared in `DENOISING_ERRORS`. As many training as held-out images are used: the first ones.
    """
    count = len(held_out.images)
    parts = {"train": Labelled(train.images[:count], train.labels[:count]), "held out": held_out}
    tables = []
    for name, part in parts.items():
        bank = error_bank(part.images, part.labels, sigmas=torch.tensor(list(sigmas)), seed=seed)
        errors = denoising_errors(denoiser, bank).double().numpy()
        sample = np.tile(np.arange(count), len(sigmas))
        levels = np.repeat(np.asarray(sigmas, dtype=np.float64), count)  # as given: the bank's are float32
        rows = pd.DataFrame({"images": name, "sigma": levels, "sample": sample, "error": errors})
        tables.append(summarise_by(rows, by=["images", "sigma"], quantities=["error"]))
    return DENOISING_ERRORS.check(pd.concat(tables, ignore_index=True)[DENOISING_ERRORS.names])


def _flat(images: Tensor) -> np.ndarray:
    return images.flatten(1).cpu().numpy()
