"""Attributions against closed forms: linear scores, a planted gate with a decoy, captum itself, and ablations."""

import numpy as np
import pandas as pd
import pytest
import scipy
import torch
from captum.attr import IntegratedGradients
from tests.analysis.inside.test_sparse_metrics import SIGMAS, N, codec, images
from tests.planted import Planted, patterns
from torch import nn

from scorescope.analysis.inside import feature_attribution
from scorescope.analysis.inside.feature_attribution import rank_agreement
from scorescope.data.errors import InputError
from scorescope.probes.activations import collect
from scorescope.probes.bank import Bank
from scorescope.probes.models.denoiser import evaluate
from scorescope.probes.sites import intervened
from scorescope.probes.sparse import Bands, SparseAutoencoder, codec_of, scale_features


def shown(images):
    """How much of the attribute's pattern an image holds: linear."""
    return images.flatten(1) @ patterns()[0].flatten()


class Curved(nn.Module):
    """A map of 3 channels at `site`, of which D is a smooth function; `tokens` puts them out as tokens."""

    shape = (1, 4, 4)

    def __init__(self, tokens=False):
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.site, self.into, self.out = (
            tokens,
            nn.Identity(),
            nn.Conv2d(1, 3, 3, padding=1),
            nn.Conv2d(3, 1, 3),
        )

    def forward(self, x, sigma, condition=None):
        shift = 0 if condition is None else condition.to(x).reshape(-1, 1, 1, 1)
        maps = self.into(x / (1 + sigma.reshape(-1, 1, 1, 1))) + shift
        maps = self.site(maps.flatten(2).transpose(1, 2)) if self.tokens else self.site(maps)
        maps = maps.transpose(1, 2).reshape(-1, 3, 4, 4) if self.tokens else maps
        return x + nn.functional.pad(self.out(torch.tanh(3 * maps)), (1, 1, 1, 1))


def curved_score(images):
    return images.flatten(1).square().mean(1).log()


@pytest.fixture(scope="module")
def bank():
    return Bank(images()[0], SIGMAS, draws=2, seed=1)


@pytest.fixture(scope="module")
def curved():
    """Few features of many, so that the codec leaves an error, and not all are active."""
    return Bank(
        torch.randn(12, 1, 4, 4, generator=torch.Generator().manual_seed(5)), [1.0, 0.2], draws=2
    ), small_codec()


def small_codec():
    found = SparseAutoencoder(3, 24, 2, seed=3)
    found.scale.fill_(1.7)
    found.centre.data += 0.1
    return found.eval()


@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_of_a_linear_score_it_is_activation_times_gradient(bank, baseline):
    """D = (1 - g) (u0 p0 + u2 p1) + g x: the score's gradient in u0 is 1 - g, and in all else that features hold 0."""
    labels = images()[1]
    found = feature_attribution(codec(), Planted(), "units", shown, bank, condition=labels, baseline=baseline)
    units = collect(Planted(), bank, ["units"], condition=labels)
    for level, sigma in enumerate(SIGMAS):
        left = sigma**2 / (0.2**2 + sigma**2)
        codes = torch.cat([part.relu() for part in (units.at("units", level), -units.at("units", level))], dim=1)
        slope = left * torch.tensor([1.0, 0, 0, -1.0, 0, 0])
        away = codes - (codes.mean(0) if baseline == "mean" else 0)
        rows = found.features[found.features["sigma"] == sigma]
        exact = (slope * away).mean(0)
        # float32 sums of 16 pixels
        np.testing.assert_allclose(rows["value"], exact, atol=2e-7)
        np.testing.assert_allclose(rows["ablation"], exact, atol=1e-6)
        row = found.levels.iloc[level]
        assert row["gap"] < 1e-6 and row["n"] == N
        assert row["effect"] == pytest.approx(float(exact.sum()), abs=1e-6)
        assert row["rank"] != row["rank"] and "fewer than 16" in row["missing"]
    gate = found.features.query("feature == 0").iloc[0]
    assert gate["density"] == 0.5 and gate["low"] < gate["value"] < gate["high"]


