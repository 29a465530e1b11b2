"""The branches of one scheduler step, told apart by proof, and where they lie in the denoiser's calls.

This module knows nothing of hooks and pipelines.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import working_dtype
from scorescope.probes.pipelines.branches import Hypothesis, Layout, align, cut, without_variance
from scorescope.probes.pipelines.call import Call
from scorescope.probes.pipelines.level import Level
from scorescope.probes.pipelines.measure import Packed, measure, unread
from scorescope.probes.pipelines.naming import Verdict, contradict, roles_of
from scorescope.probes.pipelines.proof import Proved, prove
from scorescope.probes.pipelines.settling import settle


@displayed
@dataclass(frozen=True)
class Given:
    """What `scheduler.step` received: prediction and state, the prediction shaped like it, and how many steps the
    same calls had fed before.
    """

    prediction: Tensor
    state: Tensor
    target: Tensor
    place: int


@displayed
@dataclass(frozen=True)
class Separated:
    """The branches of one step, in the space and convention of the scheduler's input, float64.

    Attributes
    ----------
    cond, uncond : Tensor, shape (rows, *shape)
        Predictions; `uncond` None where the pipeline made one prediction.
    state : Tensor, shape (rows, *shape)
        The scheduler's state.
    calls : sequence of Call
        The calls that hold the branches, in the order of `layout`.
    layout : Layout
        How they lie there.
    place : int
        Which branch of the layout `cond` is.
    given : Given
        What they were told apart with.
    verdicts : sequence of Verdict
        One a sample.
    """

    cond: Tensor
    uncond: Tensor | None
    state: Tensor
    calls: Sequence[Call]
    layout: Layout
    place: int
    given: Given
    verdicts: Sequence[Verdict]

    @property
    def doubled(self) -> bool:
        """The scheduler receives the guided prediction twice, one after the other along the batch (DiT)."""
        return self.layout.order == "doubled"

    @property
    def cond_calls(self) -> tuple[int, ...]:
        """Places in `calls` of those that hold `cond`."""
        return tuple(range(len(self.calls))) if self.layout.order == "joined" else (self._call_of(self.place),)

    @property
    def blocks(self) -> int | None:
        """Branches in the call that holds `cond`; None where it lies in several calls."""
        return None if self.layout.order == "joined" else self.layout.parts[self.cond_calls[0]]

    @property
    def cond_rows(self) -> slice | None:
        """Rows of `cond` in its call, where that holds other branches too."""
        return None if self.layout.order == "joined" else self._rows_of(self.place)

    def source(self, branch: Literal["cond", "uncond"]) -> tuple[Call, slice | None] | None:
        """The call that holds a branch, and its rows where it holds others too; None where the branch was not made,
        or lies in several calls.
        """
        place = self.place if branch == "cond" else _places(self.verdicts)[1]
        if place is None or self.layout.order == "joined":
            return None
        return self.calls[self._call_of(place)], self._rows_of(place)

    def _call_of(self, place: int) -> int:
        return next(i for i in range(len(self.calls)) if place < sum(self.layout.parts[: i + 1]))

    def _rows_of(self, place: int) -> slice | None:
        call, rows = self._call_of(place), len(self.state)
        blocks, place = self.layout.parts[call], place - sum(self.layout.parts[:call])
        if blocks == 1:
            return None
        if self.layout.order == "interleaved":
            return slice(place, None, blocks)
        return slice(place * rows, (place + 1) * rows)

    def cond_of(self, again: Sequence[Call], *, alone: bool) -> Tensor | None:
        """`cond` from other calls in place of `cond_calls`, or None where their outputs do not fit.

        Parameters
        ----------
        again : sequence of Call
            As many as `cond_calls`.
        alone : bool
            They hold the rows of `cond` and no others.
        """
        given, branch = self.given, None
        if alone:
            aligned = align(again, given.prediction, given.state, given.place)
            branch = next((part.rows for part in aligned if part.view == self.layout.view), None)
        else:
            changed = dict(zip(self.cond_calls, again, strict=True))
            calls = [changed.get(place, call) for place, call in enumerate(self.calls)]
            aligned = align(calls, given.prediction, given.state, given.place)
            found = cut(aligned, given.target, given.state)
            branch = next((one.branches[self.place] for one in found if one.layout == self.layout), None)
        if branch is None or branch.shape != self.cond.shape:
            return None
        return _scaled(self.verdicts, branch.to(self.cond.dtype), self.state.to(self.cond.dtype))


@displayed
@dataclass(frozen=True)
class Judged:
    """The proof of one step.

    Attributes
    ----------
    proved : Proved
        The verdicts.
    hypothesis : Hypothesis
        The cut that they are of.
    calls : sequence of Call
        The calls that hold its branches, in the order of its layout.
    given : Given
        What it was made with.
    """

    proved: Proved
    hypothesis: Hypothesis
    calls: Sequence[Call]
    given: Given


@displayed
@dataclass
class Separator:
    """Tells the branches of each step apart, with what earlier steps of the run have proved.

    Attributes
    ----------
    names : sequence of str
        The user's names for the branches, in the order of the calls; the pipeline's own labels come first.
    """

    names: Sequence[str] = ()
    _proved: list[Proved] = field(default_factory=list)
    _unnamed: list[Proved] = field(default_factory=list)  # what the steps prove without the user's names

    def judge(self, calls: Sequence[Call], prediction: Tensor, state: Tensor, level: Level, place: int) -> Judged:
        """Prove which branch is which, in this step.

        Parameters
        ----------
        calls : sequence of Call
            The denoiser calls that fed it.
        prediction, state : Tensor
            What `scheduler.step` received.
        level : Level
            Its level.
        place : int
            How many steps these calls have fed already.

        Raises
        ------
        InputError
            Where no output of the calls fits the prediction, with the reason, and for names that this step, or an
            earlier one by what this one proves, contradicts.
        """
        target = without_variance(prediction, state)
        if target is None or not state.is_floating_point():
            raise _apart("a prediction that has not the shape of the state")
        aligned = align(calls, prediction, state, place)
        packed = Packed()
        described = measure(packed, aligned, target, state, level)
        unnamed = [dict(part) for part in described]
        for part in described:
            if not any(part["labels"]) and len(part["labels"]) == len(self.names):
                part["labels"] = list(self.names)
        numbers = packed.read(packed.vector(torch.device("cpu")))
        event = {"rows": len(state), "size": state[0].numel(), "missing": ""}
        proved = prove(event | unread({"follows": []}, numbers, described, level))
        self._proved.append(proved)
        settle(self._proved)
        if self.names:
            self._unnamed.append(prove(event | unread({"follows": []}, numbers, unnamed, level)))
            self._check_names()
        if proved.hypothesis is None:
            raise _apart(proved.verdicts[0].reason)
        index = next(place for place, part in enumerate(described) if part is proved.hypothesis)
        chosen = cut(aligned, target, state)[index]
        sources = [part.call for part in aligned if part.view == chosen.layout.view][-len(chosen.layout.modules) :]
        return Judged(proved, chosen, sources, Given(prediction, state, target, place))

    def separate(self, calls: Sequence[Call], prediction: Tensor, state: Tensor, level: Level, place: int) -> Separated:
        """The branches of this step; see `judge`.

        Raises
        ------
        InputError
            Where they cannot be told apart, with the reason.
        """
        judged = self.judge(calls, prediction, state, level, place)
        chosen, verdicts, dtype = judged.hypothesis, judged.proved.verdicts, working_dtype(state)
        found = [_scaled(verdicts, branch.to(dtype), chosen.state.to(dtype)) for branch in chosen.branches]
        cond, uncond = _places(verdicts)
        return Separated(
            found[cond], None if uncond is None else found[uncond], chosen.state, judged.calls, chosen.layout, cond,
            judged.given, verdicts,
        )  # fmt: skip

    def _check_names(self) -> None:
        """Hold the user's names against what numbers and inputs prove without them."""
        settle(self._unnamed)
        for one in self._unnamed:
            proved, labels = one.names(), roles_of(one.hypothesis or {"labels": []})
            if len(proved) == len(self.names) and not any(labels) and contradict(proved, self.names):
                raise InputError(
                    "branches", found=str(tuple(self.names)), expected=f"{tuple(proved)}, as a step proves"
                )


