"""The report on what changed: recorded runs of two or more checkpoints, sweeps, or denoisers at the same noisy points.

compare_runs(Path("report/changes"), {"before": Path("runs/a"), "after": Path("runs/b")}, command="...")
compare_sweeps(Path("report/changes"), {"before": Path("runs/a"), "after": Path("runs/b")}, command="...")
compare_denoisers(Path("report/changes"), {"before": before, "after": after}, images, command="...")
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from scorescope.analysis.changes import denoiser_changes, lowest
from scorescope.analysis.changes.denoisers import changes_in
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.bank import Bank, Comparison, log_snr_grid
from scorescope.probes.experiments.sweep import read_sweep
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.reports.changes import figures, readings
from scorescope.reports.changes.findings import difference
from scorescope.reports.changes.recorded import Source, open_run, trace_folder
from scorescope.reports.changes.sections_runs import HOW, compare_section
from scorescope.reports.page.pages import Outcome, ReportFigure, ReportTable, ReportWriter, Section
from scorescope.reports.page.requests import Request, by_call

LEVELS = log_snr_grid(-8, 6, 15)  # sigma from 0.05 to 55
CORRECTED = ["westfall1993resampling"]  # keys of references.bib: chances and intervals that hold over all rows


@checked
def compare_runs(out: Path | str, runs: Mapping[str, Source], *, command: str) -> Outcome:
    """Compare recorded runs with the first of them, and write the report.

    Runs of other noise levels (another scheduler, another number of steps) are compared by what they ended with.

    Parameters
    ----------
    out : path
        Folder of the report.
    runs : mapping of str to path, Trace or Run
        Trace folders, folders of reports on pipelines, whose decoded images are compared too, or what `sample` and
        `sweep` returned.
    command : str
        What the manifest says made it.

    Raises
    ------
    InputError
        For fewer than two runs, and what cannot be read.
    """
    if len(runs) < 2:
        raise InputError("runs", found=f"{len(runs)} of them", expected="at least two")
    base, *others = [open_run(name, source) for name, source in runs.items()]
    title, question = (
        f"What changed since {base.name}?",
        "Which quantities differ, at which noise levels, in which images?",
    )
    manifest = {"runs": {name: _told(source) for name, source in runs.items()}, "methods": CORRECTED}
    how: dict[str, Any] = {"command": command, "manifest": manifest, "request": _request(list(runs.values()))}
    with ReportWriter(out, name="changes", title=title, question=question, **how) as page:
        for place, other in enumerate(others):
            make = partial(compare_section, base, other, "" if len(others) == 1 else str(place))
            page.section(f"run{place}", f"{other.name} beside {base.name}", make)
    return page.outcome


@checked
def compare_sweeps(out: Path | str, sweeps: Mapping[str, Path | str], *, command: str) -> Outcome:
    """Compare the settings of sweeps with those of the same name in the first of them, and write the report.

    Intervals hold together over the rows of one setting's table, not over all settings.

    Parameters
    ----------
    out : path
        Folder of the report.
    sweeps : mapping of str to path
        Folders that `sweep(folder=)` wrote. The settings of one sweep are compared by
        `compare_runs(out, read_sweep(folder))`.
    command : str
        What the manifest says made it.

    Raises
    ------
    InputError
        For fewer than two sweeps, damaged ones, and those without a setting that is in the first too.
    """
    if len(sweeps) < 2:
        raise InputError("sweeps", found=f"{len(sweeps)} of them", expected="at least two")
    (base, mine), *others = [(name, read_sweep(folder)) for name, folder in sweeps.items()]
    title, question = f"What changed since {base}?", "Which settings differ, at which noise levels, in which samples?"
    common = [(name, setting, theirs) for name, theirs in others for setting in mine if setting in theirs]
    alone = {name: sorted(set(mine) ^ set(theirs)) for name, theirs in others}
    if not common:
        found = f"no common one among {', '.join(sorted(mine))}"
        raise InputError("sweeps", found=found, expected="settings of the same names")
    manifest = {"sweeps": {name: str(folder) for name, folder in sweeps.items()}, "settings_in_one_alone": alone}
    manifest["methods"] = CORRECTED
    with ReportWriter(out, name="changes", title=title, question=question, command=command, manifest=manifest) as page:
        for place, (name, setting, theirs) in enumerate(common):
            runs = open_run(base, mine[setting]), open_run(name, theirs[setting])
            make = partial(compare_section, *runs, str(place))
            page.section(f"setting{place}", f"{setting}: {name} beside {base}", make)
        for place, (name, settings) in enumerate(alone.items()):
            if settings:
                title = f"Settings that {base} or {name} has alone"
                page.absent(f"alone{place}", title, f"Compared with none: {', '.join(settings)}.")
    return page.outcome


def _told(source: Source) -> str:
    return str(trace_folder(source)) if isinstance(source, Path | str) else "in memory"


@checked
def compare_denoisers(
    out: Path | str,
    denoisers: Mapping[str, Denoiser],
    images: Tensor,
    *,
    condition: Condition = None,
    comparison: Comparison | None = None,
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
    comparison : Comparison, optional
        Of all pairs at the points of `changes_bank`, where it was made already.
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
    manifest = {"denoisers": list(denoisers), "images": len(images), "levels": list(LEVELS), "methods": CORRECTED}
    how: dict[str, Any] = {"command": command, "manifest": manifest}
    how["request"] = "it was made in Python of denoisers and images, and no command names those"
    with ReportWriter(out, name="changes", title=title, question=question, **how) as page:
        changes = partial(denoiser_changes, changes_bank(images), denoisers, condition=condition, progress=progress)
        made = changes if comparison is None else partial(changes_in, comparison)
        page.section("losses", "Losses", partial(_losses_section, made))
    return page.outcome


def changes_bank(images: Tensor) -> Bank:
    """The noisy points at which denoisers are compared."""
    return Bank(images, LEVELS, draws=2)


def _losses_section(changes: Callable[[], pd.DataFrame]) -> Section:
    table = changes()
    best = lowest(table)
    figure, reading = figures.loss_differences(table), readings.read_losses(table, best)
    return Section(
        figures=[ReportFigure("losses", figure, reading, f"{HOW} The same noisy points for all.")],
        tables=[
            ReportTable("lowest", best, "The lowest loss at each noise level, and what it is not told from."),
            ReportTable("loss_differences", table, "One row a (pair, noise level)."),
        ],
        findings=difference(reading, table, "losses"),
    )  # fmt: skip


def _request(sources: list[Any]) -> Request | str:
    """How the comparison is asked for again, where runs are named by their folders."""
    if all(isinstance(source, str | Path) for source in sources):
        return by_call("compare", names=[str(source) for source in sources])
    return "it was made in Python of runs, and no command names those"
