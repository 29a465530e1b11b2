"""The `Trace`, which holds what one run recorded: a table of scalars, a table of its samples, and a manifest.

    trace.scalars      # one row a (sample, step, call): sigma and the inner products of the branches
    trace.samples      # one row a sample: seed and condition
    trace.manifest     # rule, solver, noise levels, shapes, dtypes, versions

`ScalarRecorder` fills the scalars while a sampler runs: everything stays on the device until the run ends.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.decomposition.products import (
    band_products,
    branch_products,
    centred_products,
    guided_products,
    squared_distance,
)
from scorescope.probes.guidance.branch_makers import Maker
from scorescope.probes.models.model import check_value_range
from scorescope.probes.models.spaces import Space, state_share
from scorescope.probes.pipelines.proof import Proved
from scorescope.probes.recording.arrays import Arrays
from scorescope.probes.recording.doubts import doubts
from scorescope.probes.recording.reading import ShardReader, making_sense, read, read_table
from scorescope.probes.recording.sink import Recorded
from scorescope.probes.recording.table import (
    SCALAR_COLUMNS,
    proof_table,
    prove_all,
    sample_offsets,
    sample_table,
    scalar_table,
)
from scorescope.probes.recording.weights import summary
from scorescope.probes.sites.outputs import Output, check_same

if TYPE_CHECKING:
    import xarray as xr


@checked
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
    prediction_space : str or None
        What the network inside of the denoiser predicts: denoised, eps, v, flow, edm or score. It rounds its own
        output, which is what floors follow from. By default the denoiser's attribute of that name, else denoised.
    sigma_data : float or None
        Of the space edm; by default the denoiser's attribute.
    compute_dtype : str or None
        Coarsest type inside of the network, as "float16"; by default the denoiser's attribute, else the state's.
    """

    value_range: tuple[float, float] | None = None
    all_branches: bool = False
    centred: bool = False
    band_edges: tuple[float, ...] = ()
    keep: bool = False
    prediction_space: Space | None = None
    sigma_data: float | None = None
    compute_dtype: str | None = None

    def __post_init__(self) -> None:
        check_value_range(self.value_range)
        if self.compute_dtype is not None and not isinstance(getattr(torch, self.compute_dtype, None), torch.dtype):
            raise InputError(
                "compute_dtype", found=repr(self.compute_dtype), expected='the name of a type, as "float16"'
            )

    def of(self, denoiser: object) -> "Recording":
        """The same, with what is not stated taken from the denoiser's attributes, where it has them."""
        kind = self.compute_dtype or getattr(denoiser, "compute_dtype", None)
        return replace(
            self,
            prediction_space=self.prediction_space or getattr(denoiser, "prediction_space", None),
            sigma_data=self.sigma_data or getattr(denoiser, "sigma_data", None),
            compute_dtype=None if kind is None else str(kind).removeprefix("torch."),
        )


@displayed
@checked
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
    run, stream : int
        Run of the pipeline, and which of its schedulers.
    why : str
        Why `cond` is NaN, or `uncond` None, in the recording of a pipeline; empty else.
    made_by : mapping of str to Maker
        Branches that a rule or a pipeline made in its own way, and who; `cond` and `uncond` are the denoiser's where
        they are not named, other branches of unknown making.
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
    made_by: Mapping[str, Maker] = field(default_factory=dict)
    run: int = 0
    stream: int = 0
    why: str = ""


