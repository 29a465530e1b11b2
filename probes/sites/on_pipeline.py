"""Interventions inside an unmodified pipeline.

    with intervene(pipe, [Intervention.along(direction, strength=3.0, low=1.0)]):
        image = pipe("a lighthouse").images[0]

    cache = ActivationCache()
    with cache_activations(pipe, ["unet.mid_block"], cache):
        pipe("a lighthouse at night", generator=generator)
    with intervene(pipe, [Intervention("patch", "unet.mid_block", source=cache)]):
        pipe("a lighthouse", generator=again)

Sites are "<denoiser>.<path>", and "condition" or "condition.<token>" for the text states that a denoiser is given as
`encoder_hidden_states`. Where several encoders read the prompt, their states lie side by side there, along the width
(Stable Diffusion XL) or along the tokens (3): `channels` of an intervention, or a token, chooses one. "pooled" is the
embedding of the whole text beside them (`text_embeds` or `pooled_projections`).

To record at the same time, put `record(pipe)` outside or inside: it sees what happens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.pipelines import find
from scorescope.probes.pipelines.branch_rows import BranchRows
from scorescope.probes.pipelines.call import Call
from scorescope.probes.pipelines.level_reader import LevelFunction
from scorescope.probes.pipelines.listener import StepEvent
from scorescope.probes.sites.activation_cache import ActivationCache
from scorescope.probes.sites.direction import POOLED
from scorescope.probes.sites.edited_outputs import EditedOutputs
from scorescope.probes.sites.interventions import INPUT, OUTPUT, Intervention, is_module_site, token_of
from scorescope.probes.sites.outputs import ModuleCall, Outputs, OutputsRead
from scorescope.probes.sites.pipeline_sites import DenoiserCall, PipelineSites
from scorescope.probes.sites.row_edits import RowEdit, acts, prepare

_TOKENS = "encoder_hidden_states"
_POOLED = (("pooled_projections",), ("added_cond_kwargs", "text_embeds"))  # of transformers; of Stable Diffusion XL


@checked
def intervene(
    pipe: Any,
    interventions: Sequence[Intervention],
    *,
    branches: Sequence[str] = (),
    modules: find.Modules = None,
    level: LevelFunction | None = None,
) -> "Intervening":
    """Change what happens inside a pipeline's denoisers, for the length of a with block.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline, or any object with a denoiser module and a scheduler. It is not modified.
    interventions : sequence of Intervention
        In the order in which they act. Rows (of strengths, for instance) are those of one branch: where a call holds
        several branches, they are repeated for each.
    branches : sequence of str
        Order of the equal blocks in a batch that holds several branches, for instance ("uncond", "cond"). Needed
        for an intervention on one branch where nothing else tells which rows those are: the pipeline's own names for
        its calls, what an earlier step of the run has proved, or conditions that are zero or no class.
    modules, level
        See `record`.

    Returns
    -------
    Intervening
        A context manager.

    Raises
    ------
    InputError
        Here, for sites that are not there. While the pipeline runs: for an interval of noise levels where they are
        unknown, a branch whose rows are unknown or were another one's, as the step that they feed proves, a later
        step of the run, or a step of a recording that hears more denoisers, a site that is called more than once or
        not at all in a call, a value of another size than the site's, and an output of a site that nothing in the
        network reads.
    """
    return Intervening(pipe, interventions, branches, modules, level)


class Intervening(PipelineSites):
    """The context manager that `intervene` returns."""

    def __init__(
        self, pipe: Any, interventions: Sequence[Intervention], branches: Sequence[str], modules: find.Modules,
        level: LevelFunction | None,
    ) -> None:  # fmt: skip
        self.interventions = tuple(interventions)
        if special := [given.site for given in self.interventions if given.site in (INPUT, OUTPUT)]:
            raise InputError("site", found=repr(special[0]), expected="a module of a denoiser, or 'condition'")
        sites = [given.site for given in self.interventions if is_module_site(given.site)]
        super().__init__(pipe, sites, modules, level)
        self._rows = BranchRows(self.readers, branches)
        self.wants_outputs = self.wants_arguments = any(given.branch != "both" for given in self.interventions)
        self._edits: dict[str, list[RowEdit]] = {}
        self._outputs = EditedOutputs()

    def describe(self) -> str:
        """One line for each module that was edited: which of its outputs."""
        return self._outputs.describe()

    def before(self, call: DenoiserCall, args: Any, kwargs: Any) -> Any:
        """Prepare the edits of this call, and edit the condition."""
        self._edits = {}
        self._outputs.begin()
        for given in self.interventions:
            elsewhere = is_module_site(given.site) and given.site.partition(".")[0] != call.module
            edit = None if elsewhere else self._prepare(given, call)
            if edit is not None:
                self._edits.setdefault(given.site, []).append(edit)
        pooled = self._edits.get(POOLED, [])
        tokens = [edit for site, found in self._edits.items() if token_of(site) is not None for edit in found]
        if not (tokens or pooled):
            return None
        if tokens:
            kwargs = _edited(kwargs, call, (_TOKENS,), tokens, ("batch", "token", "width"))
        if pooled:
            path = next((path for path in _POOLED if _at(kwargs, path) is not None), _POOLED[0])
            kwargs = _edited(kwargs, call, path, pooled, ("batch", "width"))
        return args, kwargs

    def at_site(self, site: str, call: DenoiserCall, inner: ModuleCall) -> Any:
        """See `PipelineSites.at_site`."""
        edits = self._edits.get(site)
        return None if not edits else self._outputs.edit(inner, edits)

    def after_call(self, call: Call, outputs: list[Tensor]) -> None:
        """See `Listener`."""
        super().after_call(call, outputs)
        self._outputs.check(outputs)

    def before_step(self, step: StepEvent) -> None:
        """See `Listener`: learn which rows belonged to which branch."""
        if self.wants_outputs:
            self._rows.learn(step)

    def _prepare(self, given: Intervention, call: DenoiserCall) -> RowEdit | None:
        bounds = (given.low, given.high)
        always = not any(isinstance(bound, Tensor) for bound in bounds) and bounds == (0.0, float("inf"))
        if call.note and (not always or given.source is not None or given.function is not None):
            expected = "level=, or an intervention that is the same at all noise levels"
            raise InputError("low, high", found=call.note, expected=expected)
        given = _repeated(given, call.batch)
        weights = None
        if given.branch != "both" and acts(given, call.sigma, unknown=always):
            weights = self._rows.of(given.branch, call.made, call.batch, same_run=self._engine.goes_on())
        return prepare(given, call.sigma, call.key, weights=weights, unknown=always)


def _at(kwargs: Any, path: Sequence[str]) -> Any:
    """What nested arguments hold at a path, or None."""
    for name in path:
        kwargs = kwargs.get(name) if isinstance(kwargs, Mapping) else None
    return kwargs


def _edited(
    kwargs: Mapping[str, Any], call: DenoiserCall, path: Sequence[str], edits: Sequence[RowEdit], axes: Sequence[str]
) -> dict[str, Any]:
    """The arguments with what lies at a path edited; those that were given stay as they are."""
    states = _at(kwargs, path)
    if not isinstance(states, Tensor) or states.ndim != len(axes) or len(states) != call.batch:
        expected = f"{'.'.join(path)}=, ({', '.join(axes)}), by name"
        raise InputError(edits[0].given.site, found=f"a call of {call.module} without such states", expected=expected)
    for edit in edits:
        states = edit(states)
    outer, *inner = path
    return {**kwargs, outer: {**kwargs[outer], inner[0]: states} if inner else states}


def _repeated(given: Intervention, batch: int) -> Intervention:
    """The intervention with its rows repeated to the batch, block after block."""
    rows = {"strength": given.strength, "low": given.low, "high": given.high, "value": given.value}
    changed: dict[str, Tensor] = {}
    for name, value in rows.items():
        by_row = isinstance(value, Tensor) and value.ndim == (2 if name == "value" else 1)
        if by_row and isinstance(value, Tensor) and len(value) != batch and batch % len(value) == 0:
            changed[name] = value.repeat(batch // len(value), *(1,) * (value.ndim - 1))
    return replace(given, **changed) if changed else given  # type: ignore[arg-type]


@checked
def cache_activations(
    pipe: Any,
    sites: Sequence[str],
    cache: ActivationCache,
    *,
    output: Outputs = None,
    modules: find.Modules = None,
    level: LevelFunction | None = None,
) -> "Caching":
    """Keep what passes through the sites of a pipeline, for patching into another run, for the length of a block.

    Parameters
    ----------
    pipe : object
        As for `intervene`.
    sites : sequence of str
        "<denoiser>.<path>".
    cache : ActivationCache
        Is filled. A call that holds several branches is kept whole; calls that the pipeline names, by their name.
    output : int or mapping of str to int, optional
        Which of the tensors that modules put out, for all sites or by site; by default that of the image.
    modules, level
        See `record`.

    Raises
    ------
    InputError
        For sites that are not there, noise levels that are unknown, a second call at one noise level that cannot be
        told from the first, and several outputs of which none is known to be the image's.
    """
    return Caching(pipe, sites, cache, OutputsRead(output), modules, level)


class Caching(PipelineSites):
    """The context manager that `cache_activations` returns."""

    in_repeated_calls = False

    def __init__(
        self, pipe: Any, sites: Sequence[str], cache: ActivationCache, outputs: OutputsRead, modules: find.Modules,
        level: LevelFunction | None,
    ) -> None:  # fmt: skip
        super().__init__(pipe, sites, modules, level)
        self.cache, self._outputs = cache, outputs

    def at_site(self, site: str, call: DenoiserCall, inner: ModuleCall) -> None:
        """See `PipelineSites.at_site`."""
        if call.note:
            raise InputError("level", found=call.note, expected="level=, under which to keep activations")
        kept = self._outputs.take(site, inner).detach().clone()
        self.cache.put(site, call.sigma, call.key, kept, output=self._outputs.found[site])
