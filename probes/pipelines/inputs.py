"""What branches were given: which of them the same conditions, time and state. It names them where weights do not.

A perturbed branch was given all that the conditional one was, that of a second condition shares one input with it,
and a branch at another state or time (self-attention guidance blurs the state) is neither `cond` nor `uncond`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.probes.pipelines.branches import Hypothesis
from scorescope.probes.pipelines.call import TIME_ARGUMENTS, state_name

Alike = Sequence[Sequence[float]]  # (branches, branches)
_LEAST = 2e-6  # share of a state that float32 may lose on its way into the network and out of the comparison


def compare(hypothesis: Hypothesis) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Which branches were given the same, input by input.

    Returns
    -------
    (dict, dict of Tensor)
        What the host knows: names of the inputs that differ by row or call, in order; whether nothing was given that
        cannot be compared; and how far rounding may bring a state from another.
        On the device: `alike`, shape (inputs, pairs), one row an input and one number for each pair of branches;
        `states`, shape (1, pairs), the same of the states; `away`, shape (batch, branches), |p - k x| / |p| of the
        state p that a branch was given and that of the step, x. `states` and `away` are left out where all branches
        were plainly given one state, or the state cannot be found in what they were given.
    """
    calls = hypothesis.calls
    if not calls or sum(hypothesis.layout.parts) < 2:
        return {}, {}
    names = [name for name in calls[0].inputs if all(name in call.unedited() for call in calls)]
    cuts = {name: _blocks(hypothesis, name) for name in names}
    visible = None not in cuts.values() and all(call.visible and set(call.inputs) == set(names) for call in calls)
    found = {name: blocks for name, blocks in cuts.items() if blocks}
    known: dict[str, Any] = {"visible": visible}
    numbers, state = dict[str, Tensor](), state_name(names)
    if state in found and (parts := _split(found[state], hypothesis.state)) is not None:
        own, found[state] = parts
        if not _is_one(own):
            numbers = {"states": _pairs(own)[None], "away": _away(own, hypothesis.state)}
            known["rounding"] = max(_LEAST, *(2 * torch.finfo(one.dtype).eps for one in (own[0], hypothesis.state)))
    rows = {name: _pairs(blocks) for name, blocks in found.items() if blocks}
    if rows:
        numbers["alike"] = torch.stack(list(rows.values()))
    return known | {"inputs": list(rows)}, numbers


def _blocks(hypothesis: Hypothesis, name: str) -> list[Tensor] | None:
    """One input, cut into branches; none for what one call gave to all of them, None for what cannot be cut."""
    rows, found = len(hypothesis.target), []
    for call, count in zip(hypothesis.calls, hypothesis.layout.parts, strict=True):
        given = call.inputs[name]
        if not isinstance(given, Tensor) or given.ndim == 0 or len(given) == 1 != count * rows:
            if len(hypothesis.calls) == 1:
                return []
            found += [torch.as_tensor(given, device=hypothesis.state.device)] * count
        elif len(given) != count * rows:
            return None
        elif hypothesis.layout.order == "interleaved":
            found += [given[place::count] for place in range(count)]
        else:
            found += list(given.split(rows))
    return found if len({block.shape for block in found}) == 1 else None


def _split(blocks: Sequence[Tensor], state: Tensor) -> tuple[list[Tensor], list[Tensor]] | None:
    """What of each block is shaped like the step's state, and the rest; None where nothing is.

    The rest are conditions that lie behind the state or before it along one axis: the latents of an image, a mask.
    """
    shape = blocks[0].shape
    if not blocks[0].is_floating_point() or len(shape) != state.ndim or len(blocks[0]) != len(state):
        return None
    longer = [axis for axis in range(1, state.ndim) if shape[axis] != state.shape[axis]]
    if not longer:
        return list(blocks), []
    axis = longer[0]
    length, over = state.shape[axis], shape[axis] - state.shape[axis]
    if len(longer) > 1 or over < 0:
        return None
    heads, tails = ([block.narrow(axis, start, length) for block in blocks] for start in (0, over))
    behind, before = ([block.narrow(axis, start, over) for block in blocks] for start in (length, 0))
    first = ~(_away(heads[:1], state).amax() > _away(tails[:1], state).amax())
    own = [torch.where(first, head, tail) for head, tail in zip(heads, tails, strict=True)]
    return own, [torch.where(first, after, ahead) for after, ahead in zip(behind, before, strict=True)]


