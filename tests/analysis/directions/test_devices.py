"""Inputs on an accelerator, played by a tensor that numpy cannot read and that does not mix with others."""

import numpy as np
import pytest
import torch

from scorescope.analysis.directions import patching
from scorescope.analysis.directions.carrying import carry_direction, judge_transport
from scorescope.analysis.directions.comparison import compare_directions
from scorescope.analysis.directions.emergence import trace_direction
from scorescope.analysis.directions.finding import as_direction, find_direction
from scorescope.analysis.directions.probing import probe_scan
from scorescope.analysis.directions.stability import direction_stability
from scorescope.analysis.information.classify import paired_classify
from scorescope.probes.activations.activations import Activations
from scorescope.probes.bank.points import Bank
from scorescope.probes.models.noise import edm_sigmas


class Elsewhere(torch.Tensor):
    """A tensor as if on another device: `cpu()` and `to(...)` bring it back."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func in (torch.Tensor.cpu, torch.Tensor.to):
            moved = super().__torch_function__(func, types, args, kwargs or {})
            return moved if any(isinstance(arg, Elsewhere) for arg in args[1:]) else moved.as_subclass(torch.Tensor)
        if func in (torch.Tensor.numpy, torch.Tensor.__array__):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        flat = [part for arg in args for part in (arg if isinstance(arg, (list, tuple)) else [arg])]
        if any(isinstance(part, torch.Tensor) and not isinstance(part, Elsewhere) and part.ndim for part in flat):
            raise RuntimeError("Expected all tensors to be on the same device")
        return super().__torch_function__(func, types, args, kwargs or {})


def there(tensor):
    return tensor.as_subclass(Elsewhere)


def rows(n=80):
    y = torch.arange(n) % 2
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(0)) + y[:, None], y


@pytest.mark.parametrize("method", ["difference", "lda", "logistic"])
def test_directions_of_values_and_labels_elsewhere_are_those_of_the_same_here(method):
    values, y = rows()
    options = {"method": method, "site": "condition.0", "attribute": "y"}
    found, here = find_direction(there(values), there(y), **options), find_direction(values, y, **options)
    assert torch.equal(found.vector, here.vector) and found.scale == here.scale
    given = as_direction(there(here.vector), values, site="h", attribute="y", method="file", labels=there(y))
    assert torch.equal(given.vector, here.vector) and type(given.vector) is torch.Tensor
    with pytest.raises(TypeError, match="cuda"):
        np.asarray(there(y))


def test_tables_of_tensors_elsewhere_are_those_of_the_same_here():
    values, y = rows()
    direction = find_direction(values, y, site="h", attribute="y", sigma=2.0)
    gone = as_direction(direction.vector, values, site="h", attribute="y", method="difference", sigma=2.0)
    object.__setattr__(gone, "vector", there(gone.vector))

    def effect(found):
        return {"y": there(torch.arange(20.0)), "z": there(torch.ones(20))}

    compared = compare_directions([gone], there(values), there(y), effect=effect)
    assert compared.equals(compare_directions([gone], values, y, effect=effect))
    small = {"resamples": 5, "halves": 5}
    stable = direction_stability(there(values), there(y), **small)
    assert stable.equals(direction_stability(values, y, **small))
    levels = Activations({"h": torch.stack([values, values])}, (2.0, 1.0), torch.arange(80), {"h": "mean"})
    carried = {
        "refit": carry_direction(gone, levels, how="refit", labels=there(y)),
        "least_squares": carry_direction(gone, levels, how="least_squares"),
        "given": carry_direction(gone, levels, how="given", carry=lambda d, sigma: d.vector),
    }
    judged = judge_transport(carried, effect=lambda found: there(torch.arange(1.0, 20.0)))
    assert judged["share"].eq(1).all()


def test_labels_elsewhere_classify_and_probe():
    values, y = rows()

    def denoiser(x, sigma, condition):
        return torch.zeros_like(x) + condition[:, None]

    bank, classes = Bank(values, [2.0, 1.0]), {"a": torch.zeros(80), "b": torch.ones(80)}
    assert (
        paired_classify(denoiser, bank, classes, there(y), error=None).predictions["label"].tolist() == ["a", "b"] * 40
    )
    levels = Activations({"h": values[None]}, (2.0,), torch.arange(80), {"h": "mean"})
    probed = probe_scan(levels, {"y": there(y)}, groups=there(torch.arange(80)), resamples=20).table
    assert probed.equals(probe_scan(levels, {"y": y}, groups=torch.arange(80), resamples=20).table)


def test_conditions_go_to_the_device_of_the_bank(monkeypatch):
    asked = []
    monkeypatch.setattr(
        patching, "to_device", lambda condition, device: asked.append((len(condition), device)) or condition
    )
    x0, labels = torch.randn(20, 3), torch.arange(20) % 2

    class Denoiser(torch.nn.Module):
        def forward(self, x, sigma, condition):
            return x + condition[:, None]

    options = {"sites": ["denoised"], "metric": lambda x: x[:, 0], "progress": False, "resamples": 10}
    patching.patch_once(Denoiser(), Bank(x0, [1.0]), clean=labels, corrupted=1 - labels, **options)
    assert asked == [(80, x0.device)]  # clean, corrupted and the two patched arms


def test_scores_see_estimates_as_they_see_samples():
    """Taps come back on the CPU in float32; a judge is of one device and one dtype."""
    weight = torch.ones(3, dtype=torch.float64)

    def denoiser(x, sigma, condition=None):
        return torch.tanh(x / (1 + sigma[:, None]))

    def scores(images):
        return {"y": images @ weight}  # raises for another dtype

    options = {"sigmas": edm_sigmas(4), "shape": (3,), "dtype": torch.float64, "resamples": 20}
    found = trace_direction(denoiser, attribute="y", seeds=range(40), scores=scores, **options)
    assert set(found.curves["curve"]) == {"agreement"}
