"""Activations of images by site and noise level, wherever they come from.

    found.at("network.middle1", level=3)                      # (row, d)
    found.sigmas, found.images

This module calls no network.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import COND
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sites.modules import Pool
from scorescope.probes.sites.outputs import Output


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Activations:
    """Activations of images by site and noise level.

    Attributes
    ----------
    values : mapping of str to Tensor, each of shape (level, row, d), float32
        By site, on the CPU.
    sigmas : tuple of float
        Noise level of each level, in the order that they were visited.
    images : Tensor, shape (row,), int64
        Image of each row; one image has several rows where noise draws are kept apart.
    how : mapping of str to Pool
        How each site was reduced: "mean", "whole" (flattened), or cells of a grid.
    branch : str
        "cond" or "uncond"; another name for branches of guidance rules.
    outputs : mapping of str to Output
        By site that is a module, which of the tensors that it puts out; empty where that is not known.
    contents : Tensor, shape (row,), int64, optional
        The same number for rows of images with the same pixels, also where they are different images; None where the
        images are not known.

    Raises
    ------
    InputError
        For shapes that do not fit together, and values that are not finite, naming site and noise level.
    """

    values: Mapping[str, Tensor]
    sigmas: tuple[float, ...]
    images: Tensor
    how: Mapping[str, Pool]
    branch: str = COND
    outputs: Mapping[str, Output] = field(default_factory=dict)
    contents: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.values:
            raise InputError("sites", found="none", expected="at least one")
        if self.contents is not None and self.contents.shape != self.images.shape:
            found = f"shape {tuple(self.contents.shape)}"
            raise InputError("contents", found=found, expected=f"({len(self.images)},), one a row")
        for site, value in self.values.items():
            if value.ndim != 3 or value.shape[:2] != (len(self.sigmas), len(self.images)):
                expected = f"({len(self.sigmas)} levels, {len(self.images)} rows, d)"
                raise InputError(f"activations of {site!r}", found=f"shape {tuple(value.shape)}", expected=expected)
            finite = torch.isfinite(value).flatten(1).all(1)
            if not finite.all():
                level = int((~finite).nonzero()[0])
                found = f"NaN or infinite values at sigma {self.sigmas[level]:.4g}"
                raise InputError(f"activations of {site!r}", found=found, expected="finite activations")

    @property
    def sites(self) -> list[str]:
        """Names, in the order of collection."""
        return list(self.values)

    @property
    def log_snr(self) -> list[float]:
        """-2 ln sigma of each level."""
        return [-2 * math.log(sigma) for sigma in self.sigmas]

    def describe(self) -> str:
        """One line a site: which of the module's outputs it is, and how it was reduced."""
        lines = []
        for site in self.sites:
            output = f"{self.outputs[site]}; " if site in self.outputs else ""
            how = self.how[site]
            lines.append(f"{site}: {output}{how if isinstance(how, str) else f'{how} x {how} cells'}")
        return "\n".join(lines)

    def output_of(self, site: str) -> int | None:
        """Which of the tensors that a site's module puts out; None where that is not known."""
        return self.outputs[site].place if site in self.outputs else None

    def site(self, name: str) -> Tensor:
        """All levels of a site, (level, row, d).

        Raises
        ------
        InputError
            If it was not collected; the nearest names are suggested.
        """
        if name not in self.values:
            near = difflib.get_close_matches(name, self.sites, n=3, cutoff=0.3) or self.sites[:5]
            raise InputError("site", found=repr(name), expected=f"one that was collected, such as {', '.join(near)}")
        return self.values[name]

    def at(self, site: str, level: int) -> Tensor:
        """One site at one level, (row, d)."""
        if not 0 <= level < len(self.sigmas):
            raise InputError("level", found=str(level), expected=f"0 to {len(self.sigmas) - 1}")
        return self.site(site)[level]

    def along(self, direction: Direction) -> "Activations":
        """What the direction's site holds of it, (level, row, 1): a . v / |v|, as a probe of it alone is fitted on.

        Raises
        ------
        InputError
            If its site was not collected, or another output of it, or has another width.
        """
        values = self.site(direction.site)
        direction.check_width(values.shape[2])
        direction.same_output(self.output_of(direction.site))
        kept = {direction.site: values @ direction.unit.to(values)[:, None]}
        return replace(self, values=kept, how={direction.site: self.how[direction.site]})

    def nearest_level(self, sigma: float) -> int:
        """The level next to a noise level, by log-SNR."""
        return min(range(len(self.sigmas)), key=lambda i: abs(math.log(self.sigmas[i] / sigma)))
