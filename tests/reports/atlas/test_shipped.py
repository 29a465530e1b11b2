import torch

from scorescope.probes.features.extractors import classifier_extractor
from scorescope.reports.atlas import features_of


def test_samples_out_of_range_are_cut_as_a_file_cuts_them():
    """Those of an early checkpoint, most of which were refused as of another range."""
    samples = 3 * torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    features = features_of(classifier_extractor("digits"))
    assert torch.equal(features(samples), features(samples.clamp(-1, 1)))
    shifted = features_of(classifier_extractor("digits"), value_range=(0.0, 2.0))
    assert torch.equal(shifted(samples + 1), features(samples))
