"""Overlap of units with regions: planted maps have a known IoU, and where nothing is planted little is found."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest
from tests.planted import SPREAD, PlantedMaps, squares

from scorescope.analysis.statistics.exchangeable import share_as_large, standardised
from scorescope.analysis.units import colour_regions, unit_maps, unit_means, unit_overlap
from scorescope.analysis.units.overlap import UNIT_OVERLAP
from scorescope.data.errors import InputError
from scorescope.probes.activations import Positions, collect
from scorescope.probes.bank import Bank

N, SIGMAS = 40, [10.0, 1.0]
MASKS = squares(N)


def stored_at(path, masks=MASKS, sigmas=SIGMAS, idle=5, **more):
    noise = SPREAD * torch.randn(len(masks), 1, 8, 8, generator=torch.Generator().manual_seed(1))
    bank = Bank(masks[:, None] + noise, sigmas, draws=more.pop("draws", 1), seed=more.pop("seed", 0))
    how = {"how": "whole", "batch": 16, "shard": 40_000, **more}
    return collect(PlantedMaps(idle), bank, ["units"], condition=masks, path=path, **how)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return stored_at(tmp_path_factory.mktemp("units"))


@pytest.fixture(scope="module")
def table(stored):
    return unit_overlap(stored, "units", {"square": MASKS}, progress=False)


def row(table, unit, sigma=SIGMAS[0]):
    (found,) = table[(table["unit"] == unit) & (table["sigma"] == sigma)].to_dict("records")
    return found


@pytest.mark.parametrize("sigma", SIGMAS)
def test_planted_units_have_their_overlap(table, sigma):
    """A map that is the mask has IoU 1; moved by a column, 6 of 12 pixels. At most 1 of 200 orders does as well."""
    for unit in (0, 1):
        found = row(table, unit, sigma)
        assert found["value"] == found["bound"] == found["share_of_bound"] == 1 and found["threshold"] == 1
        assert found["low"] == found["high"] == 1 and found["area"] == found["region_area"] == 9 / 64
        assert found["p"] == found["p_adjusted"] == 1 / 200 and found["chance"] < 0.5
    found = row(table, 2, sigma)
    assert found["value"] == pytest.approx(0.5) and found["bound"] == 1 and found["p_adjusted"] == 1 / 200


def test_the_table_says_what_it_is_of(table):
    UNIT_OVERLAP.check(table)
    assert len(table) == 2 * 8 and (table["family"] == 16).all() and (table["region"] == "square").all()
    assert (table["n"] + table["fitted"] == N).all() and (table["low"] <= table["value"]).all()
    assert (table["p"] <= table["p_adjusted"]).all() and (table["value"] <= table["bound"]).all()


def test_units_of_noise_overlap_by_chance(table):
    """At a noise level of 10, filters of x know nothing of a square: 2 % of positions fire, and IoU stays near that."""
    rows = table[(table["unit"] > 2) & (table["sigma"] == 10)]
    assert (rows["p_adjusted"] > 0.05).all() and (rows["value"] < 0.1).all()
    assert rows["area"].between(0.001, 0.03).all()  # 0.5 % of 1280 positions are 6, of a batch of images


def test_counts_by_hand(stored):
    """One unit of noise against numpy: threshold, areas, IoU and its bound, with images for thresholds given."""
    fit = list(range(0, N, 2))
    found = unit_overlap(stored, "units", {"square": MASKS}, units=[4], levels=[1], fit=fit, top=0.05)
    values = stored.at("units", 1)[:, :, 4].double().numpy()  # (image, position)
    inside = MASKS.flatten(1).numpy()[1::2] > 0
    threshold = np.sort(values[::2].ravel())[-round(0.05 * values[::2].size)]
    fires = values[1::2] >= threshold
    (one,) = found.to_dict("records")
    assert one["threshold"] == pytest.approx(threshold) and one["n"] == one["fitted"] == N // 2
    assert one["value"] == pytest.approx((fires & inside).sum() / (fires | inside).sum())
    assert one["area"] == pytest.approx(fires.mean()) and one["region_area"] == pytest.approx(9 / 64)
    assert one["bound"] == pytest.approx(fires.mean() / (9 / 64))
    assert one["p"] <= 0.05  # at this level the square is seen


def test_masks_are_pooled_or_maps_enlarged(stored):
    """Of masks twice as large, averaging gives the maps' size back; enlarged maps lose the corners of squares."""
    large = MASKS.repeat_interleave(2, 1).repeat_interleave(2, 2)
    pooled = unit_overlap(stored, "units", {"square": large}, units=[0, 2], levels=[0], resolution="map")
    assert pooled["value"].tolist() == pytest.approx([1, 0.5])
    enlarged = unit_overlap(stored, "units", {"square": large}, units=[0], levels=[0])
    assert 0.4 < enlarged["value"].iloc[0] < 1 and enlarged["bound"].iloc[0] < 1


