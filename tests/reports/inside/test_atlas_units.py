"""The oracles of the atlas's entries on units and groups, on subjects of which all is known."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from tests.artists import faults
from tests.planted_scene import SHARES, SPREAD, squares_subject, two_points_subject
from tests.planted_subject import OPEN, planted_subject

from scorescope.probes.models.noise import SampleNoise
from scorescope.reports.atlas import find_entry
from scorescope.reports.atlas.make import caption_of, drawn, latex_caption, numbers_of
from scorescope.reports.entries import Material
from scorescope.reports.inside.atlas_groups import ENTRIES as GROUPS
from scorescope.reports.inside.atlas_units import ENTRIES as UNITS
from scorescope.reports.inside.groups_study import FIRST_SEED, RULES, levels_of
from scorescope.reports.inside.units_study import _steps

SUBJECTS = {entry.name: make for entries, make in ((UNITS, squares_subject), (GROUPS, two_points_subject))
            for entry in entries}  # fmt: skip


@cache
def material(make):
    return Material(subject=make)


def numbers(name):
    return numbers_of(find_entry(name), material(SUBJECTS[name]))


def test_units_overlap():
    """The channel that paints the squares is the mean of where they are: where noise hides nothing, the square itself.

    Its copy overlaps as it does at every level, and of other images' squares both know little.
    """
    found = numbers("units-overlap")
    table = found.tables["overlap"].set_index(["unit", "sigma"])["value"]
    assert {0, 1} <= set(found.tables["overlap"]["unit"]) and table.loc[0].equals(table.loc[1])
    clear = found.tables["overlap"].query("unit < 2 and sigma < 0.5")
    assert (clear["share_of_bound"] > 0.99).all() and (clear["chance"] < 0.5 * clear["value"]).all()
    assert (clear["p_adjusted"] <= 0.05).all()


def test_units_effects():
    """Sets without the channel that makes the image change nothing; with it, late on, pixels of its region alone.

    Earlier the square comes back elsewhere, when what was taken away is looked for.
    """
    tables = numbers("units-effects").tables
    sets = tables["arms"]["channels"].str.split(", ")
    with_it = sets.map(lambda names: "0" in names)
    assert (tables["arms"].loc[~with_it, "value"] == 0).all() and 0 < with_it.sum() < len(sets)
    effects = tables["effects"].set_index(["score", "edit", "sigma_low"])["value"]
    late = effects.loc["pixels inside", "mean", 0.0]
    # 1 becomes 25 / 144, the share of the image that is a square; regions of samples are squares but for some pixels
    moved = 0.0
    for sigma, after in pairwise(_steps(squares_subject())):
        moved += (after - sigma) / sigma * sigma**2 / (SPREAD**2 + sigma**2) * (moved - (sigma < 0.3) * (1 - 25 / 144))
    assert late == pytest.approx(moved, rel=0.1) and effects.loc["pixels outside", "mean", 0.0] < 0.01 * late


def ends_of(seeds, weight, share):
    """Where the two-point law's guided flow takes each start, in Euler steps of its closed form."""
    levels = levels_of(two_points_subject())
    x = levels[0] * SampleNoise(seeds, (1,), torch.device("cpu"), torch.float32).draw().double().numpy()[:, 0]
    half = np.log(share / (1 - share)) / 2
    for sigma, after in pairwise(levels):
        bare, told = np.tanh(x / sigma**2), np.tanh(x / sigma**2 + half)
        denoised = bare + weight * (told - bare)
        x = denoised + after / sigma * (x - denoised)
    return x


def test_groups_amplification():
    """Shares of both classes under CFG are those of the flow from the same starts, and go further apart with w."""
    table = numbers("groups-amplification").tables["amplification"].query("group == '1'")
    rows = table.set_index(["setting", "class"])
    for label, share in enumerate(SHARES):
        seeds = range(FIRST_SEED + label, FIRST_SEED + 120, 2)
        for name, rule in list(RULES.items())[:3]:
            row = rows.loc[(name, str(label))]
            assert row["share"] == np.mean(ends_of(seeds, rule.weight, share) > 0) and row["n"] == 60
            assert row["data_share"] == share
    gaps = [np.subtract(*rows.loc[name, "share"].loc[["1", "0"]]) for name in list(RULES)[:3]]
    assert gaps[0] < gaps[1] < gaps[2]


def test_groups_along():
    """Of the two points D is above 0 where tanh is; hue is independent of size, and guidance leaves it as it is."""
    along = numbers("groups-along").tables["along"]
    assert set(along["source"]) == {"samples", "data"} and set(along["class"]) == {"0", "1"}
    end = along.query("source == 'data' and sigma == 0 and counting == 'hard' and group == '1'")
    assert np.allclose(end.groupby("class")["share"].first(), SHARES, atol=0.01)

    def size_alone(labels):
        return torch.stack([labels[:, 0], torch.full_like(labels[:, 1], OPEN)], 1)

    told = Material(subject=lambda: planted_subject(200, told=["size"], conditions=size_alone))
    found = numbers_of(find_entry("groups-along"), told)
    bare, strong = (
        part["share"].to_numpy()
        for _, part in found.tables["along"].query("source == 'samples' and counting == 'hard'").groupby("setting")
    )
    assert np.array_equal(bare, strong) and bare.min() > 0 and bare.max() < 1


@pytest.mark.parametrize("name", SUBJECTS)
def test_figures_and_captions(name):
    entry = find_entry(name)
    assert faults(drawn(entry, numbers(name), "paper-single")) == []
    caption = caption_of(entry, material(SUBJECTS[name]), numbers(name))
    assert "nan" not in caption and "None" not in caption and latex_caption(caption).isascii()


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_a_subject_lacks_is_a_reason(name):
    why = find_entry(name).why_not(Material(subject=planted_subject))
    assert "no masks" in why or "names every attribute that its judge knows" in why
