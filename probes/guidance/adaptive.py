"""Rules that save calls of the unconditional branch (Castillo et al. 2025, arXiv 2312.12487)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import (
    COND,
    SCORE_PRODUCTS,
    UNCOND,
    GuidanceState,
    Products,
    describe,
    inner_products,
    require_finite,
    required,
)
from scorescope.probes.guidance.combination import Combination, combination_of
from scorescope.probes.guidance.linear import CFG
from scorescope.probes.guidance.wrappers import Wrapper


@displayed
@checked
@dataclass(frozen=True)
class AdaptiveGuidance(Wrapper):
    """AG: guide until the branches agree, then follow the condition alone, sample by sample.

    A sample stops being guided after the first step at which the cosine of its two eps predictions reaches the
    threshold; from then on it costs one call a prediction. All calls of that step are still guided, as in
    `StepInterval`.

    Attributes
    ----------
    rule : Rule
        What acts until then.
    threshold : float
        Cosine in eps space, per sample, over all axes: 0.991 in the paper.
    below : float
        Largest noise level at which the cosine is looked at, variance exploding. The eps predictions also agree at
        high noise, where both are the noise: a run that starts at sigma = 80 stops with its first step, and is not
        guided, unless this keeps the cosine out of it. Infinity is the paper's rule, for runs that start lower.
    """

    threshold: float = 0.991
    below: float = float("inf")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.below > 0:
            raise InputError("below", found=str(self.below), expected="a positive noise level, or infinity")
        if not -1 <= self.threshold <= 1:
            raise InputError("threshold", found=str(self.threshold), expected="a cosine, in [-1, 1]")

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """Only `cond` once every sample has stopped.

        Raises
        ------
        InputError
            If the inner rule guides by another branch: then there is no cosine to stop at.
        """
        needed = self.rule.branches(state)
        if len(needed) > 1 and UNCOND not in needed:
            found = f"{describe(self.rule)}, which needs {', '.join(needed)}"
            raise InputError("rule", found=found, expected="one that needs the unconditional branch, to compare with")
        return needed if self.inside(state) else (COND,)

    def inside(self, state: GuidanceState) -> bool:
        """Whether any sample is still guided."""
        return self._any_and_all(state)[0]

    def _any_and_all(self, state: GuidanceState) -> list[bool]:
        """Whether any sample and whether all are still guided: read once a step, as it waits for an accelerator."""
        if "ag" not in state.memory:
            return [True, True]
        known = state.memory.get("ag read")
        if known is None or known[0] != state.step:
            rows = self.rows(state)
            known = state.memory["ag read"] = (state.step, torch.stack([rows.any(), rows.all()]).tolist())
        found: list[bool] = known[1]
        return found

    def rows(self, state: GuidanceState) -> Tensor:
        """Samples that are still guided."""
        if "ag" not in state.memory:
            return torch.ones(len(state.x), dtype=torch.bool, device=state.x.device)
        step, now, after = state.memory["ag"]
        guided: Tensor = now if state.step == step else after
        return guided

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """The inner rule for samples that are still guided, `cond` for the others."""
        rows = self.rows(state)
        if uncond is not None and self._looks(state):
            self._remember(rows, inner_products(cond, uncond, state, *SCORE_PRODUCTS), state)
        some, every = self._any_and_all(state)
        if every:
            return self.rule(cond, uncond, state)
        if not some:
            return cond
        still = rows.reshape(-1, *(1,) * (cond.ndim - 1))
        guided = self.rule(cond, None if uncond is None else torch.where(still, uncond, cond), state)
        return torch.where(still, guided, cond)

    def combination(self, products: Products, state: GuidanceState) -> Combination | None:
        """That of the inner rule for samples that are still guided, none of the update for the others."""
        needs_both, rows = len(self.branches(state)) > 1, self.rows(state)
        inner = combination_of(self.rule, products, state)
        if inner is None:
            return None
        if needs_both and self._looks(state):
            self._remember(rows, products(*SCORE_PRODUCTS), state)
        kept = (torch.where(rows, factor, 0.0) for factor in (inner.cond, inner.update, inner.noise))
        return Combination(*kept)

    def _looks(self, state: GuidanceState) -> bool:
        """Whether the cosine is looked at here."""
        return state.call == 0 and state.sigma <= self.below

    def _remember(self, rows: Tensor, products: Sequence[Tensor], state: GuidanceState) -> None:
        """Which samples are guided in this step, and which after it.

        eps_c is e / sigma and eps_u is (e + d) / sigma, with d = c - u and e = x - c: the cosine needs no sigma.
        """
        ee, de, dd = products
        alike = ee + de >= self.threshold * (ee * (ee + 2 * de + dd)).sqrt()
        state.memory["ag"] = (state.step, rows, rows & ~alike)


@displayed
@checked
@dataclass(frozen=True)
class LinearAG:
    """LinearAG: eps_u of some steps is estimated from the predictions of this and earlier steps.

    eps_u(t) is a sum of eps_c of this and earlier steps and eps_u of earlier steps, with one scalar coefficient
    each, fitted by least squares on recorded runs: see `fit_linear_ag`.

    Attributes
    ----------
    weight : float
        w of the CFG that uses the estimate.
    coefficients : mapping of int to sequence of float
        For each estimated step t: t + 1 coefficients of eps_c(0..t), then t of eps_u(0..t-1).
    errors : mapping of int to float
        Relative root-mean-square error of each estimated step in the fit, from recorded predictions of earlier steps.
    compounded : mapping of int to float
        The same where estimates of earlier steps stand in for their recorded predictions, as they do when sampling.
        Still at the recorded states: how the path itself changes is not in it.
    """

    weight: float
    coefficients: dict[int, tuple[float, ...]] = field(hash=False)
    errors: dict[int, float] = field(default_factory=dict, hash=False)
    compounded: dict[int, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        require_finite("weight", self.weight)
        for step, values in self.coefficients.items():
            if len(values) != 2 * step + 1:
                expected = f"{2 * step + 1} for step {step}"
                raise InputError("coefficients", found=f"{len(values)} values", expected=expected)
            for value in values:
                require_finite("coefficients", value)

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """Only `cond` at estimated steps, and at w = 1."""
        if state.call:
            expected = "one with one prediction a step (Euler, DPM-Solver++ 2M)"
            raise InputError("solver", found="a second prediction within a step", expected=expected)
        return (COND,) if self.weight == 1 or state.step in self.coefficients else (COND, UNCOND)

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """CFG, with the unconditional prediction of estimated steps from the history."""
        if self.weight == 1:
            return cond
        conds: list[Tensor] = state.memory.setdefault("linear_ag_cond", [])
        unconds: list[Tensor] = state.memory.setdefault("linear_ag_uncond", [])
        conds.append((state.x - cond).div_(state.sigma))
        if state.step in self.coefficients:
            terms = [*conds, *unconds]
            if len(terms) != len(self.coefficients[state.step]):
                raise InputError("state", found=f"{len(conds)} steps so far", expected=f"{state.step + 1}: a whole run")
            pairs = zip(self.coefficients[state.step], terms, strict=True)
            estimate = torch.zeros_like(cond)
            for coefficient, term in pairs:
                estimate.add_(term, alpha=coefficient)
            unconds.append(estimate)
            uncond = torch.sub(state.x, estimate, alpha=state.sigma)
        else:
            unconds.append((state.x - required(uncond, cond)).div_(state.sigma))
        return CFG(self.weight)(cond, uncond, state)


@checked
def fit_linear_ag(
    runs: Iterable[Sequence[tuple[Tensor, Tensor]]], *, weight: float, estimated: Sequence[int] | None = None
) -> LinearAG:
    """Fit `LinearAG` on recorded runs.

    Parameters
    ----------
    runs : iterable of sequences of (eps_c, eps_u)
        One sequence a run (or batch of runs), one pair of tensors a step, shape (batch, *shape), eps space.
    weight : float
        w of the rule.
    estimated : sequence of int, optional
        Steps without an unconditional call: by default every second step of the first half and all of the second.

    Returns
    -------
    LinearAG
        With the relative error of every estimated step, alone and compounded.

    Raises
    ------
    InputError
        For runs of different lengths or shapes, or none.
    """
    grams: list[Tensor] = []
    for run in runs:
        shapes = {tuple(t.shape) for pair in run for t in pair}
        if len(shapes) != 1:
            found = f"a run with tensors of shapes {sorted(shapes)}"
            raise InputError("runs", found=found, expected="pairs (eps_c, eps_u) of one shape")
        terms = torch.stack([t.double().flatten() for pair in run for t in pair])  # c0, u0, c1, u1, ...
        grams.append(terms @ terms.T)
    if not grams or len({len(gram) for gram in grams}) > 1:
        found = f"{len(grams)} runs of lengths {sorted({len(gram) // 2 for gram in grams})}"
        raise InputError("runs", found=found, expected="at least one, all of the same number of steps")
    gram = torch.stack(grams).sum(0)
    steps = len(gram) // 2
    if estimated is None:
        estimated = [step for step in range(1, steps) if step >= steps // 2 or step % 2]
    if not all(0 < step < steps for step in estimated):
        raise InputError("estimated", found=str(list(estimated)), expected=f"steps from 1 to {steps - 1}")
    fits = {step: _fit_step(gram, step) for step in estimated}
    coefficients = {step: fit[0] for step, fit in fits.items()}
    return LinearAG(weight, coefficients, {step: fit[1] for step, fit in fits.items()}, _compounded(gram, coefficients))


def _compounded(gram: Tensor, coefficients: dict[int, tuple[float, ...]]) -> dict[int, float]:
    """Errors of the estimates when earlier estimates feed later ones, from the Gram matrix of all terms."""
    rows = list(torch.eye(len(gram), dtype=gram.dtype))  # every prediction as a combination of recorded ones
    errors = {}
    for step in sorted(coefficients):
        terms = [*rows[: 2 * step + 1 : 2], *rows[1 : 2 * step : 2]]  # eps_c(0..t), then eps_u(0..t-1)
        estimate = torch.stack([c * term for c, term in zip(coefficients[step], terms, strict=True)]).sum(0)
        off, size = estimate - rows[2 * step + 1], gram[2 * step + 1, 2 * step + 1]
        errors[step] = float(((off @ gram @ off).clamp(min=0) / size).sqrt()) if size > 0 else 0.0
        rows[2 * step + 1] = estimate
    return errors


def _fit_step(gram: Tensor, step: int) -> tuple[tuple[float, ...], float]:
    """Least squares of eps_u(step) from the Gram matrix of all terms: coefficients and relative error."""
    inputs = torch.tensor([2 * i for i in range(step + 1)] + [2 * i + 1 for i in range(step)])
    target = 2 * step + 1
    normal, right = gram[inputs][:, inputs], gram[inputs, target]
    # predictions of neighbouring steps are nearly collinear: the minimum-norm solution of the scaled system
    scale = torch.where(normal.diagonal() > 0, normal.diagonal().rsqrt(), 0.0)
    found = torch.linalg.lstsq(normal * scale * scale[:, None], (right * scale)[:, None], driver="gelsd", rcond=1e-12)
    solution = scale * found.solution[:, 0]
    residual = gram[target, target] - 2 * solution @ right + solution @ normal @ solution
    size = gram[target, target]
    error = (residual.clamp(min=0) / size).sqrt() if size > 0 else size
    return tuple(solution.tolist()), float(error)
