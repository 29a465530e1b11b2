"""What a condition says about an image, by the losses of the denoiser: in nats, as a classifier, as what noise hides.

    found = pairwise_information(denoiser, images, labels, levels=grid_levels(-9, 6, 31), entropy=math.log(10))
    found.expected                                         # mutual information with its interval, two estimators
    overlap(denoiser, images, first, second, joint).summary            # shared, unique, synergy
    digits = {str(digit): torch.tensor([digit]) for digit in range(10)}
    decided = paired_classify(denoiser, bank, digits, labels)          # labels: places in `digits`, one an image
    decided.summary                                        # accuracy, and evaluations spent
    lost = attribute_loss(denoiser, first_images, second_images, sigmas=sigmas)
    lost.half                                              # the noise level at which the attribute is lost
    pair_table(compare_arms(bank, arms))                   # paired losses of any denoisers or conditions
    optimal_weights(compare_arms(bank, [weak, strong]))    # the guidance weight of least one-step error, by noise level

Everything is compared at the same noisy points, those of a `probes.Bank`, with the same noise in every arm; arms and
`compare_arms` are in `probes.bank`.
"""

from scorescope.analysis.information.attributes import AttributeLoss, attribute_loss
from scorescope.analysis.information.class_decisions import fit_level_weights, likelihood_weights
from scorescope.analysis.information.classify import Classification, paired_classify
from scorescope.analysis.information.log_snr import LogSNRLevels, grid_levels, logistic_levels
from scorescope.analysis.information.loss_tables import loss_table, pair_table, win_rates
from scorescope.analysis.information.optimal_weights import optimal_weights
from scorescope.analysis.information.pairwise import PairwiseInformation, information_of_each, pairwise_information
from scorescope.analysis.information.partial_information import Overlap, overlap

__all__ = [
    "AttributeLoss",
    "Classification",
    "LogSNRLevels",
    "Overlap",
    "PairwiseInformation",
    "attribute_loss",
    "fit_level_weights",
    "grid_levels",
    "information_of_each",
    "likelihood_weights",
    "logistic_levels",
    "loss_table",
    "optimal_weights",
    "overlap",
    "pair_table",
    "paired_classify",
    "pairwise_information",
    "win_rates",
]
