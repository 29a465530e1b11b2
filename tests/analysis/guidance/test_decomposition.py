import numpy as np
import pandas as pd
import pytest
import torch
from tests.oracles import diagonal_pair, random_pair

from scorescope.analysis import decompose
from scorescope.analysis.guidance import compare, decompose_bands, decompose_centred, summarise
from scorescope.analysis.guidance.decomposition import DECOMPOSITION, ROUNDING, _one_minus_cos
from scorescope.analysis.guidance.run_keys import summarise_runs
from scorescope.data import InputError
from scorescope.probes import APG, CFG, Recording, Trace, sample
from scorescope.probes.models import NoiseLevel, edm_sigmas, from_denoised, to_denoised
from scorescope.probes.sampling import Euler

LABELS = torch.zeros(6, dtype=torch.long)


def record(denoiser, rule, **recording):
    options = {"condition": LABELS, "dtype": torch.float64, "progress": False}
    return sample(denoiser, seeds=range(6), rule=rule, record=Recording(**recording), **options).trace


def at_states(pair, weight, sigma):
    """States of the CFG-guided path of a diagonal pair at sigma, and its two predictions, in closed form."""
    cond, uncond, mean = pair.covariance_cond.diag(), pair.covariance_uncond.diag(), pair.mean_cond
    noise = torch.stack([torch.randn(len(mean), generator=torch.Generator().manual_seed(s)) for s in range(6)]).double()

    def scale(s):
        return (cond + s**2) ** (weight / 2) * (uncond + s**2) ** ((1 - weight) / 2)

    x = mean + (80 * noise - mean) * scale(sigma) / scale(80.0)
    return x, *(mean + (x - mean) * variance / (variance + sigma**2) for variance in (cond, uncond))


@pytest.mark.parametrize("weight", [2.0, 4.0])
def test_quantities_along_the_guided_path_equal_the_closed_form(weight):
    # 400 Heun steps follow the path to about 1e-4; every quantity is a smooth function of the state
    pair = diagonal_pair([1.5, 0.4, 0.09, 1.0], [1.0, 0.7, 0.3, 1.4], mean=[0.5, -0.5, 1.0, 0.2])
    trace = sample(
        pair, seeds=range(6), condition=LABELS, rule=CFG(weight), sigmas=edm_sigmas(400), record=Recording(),
        dtype=torch.float64, progress=False,
    ).trace  # fmt: skip
    table = decompose(trace)
    for step in (0, 100, 250, 399):
        rows = table[(table["step"] == step) & (table["call"] == 0)].sort_values("sample")
        x, c, u = at_states(pair, weight, rows["sigma"].iloc[0])
        d, eps_c, eps_u = c - u, x - c, x - u
        coefficient = (d * c).sum(1) / c.square().sum(1)
        parallel = coefficient[:, None] * c
        expected = {
            "update_norm": d.norm(dim=1),
            "update_rms": d.norm(dim=1) / 2,
            "update_ratio": d.norm(dim=1) / c.norm(dim=1),
            "parallel_coefficient": coefficient,
            "parallel_norm": parallel.norm(dim=1),
            "orthogonal_norm": (d - parallel).norm(dim=1),
            "parallel_share": parallel.square().sum(1) / d.square().sum(1),
            "cos_denoised": torch.cosine_similarity(c, u),
            "cos_eps": torch.cosine_similarity(eps_c, eps_u),
            "gain": 1 + (weight - 1) * coefficient,
            "applied_gain": 1 + (weight - 1) * coefficient,
            "applied_norm": (weight - 1) * d.norm(dim=1),
            "log_snr": torch.full((6,), -2 * np.log(rows["sigma"].iloc[0])),
        }
        for name, value in expected.items():
            assert rows[name].to_numpy() == pytest.approx(value.numpy(), rel=2e-3, abs=1e-5), (step, name)
        assert (rows["chance_share"] == 0.25).all()


