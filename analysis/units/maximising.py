"""States that raise a unit under the denoiser's own prior, beside what the prior makes of them alone.

    found = maximise_unit(denoiser, "network.up.1", 17, held_out, sigmas=log_snr_grid(-6, 0, 8))
    found.images, found.control             # D of the last states, with the unit's pull and without
    found.ascent                            # mean activation by level and step, of both and of noised images

Noised images at one level have a law p, whose score the denoiser knows: (D(x) - x) / sigma^2. Plug-and-play generation
(Nguyen et al. 2017, CVPR, arXiv 1612.00005) walks along the score of a denoising autoencoder and the gradient of a unit
of a classifier. Here both are of one network and one call. At every level the walk tends to p(x) exp(w a(x) / s) as its
step falls: a is the unit, s its standard deviation over noised images, w the strength. A longer step leaves less of the
variance V that p has along data: (2 - step) / (2 - step sigma^2 / V) of it. Where a is normal under p it is raised by w
of these standard deviations. Levels fall (Song & Ermon 2019, arXiv 1907.05600): at one alone all that is larger than
its noise hardly moves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.intervals import skewed_mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.bank import Bank
from scorescope.probes.gradients.differentiable_sites import watch_site
from scorescope.probes.gradients.step import require_gradients
from scorescope.probes.models.conditions import row_count, select_rows, to_device
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate, sigma_range
from scorescope.probes.sites.modules import channel_axis
from scorescope.probes.sites.row_edits import covered

LEAST = 8  # images: over them are the spread and the intervals

UNIT_ASCENT = Schema(
    "unit_ascent",
    (
        Column("site", str, "", "where"),
        Column("unit", int, "", "channel of the site"),
        Column("sigma", float, "data", "noise level"),
        Column("log_snr", float, "1", "-2 ln sigma"),
        Column("step", int, "", "steps that were made at this level"),
        Column("n", int, "", "images that were noised"),
        Column("value", float, "activation", "mean activation of the states that are pulled by the unit"),
        *ends("activation", "over images, corrected for skewness"),
        Column("control", float, "activation", "the same of states without that pull, from the same noise"),
        *ends("activation", "over images, corrected for skewness", of="control"),
        Column("above", float, "1", "mean of the one less the other, over `spread`"),
        *ends("1", "over pairs, corrected for skewness, with the spread as it is", of="above"),
        Column("noised", float, "activation", "mean activation of noised images at this level"),
        Column("spread", float, "activation", "its standard deviation over them"),
        Column("highest", float, "activation", "its largest value over them"),
        Column("residual", float, "1", "root mean square of (x - D) / sigma over all values: beside that of the "
               "control, how noisy the pulled states are to the denoiser"),
        Column("control_residual", float, "1", "the same of states without that pull"),
    ),
)  # fmt: skip


@displayed
@checked
@dataclass(frozen=True, eq=False)
class MaximisedUnit:
    """What `maximise_unit` found.

    Attributes
    ----------
    site, unit
        Of what.
    images, control : Tensor, shape (n, *shape)
        D of the last states that were pulled by the unit, and of those that were not.
    ascent : DataFrame
        Columns declared in `UNIT_ASCENT`.
    """

    site: str
    unit: int
    images: Tensor
    control: Tensor
    ascent: pd.DataFrame


@checked
def maximise_unit(
    denoiser: Denoiser, site: str, unit: int, images: Tensor, *, sigmas: Sequence[float], strength: float = 20.0,
    steps: int = 4, step: float = 0.2, noise: float = 1.0, region: Tensor | None = None, condition: Condition = None,
    seed: int = 0, batch: int = 64, progress: bool = False,
) -> MaximisedUnit:  # fmt: skip
    """Walk from noised images to states in which a unit is high and that the denoiser still takes for noised images.

    Parameters
    ----------
    denoiser : Denoiser
        A `torch.nn.Module` through which gradients pass.
    site : str
        An inner module that puts out one tensor, maps or tokens.
    unit : int
        Channel of it.
    images : Tensor, shape (n, *shape)
        At least 8, best held out: noised at the first level they are where the walk begins, and at each level what the
        unit is compared with.
    sigmas : sequence of float
        Noise levels, falling; the unit is looked at at the last one. A high first one leaves nothing of the images, one
        level alone most of them.
    strength : float
        w, in standard deviations of the activation over noised images of each level; 0 leaves the prior alone.
    steps : int
        At each level, x + step (D - x + w sigma^2 grad a / s) and fresh noise; to the next level x goes along D - x.
        At one level directions in which data vary more than noise take variance / sigma^2 / step of them.
    step : float
        Share of the way, up to 1.
    noise : float
        Of the fresh noise; 1: so much that states stay as noisy as their level says; 0: none, the walk climbs to a
        state of highest density.
    region : Tensor, shape (y, x), optional
        Where the activation is averaged, from 0 to 1, at any size; over all positions by default.
    condition : optional
        One row an image; None asks the unconditional branch.
    seed : int
        Of the noise of images and steps, which is the same with the unit's pull and without.
    batch : int
        Images a call.
    progress : bool
        Show a progress bar.

    Returns
    -------
    MaximisedUnit
        Of `ascent` steps + 1 rows a level. A unit that is `above` its control while `residual` is beyond that of the
        control is raised by states that noised images do not look like.

    Raises
    ------
    InputError
        For too few images, noise levels that do not fall or that the denoiser does not know, a site without such a
        channel or through which no gradient passes, a unit of one value on all images, a region of a site without
        maps, numbers that are no strength or step, and states that grow without bound.
    """
    require_gradients()
    least, largest = sigma_range(denoiser)
    levels = [float(sigma) for sigma in sigmas]
    falling = all(first > second for first, second in pairwise(levels))
    if len(images) < LEAST or not levels or not falling or not least <= levels[-1] <= levels[0] <= largest:
        found, expected = f"{len(images)}, {levels}", f"{LEAST} or more, falling from {largest:.4g} to {least:.4g}"
        raise InputError("images, sigmas", found=found, expected=expected)
    if not math.isfinite(strength) or min(steps, batch) < 1 or not 0 < step <= 1 or not 0 <= noise < math.inf:
        found = f"{strength}, {steps}, {step}, {noise}, {batch}"
        expected = "a finite number, 1 or more, above 0 and at most 1, not negative, and 1 or more"
        raise InputError("strength, steps, step, noise, batch", found=found, expected=expected)
    if region is not None and not (region.ndim == 2 and ((region >= 0) & (region <= 1)).all() and region.any()):
        raise InputError("region", found=f"shape {tuple(region.shape)}", expected="(y, x) from 0 to 1, not all 0")
    if condition is not None and row_count(condition) != len(images):
        raise InputError("condition", found=f"{row_count(condition)} rows", expected=f"{len(images)}, one an image")
    bank = Bank(images, levels, draws=steps + 1, seed=seed)
    walk = _Walk(denoiser, site, unit, bank, to_device(condition, images.device), region, step, noise)
    parts = torch.arange(len(images)).split(batch)
    with tqdm(total=2 * len(parts) * len(levels), desc="ascent", disable=not progress, leave=False) as bar:
        noised = np.concatenate([walk.noised(rows) for rows in parts], axis=1)  # (level, image)
        spread = noised.std(1, ddof=1)
        if not (spread > 0).all():
            expected = "a unit that varies over the images at every level"
            raise InputError("unit", found=f"a spread of {spread.min()}", expected=expected)
        pulled, control = (
            _joined([walk.along(rows, pull, bar) for rows in parts]) for pull in (strength / spread, 0 * spread)
        )
    table = _table(pulled, control, noised, steps + 1)
    sigma = np.repeat(levels, steps + 1)
    table = table.assign(site=site, unit=unit, sigma=sigma, log_snr=-2 * np.log(sigma))
    return MaximisedUnit(site, unit, pulled.last, control.last, UNIT_ASCENT.check(table))


@dataclass(frozen=True, eq=False)
class _Asked:
    """One call: D, the activation (row,), and its gradient by the states where it was wanted."""

    denoised: Tensor
    activation: Tensor
    gradient: Tensor | None


@dataclass(frozen=True, eq=False)
class _Walk:
    """What all states share."""

    denoiser: Denoiser
    site: str
    unit: int
    bank: Bank
    condition: Condition
    region: Tensor | None
    step: float
    noise: float

    def noised(self, rows: Tensor) -> Floats:
        """Activations of noised images, (level, row)."""
        levels = enumerate(self.bank.sigmas)
        return _numbers([self.asked(self.bank.point(rows, k).x, sigma, rows).activation for k, sigma in levels])

    def along(self, rows: Tensor, pull: Floats, bar: tqdm) -> "_Arm":
        """The states of some images, from the noised images on; `pull` is strength over spread, at each level."""
        x, last = self.bank.point(rows, 0).x, len(self.bank.sigmas) - 1
        activations, residuals = [], []
        for level, sigma in enumerate(self.bank.sigmas):
            fresh = self.noise * sigma * math.sqrt(self.step * (2 - self.step))
            for left in reversed(range(self.bank.draws)):
                found = self.asked(x, sigma, rows, with_gradient=left > 0 and bool(pull[level]))
                way = found.denoised - x
                activations.append(found.activation)
                residuals.append((way / sigma).square().flatten(1).mean(1))
                if left:
                    away = 0.0 if found.gradient is None else pull[level] * sigma**2 * found.gradient
                    x = x + self.step * (way + away) + fresh * self.bank.point(rows, level, left).noise
                elif level < last:
                    x = found.denoised - self.bank.sigmas[level + 1] / sigma * way
            bar.update()
        values, squares = _numbers(activations), _numbers(residuals)
        if not (np.isfinite(values) & np.isfinite(squares)).all():
            expected = "smaller ones: states grew without bound"
            raise InputError("strength, step", found=f"w / s = {pull[-1]:.3g}, {self.step}", expected=expected)
        return _Arm(values, squares, found.denoised)

    def asked(self, x: Tensor, sigma: float, rows: Tensor, *, with_gradient: bool = False) -> _Asked:
        """One call at one level."""
        x = x.detach().requires_grad_(with_gradient)
        condition = None if self.condition is None else select_rows(self.condition, rows)
        levels = torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)
        branch = "uncond" if condition is None else "cond"
        with torch.set_grad_enabled(with_gradient), watch_site(self.denoiser, self.site) as seen:
            denoised = evaluate(self.denoiser, x, levels, condition, branch=branch)
        activation, gradient = self._averaged(seen[0]), None
        if with_gradient:
            if not activation.requires_grad:
                expected = "one through which gradients pass to the state"
                raise InputError("site", found=f"{self.site!r}, without a gradient", expected=expected)
            (gradient,) = torch.autograd.grad(activation.sum(), x)
        return _Asked(denoised.detach(), activation.detach(), gradient)

    def _averaged(self, activation: Tensor) -> Tensor:
        """The unit's mean over positions, or over those of the region, (row,)."""
        axis = channel_axis(activation)
        if not 0 <= self.unit < activation.shape[axis]:
            raise InputError("unit", found=str(self.unit), expected=f"0 to {activation.shape[axis] - 1}")
        values = activation.select(axis, self.unit)
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        if self.region is None:
            return values.reshape(len(values), -1).mean(1)
        if values.ndim != 3:
            found = f"a region, of a site that puts out {tuple(activation.shape)}"
            raise InputError("region", found=found, expected="none, or a site that puts out (batch, channel, y, x)")
        share = covered(self.region[None], (values.shape[1], values.shape[2])).to(values)
        return (values * share).flatten(1).sum(1) / share.sum()


