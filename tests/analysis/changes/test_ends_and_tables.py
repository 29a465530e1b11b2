"""Runs whose steps have no partner, and tables of reports: what can be compared, and what is refused and why."""

import numpy as np
import pandas as pd
import pytest
import torch

from scorescope.analysis.changes import (
    decomposition_changes,
    end_changes,
    image_distances,
    run_changes,
    shown_ranges,
    steps_apart,
    table_changes,
)
from scorescope.analysis.guidance import decompose
from scorescope.data import InputError
from scorescope.probes import CFG, Recording, Trace, sample
from scorescope.probes.models import edm_sigmas


def run(seeds=range(12), steps=6, spread=0.5, weight=3.0):
    """Samples of two Gaussian classes, whose denoiser is known."""

    def denoiser(x, sigma, condition):
        share = spread**2 / (spread**2 + sigma.reshape(-1, 1, 1, 1) ** 2)
        mean = 0.0 if condition is None else (condition.reshape(-1, 1, 1, 1) * 2.0 - 1) * 0.3
        return mean + share * (x - mean)

    labels = torch.arange(len(seeds)) % 2
    recording = Recording(all_branches=True, value_range=(-1, 1))
    how = {"shape": (1, 4, 4), "rule": CFG(weight), "sigmas": edm_sigmas(steps), "record": recording}
    return sample(denoiser, seeds=list(seeds), condition=labels, progress=False, **how)


def joined(*traces, column="run"):
    """One trace of several: runs after one another, or schedulers of the same run (`stream`)."""
    scalars, samples, first = [], [], 0
    for number, trace in enumerate(traces):
        shift = first if column == "run" else 0
        table = trace.scalars.assign(sample=trace.scalars["sample"] + shift)
        scalars.append(table.assign(**{"run": 0, "stream": 0, column: number}))
        samples.append(trace.samples.assign(sample=trace.samples["sample"] + shift, run=number))
        first += len(trace.samples)
    kept = samples if column == "run" else samples[:1]
    return Trace(pd.concat(scalars, ignore_index=True), pd.concat(kept, ignore_index=True), traces[0].manifest)


@pytest.fixture(scope="module")
def runs():
    return {(steps, weight): run(steps=steps, weight=weight) for steps in (6, 9) for weight in (3.0, 5.0)}


@pytest.mark.parametrize("column", ["stream", "run"])
def test_schedulers_and_schedules_have_rows_of_their_own(runs, column):
    """They were averaged: of 6 and 9 steps a step's mean is at no noise level of either."""
    traces = {key: made.trace for key, made in runs.items()}
    if column == "run":  # other seeds in the second part
        traces |= {(9, weight): run(range(20, 32), 9, weight=weight).trace for weight in (3.0, 5.0)}
    both = [joined(traces[6, weight], traces[9, weight], column=column) for weight in (3.0, 5.0)]
    found = run_changes(*both).table
    place = "stream" if column == "stream" else "schedule"
    for number, steps in enumerate((6, 9)):
        alone = run_changes(traces[6 + 3 * number, 3.0], traces[6 + 3 * number, 5.0]).table
        rows = found[found[place] == number]
        keys = ["quantity", "step"]
        ours, theirs = (table.sort_values(keys).reset_index(drop=True) for table in (rows, alone))
        assert rows["step"].nunique() == steps
        for name in ("sigma", "first", "value", "n"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-12)
    ranges = shown_ranges(found)
    assert set(ranges[place]) == {0, 1} and (ranges["steps"] <= 9).all()


def test_a_schedule_that_one_run_has_alone_is_left_out_and_said(runs):
    other = run(range(20, 32), 9)
    found = run_changes(joined(runs[6, 3.0].trace, other.trace), runs[6, 5.0].trace)
    assert found.left_out == "1 of the first and 0 of the second run's schedules"
    assert set(found.table["schedule"]) == {0} and set(found.table["n"]) == {12}
    cut = runs[6, 3.0].trace
    short = Trace(cut.scalars[cut.scalars["step"] < 4], cut.samples, cut.manifest)  # cut off: the same schedule
    assert run_changes(runs[6, 3.0].trace, short).left_out == "" and steps_apart(short, runs[6, 3.0].trace) == ""


