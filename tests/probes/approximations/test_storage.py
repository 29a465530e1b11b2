"""Files of approximations that do not fit together are refused when they are read, not when they are used."""

import pytest
import torch

from scorescope.data.errors import InputError
from scorescope.probes.approximations import Gaussian, load_approximation, save_approximation


def test_numbers_of_several_types_are_refused(tmp_path):
    law = Gaussian(torch.zeros(2), torch.eye(2), torch.ones(2), 0.1)
    object.__setattr__(law, "mean", law.mean.double())
    save_approximation(tmp_path / "a.safetensors", law)
    with pytest.raises(InputError, match="numbers of types"):
        load_approximation(tmp_path / "a.safetensors")
