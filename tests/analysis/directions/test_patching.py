"""Patching: the recovery is the planted unit's; closed forms for partial patches; what is dropped is counted."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from tests.planted import Planted, scores
from torch import Tensor, nn

from scorescope.analysis import patch_trace
from scorescope.analysis.directions import patch_once, windows
from scorescope.data.errors import InputError
from scorescope.data.unet import EDMDenoiser, UNetConfig
from scorescope.probes import CFG
from scorescope.probes.bank.points import Bank
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Euler, Heun, Sampling
from scorescope.probes.sites import Direction, noisy_condition
from scorescope.probes.sparse import SparseAutoencoder, feature_direction

SIGMAS = edm_sigmas(8)
FAST = Sampling(solver=Euler(), sigmas=SIGMAS)
CLEAN = torch.ones(20, dtype=torch.int64)
SITES = ["gate", "decoy", "units[0]", "units[1]", "units[2]", "units"]


def attribute(images: Tensor) -> Tensor:
    return scores(images)["attribute"]


def trace(**more):
    given = {
        "clean": CLEAN, "corrupted": 1 - CLEAN, "sites": SITES, "metric": attribute, "seeds": range(20),
        "sampling": FAST, "resamples": 200, "progress": False,
    }  # fmt: skip
    return patch_trace(Planted(), **(given | more))


@pytest.mark.parametrize("solver", [Euler(), Heun(), Heun(churn=30.0)], ids=["euler", "heun", "churned"])
def test_the_planted_unit_carries_the_recovery(solver):
    found = trace(sampling=Sampling(solver=solver, sigmas=SIGMAS, rule=CFG(2.0)), branch="cond").recovery
    table = found.set_index(["form", "site"])["mean"]
    for form in ("sufficiency", "necessity"):
        single = table[form][["gate", "decoy"]]
        assert single["gate"] / single.sum() >= 0.9
        units = table[form][["units[0]", "units[1]", "units[2]"]]
        assert units["units[0]"] / units.abs().sum() >= 0.9
        # a site with everything recovers everything: the patched run is the other run
        assert table[form]["units"] == pytest.approx(1.0, abs=1e-5)
        assert abs(table[form]["decoy"]) < 1e-6
    assert (found["n"] == 20).all() and (found["dropped"] == 0).all()
    assert (found["low"] <= found["mean"]).all() and (found["mean"] <= found["high"]).all()


def test_windows_of_noise_levels_add_up():
    parts = windows(SIGMAS, 3)
    found = trace(sites=["gate"], intervals=parts).recovery.query("form == 'sufficiency'")
    assert found["mean"].sum() == pytest.approx(1.0, abs=1e-4)  # the sampler of a linear denoiser is linear
    expected = [_share(low, high) for low, high in parts]
    np.testing.assert_allclose(found["ratio_of_means"], np.array(expected) / _share(0.0, math.inf), atol=1e-4)


def _share(low: float, high: float) -> float:
    shift = 0.0
    for sigma, after in zip(SIGMAS, SIGMAS[1:], strict=False):  # noqa: RUF007
        gain = 0.04 / (0.04 + sigma**2)
        denoised = gain * shift + (1 - gain) * (low < sigma <= high)
        shift += (after - sigma) / sigma * (shift - denoised)
    return shift


def test_it_does_not_depend_on_batches():
    whole, small = (
        trace(sampling=Sampling(solver=Heun(churn=30.0), sigmas=SIGMAS, batch=batch)).recovery for batch in (1000, 5)
    )
    np.testing.assert_allclose(
        whole.select_dtypes("number"), small.select_dtypes("number"), rtol=1e-3, atol=1e-4, equal_nan=True
    )


def test_seeds_without_an_effect_are_dropped_and_counted():
    corrupted = 1 - CLEAN
    corrupted[:5] = 1  # the same as clean
    found = trace(corrupted=corrupted, sites=["gate"])
    assert found.recovery["n"].tolist() == [15, 15] and found.recovery["dropped"].tolist() == [5, 5]
    assert found.recovery["mean"].tolist() == pytest.approx([1.0, 1.0], abs=1e-4)
    samples = found.samples
    assert samples.groupby("seed")["kept"].first().tolist() == [False] * 5 + [True] * 15
    assert samples["recovery"].isna().sum() == 10
    nothing = trace(corrupted=CLEAN, sites=["gate"]).recovery
    assert (nothing["n"] == 0).all() and nothing["mean"].isna().all()
    assert trace(sites=["gate"], floor=1e6).recovery["dropped"].tolist() == [20, 20]


def test_one_call_form():
    x0 = torch.randn(24, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    bank = Bank(x0, sigmas=[5.0, 0.5], draws=2)
    labels = torch.arange(24) % 2
    given = {"clean": labels, "corrupted": 1 - labels, "metric": attribute, "progress": False}
    found = patch_once(Planted(), bank, sites=SITES, **given)
    table = found.recovery.set_index(["form", "site", "sigma_high"])["mean"]
    for sigma in (5.0, 0.5):
        for form in ("sufficiency", "necessity"):
            assert table[form, "gate", sigma] == pytest.approx(1.0, abs=1e-4)
            assert table[form, "decoy", sigma] == 0
    small = patch_once(Planted(), bank, sites=SITES, **given, batch=1)
    pd.testing.assert_frame_equal(found.recovery, small.recovery, rtol=1e-4, atol=1e-5)
    effect = found.samples.query("site == 'gate' and form == 'sufficiency'")
    share = effect["sigma_high"].map(lambda sigma: 2 * sigma**2 / (0.04 + sigma**2))
    np.testing.assert_allclose((effect["clean"] - effect["corrupted"]).abs(), share, rtol=1e-4)


def test_tokens_swap_and_noise():
    torch.manual_seed(0)
    network = EDMDenoiser(UNetConfig(channels=(8, 16), embedding=16, attributes=(3, 2)), 0.5).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    clean = torch.tensor([[0, 0]]).repeat(20, 1)
    swapped = torch.tensor([[2, 0]]).repeat(20, 1)
    sites = ["condition.0", "condition.1", "condition", "network.middle2", "denoised"]
    given = {
        "clean": clean, "sites": sites, "metric": lambda x: x.flatten(1)[:, :8].sum(1), "seeds": range(20),
        "sampling": Sampling(solver=Euler(), sigmas=edm_sigmas(3)), "progress": False, "floor": 0.0,
    }  # fmt: skip
    table = patch_trace(network, corrupted=swapped, **given).recovery.set_index(["form", "site"])["mean"]
    for form in ("sufficiency", "necessity"):
        assert table[form, "condition.0"] == pytest.approx(1.0, abs=1e-3)  # only this token differs
        assert table[form, "condition.1"] == pytest.approx(0.0, abs=1e-3)
        assert table[form, "condition"] == pytest.approx(1.0, abs=1e-3)
        assert table[form, "denoised"] == pytest.approx(1.0, abs=1e-3)
    noisy = noisy_condition(network, clean, scale=2.0, seeds=range(20), tokens=[1])
    assert torch.equal(noisy[:, 0], network.embed(clean)[:, 0]) and not torch.equal(noisy[0, 1], noisy[1, 1])
    assert torch.equal(noisy[3:5], noisy_condition(network, clean[:2], scale=2.0, seeds=[3, 4], tokens=[1]))
    table = patch_trace(network, corrupted=noisy, **given).recovery.set_index(["form", "site"])["ratio_of_means"]
    assert table["sufficiency", "condition.1"] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"seeds": range(19), "clean": CLEAN[:19], "corrupted": CLEAN[:19]}, "at least 20"),
        ({"sites": []}, "at least one of each"),
        ({"sites": ["gates"]}, "such as gate"),
        ({"sites": ["units[a]"]}, "some of its channels"),
        ({"sites": ["units[3]"]}, "channels of the site"),
        ({"intervals": [(90.0, 95.0)]}, "a noise level in it"),
        ({"clean": None}, "two conditions"),
        ({"corrupted": CLEAN[:, None]}, "one kind"),
        ({"metric": lambda x: x}, "finite numbers"),
        ({"branch": "uncond"}, "'uncond', never called"),
    ],
)
def test_bad_input(more, words):
    with pytest.raises(InputError, match=words):
        trace(**more)


def test_a_direction_patches_what_lies_along_it():
    """Along its own axis a direction is a channel; turned by 60 degrees it carries cos^2 of what the gate does."""
    turned = torch.tensor([0.5, 3**0.5 / 2, 0.0])
    autoencoder = SparseAutoencoder(3, 3, 3)
    autoencoder.encoder.data, autoencoder.decoder.data = torch.eye(3), torch.eye(3)
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    gate, decoy = (feature_direction(autoencoder, k, site="units", values=rows) for k in (0, 1))
    slanted = Direction(turned, "units", "slanted", "given", scale=7.0)

    class Gates(Planted):
        """Without a label at the decoy, so that only the gate differs between the conditions."""

        def mean(self, x, condition):
            hook = self.decoy.register_forward_hook(lambda _m, _i, out: 0 * out)
            try:
                return super().mean(x, condition)
            finally:
                hook.remove()

    given = {
        "clean": CLEAN, "corrupted": 1 - CLEAN, "metric": attribute, "sampling": FAST, "resamples": 50,
        "progress": False, "seeds": range(20), "sites": ["units[0]", gate, decoy, slanted],
    }  # fmt: skip
    table = patch_trace(Gates(), **given).recovery.set_index(["form", "site"])["mean"]
    for form in ("sufficiency", "necessity"):
        found = table[form]
        assert found["units along feature 0"] == pytest.approx(found["units[0]"], abs=1e-6)
        assert abs(found["units along feature 1"]) < 1e-6
        assert found["units along slanted"] == pytest.approx(0.25 * found["units[0]"], abs=1e-5)
    bank = Bank(torch.zeros(20, 1, 4, 4), [1.0])
    once = {name: value for name, value in given.items() if name not in ("seeds", "sampling")}
    single = patch_once(Gates(), bank, **once).recovery.set_index(["form", "site"])["mean"]["sufficiency"]
    assert single["units along slanted"] == pytest.approx(0.25 * single["units[0]"], abs=1e-5)
    with pytest.raises(InputError, match="each site once"):
        patch_trace(Gates(), **(given | {"sites": [gate, gate]}))
