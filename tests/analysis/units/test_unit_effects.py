"""Effects of units: what is planted changes as its closed form says, and what only looks like it changes nothing."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from tests.planted import SPREAD, PlantedMaps, squares

from scorescope.analysis.directions import windows
from scorescope.analysis.statistics.exchangeable import share_as_large
from scorescope.analysis.units import UnitMeans, unit_effects
from scorescope.analysis.units.ablation import UNIT_ARMS, UNIT_EFFECTS, _set_like, _sets, _verdicts
from scorescope.data.errors import InputError
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Euler, Sampling

SEEDS, IDLE = range(8), 60  # so many channels that few random sets are the chosen one
MASKS = squares(len(SEEDS), seed=3)
SIGMAS = [*edm_sigmas(6, sigma_min=0.05, sigma_max=20.0)]
HOW = Sampling(solver=Euler(), sigmas=SIGMAS, shape=(1, 8, 8), batch=64)
NETWORK = PlantedMaps(IDLE)
MEANS = UnitMeans("units", (1.0,), torch.ones(1, 3 + IDLE), torch.full((1, 3 + IDLE), 0.25), torch.ones(1, 3 + IDLE))


def total(images):
    return {"total": images.flatten(1).sum(1)}


def share(low=0.0, high=np.inf):
    """How far a sample follows a change by 1 of the mean between two noise levels, in Euler steps: linear."""
    moved = 0.0
    for sigma, after in pairwise(SIGMAS):
        gain = SPREAD**2 / (SPREAD**2 + sigma**2)
        moved += (after - sigma) / sigma * (1 - gain) * (moved - (low < sigma <= high))
    return moved


def found(units, **more):
    given = {"scores": total, "seeds": SEEDS, "means": MEANS, "condition": MASKS, "sampling": HOW, "progress": False}
    given["seed"] = 2  # of which no random set of the gate is the gate itself, and one of each decoy's is
    return unit_effects(NETWORK, "units", units, **{**given, **more})


def at(table, score, edit="zero", **more):
    rows = table[(table["score"] == score) & (table["edit"] == edit)]
    for name, value in more.items():
        rows = rows[rows[name] == value]
    (row,) = rows.to_dict("records")
    return row


def test_ablating_the_gate_takes_away_what_it_paints():
    """Of each sample the 9 pixels of its square, by the share that the steps let through; and no other pixel."""
    effects = found([0], edits=("zero", "mean"), region=MASKS)
    UNIT_EFFECTS.check(effects.verdicts)
    UNIT_ARMS.check(effects.arms)
    for edit, left in (("zero", 0.0), ("mean", 0.25)):
        row = at(effects.verdicts, "total", edit)
        assert row["value"] == pytest.approx(-9 * (1 - left) * share(), rel=1e-5)
        own = effects.arms.query("score == 'total' and edit == @edit and channels == '0'")
        assert row["verdict"] == "moves" and row["p_adjusted"] == len(own) / 20 == 1 / 20 and row["family"] == 6
        inside, outside = (at(effects.verdicts, f"pixels {side}", edit) for side in ("inside", "outside"))
        assert inside["value"] == pytest.approx((1 - left) * share(), rel=1e-5) and outside["value"] < 1e-6
        assert inside["verdict"] == "moves" and outside["verdict"] == "undecided"


def test_what_is_inserted_is_painted():
    """In the upper half, where the square is not, the constant 1."""
    region = torch.zeros(8, 8)
    region[:4] = 1
    effects = found([0], edits=("insert",), region=region)
    empty = (region * (1 - MASKS)).sum((1, 2)).mean()
    assert at(effects.verdicts, "total", "insert")["value"] == pytest.approx(float(empty) * share(), rel=1e-5)
    assert at(effects.verdicts, "pixels outside", "insert")["value"] < 1e-6


@pytest.mark.parametrize("decoy", [1, 2])
def test_a_decoy_moves_nothing(decoy):
    """It has the gate's very map, and nothing reads it; some of its random sets hold the gate."""
    effects = found([decoy], edits=("zero", "insert"), random=39, relevant=0.1)
    for edit in ("zero", "insert"):
        for score in ("total", "pixels"):
            row = at(effects.verdicts, score, edit)
            assert row["value"] == row["low"] == row["high"] == 0 and row["verdict"] == "still" and row["p"] == 1
            assert row["chance"] > 0.05
    arms = effects.arms.query("score == 'total' and edit == 'zero' and channels == '0'")
    assert len(arms) and np.allclose(arms["value"], -9 * share(), rtol=1e-5)


def test_effects_by_noise_level():
    """Each interval lets through what its own steps do; together they are the whole."""
    spans = windows(SIGMAS, 3)
    effects = found([0], edits=("zero",), intervals=spans)
    values = [at(effects.verdicts, "total", sigma_low=low) for low, _ in spans]
    for row, (low, high) in zip(values, spans, strict=True):
        assert row["value"] == pytest.approx(-9 * share(low, high), rel=1e-5)
    assert sum(row["value"] for row in values) == pytest.approx(-9 * share(), rel=1e-5)


