import numpy as np
import pytest
import torch

from scorescope.analysis.trajectories import effective_weights
from scorescope.data import InputError
from scorescope.probes.approximations import isotropic
from scorescope.probes.guidance import APG, CFG, CFGPP, AdaptiveGuidance, Autoguidance, Interval, Scheduled
from scorescope.probes.models.noise import edm_sigmas

GRID = edm_sigmas(12)
WEAK = isotropic(torch.zeros(3), 1.0)


@pytest.mark.parametrize(
    ("rule", "known"),
    [
        (CFG(3.0), lambda sigma, after: 3.0),
        (CFG(1.0), lambda sigma, after: 1.0),
        (CFGPP(0.6), lambda sigma, after: 0.6 * sigma / (sigma - after)),
        (Autoguidance(2.5, WEAK), lambda sigma, after: 2.5),
        (Interval(CFG(4.0), 0.2, 2.0), lambda sigma, after: 4.0 if 0.2 < sigma <= 2 else 1.0),
        (Interval(CFGPP(0.5), 1.0), lambda sigma, after: 0.5 * sigma / (sigma - after) if sigma > 1 else 1.0),
        (Scheduled(CFG(0.0), lambda sigma: 1 + sigma), lambda sigma, after: 1 + sigma),
        (APG(3.0, eta=1.0, norm=float("inf"), momentum=0.0), lambda sigma, after: 3.0),
    ],
)
def test_weights_are_those_of_the_rule(rule, known):
    table = effective_weights(rule, GRID)
    assert len(table) == 12
    expected = [known(*levels) for levels in zip(table["sigma"], table["sigma_next"], strict=True)]
    np.testing.assert_allclose(table["weight"], expected, rtol=1e-6)


def test_other_rules_are_refused():
    with pytest.raises(InputError, match="no CFG"):
        effective_weights(APG(3.0), GRID)
    with pytest.raises(InputError, match="with weights from 1 to 4"):
        effective_weights(AdaptiveGuidance(CFG(4.0)), GRID)
    with pytest.raises(InputError, match="sigma"):
        effective_weights(CFG(3.0), GRID[::-1])
