"""The sheet against what is known: codecs of known gaps on a planted network, whose ablations have a closed form."""

import numpy as np
import pytest
import scipy
import torch
from tests.planted import SPREAD, Planted, patterns

from scorescope.analysis.inside import (
    feature_density,
    feature_means,
    feature_reads,
    matched_cosines,
    sparse_sheet,
    top_images,
)
from scorescope.analysis.inside.features import _auc
from scorescope.data.errors import InputError
from scorescope.probes.activations import Positions, collect
from scorescope.probes.bank import Bank
from scorescope.probes.sparse import Bands, SparseAutoencoder, codec_of

N, SIGMAS = 40, [10.0, 1.0, 0.1]


def images(n=N):
    """Of the planted law: labels in turn, and a share of the other pattern."""
    labels = torch.arange(n) % 2
    amounts = torch.stack([2.0 * labels - 1, torch.linspace(-0.8, 0.8, n)], dim=1)
    noise = SPREAD * torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    return torch.einsum("bk,kcyx->bcyx", amounts, patterns()) + noise, labels


def codec(kept=(0, 1, 2)):
    """Codes of the units that are kept, their signs apart: reconstructs those, and nothing of the others."""
    found = SparseAutoencoder(3, 6, 6)
    keep = torch.zeros(3, 3)
    keep[list(kept), list(kept)] = 1
    found.encoder.data, found.decoder.data = torch.cat([keep, -keep]), torch.cat([keep, -keep])
    return found.eval()


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    x0, labels = images()
    bank = Bank(x0, SIGMAS, draws=2, seed=1)
    stored = collect(Planted(), bank, ["units"], condition=labels, path=tmp_path_factory.mktemp("a"), batch=16)
    return stored, bank, labels


def at(sheet, quantity, level=0):
    row = sheet[(sheet["quantity"] == quantity) & (sheet["sigma"] == SIGMAS[level])]
    assert len(row) == 1
    return row.iloc[0]


def test_a_whole_codec_loses_nothing(case):
    stored, bank, labels = case
    sheet = sparse_sheet(codec(), stored, "units", denoiser=Planted(), bank=bank, condition=labels)
    for level in range(3):
        # float32 activations, summed in float64
        assert at(sheet, "fvu", level)["value"] < 1e-12 and at(sheet, "l0", level)["value"] == 3
        assert at(sheet, "explained_variance", level)["value"] == pytest.approx(1, abs=1e-12)
        assert abs(at(sheet, "rise_reconstruction", level)["value"]) < 1e-7
        assert at(sheet, "dead", level)["missing"].startswith("no interval")
    assert list(sheet["sigma"].unique()) == SIGMAS and at(sheet, "fvu")["rows"] == 2 * N


def test_what_a_poor_codec_leaves_out_is_known(case):
    """Two of three units are dropped: their variance is what is unexplained."""
    stored, bank, labels = case
    memory = collect(Planted(), bank, ["units"], condition=labels)
    sheet = sparse_sheet(codec([0]), stored, "units")
    density = feature_density(codec([0]), stored, "units")
    for level in range(3):
        values = memory.at("units", level).double()
        spread = values.var(0, unbiased=False)
        # not centred: the mean of what is dropped is lost as well
        lost = values[:, 1:].square().mean(0).sum()
        row = at(sheet, "fvu", level)
        assert row["value"] == pytest.approx(float(lost / spread.sum()), rel=1e-6)
        assert row["low"] < row["value"] < row["high"]
        assert at(sheet, "explained_variance", level)["value"] == pytest.approx(1 / 3, abs=1e-9)
        assert at(sheet, "l0", level)["value"] == 1
        assert at(sheet, "dead", level)["value"] == pytest.approx(4 / 6)
        part = density[density["sigma"] == SIGMAS[level]].set_index("feature")
        assert part["density"][[0, 3]].tolist() == [0.5, 0.5] and part["mean_code"][0] == pytest.approx(1)
        assert part["density"][[1, 2, 4, 5]].eq(0).all() and np.isnan(part["mean_code"][1])