def _is_one(blocks: Sequence[Tensor]) -> bool:
    """Whether all are the same, as far as that is known without waiting for a device."""
    places = {(block.data_ptr(), block.stride()) for block in blocks}
    return len(places) == 1 or (blocks[0].device.type == "cpu" and all(torch.equal(blocks[0], b) for b in blocks[1:]))


def _pairs(blocks: Sequence[Tensor]) -> Tensor:
    """Which are the same, for each pair in order."""
    return torch.stack([(a == b).all() for place, a in enumerate(blocks) for b in blocks[place + 1 :]])


def _away(blocks: Sequence[Tensor], state: Tensor) -> Tensor:
    """|p - k x| / |p| for each sample and block p, with the k that fits best."""
    kind = torch.promote_types(torch.promote_types(blocks[0].dtype, state.dtype), torch.float32)
    given = torch.stack([block.flatten(1) for block in blocks], dim=1).to(kind)
    x = state.flatten(1)[:, None].to(device=given.device, dtype=kind)
    slope = (given * x).sum(-1, dtype=torch.float64) / (x * x).sum(-1, dtype=torch.float64)
    distance: Tensor = (given - slope[..., None].to(kind) * x).norm(dim=-1) / given.norm(dim=-1)
    return distance


def squares(pairs: Sequence[Sequence[float]], branches: int) -> list[list[list[float]]]:
    """Symmetric matrices from numbers for each pair."""
    found = []
    for row in pairs:
        numbers, matrix = iter(row), [[1.0] * branches for _ in range(branches)]
        for a in range(branches):
            for b in range(a + 1, branches):
                matrix[a][b] = matrix[b][a] = next(numbers)
        found.append(matrix)
    return found


@displayed
@dataclass(frozen=True)
class Given:
    """What the branches of a step were given.

    Attributes
    ----------
    conditions, times : sequence of matrices, shape (branches, branches)
        Which branches were given the same, input by input.
    states : matrix or None
        Which were given the same state; None where all were, or that is not known.
    there : sequence of bool
        Which were given the state of the step, in all samples; empty where that is not known, or of none.
    visible : bool
        Nothing was given that cannot be compared.
    """

    conditions: Sequence[Alike]
    times: Sequence[Alike]
    states: Alike | None
    there: Sequence[bool]
    visible: bool

    @classmethod
    def of(cls, hypothesis: Mapping[str, Any]) -> "Given":
        """From what `compare` found."""
        alike = hypothesis.get("alike", ())
        names = hypothesis.get("inputs") or [""] * len(alike)  # traces of before have no names
        timed = [name.split(".")[-1] in TIME_ARGUMENTS for name in names]
        samples = [[one <= hypothesis["rounding"] for one in sample] for sample in hypothesis.get("away", ())]
        there = [all(of_branch) for of_branch in zip(*samples, strict=True)]
        # a cut of the inputs in which branches are at other samples' states is not how they lie
        lost = hypothesis["order"] == "interleaved" and len({tuple(sample) for sample in samples}) > 1
        return cls(
            [one for one, time in zip(alike, timed, strict=True) if not time],
            [one for one, time in zip(alike, timed, strict=True) if time],
            None if lost else next(iter(hypothesis.get("states", ())), None),
            there if any(there) and not lost else (), bool(hypothesis.get("visible")) and not lost,
        )  # fmt: skip

    def elsewhere(self, branch: int) -> bool:
        """Whether a branch is known not to be at the state of the step."""
        return bool(self.there) and not self.there[branch]

    def apart(self, one: int, other: int) -> bool:
        """Whether two branches were given other states or times."""
        if any(not equal[one][other] for equal in self.times):
            return True
        if self.there:
            return self.there[one] != self.there[other]
        return self.states is not None and not self.states[one][other]

    def twins(self, one: int, other: int) -> bool:
        """Whether two branches were given the same conditions, as far as conditions were seen."""
        return bool(self.conditions) and all(equal[one][other] for equal in self.conditions)

    def farthest(self, cond: int, others: Sequence[int]) -> int | None:
        """The one branch that shares nothing with the conditional branch but what all branches share; else None.

        A perturbed branch has the same inputs as the conditional one, and that of a second condition shares one.
        """
        group = (cond, *others)
        varying = [equal for equal in self.conditions if not all(equal[a][b] for a in group for b in group)]
        found = [branch for branch in others if all(not equal[cond][branch] for equal in varying)]
        return found[0] if varying and len(found) == 1 else None
