"""A path some samples at a time: one in memory, or that of a trace, whose states need not fit there.

    blocks = blocks_of(trace)               # or of a `Path`, which is a block of its own
    blocks.sigmas, blocks.missing, blocks.count
    for part in blocks: ...                 # a `Path` of some samples; reads the trace again each time

A trace is read once to see what is known, and then for the blocks: a step, all samples of its call, is held at a time,
beside the states and predictions of a block, of `AT_ONCE` numbers or one sample. Where a call has more samples than
one block, its steps are read once for each.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.experiments.replay import kept_visits
from scorescope.probes.recording import Trace, Visit
from scorescope.probes.sampling import Path

AT_ONCE = 2**22  # numbers of the states and predictions of a block: 32 MB in float64; two are held for a moment
NOT_FINITE = "values that are not finite"


@displayed
@dataclass(frozen=True, eq=False)
class PathBlocks:
    """Paths of samples that go through the same levels, block by block.

    Attributes
    ----------
    sigmas : tuple of float
        Noise levels, falling.
    missing : tuple of str
        Why a level is not known, of all samples; empty where it is. None where all are known, as of `Path`.
    count : int
        Samples.
    shape : tuple of int
        Of one.
    make : callable
        Gives the blocks.
    predicted : callable
        Gives the predictions at a place of the levels, of some samples at a time, without reading the rest.
    """

    sigmas: tuple[float, ...]
    missing: tuple[str, ...]
    count: int
    shape: tuple[int, ...]
    make: Callable[[], Iterator[Path]]
    predicted: Callable[[int], Iterator[Tensor]]

    def __iter__(self) -> Iterator[Path]:
        return self.make()

    def known(self, *, least: int) -> tuple["PathBlocks", list[int]]:
        """The same without the levels that are missing, and the places of those that are left.

        Raises
        ------
        InputError
            For fewer than `least`.
        """
        kept = [place for place in range(len(self.sigmas)) if not self.missing or not self.missing[place]]
        if len(kept) < least:
            reasons = [reason for reason in self.missing if reason]
            why = f", {len(reasons)} more missing: {reasons[0]}" if reasons else ""
            raise InputError("path", found=f"{len(kept)} noise levels{why}", expected=f"at least {least}")
        if len(kept) == len(self.sigmas):
            return self, kept
        sigmas = tuple(self.sigmas[place] for place in kept)

        def make() -> Iterator[Path]:
            for part in self:
                states, denoised = part.states[kept], part.denoised[kept]
                yield replace(part, sigmas=sigmas, states=states, denoised=denoised, missing=())

        return replace(self, sigmas=sigmas, missing=(), make=make, predicted=lambda at: self.predicted(kept[at])), kept


def blocks_of(path: Path | Trace) -> PathBlocks:
    """A path as one block; that of a trace, of all its runs by its first scheduler, as `recorded_path` has it, as many.

    Raises
    ------
    InputError
        As `recorded_path` does.
    """
    if isinstance(path, Trace):
        return recorded_blocks(path, kept_visits(path))
    count, *shape = path.states.shape[1:]
    return PathBlocks(
        path.sigmas, path.missing, count, tuple(shape), lambda: iter([path]), lambda at: iter([path.denoised[at]])
    )


@dataclass(frozen=True)
class _Level:
    """What is said of a batch at one level, and where its states lie."""

    place: int
    sigma: float
    sigma_next: float
    why: str
    known: bool


def recorded_blocks(
    trace: Trace, visits: Sequence[Visit], *, run: int | None = None, stream: int = 0, at_once: int | None = None
) -> PathBlocks:
    """The path of a trace in blocks of so many numbers, by default `AT_ONCE`; for the rest see `recorded_path`."""
    batches: dict[tuple[int, int], list[_Level]] = defaultdict(list)
    rows, calls, shapes = dict[tuple[int, int], int](), defaultdict[tuple[int, int], int](int), set[tuple[int, ...]]()
    for place, visit in enumerate(visits):
        if visit.stream != stream or run not in (None, visit.run):
            continue
        key = visit.run, visit.first
        calls[key] += 1
        if not visit.call:
            rows[key] = len(visit.x)
            shapes.add(tuple(visit.x.shape[1:]))
            known = bool(torch.isfinite(visit.x).all() and torch.isfinite(visit.guided).all())
            batches[key].append(_Level(place, visit.sigma, visit.sigma_next, visit.why, known))
    if not batches:
        raise InputError("run, stream", found=f"{run}, {stream}, which the trace has not", expected="one that it has")
    levels = {tuple(level.sigma for level in batch) for batch in batches.values()}
    if len(levels) > 1:
        found = f"runs through {len(levels)} lists of noise levels"
        raise InputError("run", found=found, expected="one run, or runs through the same levels")
    if len(shapes) > 1:
        found = f"runs of samples of {len(shapes)} shapes, {sorted(shapes)}"
        raise InputError("run", found=found, expected="one run, or runs of one shape")
    sigmas, missing, shape = levels.pop(), _missing(list(batches.values())), shapes.pop()
    facts = _Facts(sigmas, missing, shape, max(calls.values()), resolution(trace))
    samples = max(1, (at_once or AT_ONCE) // (2 * len(sigmas) * max(1, math.prod(shape))))
    pieces = [
        _Piece(batches[key], slice(first, min(first + samples, count)))
        for key, count in rows.items()
        for first in range(0, count, samples)
    ]
    return PathBlocks(
        sigmas, missing, sum(rows.values()), shape,
        lambda: (_block(visits, some, facts) for some in _together(pieces, samples)),
        lambda at: (visits[batch[at].place].guided for batch in batches.values()),
    )  # fmt: skip


@dataclass(frozen=True)
class _Facts:
    """What all blocks of a trace have in common."""

    sigmas: tuple[float, ...]
    missing: tuple[str, ...]
    shape: tuple[int, ...]
    calls: int
    resolution: float


@dataclass(frozen=True)
class _Piece:
    """Some samples of a batch."""

    batch: list[_Level]
    rows: slice

    def __len__(self) -> int:
        return int(self.rows.stop - self.rows.start)


def _together(pieces: Sequence[_Piece], samples: int) -> Iterator[list[_Piece]]:
    """Neighbours of no more than so many samples together."""
    taken: list[_Piece] = []
    for piece in pieces:
        if taken and sum(map(len, taken)) + len(piece) > samples:
            yield taken
            taken = []
        taken.append(piece)
    yield taken


def _block(visits: Sequence[Visit], pieces: Sequence[_Piece], facts: _Facts) -> Path:
    """Filled in place: what is read of a step and not needed goes before the next."""
    states = denoised = torch.empty(0)
    start, size = 0, (len(facts.sigmas), sum(map(len, pieces)), *facts.shape)
    for piece in pieces:
        rows = slice(start, start := start + len(piece))
        for number, level in enumerate(piece.batch):
            visit = visits[level.place]
            if not len(states):
                states, denoised = visit.x.new_empty(size), visit.guided.new_empty(size)
            states[number, rows], denoised[number, rows] = visit.x[piece.rows], visit.guided[piece.rows]
    last = pieces[0].batch[-1].sigma_next == 0
    end = denoised[-1].clone() if last else torch.full_like(denoised[-1], torch.nan)  # a view would hold them all
    return Path(facts.sigmas, states, denoised, end, facts.calls, facts.missing, facts.resolution)


def resolution(trace: Trace) -> float:
    """Of the coarser of states and predictions as they were kept; 0 for those of `sample`, which are as they were."""
    if not trace.of_pipeline:
        return 0.0
    return max(torch.finfo(trace.arrays.load(name, 0).dtype).eps for name in ("x", "guided"))


def _missing(batches: list[list[_Level]]) -> tuple[str, ...]:
    """Why a level is not known; empty where it is."""
    steps = [list(step) for step in zip(*batches, strict=True)]
    return tuple(
        "" if all(level.known for level in step) else next((level.why for level in step if level.why), NOT_FINITE)
        for step in steps
    )
