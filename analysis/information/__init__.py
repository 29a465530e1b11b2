"""information"""

from scorescope.analysis.information.attributes import AttributeLoss, attribute_loss
from scorescope.analysis.information.class_decisions import fit_level_weights, likelihood_weights
from scorescope.analysis.information.classify import Classification, paired_classify
from scorescope.analysis.information.log_snr import LogSNRLevels, grid_levels, logistic_levels
from scorescope.analysis.information.loss_tables import loss_table, pair_table, win_rates
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
    "overlap",
    "pair_table",
    "paired_classify",
    "pairwise_information",
    "win_rates",
]