def _places(verdicts: Sequence[Verdict]) -> tuple[int, int | None]:
    """Places of cond and uncond; uncond None where there was one prediction."""
    if all(verdict.rule == "none" for verdict in verdicts):
        return 0, None
    if any(verdict.rule == "multi-branch" for verdict in verdicts):
        raise _apart("a pipeline that combines more than two branches")
    found = {(verdict.cond, verdict.uncond) for verdict in verdicts}
    cond, uncond = found.pop() if len(found) == 1 else (None, None)
    if cond is None or uncond is None:
        raise _apart(next((v.reason for v in verdicts if v.reason), "samples of one step whose branches differ"))
    return cond, uncond


def _scaled(verdicts: Sequence[Verdict], branch: Tensor, state: Tensor) -> Tensor:
    """A branch as the scheduler would have received it: some pipelines flip the sign, or mix in the state."""
    scales, mixes = [verdict.scale for verdict in verdicts], [verdict.mix for verdict in verdicts]
    column = (-1, *(1,) * (branch.ndim - 1))
    if any(scale != 1 for scale in scales):
        branch = branch * branch.new_tensor(scales).reshape(column)
    return branch + state * branch.new_tensor(mixes).reshape(column) if any(mixes) else branch


def _apart(found: str) -> InputError:
    expected = "branches that can be told apart: plain guidance with a weight above 1, or their names in branches="
    return InputError("pipe", found=found, expected=expected)
