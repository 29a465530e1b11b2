"""Which rows of a denoiser call belong to which branch, known before the call is made.

What a step of the run has proved holds for later calls of the same module and size at the same place of their group.
Before the first proof the inputs may tell: a class label that stands for no class, or a condition that is zero in
one of two blocks of the same state. Every later step proves again, and one that contradicts what was said is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.pipelines.call import Call
from scorescope.probes.pipelines.level_reader import LevelReaders
from scorescope.probes.pipelines.listener import StepEvent
from scorescope.probes.pipelines.naming import LABELS, check_names
from scorescope.probes.pipelines.separator import Judged, Separator

_NAMES = "branches=, the order of the equal blocks of a batch, such as ('uncond', 'cond'); or branch 'both'"
_LABELS, _NO_LABEL = "class_labels", "num_embeds_ada_norm"  # the argument, and what says which label is none


@dataclass(frozen=True)
class Blocks:
    """The branches of a call: their names in order, and whether their rows take turns."""

    names: tuple[str, ...]
    interleaved: bool = False
    presumed: bool = False  # until the step proves it

    def rows(self, branch: str, batch: int) -> Tensor:
        """1 in the rows of a branch, 0 in others, shape (batch,), float64."""
        marks = torch.tensor([float(name == branch) for name in self.names], dtype=torch.float64)
        each = batch // len(self.names)
        return marks.repeat(each) if self.interleaved else marks.repeat_interleave(each)

    def contradicts(self, other: "Blocks") -> bool:
        """Whether a branch that has a name here is elsewhere in `other`."""
        if len(self.names) != len(other.names) or self.interleaved != other.interleaved:
            return True
        return any(name not in ("", others) for name, others in zip(self.names, other.names, strict=True))


class BranchRows:
    """Tells the rows of branches, and learns them from every step.

    Parameters
    ----------
    readers : LevelReaders
        Of noise levels.
    names : sequence of str
        The user's names for the equal blocks of a call; the pipeline's own labels come first.
    """

    def __init__(self, readers: LevelReaders, names: Sequence[str] = ()) -> None:
        self._readers, self._names = readers, check_names(names)
        self._separator = Separator()
        self._proved: dict[tuple[str, int, int], Blocks] = {}
        self._told: dict[int, Blocks] = {}

    def of(self, branch: str, call: Call, batch: int, *, same_run: bool) -> Tensor:
        """1 in the rows of a call that belong to a branch, 0 in others, shape (batch,), float64.

        Parameters
        ----------
        branch : str
            `cond` or `uncond`.
        call : Call
            A call that is about to be made.
        batch : int
            Its rows.
        same_run : bool
            It belongs to the run of the step before it.

        Raises
        ------
        InputError
            Where neither labels, names, an earlier step nor inputs tell.
        """
        if not same_run:
            self._forget()
        if call.label:
            return Blocks((LABELS.get(call.label, call.label),)).rows(branch, batch)
        found = self._repeated(call, batch) or self._named(batch)
        found = found or self._proved.get((call.module, call.place, batch)) or self._presumed(call, batch)
        if found is None:
            what = f"{branch!r} in an unnamed call of {batch} rows, branches {self._names}"
            raise InputError("branch", found=what, expected=_NAMES)
        if not call.repeated:
            self._told[call.place] = found
        return found.rows(branch, batch)

    def learn(self, step: StepEvent) -> None:
        """Prove the branches of a step before it is made.

        Raises
        ------
        InputError
            Where the proof contradicts what was told of its calls.
        """
        if step.begins:
            self._separator = Separator()
            self._readers.forget()
        told, self._told = self._told, {}
        if step.place or not any(not call.label for call in step.calls):
            return
        blocks = self._judge(step)
        for place, one in told.items():
            if place in blocks and blocks[place].contradicts(one):
                expected = f"{blocks[place].names}, as the step that they fed proves"
                raise InputError("branches", found=f"{one.names} in call {place} of a step", expected=expected)
            if place not in blocks and one.presumed:
                found = f"{one.names} in call {place}, by its inputs or size alone, of a step that proves nothing"
                raise InputError("branches", found=found, expected=_NAMES)
        proved = [call for call in step.calls if call.place in blocks]
        self._proved |= {(call.module, call.place, _rows(call)): blocks[call.place] for call in proved}

    def _named(self, batch: int) -> Blocks | None:
        return Blocks(self._names) if self._names and batch % len(self._names) == 0 else None

    def _presumed(self, call: Call, batch: int) -> Blocks | None:
        """What inputs tell; or `cond` alone, where guidance may have ended: a call of the size of one proved block."""
        ones = {rows // len(blocks.names) for (_, _, rows), blocks in self._proved.items() if len(blocks.names) > 1}
        found = _from_inputs(call, batch) or (Blocks(("cond",)) if batch in ones else None)
        return None if found is None else replace(found, presumed=True)

    def _repeated(self, call: Call, batch: int) -> Blocks | None:
        """A rule makes the call that holds `cond` again: whole, or with the rows of that branch alone."""
        held = {rows: blocks for (_, _, rows), blocks in self._proved.items() if "cond" in blocks.names}
        alone = {rows // len(blocks.names): Blocks(("cond",)) for rows, blocks in held.items()}
        return (alone | held).get(batch) if call.repeated else None

    def _judge(self, step: StepEvent) -> dict[int, Blocks]:
        given = step.received
        level = self._readers.of(step.owner).read(step.owner, given.timestep, given.state, given.extra)
        prediction, state = given.prediction.detach(), given.state.detach()
        try:
            return _blocks(self._separator.judge(step.calls, prediction, state, level, step.place))
        except InputError:  # nothing is learnt of this step
            return {}

    def _forget(self) -> None:
        self._proved, self._told = {}, {}


def _rows(call: Call) -> int:
    return len(call.outputs[0]) if call.outputs and call.outputs[0].ndim else 0


def _blocks(found: Judged) -> dict[int, Blocks]:
    """The branches in each call of a step, by the place of the call; none where the step proves none."""
    layout, (first, *others) = found.hypothesis.layout, found.proved.verdicts
    same = all((one.cond, one.uncond) == (first.cond, first.uncond) for one in others)
    if layout.order == "joined" or not first.evidence or first.cond is None or not same:
        return {}
    places = {"cond": first.cond, "uncond": first.uncond, "perturbed": found.proved.perturbed}
    roles = {place: role for role, place in places.items() if place is not None}
    names = [roles.get(branch, "") for branch in range(sum(layout.parts))]
    blocks, start = {}, 0
    for call, count in zip(found.calls, layout.parts, strict=True):
        blocks[call.place] = Blocks(tuple(names[start : start + count]), count > 1 and layout.order == "interleaved")
        start += count
    return blocks


def _from_inputs(call: Call, batch: int) -> Blocks | None:
    """The branches as far as the inputs of a call tell."""
    labels, none = call.inputs.get(_LABELS), getattr(getattr(call.network, "config", None), _NO_LABEL, None)
    if isinstance(labels, Tensor) and none is not None and labels.shape == (batch,):
        return _where((labels == none).cpu())
    conditions = call.conditions()
    zero = {name: (value.flatten(1) == 0).all(1).cpu() for name, value in conditions.items()}
    halves = [found for found in map(_where, zero.values()) if found is not None and len(found.names) == 2]
    chosen = next((found for found in halves if _same_state(call, found)), None)
    return chosen if all(found == chosen for found in halves) else None


def _where(unconditional: Tensor) -> Blocks | None:
    """The one way in which whole blocks of rows are unconditional and conditional."""
    rows = unconditional.tolist()
    if len(set(rows)) == 1:
        return Blocks(("uncond" if rows[0] else "cond",))
    half = len(rows) // 2
    for interleaved, (a, b) in ((False, (rows[:half], rows[half:])), (True, (rows[::2], rows[1::2]))):
        if len(a) == len(b) and len(set(a)) == len(set(b)) == 1:
            return Blocks(("uncond", "cond") if a[0] else ("cond", "uncond"), interleaved)
    return None


def _same_state(call: Call, blocks: Blocks) -> bool:
    """Whether both blocks of a call are of the same state."""
    state: Any = call.state
    if not isinstance(state, Tensor) or len(state) % 2:
        return False
    a, b = (state[::2], state[1::2]) if blocks.interleaved else state.chunk(2)
    return torch.equal(a, b)