def test_a_decoy_has_none(bank):
    """Units 1 hold the label as the gate does, and nothing reads them: no attribution, and no interval of one."""
    found = feature_attribution(codec(), Planted(), "units", shown, bank, condition=images()[1])
    decoy = found.features[found.features["feature"].isin([1, 4])]
    assert (decoy["density"] > 0.4).all() and (decoy["value"] == 0).all() and decoy["low"].isna().all()


@pytest.mark.parametrize("baseline", ["zero", "mean"])
@pytest.mark.parametrize("tokens", [False, True])
def test_it_is_captums_over_the_codes_themselves(curved, baseline, tokens):
    """The same integral, taken by captum along the codes, with the error of the reconstruction added."""
    bank, own = curved
    net, labels = Curved(tokens), torch.arange(12) % 3
    found = feature_attribution(
        own, net, "site", curved_score, bank, condition=labels, baseline=baseline, steps=20, batch=5, ablations=0
    )
    expected = torch.zeros(2, 24)
    for level in range(2):
        parts = []
        for draw in range(2):
            point = bank.point(torch.arange(12), level, draw)
            seen = []
            hook = net.site.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out.detach()))
            evaluate(net, point.x, point.sigma, labels, branch="cond")
            hook.remove()
            rows = seen[0] if tokens else seen[0].flatten(2).transpose(1, 2)  # (12, 16, 3)
            parts.append((point, rows, own.encode(rows).detach()))
        mean = torch.cat([codes for *_, codes in parts]).mean((0, 1)) if baseline == "mean" else torch.zeros(24)
        for point, rows, codes in parts:
            rest = (rows - own.decode(codes)).detach()

            def function(s, e, x, sigma, c):
                made = own.decode(s) + e
                put = made if tokens else made.transpose(1, 2).reshape(-1, 3, 4, 4)
                hook = net.site.register_forward_hook(lambda *_: put)
                try:
                    return curved_score(net(x, sigma, c))
                finally:
                    hook.remove()

            values = IntegratedGradients(function).attribute(
                codes,
                baselines=mean.expand_as(codes),
                n_steps=20,
                additional_forward_args=(rest, point.x, point.sigma, labels),
            )
            expected[level] += values.sum(1).mean(0).float() / 2
    got = torch.tensor(found.features["value"].to_numpy()).reshape(2, 24).float()
    # sums of float32 over 16 positions
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    assert (found.levels["gap"] < 5e-3).all() and (found.levels["ablated"] == 0).all()


def test_more_steps_leave_a_smaller_gap(curved):
    bank, own = curved
    gaps = [
        feature_attribution(own, Curved(), "site", curved_score, bank, steps=steps, ablations=0).levels["gap"].max()
        for steps in (1, 4, 16)
    ]
    assert gaps[0] > 10 * gaps[1] > 100 * gaps[2]


def test_an_ablation_is_that_of_scale_features(curved):
    bank, own = curved
    net = Curved()
    found = feature_attribution(own, net, "site", curved_score, bank, steps=1, ablations=4, seed=2)
    again = feature_attribution(own, net, "site", curved_score, bank, steps=1, ablations=4, seed=2, batch=5)
    pd.testing.assert_frame_equal(found.features, again.features, rtol=1e-4, atol=1e-6)
    for level, sigma in enumerate(bank.sigmas):
        rows = found.features[(found.features["sigma"] == sigma) & found.features["ablation"].notna()]
        assert len(rows) == 4 and (rows["density"] > 0).all()
        for feature, value in zip(rows["feature"], rows["ablation"], strict=True):
            off = intervened(net, [scale_features(own, "site", {feature: 0.0})])
            lost = []
            with torch.no_grad():
                for draw in range(2):
                    point = bank.point(torch.arange(12), level, draw)
                    lost.append(curved_score(net(point.x, point.sigma)) - curved_score(off(point.x, point.sigma, None)))
            assert value == pytest.approx(float(torch.stack(lost).mean()), rel=1e-4, abs=1e-6)


