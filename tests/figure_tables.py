"""Small tables for the figure functions, but those of directions: curves, and points and names that are hard to label.

name, arguments = CASES["guidance.update_parts"]
"""

import numpy as np
import pandas as pd
import torch

from scorescope.reports.studies.headlines import Curve

SIGMAS = np.geomspace(80.0, 0.002, 9)
RISE = SIGMAS / (SIGMAS + 1)  # from 1 at high noise to 0
WEIGHTS = (1.0, 2.0, 4.0, 8.0)
LABEL = "Frechet distance to the real data, pixels"


def with_ends(table, value="mean", share=0.1, of=""):
    low, high = (f"{of}_low", f"{of}_high") if of else ("low", "high")
    return table.assign(**{low: (1 - share) * table[value], high: (1 + share) * table[value]})


def summary():
    """Every quantity of every run, as `summarise` has them."""
    curves = {
        "update_norm": 3 * RISE, "orthogonal_norm": 2.9 * RISE, "parallel_norm": RISE,
        "norm_floor": 1e-7 * RISE + 1e-10,
        "one_minus_cos_denoised": 0.1 * RISE**2, "one_minus_cos_eps": 1e-3 + 0 * RISE, "cos_floor": 1e-15 * RISE,
        "cos_eps_floor": 1e-16 + 0 * RISE, "parallel_share": 0.3 * RISE, "chance_share": 0.02 + 0 * RISE,
        "applied_gain": 1 + RISE, "centred_parallel_share": 0.4 * RISE,
    }  # fmt: skip
    parts = [
        pd.DataFrame({"rule": rule, "weight": weight, "call": 0, "sigma": SIGMAS, "quantity": name, "mean": mean})
        for rule in ("CFG", "APG") for weight in WEIGHTS for name, mean in curves.items()
    ]  # fmt: skip
    return with_ends(pd.concat(parts, ignore_index=True))


def runs_table(quantities, means):
    parts = [
        pd.DataFrame({"rule": rule, "weight": weight, "quantity": name, "sigma": SIGMAS, "mean": means})
        for rule in ("CFG", "APG") for weight in WEIGHTS for name in quantities
    ]  # fmt: skip
    return with_ends(pd.concat(parts, ignore_index=True))


def bands():
    edges = [(0.0, 0.12), (0.12, 0.3), (0.3, np.inf)]
    parts = [
        pd.DataFrame({"band": k, "low_frequency": low, "high_frequency": high, "call": 0, "sigma": SIGMAS,
                      "quantity": "update_norm", "mean": 10.0**-k * RISE})
        for k, (low, high) in enumerate(edges)
    ]  # fmt: skip
    return with_ends(pd.concat(parts, ignore_index=True))


def information():
    curve = pd.DataFrame({"sigma": SIGMAS, "density": 1 - RISE, "information": 13 * (1 - RISE), "bound": 2.3})
    curve = with_ends(with_ends(curve, "density"), "information", of="information")
    return curve, pd.DataFrame({"share": [0.9], "low": [0.95], "high": [5.9]})


def sweep():
    """A front of near points, as it was when their names were printed over each other."""
    names = ["CFG, w = 1", "APG, w = 1", "interval, w = 4", "magnitude-aware, w = 4", "frequency-decoupled, w = 1, 4",
             "CFG, w = 2", "tangential, w = 4", "autoguidance, w = 2", "CFG, w = 8"]  # fmt: skip
    calls = [35, 35, 43, 59, 60, 70, 70, 70, 70]
    frechet = [11.2, 11.2, 11.15, 11.1, 11.1, 10.9, 11.0, 12.2, 14.2]
    common = {"setting": names, "rule": [name.split(",")[0] for name in names], "weight": 4.0}
    table = pd.concat([pd.DataFrame(common | {"metric": metric, "value": values})
                       for metric, values in (("calls", calls), ("frechet", frechet))], ignore_index=True)  # fmt: skip
    return with_ends(table, "value"), pd.DataFrame({"setting": names, "pareto": [True] * 8 + [False]})


def compared(**columns):
    """Two metrics of a few settings, with columns of their own."""
    parts = [pd.DataFrame({**columns, "metric": name, "value": values})
             for name, values in (("frechet", [3.0, 2.0, 4.0, 11.2]), ("contrast", [0.1, -0.2, 0.3, 0.5]))]  # fmt: skip
    table = with_ends(pd.concat(parts, ignore_index=True), "value")
    return table.assign(low=table[["low", "high"]].min(axis=1), high=table[["low", "high"]].max(axis=1))


def interval_ends():
    varied = ["no guidance", "at all levels"]
    parts = [compared(varied=end, rule_high=[4.0, 12.0, 40.0, 80.0], rule_low=[0.002, 0.1, 0.9, 4.0])
             for end in ("upper end", "lower end")]  # fmt: skip
    levels = [compared(varied=name).drop_duplicates("metric") for name in varied]
    return pd.concat([*parts, *levels], ignore_index=True)


def precision_recall():
    rows = [(rule, weight, metric, 0.9 - 0.01 * k * weight) for rule in ("CFG", "interval") for weight in WEIGHTS
            for k, metric in enumerate(("precision", "recall"), 1)]  # fmt: skip
    return with_ends(pd.DataFrame(rows, columns=["rule", "weight", "metric", "value"]), "value")


def fields():
    clip = compared(rule_norm=[0.4, 1.9, 9.0, np.inf], rule_momentum=np.nan)
    return pd.concat([clip, compared(rule_norm=np.nan, rule_momentum=[-0.9, -0.5, 0.0, 0.5])], ignore_index=True)


