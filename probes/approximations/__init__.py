"""Laws with a known denoiser, to measure a network's against: Gaussians, mixtures, the training set itself.

    gaussian = fit_gaussian(images)
    gaussian(x, sigma), gaussian.score(x, sigma), gaussian.flow(x, 80.0, 5.0)

All are `Denoiser`s in the variance-exploding convention; statistics are in units of the data they were fitted to.
"""

from scorescope.probes.approximations.gaussian import Fit, Gaussian, isotropic
from scorescope.probes.approximations.gaussian_fit import fit_gaussian, fit_isotropic
from scorescope.probes.approximations.mixture import Mixture
from scorescope.probes.approximations.mixture_fit import fit_kmeans, fit_per_class
from scorescope.probes.approximations.sources import Batches, ImageFolder
from scorescope.probes.approximations.storage import Approximation, load_approximation, save_approximation
from scorescope.probes.approximations.training_set import TrainingSet

__all__ = [
    "Approximation",
    "Batches",
    "Fit",
    "Gaussian",
    "ImageFolder",
    "Mixture",
    "TrainingSet",
    "fit_gaussian",
    "fit_isotropic",
    "fit_kmeans",
    "fit_per_class",
    "isotropic",
    "load_approximation",
    "save_approximation",
]
