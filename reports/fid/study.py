"""What a FID report compares: a real set, one or more generated ones, and two feature spaces.

study = shipped_study(800)                                        # digits against samples at several weights
study = folder_study("real/", "fake/", extractor, second)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scorescope.analysis.fid.classes import suspiciously_even
from scorescope.analysis.fid.frechet import frechet_distance
from scorescope.analysis.fid.gaming import FeaturePair
from scorescope.analysis.fid.optimal_transport import Transport, transport
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.image_files import KINDS
from scorescope.data.untrusted import read_csv
from scorescope.probes.features.extraction import Features, extract
from scorescope.probes.features.extractors import Extractor, classifier_extractor, pixel_extractor
from scorescope.probes.features.images import ImageSource, ReadLog, open_images, tensor_images
from scorescope.probes.features.masks import MaskSource, open_masks
from scorescope.probes.guidance import CFG
from scorescope.probes.models.model import Model, load_model
from scorescope.probes.sampling.sample import sample

WEIGHTS = (1.0, 2.0, 4.0)


@checked
@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their features in both spaces.

    Attributes
    ----------
    name : str
        What tables and figures call it.
    source : ImageSource
        The images, to be read again for pictures and maps.
    first, second : Features
        In the judged and in the second space.
    classes : sequence, optional
        Class of each image, by which the set may have been drawn.
    """

    name: str
    source: ImageSource
    first: Features
    second: Features
    classes: Sequence[Any] | None = None

    @property
    def pair(self) -> FeaturePair:
        """Both feature matrices."""
        return FeaturePair(self.first.features, self.second.features)


@checked
@dataclass(frozen=True, eq=False)
class Study:
    """A comparison.

    Attributes
    ----------
    title : str
        For the page.
    real : ImageSet
        The reference.
    fakes : sequence of ImageSet
        Generated sets; the report looks into the last.
    spare : ImageSet or None
        Other real images, for the floor.
    extractor, second : Extractor
        The two feature spaces.
    groups : mapping of str to sequence
        Labels of the last generated set's images, one sequence a kind of label.
    masks : sequence of MaskSource
        Regions of the last generated set's images.
    facts : dict
        For the manifest.
    """

    title: str
    real: ImageSet
    fakes: Sequence[ImageSet]
    spare: ImageSet | None
    extractor: Extractor
    second: Extractor
    groups: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    masks: Sequence[MaskSource] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_spaces(self.extractor, self.second)

    @property
    def spaces(self) -> tuple[str, str]:
        """Names of the two feature spaces."""
        return self.extractor.name, self.second.name


@dataclass(frozen=True, eq=False)
class View:
    """The generated set that the report looks into: the last.

    Attributes
    ----------
    study : Study
        Where it comes from.
    progress : bool
        Show progress bars.
    """

    study: Study
    progress: bool

    @property
    def fake(self) -> ImageSet:
        """The set."""
        return self.study.fakes[-1]

    @cached_property
    def plan(self) -> Transport:
        """The map from its Gaussian to that of the real set."""
        return transport(self.fake.first.features, self.study.real.first.features)

    @property
    def name(self) -> str:
        """What the page calls it."""
        return self.fake.name

    @property
    def size(self) -> tuple[int, int]:
        """Number of images and of features."""
        n, d = self.fake.first.features.shape
        return n, d

    def distance(self, item: ImageSet | None = None) -> float:
        """FD of this set, or of another one, in the judged space."""
        return frechet_distance((item or self.fake).first.features, self.study.real.first.features).value


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
        made = _image_set(f"w = {weight:g}", source, extractor, second, progress=progress)
        fakes.append(replace(made, classes=labels))
    digits = model.digits
    real = _image_set("held-out digits", tensor_images(digits.held_out.images), extractor, second, progress=progress)
    real = replace(real, classes=digits.held_out.labels.tolist())
    spare = _image_set("training digits", tensor_images(digits.train.images), extractor, second, progress=progress)
    facts = {
        "model": model.name, "model_source": model.source, "weights": list(WEIGHTS), "seeds": f"0 to {count - 1}",
        "digits_sha256": digits.sha256,
    }  # fmt: skip
    groups = {"asked-for digit": labels}
    title = f"FID: {model.name}, held-out digits against samples"
    return Study(title, real, fakes, spare, extractor, second, groups, facts=facts)


