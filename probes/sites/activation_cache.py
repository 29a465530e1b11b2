"""Activations of one run, kept for patching into another: keyed by site, noise level and branch.

    cache = ActivationCache()
    sample(cached(denoiser, ["network.middle1"], cache), seeds=seeds, condition=clean, solver=Euler())
    patch = Intervention("patch", "network.middle1", source=cache)
    sample(intervened(denoiser, [patch]), seeds=seeds, condition=corrupted, solver=Euler())

A run in one batch, with a solver that visits each noise level once, has one activation for each key.
"""

from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.sites.outputs import Output, check_same


class ActivationCache:
    """Activations by (site, noise level, branch), copied, on the device where they were made.

    Attributes
    ----------
    outputs : dict of str to Output
        By site that is a module, which of the tensors that it puts out is kept.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, float, str], Tensor] = {}
        self.outputs: dict[str, Output] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def sites(self) -> list[str]:
        """Sites that are kept."""
        return list(dict.fromkeys(site for site, _, _ in self._kept))

    def sigmas(self, branch: str | None = None) -> list[float]:
        """Noise levels that are kept, falling."""
        return sorted({sigma for _, sigma, kept in self._kept if branch in (None, kept)}, reverse=True)

    @property
    def bytes(self) -> int:
        """Size of what is kept."""
        return sum(value.numel() * value.element_size() for value in self._kept.values())

    def describe(self) -> str:
        """One line for each module that is kept: which of its outputs."""
        return "\n".join(f"{site}: {output}" for site, output in self.outputs.items())

    def put(self, site: str, sigma: Tensor, branch: str, activation: Tensor, *, output: Output | None = None) -> None:
        """Keep an activation; `output` says which of a module's tensors it is.

        Raises
        ------
        InputError
            If the key is taken: what a second call at one noise level means is not defined. For another output of
            the site than before.
        """
        if output is not None:
            check_same(site, self.outputs.setdefault(site, output), output, before="in the cache")
        key = (site, one_level(sigma), branch)
        if key in self._kept:
            found = f"a second call at sigma {key[1]:.6g} ({branch})"
            expected = (
                "one call a noise level and branch: a run in one batch, with a solver that visits each level once "
                "(Euler, DPMSolverPP2M), into a new cache"
            )
            raise InputError("cache", found=found, expected=expected)
        self._kept[key] = activation

    def at(self, site: str, sigma: Tensor, branch: str) -> Tensor:
        """The activation at a noise level.

        Raises
        ------
        InputError
            If the source run did not visit it: there is no interpolation between noise levels.
        """
        level = one_level(sigma)
        found = self._kept.get((site, level, branch))
        if found is None:
            levels = sorted({kept for name, kept, b in self._kept if (name, b) == (site, branch)})
            near = ", ".join(f"{kept:.6g}" for kept in sorted(levels, key=lambda kept: abs(kept - level))[:3])
            expected = f"a level, site and branch of the source run{': nearest ' + near if near else ''}"
            raise InputError("source", found=f"no {site!r} at sigma {level:.6g} ({branch})", expected=expected)
        return found


def one_level(sigma: Tensor) -> float:
    """The noise level of a call in which all rows have the same."""
    level = float(sigma.flatten()[0])
    if not bool((sigma == sigma.flatten()[0]).all()):
        found = f"levels from {float(sigma.min()):.4g} to {float(sigma.max()):.4g} in one call"
        raise InputError("sigma", found=found, expected="one noise level a call, under which to keep activations")
    return level
