"""A score of the denoised image as a function of the codes at one site, at noisy points of a bank.

The site's output is put in its place by hand, so that gradients reach it, and nothing else of the network changes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats
from scorescope.data.display import displayed
from scorescope.data.doors import require_returned
from scorescope.data.errors import InputError
from scorescope.probes.bank import Bank
from scorescope.probes.bank.points import Point
from scorescope.probes.gradients.differentiable_sites import edit_site, watch_site
from scorescope.probes.models.conditions import select_rows, to_device
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate
from scorescope.probes.sites.modules import channel_axis
from scorescope.probes.sparse import Bands, Codec, codec_at, dictionary

_ROWS = 8192  # positions that are encoded at once
_FEATURES = 512  # that are decoded at once


@displayed
@dataclass(frozen=True, eq=False)
class CodedSite:
    """What stays the same over all points."""

    codec: Codec | Bands
    denoiser: Denoiser
    site: str
    score: Callable[[Tensor], Tensor]
    bank: Bank
    condition: Condition
    batch: int

    def points(self, level: int) -> Iterator[Point]:
        """The points of one noise level."""
        for draw in range(self.bank.draws):
            for rows in torch.arange(len(self.bank)).split(self.batch):
                yield self.bank.point(rows, level, draw)

    def denoised(self, point: Point, place: Tensor) -> Tensor:
        """The prediction for some rows of a point, which may be repeated."""
        condition = to_device(self.condition, point.x.device)
        rows = None if condition is None else select_rows(condition, point.rows[place.cpu()])
        branch = "uncond" if condition is None else "cond"
        return evaluate(self.denoiser, point.x[place], point.sigma[place], rows, branch=branch)

    def activation(self, point: Point) -> Tensor:
        """What the site puts out at a point."""
        with torch.no_grad(), watch_site(self.denoiser, self.site) as seen:
            self.denoised(point, torch.arange(len(point.rows)))
        return seen[0]

    def scored(self, point: Point, activation: Tensor, place: Tensor) -> Tensor:
        """The score of some rows of a point, where the site puts out `activation`."""
        with edit_site(self.denoiser, self.site, lambda _: activation):
            found = self.score(self.denoised(point, place))
        require_returned("score", found, Tensor)
        if found.shape != (len(place),) or not torch.isfinite(found).all():
            expected = f"finite numbers of shape ({len(place)},)"
            raise InputError("score", found=f"shape {tuple(found.shape)}, or not finite", expected=expected)
        return found

    def batch_at(self, point: Point, codec: Codec, baseline: Tensor) -> "CodedBatch":
        """The codes at a point, beside their baseline."""
        return CodedBatch(self, point, codec, baseline, self.activation(point))


@displayed
@dataclass(frozen=True, eq=False)
class LevelCodes:
    """Codes of one noise level: the codec, the mean of each feature, and the share of positions where it is active."""

    codec: Codec
    mean: Tensor
    density: Floats


@torch.no_grad()
def level_codes(coded: CodedSite, level: int) -> LevelCodes:
    """Codes over all points of a level."""
    codec, count = codec_at(coded.codec, float(coded.bank.sigmas[level])), 0
    total = fires = torch.zeros((), dtype=torch.float64)
    for point in coded.points(level):
        for part in by_channel(coded.activation(point)).split(_ROWS):
            codes = encoded(codec, part)
            total, fires = total + codes.double().sum(0).cpu(), fires + (codes != 0).sum(0).double().cpu()
            count += len(part)
    return LevelCodes(codec, (total / count).float(), (fires / count).numpy())


@displayed
@dataclass(frozen=True, eq=False)
class CodedBatch:
    """Activations of a site at one point, and where each of their features would go."""

    coded: CodedSite
    point: Point
    codec: Codec
    baseline: Tensor  # (feature,)
    given: Tensor

    @property
    def place(self) -> Tensor:
        """All rows of the point."""
        return torch.arange(len(self.point.rows), device=self.given.device)

    def attributions(self, steps: int) -> Floats:
        """Integrated gradients of every feature, summed over positions, (row, feature)."""
        from captum.attr import IntegratedGradients

        def function(activation: Tensor, place: Tensor) -> Tensor:
            found = self.coded.scored(self.point, activation, place)
            if activation.requires_grad and not found.requires_grad:
                expected = "a score, and a network, through which gradients pass to the site"
                raise InputError("score", found="no gradient", expected=expected)
            return found

        method = IntegratedGradients(function, multiply_by_inputs=False)
        slope = method.attribute(
            self.given, baselines=self.without(), additional_forward_args=(self.place,), n_steps=steps,
            internal_batch_size=max(len(self.given), self.coded.batch),
        )  # fmt: skip
        return self._shared_out(by_channel(slope))

    @torch.no_grad()
    def _shared_out(self, slopes: Tensor) -> Floats:
        """The gradient along each feature, times how far it goes."""
        rows, count = by_channel(self.given), len(self.baseline)
        parts = [range(count)[first : first + _FEATURES] for first in range(0, count, _FEATURES)]
        vectors = torch.cat([dictionary(self.codec, part, count=count) for part in parts])
        row = self.place.repeat_interleave(len(rows) // len(self.given)).cpu()
        total = torch.zeros(len(self.given), count, dtype=torch.float64)
        for part, slope, of in zip(rows.split(_ROWS), slopes.split(_ROWS), row.split(_ROWS), strict=True):
            codes = encoded(self.codec, part)
            way = codes - self.baseline.to(codes)
            total.index_add_(0, of, (way * (slope.to(vectors) @ vectors.T).to(codes)).double().cpu())
        return total.numpy()

    @torch.no_grad()
    def without(self) -> Tensor:
        """The activations with all features at their baseline."""
        to = self.baseline[None]
        return self._changed(lambda codes: self.codec.decode(to.to(codes)) - self.codec.decode(codes))

    def effect(self) -> Floats:
        """F(s) - F(s'), (row,)."""
        return self._lost(self.without())

    def ablation(self, feature: int) -> Floats:
        """What the score loses when one feature goes to its baseline, (row,)."""
        with torch.no_grad():
            vector = dictionary(self.codec, [feature], count=len(self.baseline))
            to = self.baseline[feature]
            changed = self._changed(lambda codes: (to.to(codes) - codes[:, feature, None]) * vector.to(codes))
        return self._lost(changed)

    @torch.no_grad()
    def _lost(self, changed: Tensor) -> Floats:
        before, after = (self.coded.scored(self.point, what, self.place) for what in (self.given, changed))
        lost: Floats = (before.double() - after.double()).cpu().numpy()
        return lost

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Tensor:
        """The activations with what a change of their codes adds."""
        axis = channel_axis(self.given)
        moved = self.given.movedim(axis, -1)
        parts = [part + change(encoded(self.codec, part)).to(part) for part in by_channel(self.given).split(_ROWS)]
        return torch.cat(parts).reshape(moved.shape).movedim(-1, axis).contiguous()


def by_channel(activation: Tensor) -> Tensor:
    """All positions of all rows, (n, channel)."""
    return activation.movedim(channel_axis(activation), -1).flatten(0, -2)


def encoded(codec: Codec, rows: Tensor) -> Tensor:
    """Codes of activations, in single precision or better."""
    return codec.encode(rows.to(torch.promote_types(rows.dtype, torch.float32)))