def test_decomposition_at_the_first_state_is_exact():
    pair = random_pair()
    table = decompose(record(pair, CFG(3.0)))
    rows = table[(table["step"] == 0) & (table["call"] == 0)]
    noise = torch.stack([torch.randn(6, generator=torch.Generator().manual_seed(s)) for s in range(6)]).double()
    sigma = torch.full((6,), 80.0, dtype=torch.float64)
    c, u = pair(80 * noise, sigma, LABELS), pair(80 * noise, sigma, None)
    d = c - u
    parallel = (d * c).sum(1, keepdim=True) / c.square().sum(1, keepdim=True) * c
    assert rows["parallel_norm"].to_numpy() == pytest.approx(parallel.norm(dim=1).numpy(), rel=1e-10)
    assert rows["orthogonal_norm"].to_numpy() == pytest.approx((d - parallel).norm(dim=1).numpy(), rel=1e-10)
    total = rows["parallel_norm"] ** 2 + rows["orthogonal_norm"] ** 2
    assert total.to_numpy() == pytest.approx((rows["update_norm"] ** 2).to_numpy(), rel=1e-12)


@pytest.mark.parametrize("distance", [1.0, 1e-3, 1e-7, 1e-12])
def test_one_minus_cos_keeps_its_digits(distance):
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 60
    rng = np.random.default_rng(0)
    a, d = rng.normal(size=20), distance * rng.normal(size=20)
    exact_a, exact_d = [mpmath.mpf(v) for v in a], [mpmath.mpf(v) for v in d]
    exact_b = [p - q for p, q in zip(exact_a, exact_d, strict=True)]

    def dot(p, q):
        return sum(v * w for v, w in zip(p, q, strict=True))

    exact = 1 - dot(exact_a, exact_b) / mpmath.sqrt(dot(exact_a, exact_a) * dot(exact_b, exact_b))
    aa, bb, dd, da = (np.array([float(dot(p, q))]) for p, q in
                      ((exact_a, exact_a), (exact_b, exact_b), (exact_d, exact_d), (exact_d, exact_a)))  # fmt: skip
    assert _one_minus_cos(aa, bb, dd, da)[0] == pytest.approx(float(exact), rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_rounding_floor_is_what_rounding_gives(dtype):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(200_000, generator=generator, dtype=torch.float64)
    error = (values.to(dtype).double() - values).norm() / values.norm()
    assert ROUNDING * torch.finfo(dtype).eps == pytest.approx(error.item(), rel=0.05)


class Rounding:
    """Two random predictions of a network in a prediction space, which it puts out in a type; `exact` does not."""

    shape = (4, 32, 32)

    def __init__(self, space, kind, exact=False):
        self.prediction_space, self.compute_dtype, self.exact, self.sigma_data = space, kind, exact, 0.5

    def __call__(self, x, sigma, condition):
        level = sigma[0]
        seed = int(1000 * level) + (condition is not None)
        clean = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
        state = NoiseLevel.vp(sigma) if self.prediction_space == "v" else NoiseLevel.ve(sigma)
        if self.prediction_space == "flow":
            state = NoiseLevel.flow(sigma / (1 + sigma))
        there = x * state.alpha.reshape(-1, 1, 1, 1)
        options = {"space": self.prediction_space, "sigma_data": 0.5 if self.prediction_space == "edm" else None}
        put_out = from_denoised(clean, there, state, **options)
        if not self.exact:
            put_out = put_out.to(self.compute_dtype).to(x.dtype)
        return to_denoised(put_out, there, state, **options)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("space", ["denoised", "eps", "v", "flow", "edm"])
def test_the_floor_is_that_of_what_the_network_puts_out(space, kind):
    # of a network that predicts eps, D rounds as sigma times its output: a thousandth of D's own at low noise
    states = {"start": 14.6 * torch.randn(2, 4, 32, 32, dtype=torch.float64), "dtype": torch.float64}
    options = {"seeds": range(2), "condition": torch.arange(2), "rule": CFG(3.0), "sigmas": (14.6, 1.3, 0.03, 0.0)}
    options |= states | {"solver": Euler(), "progress": False}
    recording = Recording(keep=True)
    exact = Rounding(space, kind, exact=True)
    path = sample(exact, record=recording, **options).trace
    rounded, expected = Rounding(space, kind), []
    for visit in path.kept:
        sigma = torch.full((2,), visit.sigma, dtype=torch.float64)
        gap = rounded(visit.x, sigma, True) - rounded(visit.x, sigma, None) - (visit.cond - visit.uncond)
        expected += gap.flatten(1).norm(dim=1).tolist()
    found = decompose(path)["norm_floor"]
    # values of a type are rounded by up to twice more or less as they lie in a power of two
    assert found.to_numpy() == pytest.approx(np.array(expected), rel=0.15)


def test_apg_removes_the_gain_and_cfg_applies_it():
    pair = random_pair()
    cfg, apg = decompose(record(pair, CFG(4.0))), decompose(record(pair, APG(4.0)))
    assert cfg["applied_gain"].to_numpy() == pytest.approx(cfg["gain"].to_numpy(), rel=1e-8)
    assert apg["applied_gain"].to_numpy() == pytest.approx(1.0, abs=1e-10)
    assert apg["applied_norm"].to_numpy() == pytest.approx(3 * apg["orthogonal_norm"].to_numpy(), rel=1e-7)


def test_missing_branch_stays_missing_through_the_summary():
    table = decompose(record(random_pair(), CFG(1.0)))
    assert table["update_norm"].isna().all() and (table["missing"] == "not needed by CFG").all()
    summary = summarise(table).set_index("quantity")
    assert (summary.loc["update_norm", "n"] == 0).all() and summary.loc["update_norm", "mean"].isna().all()
    assert (summary.loc["contrast", "n"] == 6).all()


def test_summary_has_a_row_a_step_call_and_quantity():
    table = decompose(record(random_pair(), CFG(2.0)))
    summary = summarise(table)
    rows = summary[(summary["quantity"] == "update_norm")]
    assert len(rows) == 35 and (rows["n"] == 6).all()
    group = table[(table["step"] == 3) & (table["call"] == 1)]["update_norm"]
    row = rows[(rows["step"] == 3) & (rows["call"] == 1)].iloc[0]
    assert row["mean"] == pytest.approx(group.mean()) and row["median"] == pytest.approx(group.median())
    assert row["low"] <= row["mean"] <= row["high"]


def test_compare_puts_runs_side_by_side():
    pair = random_pair()
    traces = [record(pair, rule) for rule in (CFG(2.0), CFG(4.0), APG(4.0))]
    found = compare(traces)
    assert set(map(tuple, found[["rule", "weight"]].drop_duplicates().to_numpy())) == {
        ("CFG", 2.0),
        ("CFG", 4.0),
        ("APG", 4.0),
    }
    with pytest.raises(InputError, match="traces"):
        compare([traces[0], traces[0]])
    with pytest.raises(InputError, match="0 traces"):
        compare([])


def test_centred_and_bands_need_to_have_been_recorded():
    class Images:
        shape = (2, 4, 4)

        def __call__(self, x, sigma, condition):
            return x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2) + (0.0 if condition is None else 0.5)

    def run(**options):
        return sample(
            Images(), seeds=range(6), condition=LABELS, rule=CFG(2.0), record=Recording(**options), progress=False
        ).trace

    trace = run(centred=True, band_edges=(0.25,))
    # the update is the constant 0.5: nothing is left of it without the mean, and band 0 holds all of it
    assert decompose_centred(trace)["centred_update_norm"].max() < 1e-4
    bands = decompose_bands(trace).groupby("band")["update_norm"].mean()
    assert bands[0] == pytest.approx(0.5 * np.sqrt(32), rel=1e-5) and bands[1] < 1e-4
    for decomposition in (decompose_centred, decompose_bands):
        with pytest.raises(InputError, match="recorded with Recording"):
            decomposition(run())


