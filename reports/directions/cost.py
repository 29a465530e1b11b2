"""What the directions report on a pipeline takes, before it begins: calls of the network, images that are judged.

    Cost(contrasts=1, sites=6, images=200, quick=False).in_words(steps, described)

Counted from the sizes of the sections, small ones left out; a test counts what a report really calls.
"""

from dataclasses import dataclass

from scorescope.probes.experiments.pipeline_description import PipelineDescription
from scorescope.reports.directions.workbench import LAW
from scorescope.reports.page.numbers import duration


@dataclass(frozen=True)
class Cost:
    """Sizes that decide what a report takes.

    Attributes
    ----------
    contrasts, sites, images : int
        How many are asked, looked at, labelled (of each contrast).
    quick : bool
        See `Workbench`.
    """

    contrasts: int
    sites: int
    images: int
    quick: bool

    @property
    def evaluations(self) -> int:
        """Latents that go through the network, for one branch each."""
        steps = self._size(8, 7)
        scanned = self.contrasts * self.images * self._size(14, 9)
        made = self._size(256, 64) * 35  # Heun with 18 steps
        followed = self._asked * (self._size(32, 16) * self._size(18, 10) * (4 + self._size(7, 6) // 2))
        classified = self._asked * min(self.images, self._size(120, 48)) * self._size(12, 8) * 2
        return scanned + made + followed + classified + steps * sum(self._steered)

    @property
    def judged(self) -> int:
        """Latents that are decoded and judged."""
        images = self.contrasts * self.images
        followed = self._asked * (self._size(32, 16) * (3 * self._size(18, 10) + 3 + self._size(7, 6)))
        return 3 * images + self._size(256, 64) + followed + sum(self._steered)

    def in_words(self, steps: int, described: PipelineDescription) -> str:
        """What is going to be made, and what it takes."""
        images = self.contrasts * self.images
        calls = described.denoisers["calls_a_step"].sum()
        needed = duration(images * steps * described.seconds)
        return (
            f"{images} images of {steps} steps by the pipeline itself (about {images * steps * calls:.0f} calls of its "
            f"network, {needed} of them from {described.seconds:.2g} s a step), then about "
            f"{self.evaluations} latents through the network, one branch each, and about {self.judged} decoded images "
            "before the judge"
        )

    @property
    def _asked(self) -> int:
        return min(self.contrasts, 2) if self.quick else self.contrasts

    @property
    def _steered(self) -> list[int]:
        """Samples of the sections that intervene: map, doses, windows, readers and transport, patching."""
        cells = self._asked * -(-self.sites // self._size(1, 3))
        fresh = self._size(24, 8)
        readers = 4 * (1 + self._size(LAW, 2)) + self._size(5, 4) + 4
        patched = 2 + 2 * -(-self.sites // self._size(1, 3)) * self._size(3, 2)
        return [
            cells * self._arms(2) * self._size(10, 8), self._arms(self._size(6, 3)) * fresh,
            min(self._asked, 2) * self._arms(2 * self._size(5, 3)) * self._size(12, 8), readers * 2 * fresh,
            patched * self._size(24, 20),
        ]  # fmt: skip

    def _arms(self, doses: int) -> int:
        """No edit, and every dose of the direction and its controls."""
        return 1 + doses * (1 + self._size(5, 4) + LAW)

    def _size(self, full: int, quick: int) -> int:
        return quick if self.quick else full
