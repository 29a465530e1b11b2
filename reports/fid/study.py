"""What a FID report compares: real images or their statistics, one or more generated sets, and two feature spaces.

`comparisons` makes studies; `View` is what the sections are given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scorescope.analysis.fid.frechet import frechet_distance
from scorescope.analysis.fid.gaming import FeaturePair
from scorescope.analysis.fid.optimal_transport import Transport, transport
from scorescope.analysis.fid.weights import OptimisedWeights, optimise_weights
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.image_files import KINDS
from scorescope.probes.features.extraction import Features
from scorescope.probes.features.extractors import Extractor
from scorescope.probes.features.images import ImageSource
from scorescope.probes.features.masks import MaskSource
from scorescope.probes.features.moments import Moments

EVALUATIONS = 80  # of the loss, for optimised weights


@displayed
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
    first : Features
        In the judged space.
    second : Features or None
        In the second space, where there is one.
    classes : sequence, optional
        Class of each image, by which the set may have been drawn.
    """

    name: str
    source: ImageSource
    first: Features
    second: Features | None
    classes: Sequence[Any] | None = None

    @property
    def pair(self) -> FeaturePair:
        """Both feature matrices, where there is a second space."""
        assert self.second is not None
        return FeaturePair(self.first.features, self.second.features)

    @property
    def judged(self) -> NDArray[np.float32]:
        """What distances in the judged space take: the features."""
        return self.first.features


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Reference:
    """Statistics of real images in the judged space, in place of the images.

    Attributes
    ----------
    source : str
        The file that they are from.
    moments : Moments
        Mean, covariance, and number of images where the file says it.
    sha256 : str
        Hash of the file.
    """

    source: str
    moments: Moments
    sha256: str
    name: str = "reference"

    @property
    def judged(self) -> Moments:
        """What distances in the judged space take: the moments."""
        return self.moments


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Study:
    """A comparison.

    Attributes
    ----------
    title : str
        For the page.
    real : ImageSet or Reference
        The real images, or their statistics alone.
    fakes : sequence of ImageSet
        Generated sets; the report looks into the last.
    spare : ImageSet or None
        Other real images, for the floor.
    extractor : Extractor
        The feature space that is judged.
    second : Extractor or None
        The second one; None beside a `Reference`, which has one space.
    groups : mapping of str to sequence
        Labels of the last generated set's images, one sequence a kind of label.
    masks : sequence of MaskSource
        Regions of the last generated set's images.
    facts : dict
        For the manifest.
    """

    title: str
    real: ImageSet | Reference
    fakes: Sequence[ImageSet]
    spare: ImageSet | None
    extractor: Extractor
    second: Extractor | None
    groups: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    masks: Sequence[MaskSource] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_spaces(self.extractor, self.second)

    @property
    def image_sets(self) -> list[ImageSet]:
        """All sets of which there are images: real, generated, other real ones."""
        sets = [self.real, *self.fakes, *([self.spare] if self.spare else [])]
        return [item for item in sets if isinstance(item, ImageSet)]

    @property
    def spaces(self) -> tuple[str, str]:
        """Names of the two feature spaces, the second empty where there is none."""
        return self.extractor.name, "" if self.second is None else self.second.name

    @property
    def no_images(self) -> str:
        """Why what needs real images is missing; empty where there are some."""
        if isinstance(self.real, ImageSet):
            return ""
        return f"it needs real images, and of these there are only statistics ({self.real.source})."


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
        return transport(self.fake.first.features, self.study.real.judged)

    @cached_property
    def optimised(self) -> OptimisedWeights:
        """Weights of its images that lower the distance most; for more images than features."""
        return optimise_weights(
            self.fake.first.features, self.study.real.judged, evaluations=EVALUATIONS, progress=self.progress
        )

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
        return frechet_distance((item or self.fake).first.features, self.study.real.judged).value

    def labels(self, rows: NDArray[np.integer[Any]]) -> list[str]:
        """Names of the top-1 classes of some of its images; none where the feature network has no named classes."""
        top1, names = self.fake.first.top1, self.study.extractor.classes
        return [] if top1 is None or not names else [names[top1[row]] for row in rows]


def check_spaces(first: Extractor, second: Extractor | None) -> None:
    """Raise `InputError` where both are one."""
    if second is not None and first.name == second.name:
        expected = "another feature space than the judged one, which cannot confirm itself"
        raise InputError("second", found=f"{first.name!r} twice", expected=expected)


def reading_table(study: Study) -> pd.DataFrame:
    """What was read of each set: images used, left out, converted by kind, and files passed over by reason."""
    rows = []
    for item in study.image_sets:
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
