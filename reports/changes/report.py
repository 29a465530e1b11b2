"""The report on what changed: recorded runs of two or more checkpoints, or denoisers at the same noisy points.

compare_runs(Path("report/changes"), {"before": Path("runs/a"), "after": Path("runs/b")}, command="...")
compare_denoisers(Path("report/changes"), {"before": before, "after": after}, images, command="...")
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorescope.analysis.changes import RunChanges, denoiser_changes, lowest, run_changes, shown_ranges
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.bank import Bank, log_snr_grid
from scorescope.probes.experiments.pipeline_calls import decoded_images
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.recording.trace import Trace
from scorescope.reports.changes import figures, readings
from scorescope.reports.page.pages import Outcome, ReportFigure, ReportTable, ReportWriter, Section
from scorescope.reports.page.requests import by_call

PANELS = 6  # quantities that are drawn
PAIRS = 6  # images that are drawn
LEVELS = log_snr_grid(-8, 6, 15)  # sigma from 0.05 to 55
HOW = "Bands hold together over all rows of the table (95 %); marks: shown to differ."


@checked
def compare_runs(out: Path | str, runs: Mapping[str, Path | str], *, command: str) -> Outcome:
    """Compare recorded runs with the first of them, and write the report.

    Parameters
    ----------
    out : path
        Folder of the report.
    runs : mapping of str to path
        Trace folders, or folders of reports on pipelines, whose decoded images are compared too.
    command : str
        What the manifest says made it.

    Raises
    ------
    InputError
        For fewer than two runs, and what cannot be read.
    """
    if len(runs) < 2:
        raise InputError("runs", found=f"{len(runs)} of them", expected="at least two")
    folders = {name: trace_folder(path) for name, path in runs.items()}
    (base, first), *others = folders.items()
    title, question = f"What changed since {base}?", "Which quantities differ, at which noise levels, in which images?"
    how: dict[str, Any] = {
        "command": command,
        "request": by_call("compare", names=[str(path) for path in runs.values()]),
    }
    how["manifest"] = {"runs": {name: str(folder) for name, folder in folders.items()}}
    with ReportWriter(out, name="changes", title=title, question=question, **how) as page:
        for place, (name, folder) in enumerate(others):
            make = partial(_runs_section, (base, first), (name, folder), "" if len(others) == 1 else str(place))
            page.section(f"run{place}", f"{name} beside {base}", make)
    return page.outcome


@checked
def compare_denoisers(
    out: Path | str,
    denoisers: Mapping[str, Denoiser],
    images: Tensor,
    *,
    condition: Condition = None,
    command: str,
    progress: bool = True,
) -> Outcome:
    """Compare denoisers on one bank of noisy images, and write the report.

    Parameters
    ----------
    out : path
        Folder of the report.
    denoisers : mapping of str to Denoiser
        Two or more.
    images : Tensor, shape (n, *shape)
        Images that none of them was trained on.
    condition : Condition, optional
        One row an image.
    command : str
        What the manifest says made it.
    progress : bool
        Show a progress bar.

    Raises
    ------
    InputError
        For fewer than two denoisers.
    """
    if len(denoisers) < 2:
        raise InputError("denoisers", found=f"{len(denoisers)} of them", expected="at least two")
    title = "What changed between " + ", ".join(denoisers)
    question = "Whose loss is lowest at which noise level?"
    manifest = {"denoisers": list(denoisers), "images": len(images), "levels": list(LEVELS)}
    how: dict[str, Any] = {"command": command, "manifest": manifest}
    how["request"] = "it was made in Python of denoisers and images, and no command names those"
    with ReportWriter(out, name="changes", title=title, question=question, **how) as page:
        bank = Bank(images, LEVELS, draws=2)
        page.section("losses", "Losses", partial(_losses_section, bank, denoisers, condition, progress))
    return page.outcome


def trace_folder(path: Path | str) -> Path:
    """The trace in a folder, or in that of a report on a pipeline."""
    inside = Path(path) / "runs" / "own" / "trace"
    return inside if inside.is_dir() else Path(path)


def _runs_section(first: tuple[str, Path], second: tuple[str, Path], suffix: str) -> Section:
    traces = Trace.open(first[1]), Trace.open(second[1])
    found = run_changes(*traces)
    text, table = f"{readings.read_pairing(found)} {readings.read_arguments(*traces)}".rstrip(), found.table
    drawn = list(dict.fromkeys(table["quantity"]))[:PANELS]
    shown = ReportFigure(
        f"differences{suffix}", figures.run_differences(table, drawn), readings.read_runs(table, shown_ranges(table)),
        f"{HOW} Along a path a difference is carried on to the steps that follow.", wide=True,
    )  # fmt: skip
    pictures = _pictures(first, second, found, suffix)
    return Section(
        text=text,
        figures=[shown, *pictures],
        tables=[
            ReportTable(f"ranges{suffix}", shown_ranges(table), "Noise levels at which a quantity is shown to differ."),
            ReportTable(f"differences{suffix}", table, "One row a (quantity, step), largest first."),
            ReportTable(f"pairing{suffix}", found.pairing, "Samples of both runs; -1: in the other.", shown=False),
        ],
    )  # fmt: skip


def _pictures(first: tuple[str, Path], second: tuple[str, Path], found: RunChanges, suffix: str) -> list[ReportFigure]:
    """The pairs of decoded images that differ most, where both runs kept some."""
    kept = [decoded_images(folder.parent / "decoded") for _, folder in (first, second)]
    pairs = found.pairing[(found.pairing["first"] >= 0) & (found.pairing["second"] >= 0)]
    rows = []
    for seed, place, partner in zip(pairs["seed"], pairs["first"], pairs["second"], strict=True):
        one, other = kept[0].get(int(place)), kept[1].get(int(partner))
        if one is not None and other is not None and one.shape == other.shape and one.ndim == 3 and len(one) in (1, 3):
            both_finite = bool(torch.isfinite(one).all() and torch.isfinite(other).all())
            if not both_finite:
                continue  # the pair is in the table of pairing, and no distance is its own
            rows.append((float((other - one).double().square().mean().sqrt()), int(seed), one, other))
    if not rows:
        return []
    rows.sort(key=lambda entry: -entry[0])
    drawn = [(f"seed {seed}: {rms:.2g}", _picture(one), _picture(other)) for rms, seed, one, other in rows[:PAIRS]]
    reading = (
        f"Of {len(rows)} pairs of images the RMS difference is {np.median([entry[0] for entry in rows]):.2g} in the "
        f"median, {rows[0][0]:.2g} at most (values in [-1, 1])."
    )
    grid = figures.image_pairs(drawn, (first[0], second[0]))
    return [ReportFigure(f"pairs{suffix}", grid, reading, "The pairs that differ most, with their RMS.", wide=True)]


def _picture(image: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """(y, x, channel) in [0, 1], of at most 256 pixels a side."""
    stride = max(1, -(-max(image.shape[1:]) // 256))
    return np.moveaxis((image[:, ::stride, ::stride] / 2 + 0.5).clamp(0, 1).double().numpy(), 0, -1)


def _losses_section(bank: Bank, denoisers: Mapping[str, Denoiser], condition: Condition, progress: bool) -> Section:
    table = denoiser_changes(bank, denoisers, condition=condition, progress=progress)
    best = lowest(table)
    figure, reading = figures.loss_differences(table), readings.read_losses(table, best)
    return Section(
        figures=[ReportFigure("losses", figure, reading, f"{HOW} The same noisy points for all.")],
        tables=[
            ReportTable("lowest", best, "The lowest loss at each noise level, and what it is not told from."),
            ReportTable("loss_differences", table, "One row a (pair, noise level)."),
        ],
    )  # fmt: skip