def by_weight():
    rows = [(rule, weight, 11 + k * weight) for k, rule in enumerate(("CFG", "APG")) for weight in WEIGHTS]
    table = pd.DataFrame(rows, columns=["rule", "weight", "mean"])
    return with_ends(table.assign(quantity="contrast", n=9))


def thresholds():
    """Five thresholds of which four save nearly the same."""
    saved = [0.0, 0.1, 0.145, 0.152, 0.155]
    names = [f"threshold {value}" for value in (0.9999, 0.998, 0.995, 0.991, 0.98)]
    table = pd.DataFrame({"setting": names, "calls_saved": saved, "change": [0.0, 0.02, 0.035, 0.036, 0.04]})
    return with_ends(table, "change").assign(
        saved_low=0.9 * table["calls_saved"], saved_high=1.1 * table["calls_saved"]
    )


def overlap_case():
    """Four units, of which one has no interval; maps are smaller than pictures."""
    units = (3, 17, 128, 1279)
    table = pd.DataFrame([
        {"unit": unit, "sigma": sigma, "value": 0.01 * (k + 1) * rise, "threshold": 0.5, "bound": 0.1,
         "chance_q95": 0.012} for k, unit in enumerate(units) for sigma, rise in zip(SIGMAS, RISE + 0.1, strict=True)
    ])  # fmt: skip
    table = with_ends(table, "value", 0.3)
    table.loc[table["unit"] == 17, ["low", "high"]] = np.nan
    pictures = torch.linspace(-1, 1, 4 * 5 * 3 * 8 * 8).reshape(4, 5, 3, 8, 8)
    return table, pictures, torch.linspace(0, 1, 4 * 5 * 4 * 4).reshape(4, 5, 4, 4)


def unit_effects_case():
    spans = [(0.0, 0.3), (0.3, 5.0), (5.0, 80.0)]
    rows = [
        {"edit": edit, "sigma_low": low, "sigma_high": high, "score": score, "value": 0.1 * (k + 1) * (1 + place)}
        for edit in ("mean", "insert") for k, (low, high) in enumerate(spans)
        for place, score in enumerate(("pixels inside", "pixels outside"))
    ]  # fmt: skip
    verdicts = with_ends(pd.DataFrame(rows), "value", 0.3)
    arms = [verdicts.assign(arm="units"), *(
        verdicts.assign(arm=f"random {k}", value=0.1 * k * verdicts["value"]) for k in range(1, 6)
    )]  # fmt: skip
    return verdicts.assign(verdict=["moves", "undecided"] * 6), pd.concat(arms, ignore_index=True)


def ascent_case():
    """Two units at five levels, one step at each, and the first states."""
    rows = [
        {"unit": unit, "sigma": sigma, "step": step, "noised": sigma, "spread": 0.1 * (k + 1), "highest": sigma + 0.2,
         "value": 3.0 * step + sigma, "control": 0.1 * step + sigma}
        for k, unit in enumerate((3, 1279)) for sigma in (10.0, 4.0, 2.0, 0.7, 0.3) for step in (0, 1)
    ]  # fmt: skip
    table = with_ends(with_ends(pd.DataFrame(rows), "value", 0.3), "control", 0.3, of="control")
    return table, torch.linspace(-1, 1, 3 * 5 * 3 * 8 * 8).reshape(3, 5, 3, 8, 8)


def densities():
    grid = np.linspace(-1.5, 1.5, 40)
    heights = 0.2 + 5 * np.exp(-50 * (grid + 1) ** 2)
    runs = [("data", np.nan), *((rule, weight) for rule in ("CFG", "APG") for weight in WEIGHTS)]
    parts = [pd.DataFrame({"rule": rule, "weight": weight, "value": grid, "density": heights}) for rule, weight in runs]
    return pd.concat(parts, ignore_index=True)


def laws(queries=("held out",)):
    names = ["isotropic", "gaussian", "ppca 16", "per class", "k-means 50 ppca 8", "training set"]
    parts = [
        pd.DataFrame({"query": query, "sigma": SIGMAS, "approximation": name, "metric": metric, "training_step": step,
                      "ratio_of_sums": 0.9 * RISE**k + 1e-4, "mean_of_ratios": RISE**k + 1e-4,
                      "floor_high": 0.1 * RISE})
        for query in queries for k, name in enumerate(names) for metric in ("centred", "denoised", "score")
        for step in (100, 400, 2000)
    ]  # fmt: skip
    return with_ends(pd.concat(parts, ignore_index=True), "ratio_of_sums", of="ratio_of_sums")


def regimes():
    return pd.DataFrame({"sigma": SIGMAS, "network_error": SIGMAS > 10})


def distances():
    sets = ["w = 1", "w = 2", "w = 4", "other real"]
    parts = [
        pd.DataFrame({"set": sets, "space": space, "metric": metric, "value": [0.4, 0.7, 1.4, 0.2], "floor": 0.4,
                      "n_fake": 50000, "n_real": 50000})
        for space in ("digits classifier", "gray pixels 8 x 8") for metric in ("FD", "FD without bias")
    ]  # fmt: skip
    table = with_ends(pd.concat(parts, ignore_index=True), "value")
    return table.assign(scatter_low=table["low"], scatter_high=table["high"])


def of_sets():
    """The metrics of a results table; only the first set is best in one."""
    table = distances().query("set != 'other real'")
    return table.assign(best=(table["set"] == "w = 1") & (table["space"] == "digits classifier"))


def infinity():
    fits = pd.DataFrame({"set": ["w = 1", "w = 4"], "value": [0.4, 1.4], "slope": 30.0, "slope_one_law": [25.0, 20.0]})
    points = [pd.DataFrame({"set": name, "n": [256, 384, 512], "value": at + np.array([0.12, 0.08, 0.06])})
              for name, at in (("w = 1", 0.4), ("w = 4", 1.4))]  # fmt: skip
    return pd.concat(points, ignore_index=True), with_ends(fits, "value")


