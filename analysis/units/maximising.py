"""States that raise a unit under the denoiser's own prior, beside what the prior makes of them alone.

    found = maximise_unit(denoiser, "network.up.1", 17, held_out, sigma=1.0)
    found.images, found.control             # D of the last states, with the unit's pull and without
    found.ascent                            # mean activation by iteration, of both

Noised images at one level have a law p, whose score the denoiser knows: (D(x) - x) / sigma^2. Plug-and-play generation
(Nguyen et al. 2017, CVPR, arXiv 1612.00005) walks along the score of a denoising autoencoder and the gradient of a unit
of a classifier. Here both are of one network and one call, and the walk draws from p(x) exp(w a(x) / s): a is the unit,
s its standard deviation over noised images, w the strength. Where a is normal under p it is raised by w of these.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
        Column("iteration", int, "", "steps that were made; 0: noised images"),
        Column("n", int, "", "images that were noised"),
        Column("value", float, "activation", "mean activation of the states that are pulled by the unit"),
        *ends("activation", "over images, corrected for skewness"),
        Column("control", float, "activation", "the same of states without that pull, from the same noise"),
        *ends("activation", "over images, corrected for skewness", of="control"),
        Column("above", float, "1", "mean of the one less the other, over `spread`"),
        *ends("1", "over pairs, corrected for skewness, with the spread as it is", of="above"),
        Column("spread", float, "activation", "standard deviation of the activation over images at iteration 0"),
        Column("highest", float, "activation", "its largest value at iteration 0"),
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
    site, unit, sigma
        Of what.
    start, control, images : Tensor, shape (n, *shape)
        D of the noised images, of the last states without the unit's pull, and of the last ones with it.
    ascent : DataFrame
        Columns declared in `UNIT_ASCENT`.
    """

    site: str
    unit: int
    sigma: float
    start: Tensor
    control: Tensor
    images: Tensor
    ascent: pd.DataFrame