def test_ranks_are_of_the_features_that_were_ablated(curved):
    bank, own = curved
    found = feature_attribution(own, Curved(), "site", curved_score, bank)
    for _, row in found.levels.iterrows():
        rows = found.features[(found.features["sigma"] == row["sigma"]) & found.features["ablation"].notna()]
        assert len(rows) == row["ablated"] == row["active"]
        assert row["rank"] == pytest.approx(scipy.stats.spearmanr(rows["value"], rows["ablation"]).statistic)
        assert row["rank_low"] < row["rank"] < row["rank_high"] and not row["missing"]


def test_every_level_has_the_codec_of_its_band(curved):
    bank, own = curved
    bands = feature_attribution(Bands([0.5], [own, SparseAutoencoder(3, 24, 1)]), Curved(), "site", curved_score, bank)
    alone = feature_attribution(own, Curved(), "site", curved_score, bank)
    same = bands.features["value"].to_numpy() == alone.features["value"].to_numpy()
    assert not same[:24].all() and same[24:].all()


def test_codecs_that_pass_no_gradient_will_do(curved):
    """The gradient is taken in the activations: `codec_of` runs without autograd."""
    bank, own = curved
    plain = feature_attribution(own, Curved(), "site", curved_score, bank, ablations=0)
    other = feature_attribution(codec_of(own), Curved(), "site", curved_score, bank, ablations=0)
    pd.testing.assert_frame_equal(plain.features, other.features)


def test_rows_of_one_call_are_bounded(curved):
    bank, own = curved
    net, most = Curved(), []
    net.register_forward_pre_hook(lambda _, given: most.append(len(given[0])))
    feature_attribution(own, net, "site", curved_score, bank, batch=4, ablations=1)
    assert max(most) == 4


def test_bad_input_is_refused(curved):
    bank, own = curved
    for match, change in (
        ("score", {"score": lambda images: images.mean()}),
        ("score: .*in return; expected a torch tensor", {"score": lambda images: {"a": curved_score(images)}}),
        ("no gradient", {"score": lambda images: curved_score(images.detach())}),
        ("site", {"site": "nowhere"}),
        ("steps", {"steps": 0}),
        ("baseline", {"baseline": "half"}),
    ):
        given = {"score": curved_score, "site": "site"} | change
        with pytest.raises(InputError, match=match):
            feature_attribution(own, Curved(), bank=bank, **given)
    with torch.no_grad(), pytest.raises(InputError, match="gradients"):
        feature_attribution(own, Curved(), "site", curved_score, bank)


def test_the_interval_of_ranks_covers():
    """Samples of 32 of 3000 features with heavy tails, attributions that miss ablations by noise of several sizes."""
    random = np.random.default_rng(0)
    for noise in (0.3, 1.0, 5.0):
        ablation = random.standard_t(3, 3000)
        attribution = ablation + noise * random.standard_t(3, 3000)
        truth = scipy.stats.spearmanr(attribution, ablation).statistic
        inside = []
        for _ in range(200):
            drawn = random.choice(3000, 32, replace=False)
            _, low, high, missing = rank_agreement(attribution[drawn], ablation[drawn])
            assert not missing
            inside.append(low <= truth <= high)
        # 95 % with a binomial error of 1.5 %
        assert 0.91 < np.mean(inside) < 0.995, noise


def test_ranks_that_say_nothing_are_missing():
    assert "no interval" in rank_agreement(np.arange(16.0), np.arange(16.0) ** 3)[3]
    assert "same effect" in rank_agreement(np.arange(16.0), np.zeros(16))[3]