def matched():
    counts = [0, 0, 1, 2, 5, 1, 2, 5]
    arms = ["equal weights", "other real images", *["top"] * 3, *["middle"] * 3]
    values = [2.2, 0.3, 2.1, 2.0, 1.9, 2.2, 2.2, 2.1]
    rows = pd.DataFrame({"arm": arms, "ranks": arms, "count": counts, "value": values})
    parts = [rows.assign(metric=metric) for metric in ("FD", "second FD")]
    return with_ends(pd.concat(parts, ignore_index=True), "value")


def nearest():
    parts = [pd.DataFrame({"what": what, "distance": first + 0.1 * np.arange(20)})
             for what, first in (("samples", 0.9), ("held out", 1.0))]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def classes():
    names = [f"class {'of a long name ' * (k % 3)}{k}" for k in range(10)]
    return pd.DataFrame({"class_index": range(10), "class_name": names, "n_fake": 34, "gap": 0.01, "gap_low": -0.04,
                         "gap_high": 0.05, "removal_change": -0.01, "influence_low": 0.0,
                         "influence_high": 9.0})  # fmt: skip


def class_shares():
    parts = [pd.DataFrame({"class_index": range(10), "class_name": [f"class {k}" for k in range(10)], "series": kind,
                           "share": 0.1, "low": 0.07, "high": 0.14})
             for kind in ("real", "generated", "top-1 matched", "top-2 matched", "weights optimised")]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def audit():
    arms = ["random choice", "top-1 matched", "top-2 matched", "weights optimised", "other real images"]
    parts = [pd.DataFrame({"arm": arms, "metric": metric, "value": [2.2, 2.1, 2.2, 1.2, 1.1], "n": 114, "n_real": 360,
                           "change": [0, -0.04, 0.01, -0.45, -0.52], "effective_size": [114, 340, 305, 70, 114]})
             for metric in ("FD", "second FD")]  # fmt: skip
    return with_ends(pd.concat(parts, ignore_index=True), "value", 0.3)


def runs_changed():
    names = ("applied_norm", "applied_gain", "one_minus_cos_denoised", "update_ratio", "contrast")
    parts = [pd.DataFrame({"quantity": name, "stream": 0, "schedule": 0, "sigma": SIGMAS, "first": 1.0, "value": RISE,
                           "shown": RISE > 0.5}) for name in names]  # fmt: skip
    return with_ends(pd.concat(parts, ignore_index=True), "value")


def pair_changed():
    table = pd.DataFrame({"first": "before", "second": "after", "sigma": SIGMAS, "loss": 1.0, "value": RISE})
    return with_ends(table.assign(shown=True), "value")


def ema():
    parts = [pd.DataFrame({"length": length, "sigma": SIGMAS, "value": length * RISE, "lowest": 1.0, "shown": True})
             for length in (0.05, 0.1, 0.2)]  # fmt: skip
    return with_ends(pd.concat(parts, ignore_index=True), "value")


def checkpoints():
    names, quantities = ("step 1000", "step 20000", "final, with a long name"), ("overshoot share, CFG at w = 4", "FID")
    rows = [(name, setting, quantity, 1.0) for name in names for setting in ("weak", "strong")
            for quantity in quantities]  # fmt: skip
    return with_ends(pd.DataFrame(rows, columns=["subject", "setting", "quantity", "value"]), "value")


def checkpoint_curves():
    rows = pd.DataFrame({"line": "gaussian", "x": SIGMAS, "value": RISE, "low": RISE, "high": RISE})
    asked = Curve("laws", "sigma", "value", "noise level σ", "unexplained fraction", line="line", yscale="log")
    return {name: rows for name in ("step 1000", "step 20000", "final")}, asked


def walked():
    """Six solvers and grids at four numbers of calls."""
    names = [f"{solver}, {grid}" for grid in ("ρ = 7", "uniform ln σ") for solver in ("Euler", "Heun", "DPM++ 2M")]
    rows = [(name, float(calls), metric, 40 / calls**2) for name in names for calls in (5, 9, 17, 35)
            for metric in ("frechet", "end_error")]  # fmt: skip
    return with_ends(pd.DataFrame(rows, columns=["line", "calls", "metric", "value"]), "value")


def trained():
    names = ["digits", "checkpoint 100", "checkpoint 400", "checkpoint 2000", "no network"]
    parts = [pd.DataFrame({"denoiser": name, "images": images, "sigma": SIGMAS, "mean": 0.2 * k + RISE})
             for images in ("train", "held out") for k, name in enumerate(names)]  # fmt: skip
    return with_ends(pd.concat(parts, ignore_index=True))


def single_steps():
    parts = [pd.DataFrame({"solver": solver, "grid": grid, "sigma": SIGMAS, "mean": 0.1 * RISE, "rounding": RISE / 1e6})
             for solver in ("Euler", "Heun") for grid in ("ρ = 3", "ρ = 7")]  # fmt: skip
    return with_ends(pd.concat(parts, ignore_index=True))


def solver_steps():
    """Three solvers: an error of 0 in the last step, as where all take it alike, and shares beyond 0 and 1."""
    curves = {"local": 0.1 * RISE, "at_end": 0.03 * RISE * (1 - RISE), "share": 0.2 - 0.3 * RISE}
    parts = [pd.DataFrame({"solver": solver, "step": range(9), "sigma": SIGMAS, "quantity": name, "n": 40,
                           "value": np.append(k * values[:-1], 0.0)})
             for k, solver in enumerate(("Euler", "DPM++ 2M", "UniPC, third order"), 1)
             for name, values in (curves | {"cumulative_share": curves["share"].cumsum()}).items()]  # fmt: skip
    return with_ends(pd.concat(parts, ignore_index=True), "value").assign(sigma_next=0.5)


