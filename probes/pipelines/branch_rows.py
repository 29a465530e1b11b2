"""Which rows of a denoiser call belong to which branch, known before the call is made.

What a step of the run has proved holds for later calls of the same module and size at the same place of their group.
Before the first proof the inputs may tell: a class label that stands for no class, or a condition that is zero in
one of two blocks of the same state. Every step proves again, and what its proof, that of a later step of the run, or
that of a recording which hears more denoisers contradicts is refused.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.pipelines.call import Call
from scorescope.probes.pipelines.level_reader import LevelReaders
from scorescope.probes.pipelines.listener import StepEvent
from scorescope.probes.pipelines.naming import LABELS, check_names
from scorescope.probes.pipelines.row_blocks import Blocks, ToldStep, rows_of
from scorescope.probes.pipelines.separator import Separator

_NAMES = "branches=, the order of the equal blocks of a batch, such as ('uncond', 'cond'); or branch 'both'"
_LABELS, _NO_LABEL = "class_labels", "num_embeds_ada_norm"  # the argument, and what says which label is none


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
        self._separator, self._wider = Separator(), Separator()
        self._proved: dict[tuple[str, int, int], Blocks] = {}
        self._told: dict[int, tuple[Call, Blocks]] = {}
        self._unproved: list[ToldStep] = []

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
            self._proved = {}
        if call.label:
            return Blocks((LABELS.get(call.label, call.label),)).rows(branch, batch)
        found = self._repeated(call, batch) or self._named(batch)
        found = found or self._proved.get((call.module, call.place, batch)) or self._presumed(call, batch)
        if found is None:
            what = f"{branch!r} in an unnamed call of {batch} rows, branches {self._names}"
            raise InputError("branch", found=what, expected=_NAMES)
        if not call.repeated:
            self._told[call.place] = call, found
        return found.rows(branch, batch)

    def learn(self, step: StepEvent) -> None:
        """Prove the branches of a step before it is made.

        Raises
        ------
        InputError
            Where the proof contradicts what was told of its calls, or of those of an earlier step of the run.
        """
        if step.begins:
            self._separator, self._wider, self._unproved = Separator(), Separator(), []
            self._readers.forget()
        told = [one for one in self._told.values() if any(one[0] is call for call in step.calls)]
        self._told = {}
        if step.place or not any(not call.label for call in step.calls):
            return
        self._check(step, told)
        self._unproved = [one for one in self._unproved if not one.check(by="a later step of the run")]

    def _check(self, step: StepEvent, told: Sequence[tuple[Call, Blocks]]) -> None:
        """Learn from the proof of a step, and hold what was told of its calls against it."""
        own = self._judge(self._separator, step, step.calls, told)
        proved = {} if own is None else own.blocks()
        if own is not None and own.layout.order != "joined":
            known = [call for call in step.calls if call.place in proved]
            self._proved |= {(call.module, call.place, rows_of(call)): proved[call.place] for call in known}
        wider = self._judge(self._wider, step, step.heard, told) if len(step.heard) > len(step.calls) else None
        proofs = [one for one in (own, wider) if one is not None and one.told]
        if any([one.check(by="the step that they fed") for one in proofs]):  # all are asked
            return
        self._unproved += proofs
        for call, blocks in told:
            if blocks.presumed and call.place not in proved:
                what = f"{blocks.names} in call {call.place}, by its inputs or size alone,"
                raise InputError("branches", found=f"{what} of a step that proves nothing", expected=_NAMES)

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

    def _judge(
        self, separator: Separator, step: StepEvent, calls: Sequence[Call], told: Sequence[tuple[Call, Blocks]]
    ) -> ToldStep | None:
        """The proof of a step from these calls, with what was told of them; None where nothing can be learnt."""
        given = step.received
        level = self._readers.of(step.owner).read(step.owner, given.timestep, given.state, given.extra)
        prediction, state = given.prediction.detach(), given.state.detach()
        try:
            judged = separator.judge(calls, prediction, state, level, step.place)
        except InputError:
            return None
        return ToldStep.of(_by_place(told, calls), judged)


def _by_place(told: Sequence[tuple[Call, Blocks]], calls: Sequence[Call]) -> dict[int, Blocks]:
    """What was told of these calls; another listener's are the same where they share the copies of the outputs."""
    by_output = {id(call.outputs[0]): blocks for call, blocks in told if call.outputs}
    found = {call.place: by_output.get(id(call.outputs[0])) for call in calls if call.outputs}
    return {place: blocks for place, blocks in found.items() if blocks is not None}


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