@displayed
@checked
class Trace:
    """A record of one or more runs.

    Parameters
    ----------
    scalars : DataFrame
        One row a (sample, step, call), with sigma, sigma_next, `needed` and `observed` (denoiser evaluations
        that the rule needed, and that only the recording asked for) and the quantities of
        `probes.decomposition`, NaN where a branch is missing, with the reason in `missing`. A recorded pipeline
        adds the columns of `recording.table.SCALAR_COLUMNS`.
    samples : DataFrame
        One row a sample: `sample`, `seed`, `condition`.
    manifest : mapping
        What was run.
    kept : list of Visit
        States and branches kept by `sample` with `Recording(keep=True)`; see `visits`, which serves any trace.
    problems : list of str
        What is wrong with a trace that was read from disk, and what of its proof a reader should know: a rule that
        changes within a run, names that rest on other steps. Empty for a sound one.
    """

    def __init__(
        self,
        scalars: pd.DataFrame,
        samples: pd.DataFrame,
        manifest: Mapping[str, Any],
        kept: Sequence[Visit] = (),
    ) -> None:
        self._tables: dict[str, pd.DataFrame] = {"scalars": scalars, "samples": samples}
        self._manifest = dict(manifest)
        self.kept = kept
        self._problems: list[str] = []
        self._recorded: Recorded | None = None
        self._runs: Callable[..., Iterator[Mapping[str, Any]]] | None = None

    def shown_facts(self) -> dict[str, Any]:
        """What a prompt and a notebook show of it."""
        found: dict[str, Any] = {"status": self.status, "samples": len(self.samples), "rows": len(self.scalars)}
        return found | ({"problems": self.problems} if self.problems else {})

    @classmethod
    def empty(cls) -> "Trace":
        """A trace that a recording will fill."""
        trace = cls(pd.DataFrame(), pd.DataFrame(), {})
        trace._tables = {}  # made when asked for: a recording does not wait for them
        return trace

    @classmethod
    @checked
    def open(cls, path: str | Path) -> "Trace":
        """Open a trace folder: complete, incomplete, interrupted, failed or damaged.

        Steps up to the first damaged line are there, and correct; `status` and `problems` say what is wrong.
        Arrays are read, and checked against their hash, when they are asked for.

        Raises
        ------
        TraceError
            Where the folder holds no trace, or its manifest does not pass its hash.
        """
        contents = read(Path(path))
        trace = cls.empty()
        table = read_table(contents)
        ours = table is not None and list(table) == list(SCALAR_COLUMNS)
        trace.fill(Recorded(contents, None), table if ours else None)  # an earlier version's follows from the steps
        return trace

    def begin(self, runs: Callable[..., Iterator[Mapping[str, Any]]]) -> None:
        """Called by a recording when it starts."""
        self._runs, self._manifest = runs, {"status": "recording"}

    def fill(self, recorded: Recorded, table: pd.DataFrame | None = None) -> None:
        """Called by a recording when it ends; tables follow when they are asked for."""
        self._recorded, self._runs = recorded, None
        contents = recorded.contents
        self._manifest, self._problems = {**contents.manifest, "status": contents.status}, contents.problems
        self._tables = {} if table is None else {"scalars": table}

    @property
    def scalars(self) -> pd.DataFrame:
        """One row a (sample, step, call)."""
        if "scalars" not in self._tables:
            events, proved = self._steps if self._recorded is not None else ([], [])
            with self._reading():
                self._tables["scalars"] = scalar_table(events, proved, sample_offsets(events, proved))
        return self._tables["scalars"]

    @property
    def samples(self) -> pd.DataFrame:
        """One row a sample."""
        if "samples" not in self._tables:
            events, proved = self._steps if self._recorded is not None else ([], [])
            ends = self._recorded.contents.finished_runs() if self._recorded is not None else {}
            with self._reading():
                specs = {run: line["spec"] or {} for run, line in ends.items()}
                self._tables["samples"] = sample_table(events, proved, specs)
        return self._tables["samples"]

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What was run."""
        if self._recorded is None:
            return self._manifest
        with self._reading():
            return {**self._manifest, **summary(self._steps[0], self.scalars)}

    @property
    def of_pipeline(self) -> bool:
        """Whether the trace was recorded from a pipeline, step by step, and not by `sample`."""
        return self._recorded is not None

    @property
    def status(self) -> str:
        """recording, complete, incomplete (a run was cut off and its error caught), interrupted, failed or damaged."""
        return str(self._manifest.get("status", "complete"))

    @property
    def problems(self) -> list[str]:
        """What is wrong with the trace, and what of its proof a reader should know."""
        return [*self._problems, *([] if self._recorded is None else doubts(self.scalars))]

    @property
    def unfinished(self) -> list[str]:
        """Runs that did not come to their end, in words; their steps are in the tables."""
        return [] if self._recorded is None else self._recorded.contents.unfinished()

    @property
    def proof(self) -> pd.DataFrame:
        """How the branches were told apart, one row a (sample, step, call); see `recording.table.PROOF_COLUMNS`."""
        events, proved = self._steps
        with self._reading():
            return proof_table(events, proved, sample_offsets(events, proved))

    @property
    def specs(self) -> dict[int, Mapping[str, Any]]:
        """What each finished run was made from, as `runs` was given it; none of runs that were not handed out."""
        ends = {} if self._recorded is None else self._recorded.contents.finished_runs()
        return {run: line["spec"] for run, line in ends.items() if line["spec"]}

    @property
    def site_outputs(self) -> dict[str, Output]:
        """By site whose activations were kept, which of the tensors that the module put out."""
        found: dict[str, Output] = {}
        for event in self._steps[0]:
            for site, output in event.get("sites", {}).items():
                now = Output(**output)
                check_same(site, found.setdefault(site, now), now)
        return found

    @property
    def arrays(self) -> Arrays:
        """The arrays that were kept; `arrays.names()` and `arrays.load(name, place)`.

        Raises
        ------
        InputError
            Where the trace was not recorded from a pipeline.
        """
        events, proved = self._steps
        recorded = self._recorded
        assert recorded is not None  # _steps has seen to it
        memory = recorded.memory
        if memory is not None:
            # copies: tensors of the record share memory with each other
            return Arrays(events, proved, lambda event, name: memory.arrays[event["line"]][name].clone())
        return Arrays(events, proved, ShardReader(recorded.contents.path).load)

    def runs(self, specs: Sequence[Mapping[str, Any]], *, progress: bool = True) -> Iterator[Mapping[str, Any]]:
        """The runs that are still to be made, inside a recording.

            with record(pipe, path="runs/a", resume=True) as trace:
                for spec in trace.runs([{"prompt": p, "seed": s} for p in prompts for s in range(4)]):
                    pipe(spec["prompt"], generator=torch.Generator().manual_seed(spec["seed"]))

        Parameters
        ----------
        specs : sequence of mapping
            What each run is made from: JSON values, or numbers of numpy. `seed` and `prompt` go to the table of
            samples.
        progress : bool
            Show a progress bar.

        Yields
        ------
        mapping
            Each spec that has no finished run in the trace. A run is finished when the next one is asked for, unless
            it made no step, or an error came out of a denoiser (but for compiled ones), out of the scheduler, or out
            of a diffusers pipeline's call, caught or not.

        Raises
        ------
        InputError
            For a spec that is no mapping of JSON values, or another one than the trace has in its place.
        """
        if self._runs is None:
            raise InputError("trace", found=f"a trace that is {self.status}", expected="one that is being recorded")
        return self._runs(specs, progress=progress)

    def load(self, name: str, place: int, *, space: str = "prediction") -> Tensor:
        """One array of one step; see `Arrays.load`."""
        with self._reading():
            return self.arrays.load(name, place, space=space)

    def to_xarray(self, run: int | None = None) -> "xr.Dataset":
        """The arrays of one run, lazily.

        Parameters
        ----------
        run : int, optional
            Which run; needed where there are several.

        Returns
        -------
        Dataset
            Dimensions (step, sample, channel, y, x) and kin; coordinates sigma, t, solver_step and call on step.
            Values are read when they are used; bfloat16 is read as float32. NaN in steps that were not kept.
        """
        arrays = self.arrays
        with self._reading():
            return self._dataset(arrays, run)

    @staticmethod
    def _dataset(arrays: Arrays, run: int | None) -> "xr.Dataset":
        from scorescope.probes.recording.dataset import dataset  # xarray, for those who want it

        found = sorted({event["run"] for event in arrays.events})
        if run is None and len(found) != 1:
            raise InputError("run", found=f"None, with {len(found)} runs", expected=f"one of {found}")
        chosen = found[0] if run is None else run
        if chosen not in found:
            raise InputError("run", found=str(run), expected=f"one of {found}")
        return dataset(arrays, chosen)

    def to_zarr(self, path: str | Path, run: int | None = None) -> None:
        """Write `to_xarray(run)` as a zarr group, for readers that want one; a step is held at a time."""
        try:
            import zarr  # noqa: F401
        except ImportError as error:
            raise InputError("zarr", found="no such package", expected="pip install 'scorescope[zarr]'") from error
        lazy = self.to_xarray(run)
        for place in range(lazy.sizes["step"]):
            more: dict[str, Any] = {"append_dim": "step"} if place else {"zarr_format": 3}
            lazy.isel(step=[place]).to_zarr(path, consolidated=False, **more)

    @cached_property
    def _steps(self) -> tuple[list[dict[str, Any]], list[Proved]]:
        if self._recorded is None:
            raise InputError(
                "trace", found="a trace without recorded steps", expected="one made by record() or Trace.open()"
            )
        with self._reading():
            events = self._recorded.contents.events()
            return events, prove_all(events)

    def _reading(self) -> AbstractContextManager[None]:
        """Of a trace on disk alone."""
        if self._recorded is None or self._recorded.memory is not None:
            return nullcontext()
        return making_sense(self._recorded.contents.path)


@checked
class ScalarRecorder:
    """Collects scalars of one batch of samples; reads them back from the device once."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._keys: list[dict[str, Any]] = []
        self._values: list[dict[str, Tensor]] = []

    def add(
        self, x: Tensor, cond: Tensor, uncond: Tensor | None, guided: Tensor, *,
        products: Mapping[str, Tensor] | None = None, **keys: Any,
    ) -> None:  # fmt: skip
        """Record one evaluation.

        Parameters
        ----------
        x, cond, uncond, guided : Tensor, shape (batch, *shape)
            State (variance exploding) and denoised predictions.
        products : mapping, optional
            `branch_products` of the same tensors and further scalars, where they are known already; with
            `applied_sq` among them also those of `guided_products`.
        **keys
            What the rows are known by: step, call, sigma and so on, one value or one a sample.
        """
        values = dict(branch_products(cond, uncond, x) if products is None else products)
        if "applied_sq" not in values:
            values |= guided_products(guided, cond, self.recording.value_range)
        if self.recording.prediction_space is not None:
            values |= self._outputs(x, cond, uncond, keys["sigma"])
        if uncond is not None and self.recording.centred:
            values |= centred_products(cond, uncond)
        if uncond is not None and self.recording.band_edges:
            values |= band_products(cond, uncond, self.recording.band_edges)
        self._keys.append(keys)
        self._values.append(values)

    def _outputs(self, x: Tensor, cond: Tensor, uncond: Tensor | None, sigma: Any) -> dict[str, Tensor]:
        if not isinstance(sigma, float):  # one a sample
            sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1, *(1,) * (x.ndim - 1))
        share = state_share(str(self.recording.prediction_space), sigma, self.recording.sigma_data)
        found = {"cond_output_sq": squared_distance(cond, share * x)}
        if uncond is not None:
            found["uncond_output_sq"] = squared_distance(uncond, share * x)
        return found

    def table(self, *, first: int = 0) -> pd.DataFrame:
        """Everything recorded, one row a (evaluation, sample), `sample` counted from `first`."""
        names = list(dict.fromkeys(name for values in self._values for name in values))
        read = [torch.stack(list(values.values())) for values in self._values]
        packed = torch.cat([part.flatten() for part in read]).cpu().numpy()  # the only wait for the device
        sizes = [part.shape[1] for part in read]
        columns: dict[str, list[Any]] = {name: [] for name in ("sample", *self._keys[0], *names)}
        start = 0
        for keys, values, part, size in zip(self._keys, self._values, read, sizes, strict=True):
            block = packed[start : start + part.numel()].reshape(part.shape)
            start += part.numel()
            known = dict(zip(values, block, strict=True))
            columns["sample"].append(first + np.arange(size))
            for name, value in keys.items():
                columns[name].append(np.broadcast_to(np.asarray(value), (size,)))
            for name in names:
                columns[name].append(known[name] if name in known else np.full(size, np.nan))
        # one table at the end: thousands of small ones would cost more than the numbers in them
        return pd.DataFrame({name: np.concatenate(parts) for name, parts in columns.items()})
