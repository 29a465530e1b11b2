"""The report on EMA lengths: averages made after training, compared at the same noisy points.

compare_ema_lengths(Path("changes"), find_snapshots("runs/mine"), (0.03, 0.05, 0.1), denoiser_of, images, command="...")
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from torch import Tensor

from scorescope.analysis.changes import above_lowest, denoiser_changes, lowest
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.bank import Bank
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.posthoc_ema import AT_MOST, PosthocEMA, Snapshot, posthoc_ema
from scorescope.reports.changes import figures, readings
from scorescope.reports.changes.findings import difference
from scorescope.reports.changes.report import CORRECTED, LEVELS
from scorescope.reports.page.pages import Outcome, ReportFigure, ReportTable, ReportWriter, Section


@checked
def compare_ema_lengths(
    out: Path | str,
    snapshots: Sequence[Snapshot],
    lengths: Sequence[float],
    denoiser_of: Callable[[Mapping[str, Tensor]], Denoiser],
    images: Tensor,
    *,
    condition: Condition = None,
    at_most: float = AT_MOST,
    command: str,
    progress: bool = True,
) -> Outcome:
    """Make EMAs of several lengths from snapshots, compare them on one bank of noisy images, and write the report.

    Parameters
    ----------
    out : path
        Folder of the report.
    snapshots : sequence of Snapshot
        Of one training run; see `find_snapshots`.
    lengths : sequence of float
        sigma_rel of two or more.
    denoiser_of : callable
        A state dict to a denoiser with these weights, another object for each.
    images : Tensor, shape (n, *shape)
        Images that the network was not trained on.
    condition : Condition, optional
        One row an image.
    at_most : float
        Largest predicted error of a length; see `posthoc_ema`.
    command : str
        What the manifest says made it.
    progress : bool
        Show a progress bar.

    Raises
    ------
    InputError
        For fewer than two lengths, one given twice, and those that the snapshots do not reach.
    """
    names = [f"{length:g}" for length in lengths]
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError("lengths", found=", ".join(names), expected="two or more, each once")
    made = {name: posthoc_ema(snapshots, length, at_most=at_most) for name, length in zip(names, lengths, strict=True)}
    denoisers = {name: denoiser_of(one.weights) for name, one in made.items()}
    title, question = "EMA length", "Which EMA length has the lowest loss at which noise level?"
    manifest = {
        "snapshots": [one.name for one in snapshots], "lengths": list(lengths), "images": len(images),
        "methods": ["karras2024analyzing", *CORRECTED],
    }  # fmt: skip
    with ReportWriter(out, name="changes", title=title, question=question, command=command, manifest=manifest) as page:
        page.section("made", "How the averages were made", partial(_made_section, made, len(snapshots)))
        bank = Bank(images, LEVELS, draws=2)
        page.section("losses", "Losses", partial(_losses_section, bank, denoisers, condition, progress))
    return page.outcome


def _made_section(made: Mapping[str, PosthocEMA], count: int) -> Section:
    rows = [(one.length, one.step, one.error, one.amplification) for one in made.values()]
    table = pd.DataFrame(rows, columns=["length", "step", "error", "amplification"])
    worst = max(made.values(), key=lambda one: one.error)
    text = (
        f"From {count} snapshots. The profile that is missed by most is that of {worst.length:g}, by "
        f"{worst.error:.2g} of its size, as was predicted before any weight was looked at."
    )
    caption = (
        "error: predicted distance of the profile from that of a tracked average, relative; amplification: by how much "
        "the rounding of stored weights is enlarged at most."
    )
    return Section(text=text, tables=[ReportTable("ema_lengths", table, caption)])


def _losses_section(bank: Bank, denoisers: Mapping[str, Denoiser], condition: Condition, progress: bool) -> Section:
    table = denoiser_changes(bank, denoisers, condition=condition, progress=progress)
    above, best = above_lowest(table), lowest(table)
    drawn = above.assign(length=above["denoiser"].astype(float))
    nothing = readings.read_losses(table, best)  # and how little would have been seen
    told = above["shown"].any()
    reading, largest = (readings.read_ema(above, best), readings.read_largest(table)) if told else (nothing, nothing)
    return Section(
        figures=[
            ReportFigure(
                "ema_losses", figures.ema_losses(drawn), reading,
                "Intervals hold together over every two lengths and all noise levels (95 %); a filled mark is shown to "
                "be worse than the lowest at its level. The same noisy points for all.",
            ),
            ReportFigure(
                "ema_lowest", figures.ema_lowest(drawn), largest,
                "Filled: the lowest loss; open: not shown to be worse. No mark: shown to be worse.",
            ),
        ],
        tables=[
            ReportTable("lowest", best, "The lowest loss at each noise level, and what it is not told from."),
            ReportTable("above_lowest", above, "One row a (length, noise level).", shown=False),
            ReportTable("loss_differences", table, "One row a (pair, noise level).", shown=False),
        ],
        findings=difference(reading, table, "ema_losses") + (difference(largest, table, "ema_lowest") if told else []),
    )  # fmt: skip
