"""What one run recorded: a table of scalars, a table of its samples, and a manifest.

    trace.scalars      # one row a (sample, step, call): sigma and the inner products of the branches
    trace.samples      # one row a sample: seed and condition
    trace.manifest     # rule, solver, noise levels, shapes, dtypes, versions

`ScalarRecorder` fills the scalars while a sampler runs: everything stays on the device until the run ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.probes.decomposition import band_products, branch_products, centred_products, guided_products


@dataclass(frozen=True)
class Recording:
    """Which scalars to record.

    Attributes
    ----------
    value_range : (float, float) or None
        Range of the data, for overshoot and saturation; None for latents.
    all_branches : bool
        Compute the unconditional branch also where the rule does not need it (w = 1, outside an interval), so
        that the update is known there too. The calls that it costs are counted as `observed`, not as `needed`.
    centred : bool
        Add the inner products with each channel's mean removed.
    band_edges : tuple of float
        Add energies in radial frequency bands with these inner edges, in cycles per sample.
    keep : bool
        Keep the states and branches themselves, for replaying rules: 4 tensors an evaluation, on the device.
    """

    value_range: tuple[float, float] | None = None
    all_branches: bool = False
    centred: bool = False
    band_edges: tuple[float, ...] = ()
    keep: bool = False


@dataclass(frozen=True)
class Visit:
    """One evaluation whose tensors were kept: a state that a run visited, and what was predicted there.

    Attributes
    ----------
    step, call, sigma, sigma_next
        As in `Trace.scalars`.
    x : Tensor, shape (batch, *shape)
        State, variance-exploding convention.
    cond, uncond, guided : Tensor, shape (batch, *shape)
        Denoised predictions; `uncond` None where it was not computed, NaN in samples that did not need it.
    others : mapping
        Further branches by name.
    first : int
        Sample of the first row.
    """

    step: int
    call: int
    sigma: float
    sigma_next: float
    x: Tensor
    cond: Tensor
    uncond: Tensor | None
    guided: Tensor
    others: Mapping[str, Tensor] = field(default_factory=dict)
    first: int = 0


@dataclass(frozen=True)
class Trace:
    """A record of one run.

    Attributes
    ----------
    scalars : DataFrame
        One row a (sample, step, call), with sigma, sigma_next, `needed` and `observed` (denoiser evaluations
        that the rule needed, and that only the recording asked for) and the quantities of
        `probes.decomposition`, NaN where a branch is missing, with the reason in `missing`.
    samples : DataFrame
        One row a sample: `sample`, `seed`, `condition`.
    manifest : mapping
        What was run.
    visits : list of Visit
        Kept states and branches, batch after batch in the order of the run; empty without `Recording(keep=True)`.
    """

    scalars: pd.DataFrame
    samples: pd.DataFrame
    manifest: Mapping[str, Any]
    visits: Sequence[Visit] = ()


class ScalarRecorder:
    """Collects scalars of one batch of samples; reads them back from the device once."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._keys: list[dict[str, Any]] = []
        self._values: list[dict[str, Tensor]] = []

    def add(self, x: Tensor, cond: Tensor, uncond: Tensor | None, guided: Tensor, **keys: Any) -> None:
        """Record one evaluation.

        Parameters
        ----------
        x, cond, uncond, guided : Tensor, shape (batch, *shape)
            State (variance exploding) and denoised predictions.
        **keys
            What the rows are known by: step, call, sigma and so on, one value or one a sample.
        """
        values = branch_products(cond, uncond, x)
        values |= guided_products(guided, cond, self.recording.value_range)
        if uncond is not None and self.recording.centred:
            values |= centred_products(cond, uncond)
        if uncond is not None and self.recording.band_edges:
            values |= band_products(cond, uncond, self.recording.band_edges)
        self._keys.append(keys)
        self._values.append(values)

    def table(self, *, first: int = 0) -> pd.DataFrame:
        """Everything recorded, one row a (evaluation, sample), `sample` counted from `first`."""
        names = list(dict.fromkeys(name for values in self._values for name in values))
        read = [torch.stack(list(values.values())) for values in self._values]
        packed = torch.cat([part.flatten() for part in read]).cpu().numpy()  # the only wait for the device
        frames, start = [], 0
        for keys, values, part in zip(self._keys, self._values, read, strict=True):
            block = packed[start : start + part.numel()].reshape(part.shape)
            start += part.numel()
            columns = dict(zip(values, block, strict=True))
            batch = block.shape[1]
            absent = np.full(batch, np.nan)
            frames.append(
                pd.DataFrame({"sample": first + np.arange(batch), **keys, **{n: columns.get(n, absent) for n in names}})
            )
        return pd.concat(frames, ignore_index=True)
