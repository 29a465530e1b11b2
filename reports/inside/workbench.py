"""What the sections of an inside report share: a subject, how much is measured of it, its sparse features and units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from scorescope.data.display import displayed
from scorescope.probes.models.fingerprint import fingerprint
from scorescope.reports.directions import Contrast, Subject
from scorescope.reports.inside.groups_study import GroupStudy, study_groups
from scorescope.reports.inside.sparse_study import SparseStudy, study_sparse
from scorescope.reports.inside.units_study import UnitsStudy, study_units

LEVELS = 6  # noise levels at which activations are kept


def late_sites(subject: Subject) -> list[str]:
    """Two sites of a subject, from two thirds of the way through the network on."""
    own = list(subject.sites)
    return own[2 * len(own) // 3 :][:2]


@displayed
@dataclass(frozen=True)
class Workbench:
    """A subject, how much is measured of it, and what was measured once for all sections.

    Attributes
    ----------
    given : Subject
        Model and data.
    quick : bool
        Fewer images and seeds; the first two contrasts, one site.
    progress : bool
        Show progress bars.
    kept : Path
        Where activations and autoencoders are, a folder for each model and setting.
    count : int or None
        Labelled images that are looked at, in place of 1800 (600 with `quick`).
    seed : int
        Of noise, weights and splits, and the first of the samples.
    named : sequence of str
        Sites that were asked for.
    pipe : object
        The pipeline, where the subject was made of one.
    arguments : mapping
        Of all its calls.
    """

    given: Subject
    quick: bool
    progress: bool
    kept: Path
    count: int | None = None
    seed: int = 0
    named: Sequence[str] = ()
    pipe: Any = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def size(self, full: int, quick: int) -> int:
        """A number of things, by the size of the report."""
        return quick if self.quick else full

    @property
    def contrasts(self) -> list[Contrast]:
        """What is asked; with `quick` the first two."""
        return list(self.given.contrasts)[: self.size(len(self.given.contrasts), 2)]

    @cached_property
    def subject(self) -> Subject:
        """The model with the images that are looked at and the contrasts that are asked."""
        rows = slice(self.count or self.size(1800, 600))
        groups = None if self.given.groups is None else self.given.groups[rows]
        images, labels = self.given.images[rows], self.given.labels[rows]
        masks = {name: mask[rows] for name, mask in self.given.masks.items()}
        return replace(self.given, images=images, labels=labels, groups=groups, masks=masks, contrasts=self.contrasts)

    @property
    def sites(self) -> list[str]:
        """Those that were asked for, else two of the subject's, with `quick` one of them."""
        return list(self.named) or late_sites(self.given)[: self.size(2, 1)]

    @cached_property
    def folder(self) -> Path:
        """That of this model with these settings: what another one left is not gone on with."""
        of = {
            "denoiser": self.given.denoiser, "images": self.subject.images, "labels": self.subject.labels,
            "sites": self.sites, "contrasts": [str(contrast) for contrast in self.contrasts], "quick": self.quick,
            "seed": self.seed,
        }  # fmt: skip
        return self.kept / fingerprint(of, argument="subject")[:16]

    @cached_property
    def sparse(self) -> SparseStudy:
        """Sparse features of the sites, trained, measured and judged."""
        candidates = self.size(3, 2)
        return study_sparse(
            self.subject, self.sites, folder=self.folder, levels=LEVELS, candidates=candidates, seed=self.seed,
            progress=self.progress,
        )  # fmt: skip

    @cached_property
    def units(self) -> UnitsStudy:
        """Single channels of the first site that was asked for, else of the subject's last, whose maps are finest."""
        site = self.named[0] if self.named else self.given.sites[-1]
        return study_units(
            self.subject, self.subject.masks, site, folder=self.folder, random=self.size(39, 19), seed=self.seed,
            progress=self.progress,
        )  # fmt: skip

    @cached_property
    def groups(self) -> GroupStudy:
        """Groups of the first attribute that the condition leaves open."""
        return study_groups(
            self.subject, seeds=self.size(400, 120), paths=self.size(128, 48), control=self.size(400, 120),
            seed=self.seed, progress=self.progress,
        )  # fmt: skip
