"""A denoiser that keeps what passes through its sites, for patching into another run."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sites.activation_cache import ActivationCache
from scorescope.probes.sites.intervened import Intervened, embedded
from scorescope.probes.sites.interventions import INPUT, OUTPUT, is_module_site, token_of
from scorescope.probes.sites.modules import capture, find_site


def cached(denoiser: Denoiser, sites: Sequence[str], cache: ActivationCache) -> Denoiser:
    """A denoiser that keeps what passes through some sites while it is called.

    Parameters
    ----------
    denoiser : Denoiser
        May be intervened on; what is kept of an inner module is then what the network went on with.
    sites : sequence of str
        As in `Intervention`.
    cache : ActivationCache
        Is filled.

    Raises
    ------
    InputError
        For sites that are not there, and in a call for a key that is taken.
    """
    return _Cached(denoiser, sites, cache)


class _Cached:
    def __init__(self, denoiser: Denoiser, sites: Sequence[str], cache: ActivationCache) -> None:
        self.denoiser, self.sites, self.cache = denoiser, list(sites), cache
        self._inner: Any = denoiser.denoiser if isinstance(denoiser, Intervened) else denoiser
        self._named = [site for site in self.sites if is_module_site(site)]
        for site in self._named:
            find_site(self._inner, site)

    def __getattr__(self, name: str) -> Any:
        if name == "denoiser":  # not set yet: while being copied
            raise AttributeError(name)
        return getattr(self.denoiser, name)

    def __call__(self, x: Tensor, sigma: Tensor, condition: Condition, /) -> Tensor:
        branch = "uncond" if condition is None else "cond"
        if not self._named:
            prediction = self.denoiser(x, sigma, condition)
            taken: dict[str, Tensor] = {}
        else:
            with capture(self._inner, self._named) as taken:
                prediction = self.denoiser(x, sigma, condition)
        for site in self.sites:
            self.cache.put(site, sigma, branch, self._value(site, x, condition, prediction, taken))
        return prediction

    def _value(
        self, site: str, x: Tensor, condition: Condition, prediction: Tensor, taken: dict[str, Tensor]
    ) -> Tensor:
        if site in (INPUT, OUTPUT):
            return (x if site == INPUT else prediction).detach().clone()
        token = token_of(site)
        if token is None:
            if site not in taken:
                raise InputError("site", found=f"{site!r}, never called", expected="a module called once a pass")
            return taken[site]
        tokens = embedded(self._inner, condition, x).detach()
        return tokens.clone() if token == "all" else tokens[:, token].clone()
