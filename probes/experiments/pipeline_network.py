"""The denoiser that `pipeline_model` makes: a pipeline's network, called as the pipeline calls it."""

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.probes.experiments.noise_conventions import Convention
from scorescope.probes.experiments.pipeline_steps import PipelineStep, precision_of
from scorescope.probes.models.denoiser import Condition, working_dtype
from scorescope.probes.pipelines.branches import align
from scorescope.probes.pipelines.sample_calls import SampleCall, call_together

SLACK = 1e-4  # relative, at the ends of the range of levels
AT_ONCE = 8  # samples of a call that proves
TOGETHER = "any samples", "samples of one level", "one sample"


class PipelineNetwork(nn.Module):
    """D(x, sigma, condition) of a pipeline's network, in the variance-exploding convention x = x0 + sigma n.

    What the network is given beside state and time is what the pipeline gave it for the same row. Its time is a
    closed form of sigma, with fractions where the scheduler's are whole numbers that follow from its table: at whole
    ones the denoiser is proved to be the pipeline's, between them the network is asked what a pipeline with more
    steps would not ask. A network that refuses fractions is given whole numbers. Gradients flow where they are
    enabled, as in any module.

    Attributes
    ----------
    network : nn.Module
        The pipeline's own; sites are named from here ("network.mid_block.attentions.0").
    sigma_range : (float, float)
        Least and largest noise level; others are refused, for the scheduler has none, and the network was not trained
        there. Of a flow those of the timesteps 1 to N - 1 of N, and of the scheduler's own steps beyond them.
    convention : str
        What scales, times and predictions mean, in words.
    missing : str
        Why there is no unconditional branch; empty where there is one.
    together : str
        What goes through the network in one call: any samples, or samples of one level, or one sample.
    """

    def __init__(
        self, convention: Convention, conditions: Sequence[SampleCall], uncond: SampleCall | None, missing: str, *,
        like: PipelineStep, batch: int | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network: nn.Module = like.cond_call.network
        self.sigma_range, self.convention, self.together = convention.sigma_range, convention.name, TOGETHER[0]
        self.shape = tuple(like.x.shape[1:])
        self._forms, self._batch, self._view = convention, batch, like.view
        self._conditions, self._uncond, self.missing = list(conditions), uncond, missing
        self._fractions = True

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """Estimate x0; see `Denoiser`.

        Parameters
        ----------
        x : Tensor, shape (batch, *shape)
            Noisy states.
        sigma : Tensor, shape (batch,)
            Noise levels within `sigma_range`.
        condition : LongTensor, shape (batch,), or None
            Places in the rows that the model was made with; None is the unconditional branch.

        Raises
        ------
        InputError
            For a level or a row that there is not, another shape, and None where there is no such branch.
        """
        calls = self._calls(condition, len(x))
        self._check(x, sigma)
        groups = list(self._groups(calls, sigma))
        parts = [self._denoised(x[rows], sigma[rows], [calls[row] for row in rows]) for rows in groups]
        order = torch.tensor([row for rows in groups for row in rows], device=x.device)
        return torch.cat(parts)[order.argsort()].to(x)

    def prove(self, steps: Sequence[PipelineStep], others: Sequence[PipelineStep]) -> None:
        """Hold the denoiser against the recorded predictions: all steps of the first row, and one of each other.

        Raises
        ------
        InputError
            Where one differs, saying by how much.
        """
        every, rows = [*steps, *others], [0] * len(steps) + list(range(1, len(others) + 1))
        close, wrong = max(1e-4, 4 * precision_of(steps[0].cond_call.given_state)), math.inf
        for self._fractions, self.together in itertools.product((True, False), TOGETHER):
            wrong = self._wrong(every, rows)
            if wrong <= close:
                return
        by = f"which differs by {wrong:.2g} of its output" if math.isfinite(wrong) else "or raises an error"
        expected = "one without caching, dropout or other changes from call to call, and inputs that are its own"
        raise InputError(
            "pipe", found=f"a network that gives something else when called again, {by}", expected=expected
        )

    def _wrong(self, steps: Sequence[PipelineStep], rows: Sequence[int]) -> float:
        """Largest difference to the recorded D, a few samples a call; infinite where the network refuses such calls."""
        try:
            return max(
                self._miss(steps[start : start + AT_ONCE], rows[start : start + AT_ONCE])
                for start in range(0, len(steps), AT_ONCE)
            )
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
            return math.inf

    @torch.no_grad()
    def _miss(self, steps: Sequence[PipelineStep], rows: Sequence[int]) -> float:
        """Largest difference to the recorded D, relative to what the network adds to the state in it."""
        misses = []
        for branch, condition in (("cond", torch.tensor(rows)), ("uncond", None)):
            known = [step for step in steps if getattr(step, branch) is not None]
            if known and (condition is not None or self._uncond is not None):
                x, right = (torch.cat([getattr(step, name) for step in known]) for name in ("x", branch))
                sigma = torch.tensor([step.sigma for step in known]).to(x)
                added = right - _spread(self._forms.skip(sigma), x) * x
                wrong = self(x, sigma, condition) - right
                misses.append(float((wrong.flatten(1).norm(dim=1) / added.flatten(1).norm(dim=1)).max()))
        return max(misses)

    def _calls(self, condition: Condition, count: int) -> list[SampleCall]:
        """What the network is given for each sample."""
        if condition is None:
            if self._uncond is None:
                raise InputError("condition", found=f"None, for {self.missing}", expected="rows, or such a pipeline")
            return [self._uncond] * count
        most, rows = len(self._conditions), torch.as_tensor(condition)
        if rows.shape != (count,) or rows.is_floating_point() or not bool(((rows >= 0) & (rows < most)).all()):
            found = f"shape {tuple(rows.shape)}, {rows.dtype}, {rows.flatten()[:4].tolist()}"
            raise InputError("condition", found=found, expected=f"{count} whole numbers from 0 to {most - 1}, or None")
        return [self._conditions[row] for row in rows.tolist()]

    def _check(self, x: Tensor, sigma: Tensor) -> None:
        if tuple(x.shape[1:]) != self.shape or sigma.shape != (len(x),):
            found = f"shapes {tuple(x.shape)}, {tuple(sigma.shape)}"
            raise InputError("x, sigma", found=found, expected=f"(batch, {', '.join(map(str, self.shape))}), (batch,)")
        least, most = self.sigma_range
        if not bool(((sigma >= least * (1 - SLACK)) & (sigma <= most * (1 + SLACK))).all()):
            found = f"from {float(sigma.min()):.4g} to {float(sigma.max()):.4g}"
            expected = f"levels that the scheduler has, {least:.4g} to {most:.4g} (denoiser.sigma_range)"
            raise InputError("sigma", found=found, expected=expected)

    def _groups(self, calls: Sequence[SampleCall], sigma: Tensor) -> Iterator[list[int]]:
        """Rows that go through the network in one call."""
        levels = sigma.tolist() if self.together == TOGETHER[1] else [0.0] * len(calls)
        found: dict[tuple[float, int], list[int]] = {}
        leaders: list[SampleCall] = []
        kinds: dict[int, int] = {}
        for row, call in enumerate(calls):
            if id(call) not in kinds:
                kinds[id(call)] = next((i for i, one in enumerate(leaders) if one.goes_with(call)), len(leaders))
                leaders += [call] if kinds[id(call)] == len(leaders) else []
            found.setdefault((levels[row], kinds[id(call)]), []).append(row)
        most = 1 if self.together == TOGETHER[2] else self._batch or len(calls)
        for rows in found.values():
            yield from (rows[start : start + most] for start in range(0, len(rows), most))

    def _denoised(self, x: Tensor, sigma: Tensor, calls: Sequence[SampleCall]) -> Tensor:
        """D of samples that go together, in one call of the network."""
        first, forms, dtype = calls[0], self._forms, working_dtype(x)
        wide, levels = x.to(dtype), sigma.to(x.device, dtype)
        given = first.given_state
        states = (_spread(forms.scale(levels), x) * wide).reshape(len(x), *given.shape[1:])
        times = first.times(self._times(levels, first), as_given=self.together != TOGETHER[0])
        made = call_together(calls, states.to(given), times)
        rows = next((one.rows for one in align([made], x, x, 0) if one.view == self._view), None)
        if rows is None or rows.shape != x.shape:
            found = f"outputs of shape {[tuple(one.shape) for one in made.outputs]}"
            raise InputError("pipe", found=found, expected=f"{tuple(x.shape)}, as the state")
        return _spread(forms.skip(levels), x) * wide + _spread(forms.out(levels), x) * rows.to(wide)

    def _times(self, levels: Tensor, call: SampleCall) -> Tensor:
        """Times as the network takes them; fractions are float32 where whole numbers were given."""
        times, given = self._forms.time(levels), torch.as_tensor(call.given_time)
        if given.is_floating_point():
            return times.to(given)
        return times.float().to(given.device) if self._fractions else times.round().to(given)


def _spread(values: Tensor, x: Tensor) -> Tensor:
    """One number a sample with the axes of x."""
    return values.reshape(-1, *(1,) * (x.ndim - 1))
