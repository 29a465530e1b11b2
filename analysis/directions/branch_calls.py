"""Whether a denoiser is called in a branch at all: an edit of calls that never happen does nothing."""

from collections.abc import Sequence

from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.guidance import GuidanceState, describe
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sampling.arms import Sampling
from scorescope.probes.sampling.sample import sample
from scorescope.probes.sites.interventions import Branch


def check_branch_is_called(
    denoiser: Denoiser, branch: Branch, spans: Sequence[tuple[float, float]], *, seeds: Sequence[int],
    condition: Condition, start: Tensor | None, sampling: Sampling,
) -> None:  # fmt: skip
    """Raise `InputError` for an interval of noise levels in which the rule never asks for the branch.

    Only the unconditional branch depends on the rule; that one is found out by a run without edits.

    Parameters
    ----------
    denoiser, seeds, condition, start, sampling
        Of the runs that are to be edited.
    branch : {"cond", "uncond", "both"}
        Calls that are to be edited.
    spans : sequence of (low, high)
        Intervals low < sigma <= high.
    """
    if condition is None and branch == "cond":
        expected = "'uncond' or 'both': without a condition, no call is conditional"
        raise InputError("branch", found="'cond', and no condition", expected=expected)
    if condition is None or branch != "uncond":
        return
    called: set[float] = set()

    def note(branch: str, state: GuidanceState, rows: Tensor, prediction: Tensor) -> None:
        if branch == "uncond":
            called.add(state.sigma)

    sample(
        denoiser, seeds=seeds, condition=condition, start=start, shape=sampling.shape, rule=sampling.rule,
        solver=sampling.solver, sigmas=sampling.sigmas, watch=note, batch=sampling.batch, device=sampling.device,
        dtype=sampling.dtype, progress=False,
    )  # fmt: skip
    for low, high in spans:
        if not any(low < sigma <= high for sigma in called):
            rule = "no rule" if sampling.rule is None else describe(sampling.rule)
            found = f"'uncond', never called for {low:g} < sigma <= {high:g} with {rule}"
            expected = "a branch that is: with CFG of another weight than 1 for instance, or branch='cond'"
            raise InputError("branch", found=found, expected=expected)