def test_a_silent_unit_fires_nowhere(tmp_path):
    """Without squares the first units put out 0 all over: no IoU above 0, no interval, no share of a bound."""
    found = stored_at(tmp_path / "a", torch.zeros(N, 8, 8), sigmas=[10.0])
    one = row(unit_overlap(found, "units", {"square": MASKS}, units=[0, 4]), 0)
    assert one["area"] == one["value"] == one["bound"] == 0 and one["p"] == one["p_adjusted"] == 1
    assert np.isnan([one["low"], one["high"], one["share_of_bound"]]).all()


def test_noise_draws_batches_and_drawn_thresholds(tmp_path, monkeypatch):
    """Draws of an image are one image; shards do not show; thresholds of drawn positions are near those of all."""
    twice = stored_at(tmp_path / "a", draws=2)
    masks = {"square": MASKS}
    table = unit_overlap(twice, "units", masks)
    other = stored_at(tmp_path / "b", draws=2, batch=40, shard="1 MB")
    again = unit_overlap(other, "units", masks)
    np.testing.assert_allclose(table["value"], again["value"], atol=2e-3)  # rounding moves values across a threshold
    assert row(table, 0)["value"] == 1 and row(table, 0)["n"] == N // 2
    monkeypatch.setattr("scorescope.analysis.units.overlap.POSITIONS", 1000)
    drawn = unit_overlap(twice, "units", masks, top=0.05)
    whole = unit_overlap(stored_at(tmp_path / "c", draws=2, seed=0), "units", masks, top=0.05)
    np.testing.assert_allclose(drawn["area"][3:8], 0.05, atol=0.03)  # of 1000 positions, 0.05 +- 0.007
    assert row(whole, 0)["value"] == row(drawn, 0)["value"] == 1


