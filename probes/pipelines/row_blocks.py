"""Blocks of rows of a denoiser call that belong to branches: as they were told, and as a step proves them."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.pipelines.branches import Layout
from scorescope.probes.pipelines.call import Call
from scorescope.probes.pipelines.naming import contradict
from scorescope.probes.pipelines.proof import Proved
from scorescope.probes.pipelines.separator import Judged


@dataclass(frozen=True)
class Blocks:
    """The branches of a call: their names in order, and whether their rows take turns."""

    names: tuple[str, ...]
    interleaved: bool = False
    presumed: bool = False  # until the step proves it

    def rows(self, branch: str, batch: int) -> Tensor:
        """1 in the rows of a branch, 0 in others, shape (batch,), float64."""
        return torch.tensor([float(name == branch) for name in self.by_row(batch)], dtype=torch.float64)

    def by_row(self, batch: int) -> list[str]:
        """The branch of each row."""
        each = batch // len(self.names)
        return list(self.names) * each if self.interleaved else [name for name in self.names for _ in range(each)]

    def contradicts(self, told: "Blocks", batch: int) -> bool:
        """Whether a row that has a name here was told to have another, or one that is that of other rows here."""
        if batch % len(self.names):
            return True  # one row holds several branches
        return contradict(self.by_row(batch), told.by_row(batch))


@displayed
@dataclass(frozen=True, eq=False)
class ToldStep:
    """What was told of the calls of a step, and its proof, which later steps of the run may settle.

    Attributes
    ----------
    told : mapping of int to Blocks
        By the place of the call.
    proved : Proved
        The proof.
    layout : Layout
        What it is of.
    sizes : mapping of int to int
        Rows of the calls that hold its branches, by place, in the order of the layout.
    samples : int
        Rows of the prediction.
    """

    told: Mapping[int, Blocks]
    proved: Proved
    layout: Layout
    sizes: Mapping[int, int]
    samples: int

    @classmethod
    def of(cls, told: Mapping[int, Blocks], judged: Judged) -> "ToldStep":
        """A step that was judged just now."""
        sizes = {call.place: rows_of(call) for call in judged.calls}
        return cls(told, judged.proved, judged.hypothesis.layout, sizes, len(judged.given.target))

    def blocks(self) -> dict[int, Blocks]:
        """The branches in each call, by place; none where nothing is proved, or samples contradict each other."""
        names = self.proved.names()
        if not any(names):
            return {}
        return self._joined(names) if self.layout.order == "joined" else self._parted(names)

    def _parted(self, names: list[str]) -> dict[int, Blocks]:
        """Whole branches in each call."""
        found, start, turns = {}, 0, self.layout.order == "interleaved"
        for place, count in zip(self.sizes, self.layout.parts, strict=True):
            found[place] = Blocks(tuple(names[start : start + count]), turns and count > 1)
            start += count
        return found

    def _joined(self, names: list[str]) -> dict[int, Blocks]:
        """Calls that hold parts of branches, or one and part of the next, named row by row."""
        rows = [name for name in names for _ in range(self.samples)]
        if len(rows) != sum(self.sizes.values()):  # its outputs have other rows than its states
            return {}
        found, start = {}, 0
        for place, count in self.sizes.items():
            found[place] = Blocks(tuple(rows[start : start + count]))
            start += count
        return found

    def check(self, *, by: str) -> bool:
        """Whether all that was told is proved by now.

        Raises
        ------
        InputError
            Where it is proved to be otherwise, by what `by` names.
        """
        blocks = self.blocks()
        for place, told in self.told.items():
            if place in blocks and blocks[place].contradicts(told, self.sizes[place]):
                found = f"{told.names} in call {place} of a step"
                raise InputError("branches", found=found, expected=f"{blocks[place].names}, as {by} proves")
        return self.told.keys() <= blocks.keys()


def rows_of(call: Call) -> int:
    """Rows of what a call put out."""
    return len(call.outputs[0]) if call.outputs and call.outputs[0].ndim else 0
