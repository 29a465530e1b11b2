"""Studies made of what people have: the shipped digits, two folders of images, a file of reference statistics.

study = shipped_study(800)                                        # digits against samples at several weights
study = folder_study("real/", "fake/", extractor, second, other_real="more_real/")
study = folder_study(read_reference("ref.npz", extractor), "fake/", extractor)
"""

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from scorescope.analysis.fid.classes import suspiciously_even
from scorescope.data.checkpoints import sha256
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import read_csv
from scorescope.probes.features.edm2_references import read_edm2_reference
from scorescope.probes.features.extraction import extract
from scorescope.probes.features.extractors import Extractor, classifier_extractor, pixel_extractor
from scorescope.probes.features.images import ImageSource, ReadLog, open_images, tensor_images
from scorescope.probes.features.masks import MaskSource, open_masks
from scorescope.probes.features.moments import read_moments
from scorescope.probes.guidance import CFG
from scorescope.probes.models.model import Model, load_model
from scorescope.probes.sampling.sample import sample
from scorescope.reports.fid.study import ImageSet, Reference, Study, check_spaces

WEIGHTS = (1.0, 2.0, 4.0)
OTHER_REAL = "other real"
EDM2_METRICS = {"Inception 2015 pool3": "fid", "DINOv2": "fd_dinov2"}


@checked
def shipped_study(count: int, *, model: Model | None = None, device: str = "cpu", progress: bool = True) -> Study:
    """Held-out real digits against samples of the shipped denoiser at several guidance weights, the same seeds.

    Parameters
    ----------
    count : int
        Samples at each weight.
    model : Model, optional
        Another denoiser of the digits.
    device : str
        Where to sample.
    progress : bool
        Show progress bars.
    """
    model = model or load_model("digits", device=device)
    if model.digits is None:
        raise InputError("model", found=model.name, expected="a model of the shipped digits, or folders of images")
    extractor, second = classifier_extractor("digits"), pixel_extractor(8)
    conditions = model.conditions(count)
    labels = np.asarray(conditions).tolist()
    fakes = []
    for weight in WEIGHTS:
        run = sample(
            model.denoiser, seeds=range(count), condition=conditions, shape=model.shape, rule=CFG(weight),
            device=device, progress=progress,
        )  # fmt: skip
        source = tensor_images(run.samples, name=f"samples at w = {weight:g}")
        made = image_set(f"w = {weight:g}", source, extractor, second, progress=progress)
        fakes.append(replace(made, classes=labels))
    digits = model.digits
    real = image_set("held-out digits", tensor_images(digits.held_out.images), extractor, second, progress=progress)
    real = replace(real, classes=digits.held_out.labels.tolist())
    spare = image_set("training digits", tensor_images(digits.train.images), extractor, second, progress=progress)
    facts = {
        "model": model.name, "model_source": model.source, "weights": list(WEIGHTS), "seeds": f"0 to {count - 1}",
        "digits_sha256": digits.sha256,
    }  # fmt: skip
    groups = {"asked-for digit": labels}
    title = f"FID: {model.name}, held-out digits against samples"
    return Study(title, real, fakes, spare, extractor, second, groups, facts=facts)


@checked
def folder_study(
    real: Path | str | Reference,
    fake: Path | str,
    extractor: Extractor,
    second: Extractor | None = None,
    *,
    other_real: Path | str | None = None,
    labels: Path | str | None = None,
    masks: Sequence[Path | str] = (),
    skip_bad: bool = False,
    batch: int = 64,
    progress: bool = True,
) -> Study:
    """Real against generated images from folders or archives; see `open_images`.

    Parameters
    ----------
    real : Path, str or Reference
        The real images, or their statistics; see `read_reference`.
    fake : Path or str
        The generated images.
    extractor : Extractor
        The feature space that is judged.
    second : Extractor, optional
        The second one, not the first again; by default gray pixels at 8 x 8. None beside a `Reference`.
    other_real : Path or str, optional
        Other real images, for the floor.
    labels : Path or str, optional
        CSV with a column `name` (as in the set) and further columns: groups of generated images. The first in which
        the numbers a group are suspiciously even is taken for the class by which the set was drawn; without one, the
        folders of the images are, in both sets.
    masks : sequence of Path or str
        Regions of the generated images, one a path; see `open_masks`.
    skip_bad : bool
        Leave out and count images that cannot be read.
    batch : int
        Images at a time.
    progress : bool
        Show progress bars.
    """
    second = _second_space(real, second)
    check_spaces(extractor, second)
    sources = _open_sets(real, fake, other_real)
    regions = _open_regions([Path(mask) for mask in masks])
    if regions and not skip_bad:
        names = [name for name, _ in sources["generated"].items(ReadLog())]
        for region in regions:
            region.check_names(names)
    if isinstance(real, Reference):
        _check_fit(real, sources["generated"], extractor)
    # hours of extraction begin here: what can be wrong with the input was looked at before
    sets = {
        name: image_set(name, source, extractor, second, skip_bad=skip_bad, batch=batch, progress=progress)
        for name, source in sources.items()
    }
    sets = {name: replace(item, classes=_folders(item.first.names)) for name, item in sets.items()}
    made = sets["generated"]
    for region in regions:
        region.check_names(made.first.names)
    groups = {} if labels is None else _read_groups(Path(labels), made.first.names)
    if even := [kind for kind in groups.values() if suspiciously_even(kind)]:
        made = replace(made, classes=even[0])
    against = real if isinstance(real, Reference) else sets["real"]
    facts = _facts(real) | {
        "generated": str(fake), "other_real": None if other_real is None else str(other_real),
        "skip_bad": skip_bad, "masks": [str(path) for path in masks],
    }  # fmt: skip
    title = f"FID: {fake} against {real.source if isinstance(real, Reference) else real}"
    return Study(title, against, [made], sets.get(OTHER_REAL), extractor, second, groups, regions, facts)