def test_drawn_thresholds_do_not_depend_on_the_size_of_shards(tmp_path, monkeypatch):
    """Positions are drawn by image: 10 of 64 of each; shards of 4 and of 40 images, levels asked together and alone."""
    small, large = (stored_at(tmp_path / name, shard=name, batch=4) for name in ("8 kB", "1 MB"))
    assert len(small.starts()) > len(large.starts())
    monkeypatch.setattr("scorescope.analysis.units.overlap.POSITIONS", 10 * N // 2)
    found, other = (unit_overlap(each, "units", {"square": MASKS}, top=0.05) for each in (small, large))
    pd.testing.assert_frame_equal(found, other)
    alone = unit_overlap(small, "units", {"square": MASKS}, top=0.05, levels=[1])
    assert alone["threshold"].tolist() == found.loc[found["sigma"] == SIGMAS[1], "threshold"].tolist()
    again = unit_overlap(small, "units", {"square": MASKS}, top=0.05, fit=list(range(0, N, 2)), seed=1)
    fixed = unit_overlap(small, "units", {"square": MASKS}, top=0.05, fit=list(range(0, N, 2)), seed=2)
    assert (again["threshold"] != fixed["threshold"]).any()  # the seed draws the positions


def test_random_activations_are_found_in_five_of_a_hundred(tmp_path):
    """Any of 7 units of noise overlaps in at most 5 % of 100 sets: more than 11 of 100 has chance 0.4 %."""
    found = 0
    for number in range(100):
        masks = squares(24, seed=number)
        activations = stored_at(tmp_path / str(number), masks, sigmas=[1000.0], idle=7, seed=number)
        table = unit_overlap(
            activations, "units", {"square": masks}, units=range(3, 10), top=0.05, permutations=39, seed=number
        )
        found += (table["p_adjusted"] <= 0.05).any()
    assert binomtest(int(found), 100, 0.05, alternative="greater").pvalue > 0.004


def test_p_values_of_exchangeable_draws_are_exact():
    """Skewed, dependent, of unequal spread: a family of 6 errs in 5 % of 4000, +- 3 standard errors; one test too."""
    rng = np.random.default_rng(0)
    common = rng.exponential(size=(4000, 20, 1))
    values = (rng.exponential(size=(4000, 20, 6)) + common) * 10.0 ** np.arange(6)
    single, family = [], []
    for draws in values:
        scaled = standardised(draws)
        single.append(share_as_large(scaled)[0] <= 0.05)
        family.append((share_as_large(scaled, scaled.max(1)) <= 0.05).any())
    assert np.mean(single) == pytest.approx(0.05, abs=0.0104) and np.mean(family) == pytest.approx(0.05, abs=0.0104)
    assert (standardised(np.full((20, 2), 0.1)) == 0).all() and share_as_large(np.ones((20, 1))) == 1


def test_means_of_a_region(stored):
    means = unit_means(stored, "units", MASKS)
    assert means.sigmas == tuple(SIGMAS) and means.inside.shape == (2, 8)
    torch.testing.assert_close(means.inside[:, :2], torch.ones(2, 2))
    torch.testing.assert_close(means.everywhere[:, :3], torch.full((2, 3), 9 / 64))
    torch.testing.assert_close(means.spread[:, 0], torch.full((2,), (9 / 64 * 55 / 64) ** 0.5))
    here = (MASKS > 0).flatten(1)
    torch.testing.assert_close(means.inside[1, 5], stored.at("units", 1)[:, :, 5][here].mean(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(means.at(100.0), means.inside[0])
    torch.testing.assert_close(means.at(10**0.5, "everywhere"), means.everywhere.mean(0))
    with pytest.raises(InputError, match="half of no position"):
        unit_means(stored, "units", 0.4 * MASKS)


def test_maps_of_the_strongest_images(stored):
    shown = unit_maps(stored, "units", [4, 0], level=1, count=3)
    values = stored.at("units", 1)[:, :, 4]
    best = values.amax(1).topk(3)
    assert shown.images[0].tolist() == best.indices.tolist() and shown.units == [4, 0]
    torch.testing.assert_close(shown.maps[0].flatten(1), values[best.indices])
    torch.testing.assert_close(shown.maps[1], MASKS[shown.images[1]])
    some = unit_maps(stored, "units", [4], level=1, images=[3, 5])
    assert sorted(some.images[0].tolist()) == [3, 5]


def test_regions_of_a_colour():
    pictures = -torch.ones(2, 3, 8, 8)
    pictures[0, :, 2:5, 3:6] = torch.tensor([1.0, -1, -1])[:, None, None]
    pictures[0, :, 7, 7] = 1  # a smaller one, of another colour
    expected = torch.zeros(2, 8, 8, dtype=torch.bool)
    expected[0, 2:5, 3:6] = True
    assert torch.equal(colour_regions(pictures), expected)
    assert torch.equal(colour_regions(pictures, colour=[1, -1, -1]), expected)
    assert not colour_regions(pictures, colour=[1, 1, 1]).any()  # of one pixel
    with pytest.raises(InputError, match="a number a channel"):
        colour_regions(pictures, colour=[1.0])


def test_bad_overlaps_are_refused(stored, tmp_path):
    def refused(words, masks=None, of=stored, **more):
        with pytest.raises(InputError, match=words):
            unit_overlap(of, "units", {"square": MASKS} if masks is None else masks, **more)

    refused("at least one region", {})
    refused("masks of one size", {"a": MASKS, "b": MASKS[:, :4]})
    refused("a mask an image", {"a": MASKS[:3]})
    refused("nowhere", {"a": 0 * MASKS})
    refused("different channels", units=[8])
    refused("different places", levels=[2])
    refused("two others", fit=list(range(N)))
    refused("from 0 to 39", fit=[0, 40])
    refused("at least 19", permutations=5)
    refused("mask or map", resolution="both")
    refused("of its 64 positions", grid=(4, 4))
    drawn = stored_at(tmp_path / "a", how=Positions(3))
    refused("sites kept whole", of=drawn)
    mean = stored_at(tmp_path / "b", how="mean")
    refused("of its 1 positions", of=mean)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda s: unit_overlap(s, "units", {"a": squares(12)}, fit=np.arange(12) < 6), "fit"),
        (lambda s: unit_overlap(s, "units", {"a": squares(12)}, units=[True, False]), "units"),
        (lambda s: unit_maps(s, "units", [0], level=0, images=[99]), "images, count"),
        (lambda s: unit_maps(s, "units", [0], level=0, count=0), "images, count"),
    ],
)
def test_marks_are_no_numbers(tmp_path, call, argument):
    bank = Bank(torch.rand(12, 1, 8, 8), [1.0], seed=0)
    stored = collect(PlantedMaps(2), bank, ["units"], how="whole", condition=squares(12), path=tmp_path / "a")
    with pytest.raises(InputError, match=f"^{argument}: "):
        call(stored)


def test_a_region_in_no_judged_image_is_refused(tmp_path):
    masks = squares(12)
    masks[4:] = 0
    stored = collect(PlantedMaps(2), Bank(torch.rand(12, 1, 8, 8), [1.0], seed=0), ["units"], how="whole",
                     condition=masks, path=tmp_path / "a")  # fmt: skip
    with pytest.raises(InputError, match="region of some image that is judged"):
        unit_overlap(stored, "units", {"a": masks}, fit=[0, 1, 2, 3])
