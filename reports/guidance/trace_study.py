"""What the page on recorded traces studies: the traces that could be read, and their runs of one rule and weight.

A line of its figures is the mean of the runs of one rule, weight and scheduler of one trace.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.guidance.decomposition import decompose, summarise
from scorescope.analysis.guidance.information import suggest_interval
from scorescope.analysis.guidance.run_keys import PATH, run_name
from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.experiments.pipeline_calls import decoded_images
from scorescope.probes.experiments.replay import replay
from scorescope.probes.guidance import APG, CFG, Interval, Rule
from scorescope.probes.models.decoding import Decoder, decode
from scorescope.probes.recording.trace import Trace
from scorescope.reports.guidance.runs import of_path

MOST = 8  # lines that are drawn
Key = tuple[str, float, int]


@displayed
@dataclass(frozen=True, eq=False)
class TraceStudy:
    """Traces by their names on the page, their decompositions, the folders they are from, and what shows states."""

    traces: Mapping[str, Trace]
    rows: Mapping[str, pd.DataFrame]
    folders: Mapping[str, Path]
    decoder: Decoder | None = None

    @cached_property
    def lines(self) -> dict[str, tuple[str, Key]]:
        """By name on the page: the trace, and rule, weight and scheduler of the runs that are averaged."""
        found = {}
        for name, table in self.rows.items():
            keys = list(table[PATH].drop_duplicates().itertuples(index=False, name=None))
            for key in keys:
                rule = run_name(*key[:2]) + (f", scheduler {key[2]}" if table["stream"].nunique() > 1 else "")
                found[name if len(keys) == 1 else f"{name}: {rule}"] = (name, key)
        return found

    @cached_property
    def steps(self) -> pd.DataFrame:
        """Step by step, one group of rows a line, named in `line`."""
        whole = {name: summarise(table) for name, table in self.rows.items()}
        parts = [of_path(whole[name], *key).assign(line=line) for line, (name, key) in self.lines.items()]
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def guided(self) -> list[str]:
        """Lines with an update at some step, at most `MOST`."""
        updates = self.steps[(self.steps["quantity"] == "update_norm") & (self.steps["mean"] > 0)]
        return list(dict.fromkeys(updates["line"]))[:MOST]

    def pictures(self, name: str) -> Tensor:
        """The images that a trace ended in: those that lie beside it, else its last states, decoded.

        Raises
        ------
        InputError
            Where there are neither, or images of several sizes.
        """
        beside = list(decoded_images(self.folders[name].parent / "decoded").values())
        if beside and len({one.shape for one in beside}) > 1:
            raise InputError(name, found="images of several sizes", expected="images of one")
        if beside:
            return torch.stack(beside)
        if self.decoder is None:
            raise InputError(name, found="no decoded images beside it", expected="those, or a decoder (--decoder)")
        arrays = self.traces[name].arrays
        last = {event["run"]: place for place, event in enumerate(arrays.events)}
        return torch.cat([decode(self.decoder, arrays.load("x_prev", place).float()) for place in last.values()])

    def why_not(self, line: str) -> str:
        """Why a line has no update."""
        name, key = self.lines[line]
        said = sorted(set(of_path(self.rows[name], *key)["missing"]) - {""})
        return "; ".join(said) or "both branches are the same at every step"

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """Noise levels to guide at, from the first unguided trace, where there is one and it tells them."""
        for name, table in self.rows.items():
            if (table["path_weight"] == 1).all() and table["update_norm"].notna().any():
                found = suggest_interval(self.traces[name]).iloc[0]
                if not found["missing"]:
                    return float(found["low"]), float(found["high"])
        return None

    @cached_property
    def replayed(self) -> tuple[pd.DataFrame, dict[str, str]]:
        """How other rules of the same weight would have changed each prediction; and, by trace, why that is missing.

        `relative` is |g_rule - g| / |g| at the states that were visited, first calls, by `trace`, `setting` and step.
        """
        parts, missing = [], dict[str, str]()
        for name, table in self.rows.items():
            weights = table["path_weight"].unique()
            if len(weights) != 1 or not weights[0] > 1:
                missing[name] = "it has not one weight above 1 that is known"
                continue
            try:
                for setting, rule in self._rules(float(weights[0])).items():
                    rows = replay(self.traces[name], rule).scalars
                    rows = rows[rows["call"] == 0]
                    relative = (rows["difference_sq"] / rows["guided_sq"]).clip(lower=0) ** 0.5
                    parts.append(rows[["run", "sample", "step", "sigma"]].assign(
                        relative=relative, trace=name, setting=setting
                    ))  # fmt: skip
            except InputError as error:
                missing[name] = str(error)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(), missing

    def _rules(self, weight: float) -> dict[str, Rule]:
        rules: dict[str, Rule] = {"APG": APG(weight)}
        if self.interval is not None:
            rules["interval"] = Interval(CFG(weight), low=self.interval[0], high=self.interval[1])
        return rules


def open_traces(
    folders: Sequence[Path], failed: Callable[[str, BaseException], None], decoder: Decoder | None = None
) -> TraceStudy:
    """The traces that can be read, by the shortest names that tell them apart; `failed` is told of the others."""
    short = len({folder.name for folder in folders}) == len(folders)
    named = {folder.name if short else str(folder): folder for folder in folders}
    traces, rows = dict[str, Trace](), dict[str, pd.DataFrame]()
    for name, folder in named.items():
        try:
            trace = Trace.open(folder)
            rows[name] = decompose(trace)  # without it there is nothing to say of a trace
            traces[name] = trace
        except Exception as error:
            failed(str(folder), error)
    return TraceStudy(traces, rows, {name: named[name] for name in traces}, decoder)