SCHEDULES = {"ρ = 7": SIGMAS, "uniform ln σ": np.geomspace(80.0, 0.002, 7), "tuned on 64 seeds": 2 * SIGMAS[1:]}


def ended():
    """Two solvers, three schedules, three numbers of calls; one ratio below 1 by more than its interval."""
    rows = [(solver, schedule, calls, calls, 0.5 * k / calls**2, 1 / k) for solver in ("Euler", "DPM++ 2M")
            for k, schedule in enumerate(SCHEDULES, 1) for calls in (6, 10, 20)]  # fmt: skip
    names = ["solver", "schedule", "steps", "calls", "median", "typical_ratio"]
    table = with_ends(pd.DataFrame(rows, columns=names), "median", of="median")
    return with_ends(table, "typical_ratio", of="typical_ratio")


def orders():
    """Two solvers in three numbers of steps; of the fewest there is no order."""
    rows = [(solver, steps, 30.0 / steps**order, order if steps > 8 else np.nan)
            for order, solver in enumerate(("Euler", "DPM++ 2M"), 1) for steps in (8, 16, 32)]  # fmt: skip
    return with_ends(pd.DataFrame(rows, columns=["solver", "steps", "error", "order"]), "order")


def bends():
    names = ("state", "flow_state", "denoised", "denoised_change")
    parts = [pd.DataFrame({"path": path, "quantity": name, "sigma": SIGMAS, "mean": RISE * (1 - RISE)})
             for path in ("model", "Gaussian") for name in names]  # fmt: skip
    return with_ends(pd.concat(parts, ignore_index=True))


def turns():
    names = ("flow_state_turn", "denoised_turn", "denoised_acceleration")
    parts = [pd.DataFrame({"path": path, "quantity": name, "sigma": SIGMAS, "mean": 30 * RISE * (1 - RISE) + k})
             for k, path in enumerate(("model", "Gaussian")) for name in names]  # fmt: skip
    return with_ends(pd.concat(parts, ignore_index=True))


def shape_numbers():
    curves = ("state", "flow_state", "denoised")
    rows = [(quantity, curve, 1.2 + k) for k, quantity in enumerate(("arc", "rank", "directions")) for curve in curves]
    rows += [("bundle_rank", "denoised", 5.0), ("bundle_directions", "flow_state", 40.0),
             ("bundle_directions", "denoised", 61.0), ("relative_straightness", "flow_state", 0.2)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["quantity", "curve", "mean"])
    table = with_ends(with_ends(table.assign(gaussian=0.8 * table["mean"])), "gaussian", of="gaussian")
    table.loc[table["quantity"].str.startswith("bundle"), ["low", "high", "gaussian_low", "gaussian_high"]] = np.nan
    return table


def decided():
    keys = [("whole", np.nan, np.nan), ("band", 0.0, 0.125), ("band", 0.125, 0.25), ("band", 0.25, np.inf),
            ("class", np.nan, np.nan)]  # fmt: skip
    parts = [pd.DataFrame({"quantity": name, "low_frequency": low, "high_frequency": high, "sigma": SIGMAS,
                           "left": RISE ** (1 + k)}) for k, (name, low, high) in enumerate(keys)]  # fmt: skip
    return with_ends(pd.concat(parts, ignore_index=True), "left")


def damages():
    damage = {"left out": 0.1 * RISE + 1e-5, "repeated": 0.08 * RISE + 1e-5, "without guidance": 0.02 + 0 * RISE,
              "4 bits": 0.2 * (1 - RISE)}  # fmt: skip
    proxies = {name: RISE ** (1 + k) for k, name in enumerate(("denoised", "eps", "input", "difference", "amplified"))}
    parts = [pd.DataFrame({"kind": kind, "name": name, "step": range(len(SIGMAS)), "sigma": SIGMAS, "mean": mean})
             for kind, found in (("damage", damage), ("proxy", proxies)) for name, mean in found.items()]  # fmt: skip
    table = with_ends(pd.concat(parts, ignore_index=True))
    return table.assign(median=0.9 * table["mean"])


def affinities():
    pairs = [(a, b) for k, a in enumerate(SIGMAS) for b in SIGMAS[k:]]
    table = pd.DataFrame(pairs, columns=["sigma", "sigma_other"])
    return table.assign(agreement=np.exp(-0.5 * np.abs(np.log(table["sigma"] / table["sigma_other"]))))


def moments():
    table = pd.DataFrame({"quantity": "variance", "sigma": SIGMAS, "mean": -0.2 * (1 - RISE) - 0.01})
    table = with_ends(table).assign(gaussian=-0.1 * (1 - RISE))
    return table.rename(columns={"low": "high", "high": "low"})


def effective():
    table = pd.DataFrame({"sigma": SIGMAS, "level": 1 + 0.05 * (1 - RISE), "ratio": 1 + 0.01 * (1 - RISE)})
    return with_ends(table, "level", of="level")


def ranks():
    rows = [(change, proxy, 0.9 - 0.2 * k - 0.1 * m) for m, change in enumerate(("left out", "repeated", "4 bits"))
            for k, proxy in enumerate(("denoised", "eps", "input", "difference", "amplified"))]  # fmt: skip
    return with_ends(pd.DataFrame(rows, columns=["change", "proxy", "rank"]), "rank")


def answers():
    parts = [pd.DataFrame({"quantity": name, "sigma": SIGMAS, "mean": size * RISE})
             for name, size in (("end", 0.5), ("next", 0.1))]  # fmt: skip
    return with_ends(pd.concat(parts, ignore_index=True))


