"""Another prompt in some cross-attention layers of an unmodified pipeline, and the pipeline's own in all others.

with swap_prompt(pipe, states_of_another_prompt, sites[4:7], branches=("uncond", "cond")):
    pipe("a lighthouse")
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from scorescope.data.doors import checked, require_some
from scorescope.data.errors import InputError
from scorescope.probes.pipelines import find
from scorescope.probes.pipelines.branch_rows import BranchRows
from scorescope.probes.pipelines.level_reader import LevelFunction
from scorescope.probes.pipelines.listener import StepEvent
from scorescope.probes.pipelines.taps import ModuleHook
from scorescope.probes.sites.outputs import ModuleCall
from scorescope.probes.sites.pipeline_sites import DenoiserCall, PipelineSites

TEXT = "encoder_hidden_states"


@checked
def swap_prompt(
    pipe: Any,
    states: Tensor,
    sites: Sequence[str],
    *,
    low: float = 0.0,
    high: float = float("inf"),
    branch: Literal["cond", "uncond"] = "cond",
    branches: Sequence[str] = (),
    modules: find.Modules = None,
    level: LevelFunction | None = None,
) -> "Swapping":
    """Give some cross-attention layers the text states of another prompt, for the length of a with block.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline, or any object with a denoiser module and a scheduler. It is not modified.
    states : Tensor, shape (1, token, width) or (sample, token, width)
        Of the other prompt, as the denoiser would be given them (`encoder_hidden_states`), with as many tokens.
    sites : sequence of str
        Cross-attention modules, of `cross_attention_sites`, that are given the denoiser's text as it is.
    low, high : float
        Noise levels at which they are given it, low < sigma <= high.
    branch, branches, modules, level
        See `intervene`.

    Returns
    -------
    Swapping
        A context manager.

    Raises
    ------
    InputError
        Here, for sites that are not there and an empty interval. While the pipeline runs: for layers that are not
        given the denoiser's text, states of another shape, a branch whose rows are unknown, and an interval of noise
        levels that are unknown.

    Notes
    -----
    Basu et al. 2024 (arXiv 2405.01008) localise knowledge so where causal tracing finds nothing; `swap_trace` in
    `analysis.attention` goes over windows of layers.
    """
    require_some("sites", sites)
    if states.ndim != 3 or not 0 <= low < high:
        found = f"states of shape {tuple(states.shape)}, {low} to {high}"
        raise InputError("states, low, high", found=found, expected="(sample, token, width), 0 <= low < high")
    return Swapping(pipe, states.detach(), sites, (low, high), branch, branches, modules, level)


class Swapping(PipelineSites):
    """The context manager that `swap_prompt` returns."""

    wants_outputs = wants_arguments = True

    def __init__(
        self, pipe: Any, states: Tensor, sites: Sequence[str], within: tuple[float, float], branch: str,
        branches: Sequence[str], modules: find.Modules, level: LevelFunction | None,
    ) -> None:  # fmt: skip
        super().__init__(pipe, sites, modules, level)
        self._states, self._within, self._branch = states, within, branch
        self._rows = BranchRows(self.readers, branches)
        self._swapped: tuple[Tensor, Tensor] | None = None  # the text of this call, and what takes its place

    def __enter__(self) -> "Swapping":
        super().__enter__()
        try:
            for site, module in self._modules.items():
                does = functools.partial(self._give, site)
                self._hooks.append(ModuleHook(module, does, before=True, first=True, with_kwargs=True))
        except BaseException:
            self._leave()
            raise
        return self

    def before(self, call: DenoiserCall, args: Any, kwargs: Any) -> None:
        """See `PipelineSites.before`."""
        self._swapped, (low, high), sigma = None, self._within, float(call.sigma[0])
        if call.note and self._within != (0.0, float("inf")):
            raise InputError("low, high", found=call.note, expected="level=, or all noise levels")
        if not call.note and not low < sigma <= high:
            return
        rows = self._rows.of(self._branch, call.made, call.batch, same_run=self._engine.goes_on()).nonzero()[:, 0]
        if not len(rows):
            return
        text = call.made.named().get(TEXT)
        if not isinstance(text, Tensor) or text.shape[1:] != self._states.shape[1:] or len(rows) % len(self._states):
            found = f"{tuple(self._states.shape)}, for {len(rows)} rows of {tuple(getattr(text, 'shape', ()))}"
            raise InputError("states", found=found, expected="the shape of the text that the denoiser is given")
        swapped = text.clone()
        swapped[rows.to(text.device)] = self._states.to(text).repeat(len(rows) // len(self._states), 1, 1)
        self._swapped = text, swapped

    def _give(self, site: str, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Before a layer is called."""
        if self._now is None or self._swapped is None:
            return None
        text, swapped = self._swapped
        given = kwargs.get(TEXT)
        if not isinstance(given, Tensor) or given.data_ptr() != text.data_ptr() or given.shape != text.shape:
            found = f"{site!r}, which is given something else than the denoiser's text"
            raise InputError("sites", found=found, expected="cross-attention to the text as it is, as in U-Nets")
        return args, {**kwargs, TEXT: swapped}

    def at_site(self, site: str, call: DenoiserCall, inner: ModuleCall) -> None:
        """See `PipelineSites.at_site`."""

    def before_step(self, step: StepEvent) -> None:
        """See `Listener`."""
        self._rows.learn(step)