def test_a_trace_without_scalars_is_refused():
    empty = Trace(pd.DataFrame({"sample": [0]}), pd.DataFrame(), {"shape": [3], "weight": 1.0})
    with pytest.raises(InputError, match=r"trace\.scalars"):
        decompose(empty)


def test_every_column_is_declared_with_unit_and_meaning():
    assert all(column.meaning for column in DECOMPOSITION.columns)
    assert all(column.unit for column in DECOMPOSITION.columns if column.kind is float)


SAME = "both branches are the same"


class Partly:
    """A constant prediction, in one dimension twice; the condition moves it where the noise is above 1."""

    shape = (1, 4)

    def __init__(self, cond=(2.0, -1.0, 0.5, 0.0), moved=(0.3, 0.3, 0.3, 0.3)):
        self.cond, self.moved = torch.tensor([cond]).double(), torch.tensor([moved]).double()

    def __call__(self, x, sigma, condition):
        heard = torch.where(sigma > 1, 1.0, 0.0)[:, None, None] * (condition is None)
        return self.cond.expand(x.shape) - heard * self.moved.expand(x.shape)


def test_a_share_of_no_update_is_missing_with_its_reason():
    table = decompose(record(Partly(), CFG(2.0)))
    same = table["sigma"] <= 1
    assert same.any() and not same.all()
    assert (table["missing"] == np.where(same, SAME, "")).all()
    assert table.loc[same, "parallel_share"].isna().all() and table.loc[~same, "parallel_share"].notna().all()
    known = ["update_norm", "update_ratio", "parallel_coefficient", "orthogonal_norm", "one_minus_cos_denoised"]
    assert (table.loc[same, known] == 0).all(axis=None) and (table.loc[same, "gain"] == 1).all()
    rows = summarise(table).query("quantity == 'parallel_share'")
    assert (rows["missing"] == np.where(rows["sigma"] <= 1, SAME, "")).all()
    assert (rows["n"] == np.where(rows["sigma"] <= 1, 0, 6)).all()