def test_ablations_have_their_closed_form(case):
    """D = (1 - g) (u0 p0 + u2 p1) + g x: without its units it moves by (1 - g)^2 (u0^2 + u2^2) / 16."""
    stored, bank, labels = case
    memory = collect(Planted(), bank, ["units"], condition=labels)
    sheet = sparse_sheet(codec([0]), stored, "units", denoiser=Planted(), bank=bank, condition=labels)
    for level, sigma in enumerate(SIGMAS):
        left = sigma**2 / (SPREAD**2 + sigma**2)
        units = memory.at("units", level).double()
        zero = left**2 * (units[:, 0] ** 2 + units[:, 2] ** 2).mean() / 16
        centred = units - units.mean(0)
        mean = left**2 * (centred[:, 0] ** 2 + centred[:, 2] ** 2).mean() / 16
        kept = left**2 * (units[:, 2] ** 2).mean() / 16
        for name, exact in (("zero", zero), ("mean", mean), ("reconstruction", kept)):
            assert at(sheet, f"change_{name}", level)["value"] == pytest.approx(float(exact), rel=1e-3, abs=1e-9), name
        prediction = torch.cat(
            [Planted()(p.x, p.sigma, labels[p.rows]) - p.x0 for p in bank.points() if p.level == level]
        )
        row = at(sheet, "loss", level)
        assert row["value"] == pytest.approx(float(prediction.double().square().mean()), rel=1e-6)
        assert row["low"] < row["value"] < row["high"]
    share = at(sheet, "share_of_zero")
    assert share["value"] == pytest.approx(
        at(sheet, "rise_reconstruction")["value"] / at(sheet, "rise_zero")["value"], rel=1e-9
    )


def test_a_codec_of_nothing_is_zero_ablation(case):
    stored, bank, labels = case
    sheet = sparse_sheet(codec([]), stored, "units", denoiser=Planted(), bank=bank, condition=labels)
    row = at(sheet, "share_of_zero")
    assert row["value"] == pytest.approx(1) and row["low"] == pytest.approx(1) and row["high"] == pytest.approx(1)


def test_a_share_of_no_harm_is_missing(tmp_path):
    """What nothing hears of can be ablated without harm, and there is nothing to be a share of."""

    class Deaf(torch.nn.Module):
        shape = (1, 4, 4)

        def __init__(self):
            super().__init__()
            self.site = torch.nn.Identity()

        def forward(self, x, sigma, condition=None):
            return x / 2 + 0 * self.site(x)

    bank = Bank(images()[0], SIGMAS)
    stored = collect(Deaf(), bank, ["site"], path=tmp_path / "a")
    sheet = sparse_sheet(SparseAutoencoder(1, 2, 1), stored, "site", denoiser=Deaf(), bank=bank)
    row = at(sheet, "share_of_zero")
    assert np.isnan(row["value"]) and "not shown to be above 0" in row["missing"]
    assert at(sheet, "rise_zero")["value"] == 0


def test_every_level_has_the_codec_of_its_band(case):
    stored, _, _ = case
    sheet = sparse_sheet(Bands([0.5], [codec([0]), codec()]), stored, "units")
    assert at(sheet, "l0", 0)["value"] == at(sheet, "l0", 1)["value"] == 3 and at(sheet, "l0", 2)["value"] == 1


def test_intervals_of_fvu_cover(tmp_path):
    """95 % intervals over images hold the large set's value in most of 40 sets; 32 or fewer of 40 has chance 0.4 %."""
    x0, labels = images(1200)
    whole = collect(Planted(), Bank(x0, [1.0]), ["units"], condition=labels).at("units", 0).double()
    kept = whole[:, 1:].square().sum() / (whole - whole.mean(0)).square().sum()
    held = 0
    for number in range(40):
        rows = torch.from_numpy(np.random.default_rng(number).permutation(1200)[:60])
        stored = collect(
            Planted(),
            Bank(x0[rows], [1.0], seed=number),
            ["units"],
            condition=labels[rows],
            path=tmp_path / str(number),
        )
        row = sparse_sheet(codec([0]), stored, "units", resamples=300).iloc[0]
        held += row["low"] <= float(kept) <= row["high"]
    assert held > 32


def test_bad_sheets_are_refused(case, tmp_path):
    stored, bank, labels = case
    with pytest.raises(InputError, match="both, or neither"):
        sparse_sheet(codec(), stored, "units", denoiser=Planted())
    with pytest.raises(InputError, match="noise levels of the stored"):
        sparse_sheet(
            codec(), stored, "units", denoiser=Planted(), bank=Bank(bank.x0, [1.0, 0.5, 0.1]), condition=labels
        )
    with pytest.raises(InputError, match="one that was collected"):
        sparse_sheet(codec(), stored, "gate")
    with pytest.raises(InputError, match="another than that of the activations"):
        other = Planted()
        other.other = torch.nn.Parameter(torch.ones(1))
        sparse_sheet(codec(), stored, "units", denoiser=other, bank=bank, condition=labels)
    with pytest.raises(InputError, match=r"codec: found one that decodes to \(1,\)"):
        sparse_sheet(codec_of(Narrow()), stored, "units")
    with pytest.raises(InputError, match="batch: found 0"):
        sparse_sheet(codec(), stored, "units", batch=0)


