"""Groups that a judge sees in images: their shares, along sampling and by guidance rule, against targets and data.

judged = judge_groups(judge, samples, ("plain", "framed"))              # groups, of any judge of images
group_shares(judged), group_distances(judged, {"plain": 0.5, "framed": 0.5})
control = judge_control(denoiser, images, path.sigmas, judge, groups)   # can D be judged at all, and where?
shares_along(path, judge, groups, control=control).landmarks
amplification({"w = 1": judged, "w = 4": stronger}, of_data, classes=classes, data_classes=data_classes)
steer_curve(denoiser, direction, scores, target="framed", seeds=seeds).balance("plain", "framed")  # and its cost
"""

from scorescope.analysis.groups.along import GroupControl, GroupsAlong, judge_control, shares_along
from scorescope.analysis.groups.amplification import amplification
from scorescope.analysis.groups.judging import Calibration, GroupJudge, JudgedGroups, fit_calibration, judge_groups
from scorescope.analysis.groups.shares import group_distances, group_shares

__all__ = [
    "Calibration",
    "GroupControl",
    "GroupJudge",
    "GroupsAlong",
    "JudgedGroups",
    "amplification",
    "fit_calibration",
    "group_distances",
    "group_shares",
    "judge_control",
    "judge_groups",
    "shares_along",
]
