"""What is inside a denoiser: sparse features, single channels, groups along sampling; what they read and move.

    sheet = sparse_sheet(autoencoder, held_out, "network.middle1", denoiser=denoiser, bank=bank, condition=labels)
    feature_density(autoencoder, held_out, "network.middle1")               # how often each is active
    feature_reads(autoencoder, held_out, "network.middle1", {"size": is_large}, features=[17])
    top_images(autoencoder, held_out, "network.middle1", 17, level=4)       # where it is strongest
    feature_attribution(autoencoder, denoiser, "network.middle1", score, bank).features   # what a score is made of
    direction = feature_direction(autoencoder, 17, site="network.middle1", values=rows)   # of `probes.sparse`
    steer_curve(denoiser, direction, scores, target="size", seeds=held_out_seeds).verdicts

    unit_overlap(stored, "network.up.1", {"shape": masks})                  # where single channels fire
    unit_effects(denoiser, "network.up.1", [3, 17], means=unit_means(stored, "network.up.1", masks), seeds=range(16))

A feature that reads an attribute need not move it: `steer_curve` of `analysis.directions` is the judge.

    judged = judge_groups(judge, samples, ("plain", "framed"))              # groups, of any judge of images
    group_shares(judged), group_distances(judged, {"plain": 0.5, "framed": 0.5})
    control = judge_control(denoiser, images, path.sigmas, judge, groups)   # can D be judged at all, and where?
    shares_along(path, judge, groups, control=control).landmarks
    amplification({"w = 1": judged, "w = 4": stronger}, of_data, classes=classes, data_classes=data_classes)
    steer_curve(denoiser, direction, scores, target="framed", seeds=seeds).balance("plain", "framed")  # and its cost
"""

from scorescope.analysis.inside.ablation import UnitEffects, unit_effects
from scorescope.analysis.inside.amplification import amplification
from scorescope.analysis.inside.channel_maps import UnitMaps, UnitMeans, colour_regions, unit_maps, unit_means
from scorescope.analysis.inside.feature_attribution import FeatureAttribution, feature_attribution
from scorescope.analysis.inside.features import TopImages, feature_means, feature_reads, matched_cosines, top_images
from scorescope.analysis.inside.group_shares import group_distances, group_shares
from scorescope.analysis.inside.groups import Calibration, GroupJudge, JudgedGroups, fit_calibration, judge_groups
from scorescope.analysis.inside.groups_along import GroupControl, GroupsAlong, judge_control, shares_along
from scorescope.analysis.inside.overlap import unit_overlap
from scorescope.analysis.inside.sparse_metrics import SHEET_QUANTITIES, feature_density, sparse_sheet

__all__ = [
    "SHEET_QUANTITIES",
    "Calibration",
    "FeatureAttribution",
    "GroupControl",
    "GroupJudge",
    "GroupsAlong",
    "JudgedGroups",
    "TopImages",
    "UnitEffects",
    "UnitMaps",
    "UnitMeans",
    "amplification",
    "colour_regions",
    "feature_attribution",
    "feature_density",
    "feature_means",
    "feature_reads",
    "fit_calibration",
    "group_distances",
    "group_shares",
    "judge_control",
    "judge_groups",
    "matched_cosines",
    "shares_along",
    "sparse_sheet",
    "top_images",
    "unit_effects",
    "unit_maps",
    "unit_means",
    "unit_overlap",
]