class Narrow:
    """Decodes to one number, which would be spread over the channels."""

    def encode(self, rows):
        return rows

    def decode(self, codes):
        return codes[:, :1]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"features": [-1]}, "features: found"), ({"features": []}, "features: found"),
        ({"features": [99]}, "features: found"), ({"features": [True]}, "features: found"),
        ({"levels": [9]}, "level: found 9"), ({"levels": [-1]}, "level: found -1"), ({"levels": []}, "at least one"),
        ({"labels": {}}, "at least one"), ({"labels": {"label": torch.arange(N) % 3}}, "other values"),
    ],
)  # fmt: skip
def test_reads_of_what_is_not_there_are_refused(case, more, said):
    stored, _, labels = case
    with pytest.raises(InputError, match=said):
        feature_reads(codec(), stored, "units", **{"labels": {"label": labels}, **more})


@pytest.mark.parametrize(("more", "said"), [({"level": 9}, "level: found 9"), ({"count": 0}, "count: found 0")])
def test_images_at_no_level_and_none_are_refused(case, more, said):
    with pytest.raises(InputError, match=said):
        top_images(codec(), case[0], "units", 0, **{"level": 0, **more})


def test_reads_are_the_areas_of_their_codes(case):
    stored, _, labels = case
    table = feature_reads(codec(), stored, "units", {"label": labels}, levels=[0])
    assert len(table) == 6 and (table["family"] == 6).all() and table["with_it"].eq(N // 2).all()
    by = table.set_index("feature")
    assert by["value"][0] == 1 and by["value"][3] == 0 and np.isnan(by["low"][0])  # the gate itself, either way
    means = feature_means(codec(), stored, "units", 0).numpy()
    exact = scipy.stats.mannwhitneyu(means[labels == 1, 2], means[labels == 0, 2]).statistic / (N // 2) ** 2
    assert by["value"][2] == pytest.approx(exact) and by["low"][2] < by["value"][2] < by["high"][2]
    with pytest.raises(InputError, match="two or more of 0 and of 1"):
        feature_reads(codec(), stored, "units", {"label": torch.ones(N)})


def test_an_interval_of_the_area_covers():
    """Two normal laws 1 apart: the area is Phi(1 / sqrt 2); 95 % intervals of 500 columns miss it in 5 %, +- 3 SE."""
    generator = np.random.default_rng(0)
    high, low = generator.normal(1, 1, (40, 500)), generator.normal(0, 1, (60, 500))
    value, error = _auc(high, low)
    exact = scipy.special.ndtr(1 / np.sqrt(2))
    logit, spread = scipy.special.logit(value), error / (value * (1 - value))
    held = np.abs(logit - scipy.special.logit(exact)) <= 1.96 * spread
    assert 0.92 <= held.mean() <= 0.98 and value.mean() == pytest.approx(exact, abs=0.01)


def test_top_images_and_where_they_fire(tmp_path):
    """A site of maps: the images with the brightest spots come first, with the spots in their place."""

    class Maps(torch.nn.Module):
        shape = (1, 4, 4)

        def __init__(self):
            super().__init__()
            self.site = torch.nn.Identity()

        def forward(self, x, sigma, condition=None):
            return self.site(x.repeat(1, 2, 1, 1))[:, :1]

    x0 = torch.zeros(5, 1, 4, 4)
    for image in range(5):
        x0[image, 0, 1, 2] = 1.0 + image
    stored = collect(Maps(), Bank(x0, [1e-6]), {"site": "whole"}, path=tmp_path / "a")
    found = SparseAutoencoder(2, 4, 4)
    found.encoder.data = found.decoder.data = torch.tensor([[1.0, 0.0], [0, 1], [-1, 0], [0, -1]])
    top = top_images(found, stored, "site", 0, level=0, count=2)
    assert top.images.tolist() == [4, 3] and top.maps.shape == (2, 4, 4)
    assert top.maps[0, 1, 2] == pytest.approx(5, abs=1e-4) and top.means[0] == pytest.approx(5 / 16, abs=1e-4)
    drawn = collect(Maps(), Bank(x0, [1e-6]), {"site": Positions(3)}, path=tmp_path / "b")
    assert top_images(found, drawn, "site", 0, level=0).maps.shape == (5, 3)


def test_features_are_matched_one_to_one():
    rows = torch.eye(4)[:3]
    shuffled = torch.cat([2 * rows[[2, 0, 1]], torch.ones(1, 4)])
    torch.testing.assert_close(matched_cosines(rows, shuffled), torch.ones(3, dtype=torch.float64))
    half = matched_cosines(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert sorted(half.tolist()) == [0.0, 1.0]  # two cannot have the same one
    with pytest.raises(InputError, match="as many or more"):
        matched_cosines(shuffled, rows)
