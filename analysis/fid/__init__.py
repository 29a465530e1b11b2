"""Where a Frechet distance comes from: which features, classes and image regions, and how far choosing lowers it.

    frechet_distance(fake, real).value                     # features (n, d), or moments
    companion_table(fake, real, logits=logits)             # FD beside what should stand next to it, with intervals
    plan = transport(fake, real)
    feature_contributions(plan)                            # one row a feature, summing to FD
    images = influence_table(plan, fake)                   # who raises FD: largest first
    class_table(plan, influence(plan, fake), top1_fake, top1_real, weight)
    maps = gradient_maps(activations, image_gradients(plan, fake))     # where in the image, closed form
    mask_summary(maps, masks, region="subject")
    match = match_histogram(top1_fake, top1_real)
    table = gaming_audit(FeaturePair(fake, second), FeaturePair(real, other), {"classes matched": match})
    verdict(table, "classes matched").text                 # how much went away by choosing, not improving

`fake` and `real` are arrays with one row an image: `extract(...).features` of `probes.features`, or its moments.
"""

from scorescope.analysis.fid.companions import companion_table, inception_score
from scorescope.analysis.fid.contributions import direction_spectrum, feature_contributions, visible_share
from scorescope.analysis.fid.extrapolation import fid_infinity
from scorescope.analysis.fid.frechet import frechet_distance
from scorescope.analysis.fid.frechet_error import frechet_interval
from scorescope.analysis.fid.gaming import FeaturePair, gaming_audit
from scorescope.analysis.fid.heatmaps import cell_cover, gradient_maps, influence_maps, mask_share, mask_summary
from scorescope.analysis.fid.influence_tables import class_table, group_table, influence_table, leave_one_out
from scorescope.analysis.fid.kernels import cmmd, kid, kid_subsets
from scorescope.analysis.fid.matching import match_histogram
from scorescope.analysis.fid.neighbours import neighbour_table
from scorescope.analysis.fid.optimal_transport import image_gradients, influence, transport
from scorescope.analysis.fid.split_floors import split_floor
from scorescope.analysis.fid.verdicts import verdict
from scorescope.analysis.fid.weights import optimise_weights

__all__ = [
    "FeaturePair",
    "cell_cover",
    "class_table",
    "cmmd",
    "companion_table",
    "direction_spectrum",
    "feature_contributions",
    "fid_infinity",
    "frechet_distance",
    "frechet_interval",
    "gaming_audit",
    "gradient_maps",
    "group_table",
    "image_gradients",
    "inception_score",
    "influence",
    "influence_maps",
    "influence_table",
    "kid",
    "kid_subsets",
    "leave_one_out",
    "mask_share",
    "mask_summary",
    "match_histogram",
    "neighbour_table",
    "optimise_weights",
    "split_floor",
    "transport",
    "verdict",
    "visible_share",
]
