"""The arithmetic of interventions on one activation, row by row.

An edit is prepared once a call, when the noise levels of the batch are known, and touches only the rows that it
changes. This module knows nothing of hooks, branches or runs.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.sites.interventions import Intervention, token_of
from scorescope.probes.sites.modules import at_channels, channel_axis

HALF = 0.5 - 1e-6  # of a cell is half of it in sums of thirds too


def covered(rows: Tensor, shape: tuple[int, int]) -> Tensor:
    """Share of each cell of a coarser or finer map that a region covers, (row, y, x), from pixels that may be cut."""
    down, across = (_overlaps(*sizes).to(rows.device) for sizes in zip(rows.shape[-2:], shape, strict=True))
    return down @ rows.float() @ across.T


def _overlaps(pixels: int, cells: int) -> Tensor:
    """Share of each cell that each pixel is, (cell, pixel): both divide the same length."""
    ends, edges = torch.arange(cells + 1) * pixels, torch.arange(pixels + 1) * cells  # whole: none is 0 by rounding
    low = torch.maximum(ends[:-1, None], edges[None, :-1])
    return (torch.minimum(ends[1:, None], edges[None, 1:]) - low).clamp_min(0) / pixels


@displayed
@dataclass(frozen=True, eq=False)
class RowEdit:
    """An intervention at given noise levels.

    Attributes
    ----------
    given : Intervention
        What to do.
    strength : Tensor, shape (batch,)
        On the host; zero in rows that are left alone.
    inside : Tensor of bool, shape (batch,), or None
        Rows whose noise level is in the interval, where that is known on another device only.
    source : Tensor or None
        What `patch` puts in, one row for each row of `rows` to choose from; None takes the batch itself.
    sigma : Tensor, shape (batch,), or None
        Noise levels, which `map` is told.
    """

    given: Intervention
    strength: Tensor
    inside: Tensor | None = None
    source: Tensor | None = None
    sigma: Tensor | None = None

    def __call__(self, activation: Tensor) -> Tensor:
        """The activation after the edit: a new tensor, of the same shape and dtype."""
        token = token_of(self.given.site)
        if token is None or token == "all":
            return self._edit(activation)
        if not token < activation.shape[1]:
            found = f"{self.given.site!r}, of {activation.shape[1]} tokens"
            raise InputError("site", found=found, expected="a token of the condition")
        changed = self._edit(activation[:, token])
        return torch.cat([activation[:, :token], changed[:, None], activation[:, token + 1 :]], dim=1)

    def _edit(self, activation: Tensor) -> Tensor:
        copies = self._copies(len(activation))
        strength = self.strength.repeat_interleave(copies)
        index = strength.nonzero()[:, 0]
        if not len(index):
            return activation
        origin = torch.div(index, copies, rounding_mode="floor")  # row of the batch
        whole = len(index) == len(activation)
        index = index.to(activation.device)
        part = activation if whole else activation[index]
        changed = self._change(part, activation, strength[strength != 0], origin)
        if self.inside is not None:
            inside = self.inside[origin.to(self.inside.device)].to(activation.device)
            changed = torch.where(_over_rows(inside, part), changed, part)
        return changed if whole else activation.index_copy(0, index, changed)

    def _copies(self, rows: int) -> int:
        """Rows of the activation for each row of the batch: more than one where frames are folded into it."""
        batch = len(self.strength)
        if rows % batch:
            found = f"{rows} rows at {self.given.site!r}, for a batch of {batch}"
            raise InputError("site", found=found, expected="a site with the rows of the batch, or a multiple")
        return rows // batch

    def _change(self, part: Tensor, activation: Tensor, strength: Tensor, origin: Tensor) -> Tensor:
        given = self.given
        axis = channel_axis(part)
        amount = _over_rows(strength.to(part), part)
        value = None
        if given.value is not None:
            value = given.value if given.value.ndim == 1 else given.value[origin.to(given.value.device)]
            value = value.to(part)
        other = self._other(part, activation, origin) if given.how == "patch" else None
        if given.function is not None:
            other = self._mapped(part, origin)
        if given.channels:
            chosen = _channels(given.channels, part, axis, given.site)
            inner = part.index_select(axis, chosen)
            other = None if other is None else other.index_select(axis, chosen)
            changed = part.index_copy(axis, chosen, _combine(given, inner, amount, value, other))
        else:
            changed = _combine(given, part, amount, value, other)
        return changed if given.where is None else torch.where(self._region(part, origin), changed, part)

    def _region(self, part: Tensor, origin: Tensor) -> Tensor:
        """Where it acts, of shape (row or 1, then 1 for channels and the axes of positions)."""
        where = self.given.where
        assert where is not None
        rows = where[None] if where.ndim == 2 else where[origin.to(where.device)]
        rows = rows.to(part.device, torch.float32)
        if part.ndim == 4:
            inside = covered(rows, (part.shape[2], part.shape[3])) >= HALF
        elif part.ndim == 3 and rows[0].numel() == part.shape[1]:
            inside = rows.flatten(1) >= 0.5
        else:
            found = f"{tuple(rows.shape[1:])} at {self.given.site!r}, which puts out {tuple(part.shape[1:])} a row"
            raise InputError("where", found=found, expected="a site of maps, or of as many tokens as the region has")
        if where.ndim == 2 and not inside.any():
            found = f"a region that covers half of no position of {self.given.site!r}"
            raise InputError("where", found=found, expected="a larger one, or a site of finer maps")
        return inside.unsqueeze(channel_axis(part))

    def _mapped(self, part: Tensor, origin: Tensor) -> Tensor:
        """What `map` puts in the place of `part`: the function at each noise level."""
        assert self.given.function is not None and self.sigma is not None
        axis, levels = channel_axis(part), self.sigma[origin.to(self.sigma.device)].tolist()
        made = torch.empty_like(part)
        for level in set(levels):
            rows = torch.tensor([place for place, one in enumerate(levels) if one == level], device=part.device)
            moved = part[rows].movedim(axis, -1)
            flat = moved.reshape(-1, moved.shape[-1])
            changed = self.given.function(flat, level)
            if changed.shape != flat.shape:
                found = f"{tuple(changed.shape)} of {tuple(flat.shape)}, at {self.given.site!r}"
                raise InputError("function", found=found, expected="activations of the same shape")
            made[rows] = changed.to(part).reshape(moved.shape).movedim(-1, axis)
        return made

    def _other(self, part: Tensor, activation: Tensor, origin: Tensor) -> Tensor:
        """What `patch` puts in the place of `part`."""
        rows = origin if self.given.rows is None else self.given.rows[origin.to(self.given.rows.device)]
        source = activation if self.source is None else self.source
        if len(activation) != len(self.strength):
            found = f"{len(activation)} rows at {self.given.site!r}, for a batch of {len(self.strength)}"
            raise InputError("site", found=found, expected="for patch, a site with the rows of the batch")
        if source.shape[1:] != activation.shape[1:] or int(rows.max()) >= len(source):
            found = f"{tuple(source.shape)} in the source, {tuple(activation.shape)} here, for {self.given.site!r}"
            raise InputError("source", found=found, expected="activations of one shape, and a row for each row")
        return source[rows.to(source.device)].to(part)


def prepare(
    given: Intervention, sigma: Tensor, branch: str, *, weights: Tensor | None = None, unknown: bool = False
) -> RowEdit | None:
    """An intervention at the noise levels of one call; None where it changes no row.

    Parameters
    ----------
    given : Intervention
        What to do.
    sigma : Tensor, shape (batch,)
        Noise levels, in the variance-exploding convention.
    branch : str
        The branch of this call, under which a cache is looked up.
    weights : Tensor, shape (batch,), optional
        1 in rows that it may change, 0 in others.
    unknown : bool
        The noise levels are not known: it acts only if it acts at all of them.

    Raises
    ------
    InputError
        If it has another number of rows than the batch.
    """
    batch = len(sigma)
    for name in ("strength", "value", "low", "high", "rows", "where"):
        _check_rows(name, getattr(given, name), batch, given)
    if given.how == "patch" and given.source is None and given.rows is None:
        raise InputError("source", found=f"none, for {given.site!r}", expected="a cache of another run, or rows=")
    strength, inside = _amount(given, sigma, unknown=unknown)
    if weights is not None:
        strength = strength * weights
    if not strength.any():
        return None
    source = None if given.source is None else given.source.at(given.site, sigma, branch)
    return RowEdit(given, strength, inside, source, sigma if given.how == "map" else None)


def acts(given: Intervention, sigma: Tensor, *, unknown: bool = False) -> bool:
    """Whether an intervention may change any row at these noise levels, whatever rows are of its branch."""
    return bool(_amount(given, sigma, unknown=unknown)[0].any())


def _amount(given: Intervention, sigma: Tensor, *, unknown: bool) -> tuple[Tensor, Tensor | None]:
    """Strength of each row, on the host, and which rows are inside of the interval, where only the device knows."""
    strength = torch.as_tensor(given.strength, dtype=torch.float64).detach().cpu().expand(len(sigma))
    if unknown:
        return strength, None
    low, high = (bound.to(sigma) if isinstance(bound, Tensor) else bound for bound in (given.low, given.high))
    inside = (sigma > low) & (sigma <= high)
    # elsewhere reading it would wait for the device
    return (strength * inside, None) if inside.device.type == "cpu" else (strength, inside)


def _check_rows(name: str, value: Any, batch: int, given: Intervention) -> None:
    rows_at = {"value": 2, "where": 3}.get(name, 1)
    if isinstance(value, Tensor) and value.ndim == rows_at and len(value) != batch:
        found = f"{len(value)} rows, at {given.site!r} in a call with {batch}"
        expected = "one row for each row of the batch (a rule that calls a branch for some rows only has others)"
        raise InputError(name, found=found, expected=expected)


def _over_rows(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def _channels(channels: tuple[int, ...], part: Tensor, axis: int, site: str) -> Tensor:
    if not all(0 <= channel < part.shape[axis] for channel in channels):
        found = f"{channels} of {part.shape[axis]} at {site!r}"
        raise InputError("channels", found=found, expected="channels of the site")
    return torch.tensor(channels, device=part.device)


def _combine(given: Intervention, part: Tensor, amount: Tensor, value: Tensor | None, other: Tensor | None) -> Tensor:
    """The formulas of `Intervention.how`."""
    if given.how == "zero":
        return (1 - amount) * part
    if other is not None and value is None:
        return torch.lerp(part, other, amount)
    assert value is not None  # checked when the intervention was made
    axis = channel_axis(part)
    if value.shape[-1] not in (part.shape[axis], part[0].numel()):
        found = f"{value.shape[-1]} numbers, for {given.site!r}, which puts out {tuple(part.shape[1:])} a row"
        expected = f"{part.shape[axis]}, its channels, or {part[0].numel()}, all its numbers"
        raise InputError("value", found=found, expected=expected)
    if value.shape[-1] != part.shape[axis]:  # over all numbers: like channels, with one position
        flat = _combine(given, part.flatten(1), amount.flatten(1), value, None if other is None else other.flatten(1))
        return flat.reshape(part.shape)
    value = at_channels(value, part)
    if given.how == "add":
        return part + amount * value
    if given.how == "project":
        return part - _along(part, value, amount, axis)
    if other is not None:
        return part + _along(other - part, value, amount, axis)
    return torch.lerp(part, value.expand_as(part), amount)


def _along(part: Tensor, value: Tensor, amount: Tensor, axis: int) -> Tensor:
    """What lies along a value, times an amount."""
    wide = torch.promote_types(part.dtype, torch.float32)
    unit = value.to(wide) / torch.linalg.vector_norm(value.to(wide), dim=axis, keepdim=True)
    found: Tensor = (amount * (part.to(wide) * unit).sum(axis, keepdim=True) * unit).to(part.dtype)
    return found