def apart():
    pairs = [f"{later} against {earlier}" for earlier, later in ((100, 400), (400, 2000), (2000, 40000))]
    parts = [pd.DataFrame({"pair": pair, "sigma": SIGMAS, "density": RISE, "divergence": 9 * (1 - RISE)})
             for pair in pairs]  # fmt: skip
    return with_ends(with_ends(pd.concat(parts, ignore_index=True), "density"), "divergence", of="divergence")


def sizes():
    rows = [(f"network.up.{k}.block", kind, step, 1.0 + k) for k in range(6) for kind in ("activation", "weight")
            for step in (100.0, 400.0, 2000.0)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["site", "quantity", "position", "mean"])
    return with_ends(table).assign(checkpoint=table["position"].astype(str))


def learnt():
    parts = [pd.DataFrame({"quantity": name, "checkpoint": step, "sigma": SIGMAS, "mean": RISE})
             for name in ("loss", "information") for step in ("100", "400", "2000")]  # fmt: skip
    return with_ends(pd.concat(parts, ignore_index=True))


def agreements():
    parts = [pd.DataFrame({"compared": name, "sigma": SIGMAS, "mean": share * RISE, "across": 0.3 * RISE})
             for name, share in (("influence", 0.8), ("image", -0.4))]  # fmt: skip
    table = pd.concat(parts, ignore_index=True)
    return table.assign(low=table["mean"] - 0.1, high=table["mean"] + 0.1)


def pictures(count, channels=1):
    return torch.linspace(-1, 1, count * channels * 16).reshape(count, channels, 4, 4)


IMAGES = [np.full((8, 8, 3), 40 * k, np.uint8) for k in range(6)]
MAPS = np.linspace(-1, 1, 6 * 64).reshape(6, 8, 8)
HEADS = [f"{0.0123 * k - 0.03:+.3g}\nlong class name" for k in range(6)]
MODES = pd.DataFrame({"mode": range(3), "sqrt_eigenvalue": [2.0, 1.0, 0.5], "sigma_network": [2.1, 1.3, 0.8]})
SIZES = pd.concat(
    [pd.DataFrame({"mode": k, "sigma": SIGMAS, "network": 1 - RISE, "gaussian": 1 - RISE}) for k in range(3)]
)
SKIPS = pd.concat([pd.DataFrame({"solver": "Heun", "steps": steps, "spent": spent, "sigma_skip": [1, 5, 80.0],
                                 "median": [1e-4, 1e-3, 1e-2]})
                   for steps in (8, 18)
                   for spent in ("same calls, finer steps", "same steps, fewer calls")])  # fmt: skip
GAINS = pd.concat([pd.DataFrame({"solver": solver, "calls": 34, "eigenvalue": [1e-4, 1.0, 50.0],
                                 "relative_error": [0.2, 0.02, -0.3]})
                   for solver in ("Euler", "DPMSolverPP2M")])  # fmt: skip
PATH = pd.concat([pd.DataFrame({"quantity": name, "sigma": SIGMAS, "ratio_of_sums": 0.5 * (1.01 - RISE)})
                  for name in ("state", "denoised")])  # fmt: skip
SKIP_AT = pd.DataFrame({"sigma": SIGMAS, "predicted_error": 1e-4 / SIGMAS, "in_range": SIGMAS > 1})
MEMORY = pd.concat([with_ends(pd.DataFrame({"images": images, "quantity": name, "sigma": SIGMAS, "mean": RISE}))
                    for images in ("train", "held out") for name in ("error", "trace")])  # fmt: skip
FEATURES = pd.DataFrame({"feature": range(100, 120), "mean_part": 0.1, "covariance_part": 0.2})
SPECTRUM = pd.DataFrame({"direction": range(32), "cumulative": np.linspace(0.4, 1, 32)})
REGIONS = pd.DataFrame({"region": ["accessory", "subject"] * 2, "area_share": 0.16,
                        "series": ["one network", "one network", "the other network", "the other network"],
                        "sensitivity_share": [0.9, 0.1, 0.2, 0.8]})  # fmt: skip
GAIN_RUNS = [("CFG", 2.0), ("CFG", 4.0), ("CFG", 8.0), ("APG", 8.0)]
CLIPPED = with_ends(pd.concat([pd.DataFrame({"quantity": name, "sigma": SIGMAS, "mean": RISE})
                               for name in ("active", "relative_norm")]))  # fmt: skip
MOVED = with_ends(pd.DataFrame({"sigma": SIGMAS, "mean": 1 / SIGMAS, "separated": SIGMAS < 9}))
RATIO = with_ends(pd.DataFrame({"sigma": SIGMAS, "mean": RISE}))

LOOKS = torch.linspace(0, 1, 9)[:, None, None] * torch.linspace(0, 0.3, 64).reshape(8, 8)
PARTS = ["full APG", "no projection", "no momentum", "none (CFG)"]
SHARES = with_ends(pd.DataFrame({"norm": [0.4, 1.9, 9.0], "mean": [0.9, 0.6, 0.2]}))
ETAS = by_weight().assign(rule_eta=[0.0, 0.5] * 4)
SETTINGS = summary().assign(setting=lambda table: table["rule"] + ", w = " + table["weight"].astype(str))
PAIRS = [(f"seed {k}: 0.043", IMAGES[k] / 255, IMAGES[k] / 255) for k in range(6)]

CURVE = pd.DataFrame({"sigma": SIGMAS, "weight": 1 + RISE, "alignment": 0.1 * RISE})
ONE_STEP = pd.concat([with_ends(with_ends(k * CURVE, "weight"), "alignment", of="alignment").assign(weak=name)
                      for k, name in enumerate(("weak: digits_weak", "without condition"), 1)])  # fmt: skip

