"""Interventions and kept activations inside a plain denoiser; `on_pipeline` does the same in a pipeline.

    pushed = intervened(denoiser, [Intervention.along(direction, strength=2.0)])
    sample(pushed, seeds=range(16), condition=labels)

    cache = ActivationCache()
    sample(cached(denoiser, ["network.middle1"], cache), seeds=seeds, condition=labels, solver=Euler())

The result is a denoiser again. Hooks are on its modules only for the length of a call.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sites.activation_cache import ActivationCache
from scorescope.probes.sites.direction import POOLED
from scorescope.probes.sites.edited_outputs import EditedOutputs
from scorescope.probes.sites.interventions import INPUT, OUTPUT, Intervention, is_module_site, token_of
from scorescope.probes.sites.modules import capture, find_site
from scorescope.probes.sites.once_a_pass import never_called, once_a_pass
from scorescope.probes.sites.outputs import Outputs, OutputsRead
from scorescope.probes.sites.row_edits import RowEdit, prepare
from scorescope.probes.sites.watched_tensor import plain


class _Around:
    """Everything but the call is that of the denoiser inside."""

    denoiser: Denoiser

    def __getattr__(self, name: str) -> Any:
        if name == "denoiser":  # not set yet: while being copied
            raise AttributeError(name)
        return getattr(self.denoiser, name)


@checked
def intervened(denoiser: Denoiser, interventions: Sequence[Intervention]) -> "Intervened":
    """A denoiser whose insides are changed while it is called.

    Parameters
    ----------
    denoiser : Denoiser
        A `torch.nn.Module` where a site is a module; it is not modified. One that is intervened on already gets
        these interventions after its own.
    interventions : sequence of Intervention
        In the order in which they act.

    Raises
    ------
    InputError
        Here, for a site that is not there (the nearest are named) or is compiled; in a call, for a value of another
        size than the site's, a site called more than once or not at all, rows that do not fit the batch, and an output
        of a site that nothing in the network reads.
    """
    return Intervened(denoiser, interventions)


class Intervened(_Around):
    """What `intervened` returns."""

    def __init__(self, denoiser: Denoiser, interventions: Sequence[Intervention]) -> None:
        earlier = denoiser if isinstance(denoiser, Intervened) else None
        self.denoiser: Denoiser = denoiser if earlier is None else earlier.denoiser
        before = () if earlier is None else earlier.interventions
        self.interventions: tuple[Intervention, ...] = (*before, *interventions)
        if any(given.site == POOLED for given in self.interventions):
            raise InputError("site", found=repr(POOLED), expected="a site of a plain denoiser: pipelines have that one")
        named = dict.fromkeys(given.site for given in self.interventions if is_module_site(given.site))
        self._modules = {site: find_site(self.denoiser, site) for site in named}
        self._outputs = EditedOutputs()

    def describe(self) -> str:
        """One line for each module that was edited: which of its outputs."""
        return self._outputs.describe()

    def __call__(self, x: Tensor, sigma: Tensor, condition: Condition, /) -> Tensor:
        """Estimate x0; see `Denoiser`."""
        branch = "uncond" if condition is None else "cond"
        edits: dict[str, list[RowEdit]] = {}
        for given in self.interventions:
            if given.acts_in(branch) and (edit := prepare(given, sigma, branch)) is not None:
                edits.setdefault(given.site, []).append(edit)
        if not edits:
            return self.denoiser(x, sigma, condition)
        for edit in edits.get(INPUT, []):
            x = edit(x)
        if tokens := [edit for site, found in edits.items() if token_of(site) is not None for edit in found]:
            condition = embedded(self.denoiser, condition, x)
            for edit in tokens:
                condition = edit(condition)
        modules = {site: self._modules[site] for site in edits if site in self._modules}
        self._outputs.begin()
        with once_a_pass(modules, lambda site, call: self._outputs.edit(call, edits[site]), first=True) as calls:
            prediction = self.denoiser(x, sigma, condition)
        calls.check_all()
        self._outputs.check(prediction)
        prediction = plain(prediction)
        for edit in edits.get(OUTPUT, []):
            prediction = edit(prediction)
        return prediction


@checked
def cached(denoiser: Denoiser, sites: Sequence[str], cache: ActivationCache, *, output: Outputs = None) -> Denoiser:
    """A denoiser that keeps what passes through some sites while it is called.

    Parameters
    ----------
    denoiser : Denoiser
        May be intervened on; what is kept of an inner module is then what the network went on with.
    sites : sequence of str
        As in `Intervention`.
    cache : ActivationCache
        Is filled.
    output : int or mapping of str to int, optional
        Which of the tensors that modules put out, for all sites or by site; by default that of the image.

    Raises
    ------
    InputError
        For sites that are not there, and in a call for a key that is taken, and several outputs of which none is
        known to be the image's.
    """
    return _Cached(denoiser, sites, cache, OutputsRead(output))


class _Cached(_Around):
    def __init__(self, denoiser: Denoiser, sites: Sequence[str], cache: ActivationCache, outputs: OutputsRead) -> None:
        self.denoiser, self.sites, self.cache, self._outputs = denoiser, list(sites), cache, outputs
        self._inner: Any = denoiser.denoiser if isinstance(denoiser, Intervened) else denoiser
        self._named = [site for site in self.sites if is_module_site(site)]
        for site in self._named:
            find_site(self._inner, site)

    def __call__(self, x: Tensor, sigma: Tensor, condition: Condition, /) -> Tensor:
        branch = "uncond" if condition is None else "cond"
        with capture(self._inner, self._named, outputs=self._outputs) as taken:
            prediction = self.denoiser(x, sigma, condition)
        for site in self.sites:
            value = self._value(site, x, condition, prediction, taken)
            self.cache.put(site, sigma, branch, value, output=self._outputs.found.get(site))
        return prediction

    def _value(
        self, site: str, x: Tensor, condition: Condition, prediction: Tensor, taken: Mapping[str, Tensor]
    ) -> Tensor:
        if site in (INPUT, OUTPUT):
            return (x if site == INPUT else prediction).detach().clone()
        token = token_of(site)
        if token is None:
            if site not in taken:
                raise never_called(site)
            return taken[site]
        tokens = embedded(self._inner, condition, x).detach()
        return tokens.clone() if token == "all" else tokens[:, token].clone()


def embedded(denoiser: Denoiser, condition: Condition, x: Tensor) -> Tensor:
    """A condition as tokens, (batch, token, width).

    Raises
    ------
    InputError
        If it is not, and the denoiser cannot make it so.
    """
    if isinstance(condition, Tensor) and condition.is_floating_point() and condition.ndim == 3:
        return condition
    embed = getattr(denoiser, "embed", None)
    if embed is None or not (condition is None or isinstance(condition, Tensor)):
        found = f"a {type(condition).__name__}, and a denoiser without `embed`"
        expected = "condition tokens (batch, token, width), or a denoiser whose embed(condition, batch) makes them"
        raise InputError("condition", found=found, expected=expected)
    tokens: Tensor = embed(condition, batch=len(x))
    return tokens