def test_a_summary_says_why_some_of_its_samples_are_left_out():
    table = decompose(record(Partly(), CFG(2.0)))
    table.loc[(table["sample"] == 0) & (table["sigma"] > 1), ["parallel_share", "missing"]] = np.nan, SAME
    rows = summarise(table).query("sigma > 1").set_index("quantity")
    assert (rows.loc["parallel_share", "n"] == 5).all() and (rows.loc["parallel_share", "missing"] == SAME).all()
    assert (rows.loc["update_norm", "missing"] == "").all() and (rows.loc["contrast", "missing"] == "").all()


@pytest.mark.parametrize(("cond", "moved", "reason"), [
    ((0.0,) * 4, (0.3, 0.1, 0.3, 0.3), "D_c is zero"), ((0.3, 0.1, 0.0, 0.0), (0.3, 0.1, 0.0, 0.0), "D_u is zero"),
])  # fmt: skip
def test_a_ratio_to_a_prediction_of_zero_is_missing_with_its_reason(cond, moved, reason):
    table = decompose(record(Partly(cond, moved), CFG(2.0))).query("sigma > 1")
    assert (table["missing"] == reason).all() and table["one_minus_cos_denoised"].isna().all()
    assert table["parallel_share"].isna().all() == (reason == "D_c is zero")
    assert (table["update_norm"] > 0.3).all() and np.isfinite(table["update_norm"]).all()
    numbers = table.select_dtypes("float").to_numpy()
    assert not np.isinf(numbers).any()


@pytest.mark.parametrize(("cond", "moved", "reason"), [
    ((2.0, -1.0, 0.5, 0.0), (0.25,) * 4, "the update is its channel means alone"),
    ((0.5,) * 4, (0.25, 0.5, 0.25, 0.0), "D_c is its channel means alone"),
])  # fmt: skip
def test_a_centred_share_of_nothing_is_missing_with_its_reason(cond, moved, reason):
    table = decompose_centred(record(Partly(cond, moved), CFG(2.0), centred=True))
    assert (table["missing"] == np.where(table["sigma"] > 1, reason, SAME)).all()
    assert table["centred_parallel_share"].isna().all() and table["centred_update_norm"].notna().all()


def test_intervals_end_where_a_quantity_does():
    """One minus a cosine was said to be 0.009 (-0.028 to 0.017): it cannot be below nothing."""
    few = np.array([0.0, 0.001, 0.03])
    names = [
        "one_minus_cos_denoised",
        "one_minus_cos_eps",
        "update_rms",
        "norm_floor",
        "overshoot_mean",
        "parallel_share",
    ]
    table = pd.DataFrame({name: few for name in names} | {"cos_denoised": 1 - few, "parallel_coefficient": few - 0.01})
    table = table.assign(group=0, sample=range(3), run=0)
    found = summarise_runs(table, by=["group"], quantities=[*names, "cos_denoised", "parallel_coefficient"])
    found = found.set_index("quantity")
    assert (found.loc[names, "low"] == 0).all() and found.loc["cos_denoised", "high"] == 1
    assert found.loc["parallel_coefficient", "low"] < 0  # signed
    far = pd.DataFrame({"one_minus_cos_eps": [1.9, 1.95, 2.0], "group": 0, "sample": range(3), "run": 0})
    high = summarise_runs(far, by=["group"], quantities=["one_minus_cos_eps"])["high"].iloc[0]
    assert 1.95 < high <= 2  # of opposite predictions, not cut at 1