@checked
def maximise_unit(
    denoiser: Denoiser, site: str, unit: int, images: Tensor, *, sigma: float, strength: float = 5.0, steps: int = 50,
    step: float = 0.1, noise: float = 1.0, region: Tensor | None = None, condition: Condition = None, seed: int = 0,
    batch: int = 64, progress: bool = False,
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
        At least 8, best held out: where the walk begins, and what the unit is compared with.
    sigma : float
        Noise level of the states, and of every call.
    strength : float
        w, in standard deviations of the activation over the noised images; 0 leaves the prior alone.
    steps : int
        Iterations. Directions in which the data vary by more than sigma take as many as variance / sigma^2 / step.
    step : float
        Share of the way to D that an iteration goes, up to 1: x + step (D - x + w sigma^2 grad a / s), and fresh noise.
    noise : float
        Of the fresh noise; 1: so much that states stay as noisy as their level says; 0: none, the
        walk climbs to a state of highest density.
    region : Tensor, shape (y, x), optional
        Where the activation is averaged, from 0 to 1, at any size; over all positions by default.
    condition : optional
        One row an image; None asks the unconditional branch.
    seed : int
        Of the noise of states and iterations, which is the same with the unit's pull and without.
    batch : int
        Images a call.
    progress : bool
        Show a progress bar.

    Returns
    -------
    MaximisedUnit
        Of `ascent` one row an iteration. A unit that is `above` its control with `residual` beyond that of the control
        is raised by states that noised images do not look like.

    Raises
    ------
    InputError
        For too few images, a noise level that the denoiser does not know, a site without such a channel or through
        which no gradient passes, a unit of one value on all images, a region of a site without maps, numbers that
        are no strength or step, and states that grow without bound.
    """
    require_gradients()
    least, largest = sigma_range(denoiser)
    if len(images) < LEAST or not least <= sigma <= largest or not 0 < sigma < math.inf:
        found, expected = f"{len(images)}, {sigma}", f"{LEAST} or more, a level from {least:.4g} to {largest:.4g}"
        raise InputError("images, sigma", found=found, expected=expected)
    if not math.isfinite(strength) or steps < 1 or not 0 < step <= 1 or not 0 <= noise < math.inf:
        found = f"{strength}, {steps}, {step}, {noise}"
        expected = "a finite number, 1 or more, above 0 and at most 1, and not negative"
        raise InputError("strength, steps, step, noise", found=found, expected=expected)
    if region is not None and not (region.ndim == 2 and ((region >= 0) & (region <= 1)).all() and region.any()):
        raise InputError("region", found=f"shape {tuple(region.shape)}", expected="(y, x) from 0 to 1, not all 0")
    if condition is not None and row_count(condition) != len(images):
        raise InputError("condition", found=f"{row_count(condition)} rows", expected=f"{len(images)}, one an image")
    bank = Bank(images, [sigma], draws=steps + 1, seed=seed)
    walk = _Walk(denoiser, site, unit, bank, to_device(condition, images.device), region, step, noise)
    parts = torch.arange(len(images)).split(batch)
    with tqdm(total=2 * len(parts) * (steps + 1), desc="ascent", disable=not progress, leave=False) as bar:
        control = walk.all_along(parts, 0.0, bar)
        first = control.activations[0]
        spread, highest = float(first.std(ddof=1)), float(first.max())
        if not spread > 0:
            expected = "a unit that varies over the images"
            raise InputError("unit", found=f"a spread of {spread}", expected=expected)
        pulled = walk.all_along(parts, strength / spread, bar)
    of = {"site": site, "unit": unit, "sigma": sigma, "log_snr": -2 * math.log(sigma)}
    ascent = _table(pulled, control, spread).assign(**of, spread=spread, highest=highest)
    return MaximisedUnit(site, unit, sigma, control.first, control.last, pulled.last, UNIT_ASCENT.check(ascent))


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

    def all_along(self, parts: Sequence[Tensor], pull: float, bar: tqdm) -> "_Arm":
        """The states of all images, batch by batch; `pull` is the strength over the spread."""
        arms = [self.along(rows, pull, bar) for rows in parts]
        numbers = (np.concatenate([getattr(arm, name) for arm in arms], 1) for name in ("activations", "residuals"))
        return _Arm(*numbers, torch.cat([arm.first for arm in arms]), torch.cat([arm.last for arm in arms]))

    def along(self, rows: Tensor, pull: float, bar: tqdm) -> "_Arm":
        """The states of some images, from the noised images on."""
        sigma, start = float(self.bank.sigmas[0]), self.bank.point(rows, 0)
        x, fresh = start.x, self.noise * sigma * math.sqrt(self.step * (2 - self.step))
        activations, residuals, first = [], [], None
        for iteration in range(self.bank.draws):
            found = self.asked(x, rows, with_gradient=pull != 0)
            way = found.denoised - x
            first = found.denoised if first is None else first
            activations.append(found.activation)
            residuals.append((way / sigma).square().flatten(1).mean(1))
            if found.gradient is not None:
                way = way + pull * sigma**2 * found.gradient
            bar.update()
            if iteration + 1 < self.bank.draws:
                x = x + self.step * way + fresh * self.bank.point(rows, 0, iteration + 1).noise
        values = [torch.stack(part).cpu().double().numpy() for part in (activations, residuals)]
        if not np.isfinite(values).all():
            expected = "a smaller one: states grew without bound"
            raise InputError("strength, step", found=f"a pull of {pull:.3g}, {self.step}", expected=expected)
        return _Arm(*values, first, found.denoised)

    def asked(self, x: Tensor, rows: Tensor, *, with_gradient: bool = False) -> _Asked:
        """One call at the level of the walk."""
        x = x.detach().requires_grad_(with_gradient)
        condition = None if self.condition is None else select_rows(self.condition, rows)
        sigma = torch.full((len(x),), float(self.bank.sigmas[0]), dtype=x.dtype, device=x.device)
        branch = "uncond" if condition is None else "cond"
        with torch.set_grad_enabled(with_gradient), watch_site(self.denoiser, self.site) as seen:
            denoised = evaluate(self.denoiser, x, sigma, condition, branch=branch)
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
    """All states of one kind: activations and squared residuals (iteration, row), D of the first and last states."""

    activations: Floats
    residuals: Floats
    first: Tensor
    last: Tensor


def _table(pulled: _Arm, control: _Arm, spread: float) -> pd.DataFrame:
    """Means over images, iteration by iteration."""
    above = (pulled.activations - control.activations) / spread
    table = pd.DataFrame({"iteration": np.arange(len(above)), "n": above.shape[1]})
    for name, values in (("value", pulled.activations), ("control", control.activations), ("above", above)):
        low, high = skewed_mean_interval(values.T)
        before = "" if name == "value" else f"{name}_"
        table = table.assign(**{name: values.mean(1), f"{before}low": low, f"{before}high": high})
    residuals = {"residual": pulled.residuals, "control_residual": control.residuals}
    return table.assign(**{name: np.sqrt(values.mean(1)) for name, values in residuals.items()})