def test_results_do_not_depend_on_batches():
    small = Sampling(solver=Euler(), sigmas=SIGMAS, shape=(1, 8, 8), batch=7)
    whole, parts = (found([0], edits=("insert",), region=MASKS, sampling=how) for how in (HOW, small))
    np.testing.assert_allclose(whole.arms["value"], parts.arms["value"], atol=1e-5)
    assert whole.arms["channels"].tolist() == parts.arms["channels"].tolist()


def test_without_means_units_are_set_to_zero():
    effects = found([0], means=None, width=3 + IDLE, edits=("zero",), scores=None)
    row = at(effects.verdicts, "pixels")
    assert row["value"] == pytest.approx(share() * 3 / 8, rel=1e-5)  # 9 of 64 pixels, root mean square


def test_random_sets_are_like_the_chosen():
    """As many, none twice, each of the 8 nearest in spread; a single one is of the 40 nearest."""
    rng, spread = np.random.default_rng(0), np.log(np.arange(1.0, 101))
    for _ in range(20):
        drawn = _set_like([90, 95], 100, spread, rng)
        assert len(set(drawn)) == 2 and min(drawn) > 80
        assert len(set(_set_like([0, 1], 9, None, rng))) == 2
    assert len({_set_like([50], 100, spread, rng)[0] for _ in range(2000)}) == 40


@pytest.mark.parametrize(("width", "count", "spread"), [(2, 1, False), (8, 4, False), (8, 4, True), (64, 1, True)])
def test_few_channels_do_not_make_a_chosen_set_stand_out(width, count, spread):
    """Effects of channels are draws of one law. Of others alone, 48 % of sets of 4 in 8 were at p <= 0.05."""
    rng, hits = np.random.default_rng(0), 0
    ones = torch.ones(1, width)
    means = UnitMeans("s", (1.0,), ones, ones, torch.rand(1, width, generator=torch.Generator().manual_seed(0)))
    for seed in range(400):
        effects, units = rng.standard_normal(width), sorted(rng.choice(width, count, replace=False).tolist())
        sets = _sets(units, width, 39, means if spread else None, seed)
        values = np.abs([effects[members].sum() for members in sets.values()])
        hits += share_as_large(values[:, None])[0] <= 0.05
    assert binomtest(hits, 400, 0.05, alternative="greater").pvalue > 0.001


def test_a_set_like_all_others_is_found_in_five_of_a_hundred():
    """600 tables of 6 tests where the chosen set is a random one: "moves" anywhere in at most 5 %, + 3.1 SE."""
    rng = np.random.default_rng(1)
    where = [{"site": "s", "units": "0", "edit": "zero", "sigma_low": 0.0, "sigma_high": float(k + 1), "log_snr": 0.0}
             for k in range(3)]  # fmt: skip
    wrong = 0
    for _ in range(600):
        own = rng.standard_t(3, size=(1, 3, 20, 2)) + rng.exponential(size=(1, 1, 20, 1))
        changes = own + 0.3 * rng.normal(size=(8, 3, 20, 2))
        wrong += (_verdicts(changes, where, ["a", "b"], 0.0)["verdict"] == "moves").any()
    assert binomtest(int(wrong), 600, 0.05, alternative="greater").pvalue > 0.001


def test_bad_effects_are_refused():
    def refused(words, units=(0,), **more):
        with pytest.raises(InputError, match=words):
            found(list(units), **more)

    refused("different channels of the site", units=[0, 0])
    refused("different channels of the site", units=[3 + IDLE])
    refused("at most half", units=range(40))
    refused("at least 19", random=8)
    refused("unit_means", means=None)
    refused("different ones of", edits=())
    refused("of 4 channels", width=4)
    refused("at least 8", seeds=range(4), condition=MASKS[:4])
    refused("^region: .*one a seed", region=MASKS[:3])
    refused("^region: ", region=MASKS[:, None])
    refused("^region: ", region=2.0 * MASKS)
    refused("^region: ", region=torch.full((8, 8), math.nan))
    refused("^region: .*half of no position", region=0.4 * MASKS[0])
    refused("^means: ", means=UnitMeans("units", (1.0,), *(torch.ones(1, 8) for _ in range(3))))
    refused("^means: ", means=UnitMeans("units", (1.0,), *(torch.ones(1, 90) for _ in range(3))), units=[80])
    refused("^width: ", means=None, width=90, units=[80], edits=("zero",))
    refused("the size of the pictures", region=torch.ones(4, 4))
    refused("some pixels inside and some outside", region=torch.ones(8, 8))
    refused("another name", scores=lambda images: {"pixels": images.flatten(1).sum(1)})
    refused("not negative", relevant=-1.0)
    refused("^scores: .*in return; expected a mapping", scores=lambda images: images.flatten(1).sum(1))
    refused(r"^scores: .*expected a mapping", scores=lambda images: {"a": images.flatten(1).sum(1).tolist()})


def test_means_are_of_noise_levels():
    assert MEANS.at(3.0, "everywhere").eq(0.25).all()
    for sigma in (0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match=r"^sigma: "):
            MEANS.at(sigma)
    with pytest.raises(InputError, match=r"^which: "):
        MEANS.at(1.0, "outside")
    for broken in (torch.ones(2, 3), torch.ones(1, 4), torch.full((1, 3), math.nan)):
        with pytest.raises(InputError, match=r"^spread: "):
            UnitMeans("units", (1.0,), torch.ones(1, 3), torch.ones(1, 3), broken)
