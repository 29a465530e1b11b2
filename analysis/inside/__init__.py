"""Sparse features inside a denoiser: what they keep of a layer, read and carry, by noise level.

    sheet = sparse_sheet(autoencoder, held_out, "network.middle1", denoiser=denoiser, bank=bank, condition=labels)
    feature_density(autoencoder, held_out, "network.middle1")               # how often each is active
    feature_reads(autoencoder, held_out, "network.middle1", {"size": is_large}, features=[17])
    top_images(autoencoder, held_out, "network.middle1", 17, level=4)       # where it is strongest
    feature_attribution(autoencoder, denoiser, "network.middle1", score, bank).features   # what a score is made of
    direction = feature_direction(autoencoder, 17, site="network.middle1", values=rows)   # of `probes.sparse`
    steer_curve(denoiser, direction, scores, target="size", seeds=held_out_seeds).verdicts

A feature that reads an attribute need not move it: `steer_curve` of `analysis.directions` is the judge. Single channels
are in `analysis.units`, groups of images in `analysis.groups`.
"""

from scorescope.analysis.inside.feature_attribution import FeatureAttribution, feature_attribution
from scorescope.analysis.inside.features import TopImages, feature_means, feature_reads, matched_cosines, top_images
from scorescope.analysis.inside.sparse_metrics import SHEET_QUANTITIES, feature_density, sparse_sheet

__all__ = [
    "SHEET_QUANTITIES",
    "FeatureAttribution",
    "TopImages",
    "feature_attribution",
    "feature_density",
    "feature_means",
    "feature_reads",
    "matched_cosines",
    "sparse_sheet",
    "top_images",
]