@checked
def folder_study(
    real: Path | str,
    fake: Path | str,
    extractor: Extractor,
    second: Extractor | None = None,
    *,
    labels: Path | str | None = None,
    masks: Sequence[Path | str] = (),
    skip_bad: bool = False,
    batch: int = 64,
    progress: bool = True,
) -> Study:
    """Real against generated images from folders or archives; see `open_images`.

    Parameters
    ----------
    real, fake : Path or str
        The two sets.
    extractor : Extractor
        The feature space that is judged.
    second : Extractor, optional
        The second one, not the first again; by default gray pixels at 8 x 8.
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
    second = second or pixel_extractor(8)
    _check_spaces(extractor, second)  # before hours of extraction
    sources = open_images(real), open_images(fake)
    regions = _open_regions([Path(mask) for mask in masks])
    if regions and not skip_bad:  # before hours of extraction
        names = [name for name, _ in sources[1].items(ReadLog())]
        for region in regions:
            region.check_names(names)
    sets = [
        _image_set(name, source, extractor, second, skip_bad=skip_bad, batch=batch, progress=progress)
        for name, source in zip(("real", "generated"), sources, strict=True)
    ]
    for region in regions:
        region.check_names(sets[1].first.names)
    groups = {} if labels is None else _read_groups(Path(labels), sets[1].first.names)
    sets = [replace(item, classes=_folders(item.first.names)) for item in sets]
    if even := [kind for kind in groups.values() if suspiciously_even(kind)]:
        sets[1] = replace(sets[1], classes=even[0])
    facts = {
        "real": str(real), "generated": str(fake), "skip_bad": skip_bad, "masks": [str(path) for path in masks],
    }  # fmt: skip
    return Study(f"FID: {fake} against {real}", sets[0], sets[1:], None, extractor, second, groups, regions, facts)


def reading_table(study: Study) -> pd.DataFrame:
    """What was read of each set: images used, left out, converted by kind, and files passed over by reason."""
    rows = []
    for item in [study.real, *study.fakes, *([study.spare] if study.spare else [])]:
        log = item.first.log
        row: dict[str, Any] = {"set": item.name, "source": item.source.name, "read": log.read, "left_out": len(log.bad)}
        row |= {kind: log.converted.get(kind, 0) for kind in KINDS} | {"passed_over": log.passed_over.total()}
        reasons = ", ".join(f"{count} {why}" for why, count in sorted(log.passed_over.items()))
        rows.append(row | {"passed over": reasons, "first left out": next(iter(log.bad), "")})
    return pd.DataFrame(rows)


def pictures(source: ImageSource, rows: NDArray[np.integer[Any]]) -> list[NDArray[np.uint8]]:
    """Some of a source's images, each (y, x, 3), in the order of `rows`."""
    wanted = {int(row) for row in rows}
    found: dict[int, NDArray[np.uint8]] = {}
    first = 0
    for _, images in source.batches(64, skip_bad=True):
        for row in wanted.intersection(range(first, first + len(images))):
            found[row] = np.moveaxis(images[row - first].numpy(), 0, 2)
        first += len(images)
        if len(found) == len(wanted):
            break
    return [found[int(row)] for row in rows]


def _image_set(
    name: str, source: ImageSource, extractor: Extractor, second: Extractor, *, skip_bad: bool = False,
    batch: int = 256, progress: bool = True,
) -> ImageSet:  # fmt: skip
    first, other = (extract(source, e, batch=batch, skip_bad=skip_bad, progress=progress) for e in (extractor, second))
    return ImageSet(name, source, first, other)


def _check_spaces(first: Extractor, second: Extractor) -> None:
    if first.name == second.name:
        expected = "another feature space than the judged one, which cannot confirm itself"
        raise InputError("second", found=f"{first.name!r} twice", expected=expected)


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
