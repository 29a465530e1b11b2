"""What to change inside a denoiser, where, at which noise levels and in which branch.

    push = Intervention.along(direction, strength=2.0, low=0.5, high=10.0)
    off = Intervention("zero", "network.attention")
    sample(intervened(denoiser, [push, off]), seeds=range(16), condition=labels)

What happens in a call follows from the noise level and from whether there is a condition, never from how often
something was called. This module only says what; `intervened` (a denoiser) and `intervene` (a pipeline) do it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.sites.activation_cache import ActivationCache
from scorescope.probes.sites.direction import CONDITION, POOLED, Direction
from scorescope.probes.sites.outputs import checked_output

How = Literal["add", "replace", "zero", "mean", "project", "patch", "map"]
Branch = Literal["cond", "uncond", "both"]
_WITH_VALUE = ("add", "replace", "mean", "project")
Change = Callable[[Tensor, float], Tensor]
"""Activations (n, channel), of all positions of some rows, and their noise level, to others of the same shape."""
INPUT, OUTPUT = "x", "denoised"
"""Sites beside the inner modules: the noisy input, and the prediction."""


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Intervention:
    """One change of one site.

    Attributes
    ----------
    how : {"add", "replace", "zero", "mean", "project", "patch", "map"}
        With a the activation, v the value and s the strength: `add` a + s v; `replace` and `mean` a + s (v - a), that
        is v at strength 1 (for `mean`, v is the mean over a reference set, which only the caller has); `zero`
        (1 - s) a; `project` a - s (a . u) u with u = v / |v|, at every position; `patch` a + s (b - a) with b the
        activation of another run (`source`) or of other rows of the same batch (`rows`), or with a value only what lies
        along it, a + s ((b - a) . u) u; `map` a + s (f(a) - a) with a function f of the channels at one position.
    site : str
        Path of a module (its output is changed), "condition" (all tokens), "condition.<token>", "x" or "denoised"; of
        a pipeline "pooled" too, the embedding of the whole text that some denoisers are given beside its tokens.
    value : Tensor, shape (d,) or (row, d), optional
        d is the number of channels, and then the same at every position or token; or of all numbers of the site.
    strength : float or Tensor of shape (row,)
        See `how`. A row of strength 0 is left alone, to the bit.
    low, high : float or Tensor of shape (row,)
        Noise levels between which it acts, low < sigma <= high, in units of the data.
    branch : {"cond", "uncond", "both"}
        Calls with a condition, calls without, or all.
    channels : tuple of int
        Act on these channels only (v then has one number for each); all of them by default.
    source : ActivationCache, optional
        Where `patch` takes b from.
    rows : Tensor of shape (row,), int64, optional
        For `patch`: the row of the source, or of this very batch where there is none, that each row receives.
    output : int, optional
        Which of the tensors that a module puts out, from 0; by default that of the image (what `intervene` gives
        names it, `describe()`), and for `patch` the one that is in the cache.
    function : callable, optional
        For `map`: (activations (n, channel), noise level) to activations of the same shape.
    where : Tensor, shape (y, x) or (row, y, x), optional
        Region of the picture in which it acts, from 0 to 1; everywhere by default. At a map of another size it acts
        at the cells of which the region covers half or more, at tokens in the order of rows of (y, x).

    Raises
    ------
    InputError
        For a value that is missing, superfluous or not finite, a region that is none, an empty interval of noise
        levels, or an unknown word.
    """

    how: How
    site: str
    value: Tensor | None = None
    strength: float | Tensor = 1.0
    low: float | Tensor = 0.0
    high: float | Tensor = math.inf
    branch: Branch = "both"
    channels: tuple[int, ...] = ()
    source: ActivationCache | None = None
    rows: Tensor | None = None
    output: int | None = None
    function: Change | None = None
    where: Tensor | None = None

    def __post_init__(self) -> None:
        for name, words in (("how", get_args(How)), ("branch", get_args(Branch))):
            if getattr(self, name) not in words:
                raise InputError(name, found=repr(getattr(self, name)), expected=f"one of {', '.join(words)}")
        if not self.site:
            raise InputError("site", found="''", expected="a module path, 'condition', 'x' or 'denoised'")
        checked_output(self.output)
        _check_value(self.how, self.value)
        _check_region(self.where)
        if (self.function is not None) != (self.how == "map"):
            found = f"{'none' if self.function is None else 'one'} with {self.how!r}"
            raise InputError("function", found=found, expected="a function for map, and none for others")
        if not torch.isfinite(torch.as_tensor(self.strength)).all():
            raise InputError("strength", found=str(self.strength), expected="finite numbers")
        low, high = torch.as_tensor(self.low), torch.as_tensor(self.high)
        if not ((low >= 0) & (low < high)).all():
            expected = "0 <= low < high: the intervention acts where low < sigma <= high"
            raise InputError("low, high", found=f"{self.low}, {self.high}", expected=expected)
        if self.how != "patch" and not (self.source is None and self.rows is None):
            raise InputError("source, rows", found=f"with {self.how!r}", expected="none: only patch takes them")
        if self.rows is not None and (self.rows.is_floating_point() or bool((self.rows < 0).any())):
            raise InputError("rows", found=str(self.rows.tolist())[:60], expected="row numbers, from 0 on")

    @classmethod
    @checked
    def along(cls, direction: Direction, strength: float | Tensor = 1.0, **more: Any) -> "Intervention":
        """Add a direction; strength 1 is one standard deviation of the projection. `more` as in `Intervention`.

        It goes to the output that it was found at: another one in `more` is an `InputError`.
        """
        more["output"] = direction.same_output(more.get("output"))
        return cls("add", direction.site, direction.step(1.0), strength, **more)

    @classmethod
    @checked
    def without(cls, direction: Direction, strength: float | Tensor = 1.0, **more: Any) -> "Intervention":
        """Project a direction out; strength 1 leaves nothing of it."""
        more["output"] = direction.same_output(more.get("output"))
        return cls("project", direction.site, direction.vector, strength, **more)

    def acts_in(self, branch: str) -> bool:
        """Whether it acts in calls of this branch."""
        return self.branch in ("both", branch)


def _check_value(how: str, value: Tensor | None) -> None:
    if (value is not None) != (how in _WITH_VALUE) and how != "patch":
        expected = f"a vector for {', '.join(_WITH_VALUE)}, perhaps for patch, and none for zero and map"
        raise InputError("value", found=f"{'none' if value is None else 'one'} with {how!r}", expected=expected)
    if value is None:
        return
    if not value.is_floating_point() or value.ndim not in (1, 2) or not torch.isfinite(value).all():
        found = f"{value.dtype} of shape {tuple(value.shape)}, {int((~torch.isfinite(value)).sum())} not finite"
        raise InputError("value", found=found, expected="finite floating point numbers of shape (d,) or (row, d)")
    if how in ("patch", "project") and value.ndim == 1 and not value.any():  # by row, some may be left alone
        raise InputError("value", found=f"zeros with {how!r}", expected="a direction: some numbers that are not 0")


def _check_region(where: Tensor | None) -> None:
    if where is None:
        return
    if where.ndim not in (2, 3) or not ((where >= 0) & (where <= 1)).all():
        found = f"{where.dtype} of shape {tuple(where.shape)}"
        raise InputError("where", found=found, expected="(y, x) or (row, y, x), from 0 to 1")


def is_module_site(site: str) -> bool:
    """Whether a site is an inner module."""
    return site not in (INPUT, OUTPUT, POOLED) and token_of(site) is None


def token_of(site: str) -> int | Literal["all"] | None:
    """The token that a condition site names, "all" for "condition", None for other sites.

    Raises
    ------
    InputError
        For a token that is not a number.
    """
    if site == CONDITION:
        return "all"
    if not site.startswith(f"{CONDITION}."):
        return None
    name = site.removeprefix(f"{CONDITION}.")
    if not name.isdecimal():
        raise InputError("site", found=repr(site), expected="'condition.' and the number of a token")
    return int(name)