@checked
def read_reference(path: Path | str, extractor: Extractor, *, count: int | None = None) -> Reference:
    """Statistics of real images, as others and `write_moments` store them: .npz with mu and sigma, or EDM2's .pkl.

    Parameters
    ----------
    path : Path or str
        The file. Images that lie beside the statistics are not used.
    extractor : Extractor
        The feature space: an EDM2 pickle has Inception's under `fid` and DINOv2's under `fd_dinov2`.
    count : int, optional
        Number of images, where the file does not say.

    Raises
    ------
    InputError
        For a file without statistics, an EDM2 pickle and another feature space than its two, or a number of images
        that the file contradicts.
    """
    path = Path(path)
    metric = EDM2_METRICS.get(extractor.name)
    if path.suffix == ".pkl" and metric is None:
        expected = f"features of {' or '.join(EDM2_METRICS)}, of which EDM2 has references"
        raise InputError(str(path), found=f"features of {extractor.name}", expected=expected)
    stored = zipfile.is_zipfile(path) or metric is None
    moments = read_moments(path) if stored else read_edm2_reference(path, metric or "")
    if count is not None and moments.n not in (None, count):
        raise InputError("count", found=str(count), expected=f"{moments.n}, which {path} says, or none")
    return Reference(str(path), moments if count is None else replace(moments, n=count), sha256(path))


def _second_space(real: Path | str | Reference, second: Extractor | None) -> Extractor | None:
    if not isinstance(real, Reference):
        return second or pixel_extractor(8)
    if second is not None:
        expected = "none: the reference has the statistics of one feature space"
        raise InputError("second", found=second.name, expected=expected)
    return None


def _open_sets(real: Path | str | Reference, fake: Path | str, other_real: Path | str | None) -> dict[str, ImageSource]:
    """The sets of images by name, in the order in which they are read."""
    sources = {} if isinstance(real, Reference) else {"real": open_images(real)}
    sources["generated"] = open_images(fake)
    if other_real is not None:
        if Path(other_real).resolve() in (Path(source.name).resolve() for source in sources.values()):
            raise InputError("other_real", found=f"{other_real} again", expected="real images that are in neither set")
        sources[OTHER_REAL] = open_images(other_real)
    return sources


def _check_fit(reference: Reference, source: ImageSource, extractor: Extractor) -> None:
    """Compare the number of features with that of one image."""
    for _, images in source.batches(1, skip_bad=True):
        with torch.no_grad():
            found = extractor.features(extractor.prepare(images.to(extractor.device))).shape[1]
        if found != reference.moments.dimension:
            raise InputError(
                reference.source, found=f"statistics of {reference.moments.dimension} features",
                expected=f"those of {extractor.name}, which has {found}: both of one feature space",
            )  # fmt: skip
        return


def _facts(real: Path | str | Reference) -> dict[str, Any]:
    if isinstance(real, Reference):
        return {"reference": real.source, "reference_sha256": real.sha256, "reference_images": real.moments.n}
    return {"real": str(real)}


def image_set(
    name: str, source: ImageSource, extractor: Extractor, second: Extractor | None, *, skip_bad: bool = False,
    batch: int = 256, progress: bool = True,
) -> ImageSet:  # fmt: skip
    """A set of images with its features in both spaces."""
    first, other = (
        None if space is None else extract(source, space, batch=batch, skip_bad=skip_bad, progress=progress)
        for space in (extractor, second)
    )
    assert first is not None
    return ImageSet(name, source, first, other)


def _folders(names: Sequence[str]) -> list[str] | None:
    """The folder of each image, if there are several and no image is outside."""
    found = [str(PurePath(name).parent) for name in names]
    return found if len(set(found)) > 1 and "." not in found else None


def _read_groups(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    table = read_csv(path, expected="a CSV with a column `name`", dtype=str).fillna("")
    if "name" not in table or table["name"].duplicated().any():
        raise InputError(str(path), found=f"columns {list(table)}", expected="a column `name` without repeats")
    table = table.set_index("name")
    if absent := [name for name in names if name not in table.index]:
        raise InputError(str(path), found=f"no row for {absent[0]} and {len(absent) - 1} more", expected="one an image")
    ordered = table.reindex(list(names))
    return {str(column): list(ordered[column]) for column in ordered}


def _open_regions(paths: Sequence[Path]) -> list[MaskSource]:
    found = [open_masks(path) for path in paths]
    names = [masks.region for masks in found]
    if len(set(names)) < len(names):
        raise InputError("masks", found=f"regions {names}", expected="files or folders of different names")
    return found
