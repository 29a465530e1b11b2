"""A denoiser whose insides are changed while it is called.

    pushed = intervened(denoiser, [Intervention.along(direction, strength=2.0)])
    sample(pushed, seeds=range(16), condition=labels)

The result is a denoiser again. Hooks are on its modules only for the length of a call.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sites.edits import RowEdit, edit_output, prepare
from scorescope.probes.sites.interventions import INPUT, OUTPUT, Intervention, is_module_site, token_of
from scorescope.probes.sites.modules import find_site
from scorescope.probes.sites.once_a_pass import once_a_pass


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
        size than the site's, a site called more than once or not at all, and rows that do not fit the batch.
    """
    return Intervened(denoiser, interventions)


class Intervened:
    """What `intervened` returns. Everything but the call is that of the denoiser inside."""

    def __init__(self, denoiser: Denoiser, interventions: Sequence[Intervention]) -> None:
        earlier = denoiser if isinstance(denoiser, Intervened) else None
        self.denoiser: Denoiser = denoiser if earlier is None else earlier.denoiser
        before = () if earlier is None else earlier.interventions
        self.interventions: tuple[Intervention, ...] = (*before, *interventions)
        named = dict.fromkeys(given.site for given in self.interventions if is_module_site(given.site))
        self._modules = {site: find_site(self.denoiser, site) for site in named}

    def __getattr__(self, name: str) -> Any:
        if name == "denoiser":  # not set yet: while being copied
            raise AttributeError(name)
        return getattr(self.denoiser, name)

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
        with once_a_pass(modules, lambda site, output: edit_output(output, edits[site]), first=True) as calls:
            prediction = self.denoiser(x, sigma, condition)
        calls.check_all()
        for edit in edits.get(OUTPUT, []):
            prediction = edit(prediction)
        return prediction


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