LINE = pd.concat([pd.DataFrame({"rule": rule, "path": k, "sigma": [*SIGMAS, 0.0], "x": k + 1.0})
                  for rule in ("no guidance", "CFG", "interval") for k in range(4)])  # fmt: skip
HEIGHTS = pd.concat([pd.DataFrame({"rule": rule, "x": np.arange(5.0), "density": [0, 1, 2, 1, 0]})
                     for rule in ("class", "both classes", "no guidance", "CFG", "interval")])  # fmt: skip
ARMS = ("the law itself", "no guidance", "CFG", "lengthened scores", "autoguidance")
PLANE = pd.DataFrame(np.argwhere(np.ones((9, 9))) / 4.0 - 1, columns=["x", "y"])

STEP_WEIGHTS = pd.concat([pd.DataFrame({"setting": f"CFG++, {steps} steps", "sigma": SIGMAS, "weight": steps * RISE})
                          for steps in (10, 25, 50)])  # fmt: skip
AGREED = with_ends(pd.concat([pd.DataFrame({"quantity": name, "sigma": SIGMAS, "mean": RISE})
                              for name in ("cosine", "norm_ratio")]))  # fmt: skip

# arguments by place and by name, for `wing.function`
NAMES = ("before-finetuning", "after-finetuning", "unguided: cfg, w = 1")
LINES = pd.concat([summary().query("rule == 'CFG' and weight == 4").assign(line=name) for name in NAMES])
REPLAYED = pd.concat(
    [
        with_ends(pd.DataFrame({"sigma": SIGMAS, "mean": share * RISE})).assign(trace=name, setting=rule)
        for name, share in zip(NAMES, (0.1, 0.2, 0.3), strict=True) for rule in ("APG", "interval")
    ]
)  # fmt: skip


def sheet():
    """A metric sheet of two sites, with a level at which a share is missing."""
    curves = {
        "fvu": 0.3 * RISE,
        "explained_variance": 1 - 0.3 * RISE,
        "dead": 0.1 + 0 * RISE,
        "share_of_zero": RISE / 9,
    }
    parts = [
        pd.DataFrame({"site": site, "sigma": SIGMAS, "quantity": name, "value": value * scale})
        for site, scale in (("network.middle2", 1.0), ("unet.up_blocks.0.attentions.1", 0.8))
        for name, value in curves.items()
    ]
    table = with_ends(pd.concat(parts, ignore_index=True), "value")
    table.loc[(table["quantity"] == "share_of_zero") & (table["sigma"] > 20), ["value", "low", "high"]] = np.nan
    return table


def attributions(features=40):
    """Attributions and ablations at four noise levels, some features of which were not ablated, and a rank that is
    missing."""
    drawn = np.random.default_rng(4).normal(size=(2, features)) ** 3
    levels = pd.DataFrame({"sigma": SIGMAS[::3], "rank": 0.8})
    levels.loc[0, "rank"] = np.nan
    parts = [
        pd.DataFrame({"sigma": sigma, "feature": range(features), "value": drawn[0] / sigma,
                      "ablation": np.where(np.arange(features) % 8, (drawn[0] + 0.3 * drawn[1]) / sigma, np.nan)})
        for sigma in levels["sigma"]
    ]  # fmt: skip
    table = with_ends(with_ends(pd.concat(parts, ignore_index=True), "value"), "ablation", of="ablation")
    return table, levels


