"""What changed: between two recorded runs, step by step, and between denoisers at the same noisy points.

    found = run_changes(Trace.open("runs/before"), Trace.open("runs/after"))
    found.table                                    # largest first; intervals hold together over all rows
    shown_ranges(found.table)                      # between which noise levels each quantity differs
    update_agreement(of_cfg, of_icg)               # two updates at the same states: cosine, ratio of norms
    end_changes(first, second)                     # runs of other noise levels too: what they ended with

    table = denoiser_changes(bank, {"before": before, "after": after}, condition=labels)
    lowest(table)                                  # whose loss is lowest at which noise level

    snapshots = find_snapshots("runs/mine")        # EMA length as an axis: see probes.models.posthoc_ema
    networks = {f"{length:g}": deepcopy(network) for length in (0.03, 0.05, 0.1, 0.15)}
    for length, network in networks.items():
        network.load_state_dict(posthoc_ema(snapshots, float(length)).weights)
    above_lowest(denoiser_changes(bank, networks, condition=labels))

Along a path a difference is carried on to the steps that follow; on a bank it stays where it is.
"""

from scorescope.analysis.changes.denoisers import above_lowest, denoiser_changes, lowest
from scorescope.analysis.changes.ends import end_changes, image_distances
from scorescope.analysis.changes.runs import RunChanges, run_changes, shown_ranges
from scorescope.analysis.changes.schedules import steps_apart
from scorescope.analysis.changes.tables import decomposition_changes, table_changes
from scorescope.analysis.changes.updates import update_agreement

__all__ = [
    "RunChanges",
    "above_lowest",
    "decomposition_changes",
    "denoiser_changes",
    "end_changes",
    "image_distances",
    "lowest",
    "run_changes",
    "shown_ranges",
    "steps_apart",
    "table_changes",
    "update_agreement",
]