def test_runs_of_other_noise_levels_are_compared_by_what_they_ended_with(runs):
    one, other = runs[6, 3.0], runs[9, 5.0]
    assert steps_apart(one.trace, other.trace) == "9 steps beside 6"
    assert steps_apart(one.trace, runs[6, 5.0].trace) == ""
    images = tuple(dict(enumerate(made.samples)) for made in (one, other))
    found = end_changes(one.trace, other.trace, images=images, value_range=(-1, 1)).set_index("quantity")
    spread = [made.samples.flatten(1).double().std(1, correction=0).numpy() for made in (one, other)]
    assert found.loc["contrast", "value"] == pytest.approx((spread[1] - spread[0]).mean(), rel=1e-6)
    assert found.loc["contrast", "of"] == "image" and found.loc["contrast", "n"] == 12
    calls = [made.trace.scalars.groupby("sample")["needed"].sum().iloc[0] for made in (one, other)]
    row = found.loc["calls"]
    assert (row["first"], row["low"], row["high"]) == (calls[0], calls[1] - calls[0], calls[1] - calls[0])
    assert row["shown"] and row["of"] == "run"
    last = end_changes(one.trace, other.trace).set_index("quantity")
    assert last.loc["contrast", "of"] == "last prediction"
    # the sampler ends at sigma 0 on the last prediction
    assert last.loc["contrast", "value"] == pytest.approx(found.loc["contrast", "value"], rel=1e-4)


def test_the_same_run_again_ends_with_the_same_and_other_seeds_are_two_sets(runs):
    one = runs[6, 3.0]
    same = end_changes(one.trace, run().trace)
    assert not same["shown"].any() and (same["value"] == 0).all()
    apart = end_changes(one.trace, run(range(50, 62)).trace).set_index("quantity")
    assert not apart["shown"].any() and apart.loc["contrast", "n"] == 12


def test_distances_of_images(runs):
    one, other = runs[6, 3.0], runs[6, 5.0]
    pairing = run_changes(one.trace, other.trace).pairing
    images = [dict(enumerate(made.samples)) for made in (one, other)]
    images[1][3] = images[1][3] + float("nan")
    del images[1][4]
    found = image_distances(pairing, *images)
    assert len(found) == 10 and found["rms"].is_monotonic_decreasing and not {3, 4} & set(found["second"])
    expected = (one.samples[0] - other.samples[0]).double().square().mean().sqrt()
    assert found.set_index("seed").loc[0, "rms"] == pytest.approx(float(expected))


def table(**more):
    return pd.DataFrame(
        {"rule": ["CFG", "APG"], "sigma": [1.0, 1.0], "n": [9, 9], "mean": [1.0, 2.0], "low": [0.5, 1.5],
         "high": [1.5, 2.5], **more}
    )  # fmt: skip


def test_tables_of_means_are_set_beside_each_other_by_what_their_rows_are_of():
    other = table(mean=[3.0, 2.1], low=[2.5, np.nan], high=[3.5, 2.6], n=[40, 40]).iloc[::-1]
    found = table_changes(table(), other)
    assert list(found["row"]) == ["rule CFG, sigma 1", "rule APG, sigma 1"]
    assert list(found["intervals"]) == ["apart", "unknown"] and list(found["difference"]) == pytest.approx([2.0, 0.1])
    assert table_changes(table(), table())["intervals"].eq("overlap").all()
    several = table().assign(gain=1.0, gain_low=0.9, gain_high=1.1)
    assert set(table_changes(several, several)["column"]) == {"mean", "gain"}


def test_tables_that_cannot_be_compared_say_why():
    cases = [
        (table().drop(columns="low"), "means or values with their intervals"),
        (table(rule=["CFG", "CFG"]), "rows that nothing tells apart"),
        (table(sigma=[1.1, 1.1]), "none of 2 and 2 rows"),
        (table(norm=[0.31, 0.32]), "none of 2 and 2 rows"),  # a threshold that is another one
    ]
    for other, said in cases:
        with pytest.raises(InputError, match=said):
            table_changes(table(norm=[0.3, 0.3]) if "norm" in other else table(), other)


def test_a_table_of_samples_is_paired_by_seed(runs):
    first, second = (decompose(runs[6, weight].trace) for weight in (3.0, 5.0))
    with pytest.raises(InputError, match="12 common seeds, 0 common rows"):
        decomposition_changes(first, second)  # other weights are other rows
    found = decomposition_changes(first, second.assign(path_weight=3.0))
    same = run_changes(runs[6, 3.0].trace, runs[6, 5.0].trace).table
    gain = found[(found["quantity"] == "applied_gain") & found["row"].str.contains("step 2, call 0")].iloc[0]
    expected = same[(same["quantity"] == "applied_gain") & (same["step"] == 2)].iloc[0]
    assert gain["value"] == pytest.approx(expected["value"]) and gain["first"] == pytest.approx(expected["first"])
    assert not decomposition_changes(first, first)["shown"].any()
    with pytest.raises(InputError, match="a seed several times"):
        decomposition_changes(first, second.assign(seed=second["seed"] // 2))


def test_a_run_without_partner_in_any_step_is_refused(runs):
    whole = runs[6, 3.0].trace
    nothing = Trace(whole.scalars.iloc[:0], whole.samples, whole.manifest)
    with pytest.raises(InputError, match="a run without steps"):
        run_changes(nothing, whole)