def firing(features=60):
    """How often features of two sites fire."""
    parts = [
        pd.DataFrame({
            "site": site, "sigma": sigma, "feature": range(features), "rows": 8000,
            "density": np.where(np.arange(features) < 5, 0, np.geomspace(1e-4, 0.3, features) / (1 + k)),
        })
        for site in ("network.middle2", "network.up.0") for k, sigma in enumerate(SIGMAS[::2])
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def judged_features():
    """What chosen features of two sites read and move: one steers, one reads the other way on other images."""
    rows = pd.DataFrame(
        {
            "site": ["network.middle2"] * 3 + ["unet.up_blocks.0.attentions.1"] * 2,
            "attribute": ["size", "background", "saturation", "size", "hue"], "feature": [17, 302, 5, 1999, 44],
            "value": [0.9, 0.5, 0.6, 0.4, 0.8], "effect": [0.6, 0.05, -0.1, 0.2, 0.3], "chance": 0.1,
            "verdict": ["steerable", "undecided", "not steerable", "undecided", "steerable"],
            "within_budget": [True, True, True, True, False],
        }
    )  # fmt: skip
    for name, half in (("value", 0.06), ("effect", 0.15)):
        rows[f"{name}_low"], rows[f"{name}_high"] = rows[name] - half, rows[name] + half
    return rows


def feature_case():
    """What the page of one feature is drawn from."""
    names = ["size", "background", "saturation"]
    reads = pd.DataFrame({"attribute": names, "value": [0.9, 0.5, 0.6]})
    moves = pd.DataFrame(
        {"arm": "direction", "strength": 3.0, "score": [*names, "frame"], "value": [1.0, 0, -0.2, 0.4]}
    )
    density = firing().query("site == 'network.up.0' and feature == 30")
    spots = torch.rand(6, 4, 4, generator=torch.Generator().manual_seed(0))
    return pictures(6), spots, density, with_ends(reads, "value"), with_ends(moves, "value")


def amplified():
    """Shares of two classes under three rules, one of them beyond what can be."""
    rows = [
        {"setting": rule, "class": name, "group": "with", "share": share, "data_share": known, "data_low": known - 0.05,
         "data_high": known + 0.05}
        for name, known, shares in (("small", 0.15, (0.14, 0.05, 0.0)), ("large", 0.85, (0.84, 0.97, 1.0)))
        for rule, share in zip(("CFG, w = 1", "CFG, w = 4", "CFG, w = 4, σ 0.2 to 2"), shares, strict=True)
    ]  # fmt: skip
    return with_ends(pd.DataFrame(rows), "share")


def grouped():
    """Shares of D of data and of two settings in two classes, with the end of sampling."""
    levels = np.append(SIGMAS, 0.0)
    parts = [
        pd.DataFrame({
            "setting": rule, "class": name, "source": source, "counting": "hard", "group": "with", "sigma": levels,
            "share": end + (start - end) * levels / levels.max(),
        })
        for name, start, known in (("small", 0.0, 0.15), ("large", 1.0, 0.85))
        for rule, drawn in (("CFG, w = 1", known), ("CFG, w = 4", start))
        for source, end in (("samples", drawn), ("data", known))
    ]  # fmt: skip
    return with_ends(pd.concat(parts, ignore_index=True), "share")


def trusted():
    """From where a judge reads one class, and that it never reads the other."""
    return pd.DataFrame(
        {"class": ["small", "large"], "landmark": "trusted_from", "log_snr": [-2 * np.log(3.0), np.inf]}
    )


CASES = {
    "guidance.update_parts": ((summary(),), {"rule": "CFG", "weight": 4.0}),
    "guidance.parallel_share": ((summary(), summary()), {"weights": WEIGHTS, "centred_weight": 4.0}),
    "guidance.branch_cosine": ((summary(),), {"rule": "CFG", "weight": 4.0}),
    "guidance.applied_gain": ((summary(),), {"weights": WEIGHTS}),
    "guidance.band_norms": ((bands(),), {}),
    "guidance.information": (information(), {}),
    "guidance.gain_path": ((runs_table(("step_gain", "path_gain"), 1 + 3e4 * (1 - RISE)),), {"runs": GAIN_RUNS}),
    "guidance.clip": (({0.34: CLIPPED, 1.4: CLIPPED, 487.0: CLIPPED}, RATIO), {}),
    "guidance.separation": (({"APG, w = 4": MOVED, "no guidance": MOVED},), {"tolerance": 0.01}),
    "guidance.one_step_weights": ((ONE_STEP,), {}),
    "guidance.toy_paths": ((LINE, HEIGHTS), {}),
    "guidance.toy_fields": ((
        pd.concat([PLANE.assign(arm=arm) for arm in ARMS]), PLANE.assign(log_density=-((PLANE**2).sum(axis=1))),
        pd.DataFrame({"arm": ARMS, "outside": 0.123})), {"level": -0.5}),
    "guidance.update_agreement": ((AGREED,), {}),
    "guidance.effective_weights": ((STEP_WEIGHTS,), {}),
    "guidance.value_densities": ((densities(),), {"weights": WEIGHTS, "value_range": (-1.0, 1.0)}),
    "guidance.sample_grid": (({("CFG", 1.0): pictures(16), ("adaptive guidance", 7.5): pictures(16)},),
                             {"columns": 16, "value_range": (-1.0, 1.0)}),
    "guidance.against_weight": ((by_weight(), "contrast"), {"label": LABEL, "reference": 12.0}),
    "guidance.against_field": ((ETAS, "contrast"), {"x": "rule_eta", "label": LABEL}),
    "guidance.cost_and_quality": (sweep(), {"metric": "frechet", "label": LABEL}),
    "guidance.metrics_against": ((by_weight().rename(columns={"mean": "value", "quantity": "metric"}),
                                  {"contrast": LABEL}), {"starred": ["contrast"]}),
    "guidance.interval_ends": ((interval_ends(), "frechet"), {"label": "Frechet distance, debiased"}),
    "guidance.precision_and_recall": ((precision_recall(),), {}),
    "guidance.paired_changes": ((compared(setting=PARTS), {"contrast": "change of standard deviation within a sample"}),
                                {"levels": compared(setting=PARTS), "level": ("frechet", LABEL)}),
    "guidance.rule_fields": ((fields(), SHARES, "frechet"), {"label": LABEL}),
    "guidance.threshold_curve": ((thresholds(),), {}),
    "guidance.replayed_rules": ((SETTINGS,), {}),
    "guidance.quantity_by_line": ((LINES, "parallel_share"), {
        "label": "parallel share of the update's energy", "floor": "chance_share", "against": "chance, 1/N"}),
    "guidance.parts_by_line": ((LINES,), {}),
    "guidance.replayed_by_trace": ((REPLAYED,), {}),
    "guidance.set_densities": ((densities(), (-1.0, 1.0)), {}),
    "guidance.image_statistic": ((by_weight(), "contrast"), {"label": "contrast: std within an image (units of data)"}),
    "gaussian.law_fractions": ((laws(), regimes()), {"constant": 1.6, "gaussian": "gaussian"}),
    "gaussian.metrics": ((laws(),), {"gaussian": "gaussian"}),
    "gaussian.queries": ((laws(("held out", "train")),), {"names": ["gaussian", "training set"]}),
    "gaussian.conventions": ((laws(("held_out", "train", "noise", "path")),), {"gaussian": "gaussian"}),
    "gaussian.path_errors": ((with_ends(PATH, "ratio_of_sums"), SKIP_AT), {}),
    "gaussian.emergence": ((SIZES, with_ends(MODES, "sigma_network")), {}),
    "gaussian.skips": ((SKIPS,), {}),
    "gaussian.gains": ((GAINS,), {}),
    "gaussian.dynamics": ((laws(),), {"names": ["gaussian", "per class", "training set"], "sigmas": list(SIGMAS[:7])}),
    "gaussian.memorisation": (({name: MEMORY for name in ("digits", "Gaussian", "memoriser")},), {}),
    "gaussian.flipd_curves": (({name: MEMORY.replace("error", "flipd") for name in ("digits", "Gaussian")},),
                              {"dimension": 1}),
    "gaussian.jacobian_ranks": (({name: MEMORY.replace("error", "rank") for name in ("digits", "Gaussian")},), {}),
    "gaussian.same_seeds": (({name: pictures(8) for name in ("network", "gaussian", "k-means 10", "training set")},),
                            {"first": 0, "value_range": (-1.0, 1.0)}),
    "fid.distances": ((distances(),), {}),
    "fid.metric_dots": ((of_sets(), ["FD", "FD without bias"]), {}),
    "fid.two_spaces": ((distances(),), {}),
    "fid.infinity": (infinity(), {}),
    "fid.matched_classes": ((matched(), ("digits classifier", "gray pixels 8 x 8")), {}),
    "fid.nearest_training_images": (
        (nearest(), 1.1), {"pictures": {name: np.stack(IMAGES) / 255 for name in ("sample", "nearest")}}),
    "fid.contributions": ((FEATURES, SPECTRUM), {}),
    "fid.class_gaps": ((classes(),), {}),
    "fid.class_shares": ((class_shares(),), {}),
    "fid.region_shares": ((with_ends(REGIONS, "sensitivity_share"),), {}),
    "fid.audit": ((audit(), ("digits classifier", "gray pixels 8 x 8")), {}),
    "fid.overview": (
        ({"distances": distances(), "classes": classes(), "audit": audit()}, ("digits classifier", "pixels"),
         {"regions": "the images come without masks (--masks)"}), {}),
    "fid.extremes": ((IMAGES, IMAGES, [0.0123] * 6, [-0.0456] * 6), {"names": ["a long class name"] * 12}),
    "fid.heatmaps": ((IMAGES, MAPS**2, MAPS, HEADS), {}),
    "fid.outlined_maps": ((IMAGES, [MAPS > 0.5], [MAPS**2], ["accessory\nnetwork"], HEADS), {}),
    "fid.occlusions": ((IMAGES, {"closed form": MAPS, "occlusion": MAPS}, HEADS), {}),
    "attention.map_rows": (({"a lighthouse": LOOKS, "influence": 40 * LOOKS.flip(-1)}, SIGMAS), {"scale": "map"}),
    "attention.agreement_curves": ((agreements(),), {}),
    "trajectories.metrics_along": ((walked(), {"frechet": LABEL, "end_error": "RMS distance (units of data)"}), {
        "x": "calls", "xlabel": "denoiser calls a sample", "line": "line", "scale": "log"}),
    "trajectories.weighted_losses": ((trained(),), {"shown": "digits", "untrained": "no network"}),
    "trajectories.local_errors": ((single_steps(),), {}),
    "trajectories.step_errors": ((solver_steps(),), {"line": "solver"}),
    "trajectories.end_errors": ((ended(),), {}),
    "trajectories.observed_orders": ((orders(),), {}),
    "trajectories.schedules": ((SCHEDULES, ended().query("solver == 'Euler' and calls == 10")), {}),
    "trajectories.picture_strips": ((pictures(24),), {
        "columns": ["80", "11", "4.8", "2", "1", "0.5", "0.089", "end"], "rows": [f"seed {k}" for k in range(3)],
        "value_range": (-1.0, 1.0), "xlabel": "noise level σ"}),
    "trajectories.path_geometry": ((bends(),), {}),
    "trajectories.path_bends": ((turns(),), {}),
    "trajectories.path_numbers": ((shape_numbers(),), {}),
    "trajectories.decided_when": ((decided(),), {}),
    "trajectories.step_damages": ((damages(),), {}),
    "trajectories.affinity_matrix": ((affinities(),), {}),
    "trajectories.variance_bias": ((moments(),), {}),
    "trajectories.effective_levels": ((effective(),), {}),
    "trajectories.proxy_dots": ((ranks(),), {}),
    "trajectories.consistency": ((answers(),), {}),
    "trajectories.divergences": ((apart(),), {}),
    "trajectories.magnitudes": ((sizes(),), {}),
    "trajectories.by_checkpoint": ((learnt(), {"loss": "weighted loss, held out", "information": "nats per halving"}),
                                   {}),
    "inside.sparse_sheet": ((sheet(),), {}),
    "inside.attribution_scatter": (attributions(), {}),
    "inside.density_histogram": ((firing(),), {}),
    "inside.read_and_move": ((judged_features(),), {}),
    "inside.feature_page": (feature_case(), {}),
    "inside.unit_overlap": (overlap_case(), {"sigma": 1.0}),
    "inside.unit_effects": (unit_effects_case(), {}),
    "inside.units_maximised": (ascent_case(), {}),
    "inside.amplification": ((amplified(), "with"), {"label": "share with frame"}),
    "inside.group_shares_along": ((grouped(), "with"), {"landmarks": trusted()}),
    "changes.run_differences": ((runs_changed(), ["applied_norm", "one_minus_cos_denoised", "update_ratio"]), {}),
    "changes.loss_differences": ((pair_changed(),), {}),
    "changes.ema_losses": ((ema(),), {}),
    "changes.ema_lowest": ((ema(),), {}),
    "changes.image_pairs": ((PAIRS, ("before", "CFG-4-28fc757f")), {}),
    "studies.over_checkpoints": ((checkpoints(),), {}),
    "studies.curves": (checkpoint_curves(), {}),
}  # fmt: skip
