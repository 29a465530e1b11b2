"""Which branches were given the same conditions: what names the branches where there are three or more."""

from collections.abc import Sequence

import torch
from torch import Tensor

from scorescope.probes.pipelines.branches import Hypothesis

_FEWEST = 3  # weights alone tell two branches apart


def alike(hypothesis: Hypothesis) -> Tensor | None:
    """Which branches were given the same, input by input; on the device.

    Returns
    -------
    Tensor of bool, shape (inputs, branches, branches), or None
        None for two branches, and where inputs cannot be cut as the outputs are.
    """
    calls, parts = hypothesis.calls, hypothesis.layout.parts
    if not calls or sum(parts) < _FEWEST:
        return None
    names = [name for name in calls[0].inputs if all(name in call.inputs for call in calls)]
    found = [_compare(blocks) for name in names if (blocks := _blocks(hypothesis, name)) is not None]
    return torch.stack(found) if found else None


def _blocks(hypothesis: Hypothesis, name: str) -> list[Tensor] | None:
    """One input, cut into branches."""
    rows, found = len(hypothesis.target), []
    for call, count in zip(hypothesis.calls, hypothesis.layout.parts, strict=True):
        given = call.inputs[name]
        if len(given) != count * rows:
            return None
        strided = hypothesis.layout.order == "interleaved"
        found += [given[place::count] for place in range(count)] if strided else list(given.split(rows))
    return found if len({block.shape for block in found}) == 1 else None


def _compare(blocks: Sequence[Tensor]) -> Tensor:
    return torch.stack([torch.stack([(a == b).all() for b in blocks]) for a in blocks])


def farthest(alike_inputs: Sequence[Sequence[Sequence[float]]], cond: int, others: Sequence[int]) -> int | None:
    """The one branch that shares nothing with the conditional branch but what all branches share; else None.

    A perturbed branch has the same inputs as the conditional one, and that of a second condition shares one with it.
    """
    varying = [equal for equal in alike_inputs if not all(all(row) for row in equal)]
    found = [branch for branch in others if all(not equal[cond][branch] for equal in varying)]
    return found[0] if varying and len(found) == 1 else None


def twin(alike_inputs: Sequence[Sequence[Sequence[float]]], cond: int, others: Sequence[int]) -> int | None:
    """The one branch that was given all that the conditional branch was: a perturbed one; else None."""
    found = [branch for branch in others if all(equal[cond][branch] for equal in alike_inputs)]
    return found[0] if len(alike_inputs) and len(found) == 1 else None
