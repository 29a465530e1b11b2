"""Atlas: figures of whole paths under guidance: where rules part, and what each predicts at one state."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from scorescope.analysis.guidance.decomposition import decompose, summarise
from scorescope.analysis.guidance.information import suggest_interval
from scorescope.analysis.guidance.paired_runs import separation
from scorescope.probes.experiments.replay import replay_all
from scorescope.probes.guidance import (
    APG,
    CFG,
    Interval,
    Rule,
)
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.guidance import figures
from scorescope.reports.guidance.atlas_update import UNGUIDED, unguided
from scorescope.reports.guidance.sections_paths import TOLERANCE, most_pairs
from scorescope.reports.page.strips import strips

SHOWN = 7  # noise levels in a row of pictures
PATH = {"a path under CFG, states kept": 70}


def compared_rules(material: Material) -> dict[str, Rule]:
    """Rules that are set beside CFG, with an interval where the information suggests one."""
    weight = material.weight
    rules: dict[str, Rule] = {f"APG, w = {weight:g}": APG(weight), "no guidance": CFG(1.0)}
    interval = suggest_interval(unguided(material)).iloc[0]
    if not interval["missing"]:
        low, high = float(interval["low"]), float(interval["high"])
        rules[f"interval, w = {weight:g}"] = Interval(CFG(weight), low=low, high=high)
    return rules


def part_numbers(material: Material) -> Numbers:
    """Distances of paired states of other rules from those of CFG."""
    count = min(material.count, most_pairs(material.studied))
    base = material.path(CFG(material.weight), count=count)
    tables = [
        separation(base, material.path(rule, count=count), tolerance=TOLERANCE).assign(setting=name)
        for name, rule in compared_rules(material).items()
    ]
    return Numbers(
        {"separation": pd.concat(tables, ignore_index=True)}, facts=material.first(count) | {"tolerance": TOLERANCE}
    )


def draw_part(numbers: Numbers, **how: Any) -> Figure:
    """RMS distances in units of sigma."""
    tables = dict(iter(numbers.tables["separation"].groupby("setting", sort=False)))
    return figures.separation(tables, tolerance=numbers.facts["tolerance"], **how)


def sigma_numbers(material: Material) -> Numbers:
    """What each rule predicts for one sample at the states of a path under CFG."""
    count, weight = min(material.count, most_pairs(material.studied)), material.weight
    rules = {f"CFG, w = {weight:g}": CFG(weight)} | compared_rules(material)
    replays = replay_all(material.path(CFG(weight), count=count), list(rules.values()), keep=True)
    firsts = [visit for visit in replays[0].kept if visit.call == 0 and visit.first == 0]
    places = np.unique(np.linspace(0, len(firsts) - 1, SHOWN).round().astype(int)).tolist()
    steps = [firsts[place].step for place in places]
    pictures, tables = {}, []
    for name, trace in zip(rules, replays, strict=True):
        guided = {visit.step: visit.guided[0] for visit in trace.kept if visit.call == 0 and visit.first == 0}
        pictures[name] = torch.stack([guided[step] for step in steps]).float()
        tables.append(summarise(decompose(trace)).assign(setting=name))
    table = pd.concat(tables, ignore_index=True)
    facts = {
        "levels": [firsts[place].sigma for place in places],
        "range": list(material.studied.value_range or (-1, 1)),
    }
    return Numbers({"steps": table}, pictures, facts | material.first(count))


def draw_sigma(numbers: Numbers, **how: Any) -> Figure:
    """A row a rule, a column a noise level."""
    low, high = numbers.facts["range"]
    rows = {
        name: ((images - low) / (high - low)).clamp(0, 1).movedim(1, -1) for name, images in numbers.pictures.items()
    }
    return strips(
        {name: row.numpy() for name, row in rows.items()}, [f"{s:.2g}" for s in numbers.facts["levels"]], **how
    )


ENTRIES = (
    Entry(
        "rules-part", "distance of the states of other rules from those of CFG, from the same noise, against σ",
        ("model", "conditions"), part_numbers, draw_part,
        "RMS distance of paired states, in units of σ, of each rule's path from that of CFG at w = {weight:g} from the "
        "same noise, against the noise level ({model}); marks, the first step whose interval lies above "
        "{tolerance:g}. Bands are 95 % intervals over pairs, at each step alone.",
        "one rule twice is at distance 0; of two Gaussians of one covariance the states of CFG at two weights part by "
        "a known vector", calls=UNGUIDED | PATH | {"paths of other rules": 175},
    ),
    Entry(
        "rules-by-sigma", "what each rule predicts for one sample at the same states, a row a rule, a column a σ",
        ("model", "conditions", "pictures"), sigma_numbers, draw_sigma,
        "Guided predictions of the first sample at the states of a path under CFG at w = {weight:g} ({model}), a row "
        "a rule; columns, falling noise levels. No rule but CFG goes on from its own prediction.",
        "at w = 1 all rows are the same", calls=UNGUIDED | PATH,
    ),
)  # fmt: skip
