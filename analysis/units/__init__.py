"""Single channels of a layer, the units: where they fire, and what editing them changes, by noise level.

    unit_overlap(stored, "network.up.1", {"shape": masks})                  # where single channels fire
    means = unit_means(stored, "network.up.1", masks)                       # what to insert, and what to ablate to
    unit_effects(denoiser, "network.up.1", [3, 17], means=means, seeds=range(16)).verdicts
    unit_maps(stored, "network.up.1", [3, 17], level=4)                     # images of their strongest maps
    maximise_unit(denoiser, "network.up.1", 17, held_out, sigmas=[8.0, 4.0, 2.0, 1.0]).images    # what raises a unit

A unit that fires where something is need not cause it: `unit_effects` is the judge.
"""

from scorescope.analysis.units.ablation import UnitEffects, unit_effects
from scorescope.analysis.units.channel_maps import UnitMaps, UnitMeans, colour_regions, unit_maps, unit_means
from scorescope.analysis.units.maximising import MaximisedUnit, maximise_unit
from scorescope.analysis.units.overlap import unit_overlap

__all__ = [
    "MaximisedUnit",
    "UnitEffects",
    "UnitMaps",
    "UnitMeans",
    "colour_regions",
    "maximise_unit",
    "unit_effects",
    "unit_maps",
    "unit_means",
    "unit_overlap",
]
