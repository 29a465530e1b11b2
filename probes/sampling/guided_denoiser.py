"""The guided prediction along one batch of samples: calls the branches that a rule needs, applies it, records.

    guided = GuidedDenoiser(denoiser, labels, CFG(4.0), seeds, Recording())
    solver.run(guided, x, sigmas, noise)
    guided.check_finite()
    guided.table(first=0)

This is what `sample` hands to a solver. It knows nothing of noise levels to come or of batches beside its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import (
    COND,
    UNCOND,
    BranchRule,
    GuidanceState,
    RowRule,
    Rule,
    describe,
    row_weights,
)
from scorescope.probes.guidance.branch_makers import Maker, maker_of
from scorescope.probes.models.conditions import select_rows
from scorescope.probes.models.denoiser import Condition, Denoiser, check_prediction
from scorescope.probes.recording.trace import Recording, ScalarRecorder, Visit

GUIDED = "guided"
"""What a watcher is told in place of a branch when the rule has been applied."""

Watch = Callable[[str, GuidanceState, Tensor, Tensor], None]
"""Called as (branch, state, rows, prediction) after every prediction; `rows` are the samples that it is of."""


class GuidedDenoiser:
    """Calls, guides and records one batch.

    Parameters
    ----------
    denoiser : Denoiser
        The model.
    condition : Condition
        Of this batch; None for an unconditional run, to which no rule applies.
    rule : Rule
        Guidance rule.
    seeds : sequence of int
        Seeds of the samples.
    record : Recording or None
        What to record.
    needs_reference : bool
        The solver uses the unconditional prediction of every sample, whatever the rule needs.
    watch : callable, optional
        Told of every branch as soon as it is predicted, and of the guided prediction.
    """

    def __init__(
        self, denoiser: Denoiser, condition: Condition, rule: Rule, seeds: Sequence[int], record: Recording | None,
        *, needs_reference: bool = False, watch: Watch | None = None,
    ) -> None:  # fmt: skip
        self.denoiser, self.condition, self.rule, self.seeds, self.record = denoiser, condition, rule, seeds, record
        self.reference: Tensor | None = None
        self._needs_reference, self._watch = needs_reference, watch
        self._memory: dict[str, Any] = {}
        self._recorder = ScalarRecorder(record) if record else None
        self._finite: list[tuple[int, float, str, Tensor]] = []
        self._visits: list[Visit] = []
        self._made: set[str] = set()  # branches that the rule made itself at this state
        self._makers: dict[str, Maker | None] = {}

    def __call__(self, x: Tensor, *, sigma: float, sigma_next: float, step: int, call: int) -> Tensor:
        """The guided denoised prediction at (x, sigma); `reference` is then the unconditional one, if computed."""
        state = GuidanceState(x, sigma, sigma_next, step, call, self._memory, self.seeds)
        cond = self._predict(COND, state, self.condition)
        if self.condition is None:
            self.reference = cond
            self._tell(GUIDED, state, None, cond)
            self._add(state, cond, None, cond, needed=(COND,), rows=None)
            return cond
        needed = self.rule.branches(state)
        if self._needs_reference and UNCOND not in needed:
            needed = (*needed, UNCOND)
        rows = self._rows(state, needed)
        uncond = self._branch(UNCOND, state, rows) if UNCOND in needed else None
        for branch in needed:
            if branch not in (COND, UNCOND):
                state.others[branch] = self._branch(branch, state, None)
        guided = self.rule(cond, uncond, state)
        self.reference = uncond if rows is None else None
        self._tell(GUIDED, state, None, guided)
        self._add(state, cond, uncond, guided, needed=needed, rows=rows)
        return guided

    @property
    def remembers(self) -> bool:
        """Whether the rule has kept something for later steps."""
        return bool(self._memory)

    def check_finite(self) -> None:
        """Read back, once a batch, whether every prediction was finite; `InputError` names the first that was not."""
        flags = torch.stack([flag for *_, flag in self._finite]).tolist()
        for (step, sigma, branch, _), finite in zip(self._finite, flags, strict=True):
            if not finite:
                where = f"denoiser ({branch}, step {step}, sigma {sigma:.4g})"
                raise InputError(where, found="NaN or infinite values", expected="finite predictions")

    def table(self, *, first: int) -> pd.DataFrame:
        """The scalars, with samples counted from `first`."""
        assert self._recorder is not None  # asked for only when recording
        return self._recorder.table(first=first)

    def visits(self, *, first: int) -> list[Visit]:
        """The states and predictions that were kept, with samples counted from `first`."""
        return [replace(visit, first=first) for visit in self._visits]

    def _rows(self, state: GuidanceState, needed: Sequence[str]) -> Tensor | None:
        """Samples that need the unconditional branch, or None for all of them."""
        if self._needs_reference or UNCOND not in needed or not isinstance(self.rule, RowRule):
            return None
        rows = self.rule.rows(state)
        return None if bool(rows.all()) else rows

    def _branch(self, branch: str, state: GuidanceState, rows: Tensor | None) -> Tensor:
        """A branch other than `cond`; NaN in samples that do not need it."""
        if rows is None:
            return self._predict(branch, state, None if branch == UNCOND else self.condition, own=True)
        index = rows.nonzero()[:, 0]
        seeds = [self.seeds[i] for i in index.tolist()]
        part = replace(state, x=state.x[index], seeds=seeds)
        condition = None if branch == UNCOND else select_rows(self.condition, index)
        full = torch.full_like(state.x, torch.nan)
        of = select_rows(self.condition, index)
        full[index] = self._predict(branch, part, condition, own=True, of=of, rows=index)
        return full

    def _predict(
        self, branch: str, state: GuidanceState, condition: Condition, *,
        own: bool = False, of: Condition = None, rows: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        x = state.x
        sigma = torch.full((len(x),), state.sigma, device=x.device, dtype=x.dtype)
        found: Tensor | None = None
        if own and isinstance(self.rule, BranchRule):
            found = self.rule.predict(branch, self.denoiser, x, sigma, self.condition if of is None else of, state)
        if found is None:
            if branch not in (COND, UNCOND):
                expected = f"a rule that computes it (predict), not {describe(self.rule)}"
                raise InputError("branch", found=repr(branch), expected=expected)
            found = self.denoiser(x, sigma, condition)
            self._made.discard(branch)
        else:
            self._made.add(branch)
        check_prediction(found, x, branch=branch)
        self._finite.append((state.step, state.sigma, branch, torch.isfinite(found).all()))
        self._tell(branch, state, rows, found)
        return found

    def _tell(self, branch: str, state: GuidanceState, rows: Tensor | None, prediction: Tensor) -> None:
        if self._watch is not None:
            self._watch(branch, state, torch.arange(len(prediction)) if rows is None else rows.cpu(), prediction)

    def _add(
        self, state: GuidanceState, cond: Tensor, uncond: Tensor | None, guided: Tensor, *,
        needed: Sequence[str], rows: Tensor | None,
    ) -> None:  # fmt: skip
        """Record, with the unconditional branch of all samples where the recording asks for it."""
        if self._recorder is None or self.record is None:
            return
        # one flag for all samples, or one a sample where only some of them needed the branch
        computed = np.asarray(UNCOND in needed) if rows is None else rows.cpu().numpy()
        observed = np.zeros_like(computed)
        if self.record.all_branches and self.condition is not None and not computed.all():
            uncond, observed = self._predict(UNCOND, state, None), ~computed
        reference, compared = UNCOND, uncond
        made = self._made_by([*state.others, *([] if uncond is None else [UNCOND])])
        if UNCOND in made:
            reference = made[UNCOND].reference
        if uncond is None and state.others:
            reference, compared = next(iter(state.others.items()))
        known = computed | observed | (reference != UNCOND)
        weight = 1.0 if self.condition is None else row_weights(self.rule, state, rows)
        reason = "unconditional run" if self.condition is None else f"not needed by {describe(self.rule)}"
        self._recorder.add(
            state.x, cond, compared, guided,
            step=state.step, call=state.call, sigma=state.sigma, sigma_next=state.sigma_next,
            needed=computed.astype(np.int64) + sum(branch != UNCOND for branch in needed), weight=weight,
            observed=observed.astype(np.int64), reference=reference, missing=np.where(known, "", reason),
        )  # fmt: skip
        if self.record.keep:
            copies = {name: value.clone() for name, value in state.others.items()}
            self._visits.append(
                Visit(
                    state.step, state.call, state.sigma, state.sigma_next, state.x.clone(), cond.clone(),
                    None if uncond is None else uncond.clone(), guided.clone(), others=copies, made_by=made,
                )
            )  # fmt: skip

    def _made_by(self, branches: Sequence[str]) -> dict[str, Maker]:
        """Who made the branches of this state that the denoiser did not."""
        for branch in self._made - self._makers.keys():
            self._makers[branch] = maker_of(self.rule, branch)
        found = {branch: self._makers[branch] for branch in branches if branch in self._made}
        return {branch: maker for branch, maker in found.items() if maker is not None}
