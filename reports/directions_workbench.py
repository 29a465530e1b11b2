"""What the sections of a directions report share: sizes, activations, probes, each made when first needed."""

import math
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from scorescope.analysis.probing import ProbeScan, probe_scan
from scorescope.probes.activations import Activations, collect
from scorescope.probes.bank import Bank, log_snr_grid
from scorescope.reports.directions_study import Contrast, Subject

LOWEST, HIGHEST = 0.03, 60.0  # noise levels of the scans, in units of the data


@dataclass(frozen=True)
class Workbench:
    """A subject, how much is measured of it, and what was measured once for all sections.

    Attributes
    ----------
    subject : Subject
        Model and data.
    quick : bool
        Fewer images, levels, seeds and controls.
    progress : bool
        Show progress bars.
    """

    subject: Subject
    quick: bool
    progress: bool

    def size(self, full: int, quick: int) -> int:
        """A number of things, by the size of the report."""
        return quick if self.quick else full

    @property
    def contrasts(self) -> list[Contrast]:
        """What is asked; with `quick` the first four."""
        return list(self.subject.contrasts)[: self.size(len(self.subject.contrasts), 4)]

    @cached_property
    def sigmas(self) -> list[float]:
        """Noise levels of the scans, evenly spaced in log-SNR, falling."""
        return levels(self.size(14, 9))

    @cached_property
    def images(self) -> Tensor:
        """Labelled images that are looked at."""
        return self.subject.images[: self.size(2000, 700)]

    @cached_property
    def labels(self) -> Tensor:
        """Their labels."""
        return self.subject.labels[: len(self.images)]

    @cached_property
    def activations(self) -> Activations:
        """Averages over space at every site, of the unconditional branch."""
        # a conditional branch would be told the attribute
        bank = Bank(self.images, self.sigmas, seed=1)
        return collect(self.subject.denoiser, bank, list(self.subject.sites), progress=self.progress)

    @cached_property
    def scan(self) -> ProbeScan:
        """Probes of every contrast's attribute at every site and noise level."""
        names = [contrast.attribute for contrast in self.contrasts]
        labels = {name: self.labels[:, self.subject.column(name)].numpy() for name in names}
        return probe_scan(self.activations, labels, resamples=self.size(500, 200), progress=self.progress)


def levels(count: int, *, low: float = LOWEST, high: float = HIGHEST) -> list[float]:
    """Noise levels from `high` to `low`, evenly spaced in log-SNR."""
    return log_snr_grid(-2 * math.log(high), -2 * math.log(low), count)
