"""Which parts of the denoiser's outputs could be the branches of a step, and the inner products that decide.

Nothing here knows a pipeline. Every way of cutting the calls since the last step into branches that fit the
prediction which the scheduler received is a `Hypothesis`; for each, the Gram matrix of

    (a, b - a, c - a, ..., g - a, x)          a, b, c: branches; g: what the scheduler received; x: its state

is accumulated on the device in float64, per sample. `pipelines.proof` reads them on the host.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.probes.decomposition.gram import gram
from scorescope.probes.pipelines.call import Call

_MOST_BRANCHES = 6


@dataclass(frozen=True)
class Layout:
    """How the branches of a step lie in its calls.

    Attributes
    ----------
    view : str
        How an output was brought to the shape of the prediction (`same`, `reshape`, `frames`, `head:1`, ...).
    order : str
        `calls` (each branch a call of its own), `halves` (branches one after another along the batch),
        `interleaved` (a sample's branches side by side), `doubled` (halves, and the scheduler got both),
        `joined` (the rows of several calls, one after another, then cut in halves).
    modules : tuple of str
        The modules that were called.
    parts : tuple of int
        Branches in each call.
    """

    view: str
    order: str
    modules: tuple[str, ...]
    parts: tuple[int, ...]


@displayed
@dataclass
class Hypothesis:
    """One way of cutting, with the inner products that judge it, and the calls where their inputs are cut alike."""

    layout: Layout
    labels: list[str]
    branches: list[Tensor]
    target: Tensor
    state: Tensor
    calls: Sequence[Call] = ()

    def gram(self) -> Tensor:
        """Inner products per sample, shape (batch, m + 1, m + 1), float64; the last vector is one of ones."""
        return gram(self._rows(self.branches, self.target, self.state))

    def gram_along(self, axis: int) -> Tensor:
        """The same per position on one axis, shape (batch, positions, m + 1, m + 1)."""
        moved = [tensor.movedim(axis, 1) for tensor in (*self.branches, self.target, self.state)]
        batch, count = moved[0].shape[:2]
        flat = [tensor.flatten(0, 1) for tensor in moved]
        products = gram(self._rows(flat[:-2], flat[-2], flat[-1]))
        return products.reshape(batch, count, *products.shape[1:])

    @staticmethod
    def _rows(branches: Sequence[Tensor], target: Tensor, state: Tensor) -> list[Tensor]:
        return [tensor.reshape(len(tensor), -1) for tensor in (*branches, target, state)]


@displayed
@dataclass(frozen=True)
class Aligned:
    """One output of one call, brought to rows shaped like the target.

    Attributes
    ----------
    view : str
        How that was done; see `Layout`.
    call : Call
        Where it came from.
    rows : Tensor, shape (k * batch, *shape)
        The output.
    """

    view: str
    call: Call
    rows: Tensor


def align(
    calls: Sequence[Call], prediction: Tensor, state: Tensor, place: int, original: Tensor | None = None
) -> list[Aligned]:
    """Every output that could be a branch of this step.

    Parameters
    ----------
    calls : sequence of Call
        Denoiser calls that may have fed the step.
    prediction, state : Tensor
        What `scheduler.step` received.
    place : int
        How many steps these calls have already fed (per frame or per modality).
    original : Tensor, optional
        The very object that the step was given, where `prediction` is a copy: its place in memory tells a frame.

    Returns
    -------
    list of Aligned
        Empty where no output fits.
    """
    target = without_variance(prediction, state)
    if target is None:
        return []
    found: list[Aligned] = []
    for call in calls:
        views = dict(_views(call, target, prediction if original is None else original, place))
        found += [Aligned(view, call, rows) for view, rows in views.items()]
    return found


def cut(aligned: Sequence[Aligned], target: Tensor, state: Tensor) -> list[Hypothesis]:
    """Every way of cutting aligned outputs into branches of `target`."""
    found: list[Hypothesis] = []
    for kind in dict.fromkeys(part.view for part in aligned):
        chosen = [(part.call, part.rows) for part in aligned if part.view == kind]
        found += _cuts(kind, chosen[-_MOST_BRANCHES:], target, state)
    return found


def without_variance(prediction: Tensor, state: Tensor) -> Tensor | None:
    """The part of the prediction that has the shape of the state (learned variance may lie beside it); or None."""
    if prediction.shape == state.shape:
        return prediction
    if prediction.numel() == state.numel():
        return prediction.reshape(state.shape)
    return _half(prediction, tuple(state.shape)) if prediction.shape[:1] == state.shape[:1] else None


def _half(tensor: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """The first half along the one axis that is twice as long as asked for."""
    if tensor.ndim != len(shape):
        return None
    longer = [axis for axis in range(1, tensor.ndim) if tensor.shape[axis] != shape[axis]]
    if len(longer) != 1 or tensor.shape[longer[0]] != 2 * shape[longer[0]]:
        return None
    return tensor.narrow(longer[0], 0, shape[longer[0]])


def _views(call: Call, target: Tensor, prediction: Tensor, place: int) -> Iterator[tuple[str, Tensor]]:
    """The outputs of a call as rows shaped like the target, by how that was done."""
    shape = tuple(target.shape[1:])
    candidates = [leaf for leaf in call.outputs if leaf.is_floating_point() and leaf.ndim > 0]
    if len(candidates) > 1 and len({leaf.shape for leaf in candidates}) == 1:
        candidates = [*candidates, torch.stack(candidates)]
    for leaf in candidates:
        if leaf.ndim == target.ndim:
            if tuple(leaf.shape[1:]) == shape:
                yield "same", leaf
                continue
            if (half := _half(leaf, (len(leaf), *shape))) is not None:
                yield "half", half
                continue
        yield from _slices(leaf, target, prediction, place)
        if leaf.numel() % target[:1].numel() == 0:
            yield "reshape", leaf.reshape(-1, *shape)
        if leaf.ndim == 5 and target.ndim == 4:
            frames = leaf.transpose(1, 2)
            if tuple(frames.shape[2:]) == shape:
                yield "frames", frames.flatten(0, 1)


def _slices(leaf: Tensor, target: Tensor, prediction: Tensor, place: int) -> Iterator[tuple[str, Tensor]]:
    """Part of an output: one position of an axis (a frame), or a range of it (the tokens of the image)."""
    if leaf.ndim == target.ndim:
        longer = [a for a in range(1, leaf.ndim) if leaf.shape[a] != target.shape[a]]
        if len(longer) == 1 and leaf.shape[longer[0]] > target.shape[longer[0]]:
            axis, length = longer[0], target.shape[longer[0]]
            yield f"head:{axis}", leaf.narrow(axis, 0, length)
            yield f"tail:{axis}", leaf.narrow(axis, leaf.shape[axis] - length, length)
    if leaf.ndim != target.ndim + 1:
        return
    for axis in range(1, leaf.ndim):
        rest = leaf.shape[1:axis] + leaf.shape[axis + 1 :]
        if tuple(rest) == tuple(target.shape[1:]):
            for index in dict.fromkeys((_index_in_base(prediction, leaf, axis), place)):
                if index is not None and index < leaf.shape[axis]:
                    yield f"at:{axis}:{index}", leaf.select(axis, index)


def _index_in_base(prediction: Tensor, leaf: Tensor, axis: int) -> int | None:
    """Which position of `axis` a prediction is a view of, from its place in memory."""
    step = 1
    for size in leaf.shape[axis + 1 :]:
        step *= size
    if prediction.is_contiguous() or prediction.untyped_storage().nbytes() == prediction.nbytes:
        return None
    return (prediction.storage_offset() // step) % leaf.shape[axis]


def _cuts(view: str, chosen: list[tuple[Call, Tensor]], target: Tensor, state: Tensor) -> Iterator[Hypothesis]:
    rows = len(target)
    modules = tuple(call.module for call, _ in chosen)
    sizes = [len(tensor) for _, tensor in chosen]
    if all(size % rows == 0 for size in sizes):
        parts = tuple(size // rows for size in sizes)
        if sum(parts) <= _MOST_BRANCHES:
            yield from _whole_cuts(view, chosen, modules, parts, target, state)
    elif sum(sizes) % rows == 0:
        joined = torch.cat([tensor for _, tensor in chosen])
        count = len(joined) // rows
        layout = Layout(view, "joined", modules, (count,))
        yield Hypothesis(layout, [""] * count, list(joined.split(rows)), target, state)
    if len(chosen) == 1 and sizes[0] == rows and rows % 2 == 0:
        tensor = chosen[0][1]
        half = rows // 2
        layout = Layout(view, "doubled", modules, (2,))
        yield Hypothesis(layout, ["", ""], list(tensor.split(half)), target[:half], state[:half])


def _whole_cuts(
    view: str, chosen: list[tuple[Call, Tensor]], modules: tuple[str, ...], parts: tuple[int, ...],
    target: Tensor, state: Tensor,
) -> Iterator[Hypothesis]:  # fmt: skip
    rows = len(target)
    labels = [
        call.label if count == 1 else "" for (call, _), count in zip(chosen, parts, strict=True) for _ in range(count)
    ]
    blocks = [part for _, tensor in chosen for part in tensor.split(rows)]
    order = "halves" if max(parts) > 1 else "calls"
    calls = [call for call, _ in chosen]
    yield Hypothesis(Layout(view, order, modules, parts), labels, blocks, target, state, calls)
    if max(parts) > 1 and rows > 1:
        strided = [
            tensor[place::count] for (_, tensor), count in zip(chosen, parts, strict=True) for place in range(count)
        ]
        yield Hypothesis(Layout(view, "interleaved", modules, parts), labels, strided, target, state, calls)