@dataclass(frozen=True, eq=False)
class _Arm:
    """All states of one kind: activations and squared residuals (call, row), D of the last states."""

    activations: Floats
    residuals: Floats
    last: Tensor


def _joined(parts: Sequence[_Arm]) -> _Arm:
    """Batches, one after the other."""
    return _Arm(
        np.concatenate([part.activations for part in parts], axis=1),
        np.concatenate([part.residuals for part in parts], axis=1), torch.cat([part.last for part in parts]),
    )  # fmt: skip


def _numbers(parts: Sequence[Tensor]) -> Floats:
    """One row a call, on the host."""
    return np.asarray(torch.stack(list(parts)).cpu().double().numpy())


def _table(pulled: _Arm, control: _Arm, noised: Floats, each: int) -> pd.DataFrame:
    """Means over images, call by call, of which there are so many a level."""
    data = {"noised": noised.mean(1), "spread": noised.std(1, ddof=1), "highest": noised.max(1)}
    table = pd.DataFrame({name: np.repeat(values, each) for name, values in data.items()})
    above = (pulled.activations - control.activations) / table["spread"].to_numpy()[:, None]
    table = table.assign(step=np.arange(len(table)) % each, n=above.shape[1])
    for name, values in (("value", pulled.activations), ("control", control.activations), ("above", above)):
        low, high = skewed_mean_interval(values.T)
        before = "" if name == "value" else f"{name}_"
        table = table.assign(**{name: values.mean(1), f"{before}low": low, f"{before}high": high})
    residuals = {"residual": pulled.residuals, "control_residual": control.residuals}
    return table.assign(**{name: np.sqrt(values.mean(1)) for name, values in residuals.items()})
