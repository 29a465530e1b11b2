"""Every entry of the atlas: its words, its figure in a column and across a page, and that its oracle is tested."""

import ast
import re
import string
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tests.artists import faults
from tests.atlas_material import toy_material

from scorescope.probes.guidance import CFG
from scorescope.reports import theme
from scorescope.reports.atlas import catalogue, make
from scorescope.reports.atlas.kept import Kept, key_of
from scorescope.reports.atlas.make import caption_of, drawn, latex_caption, numbers_of, plain_caption
from scorescope.reports.atlas.shipped import shipped
from scorescope.reports.entries import NEEDS, Material, Numbers
from scorescope.reports.studies.bibliography import entries as bibliography

ENTRIES = catalogue()
TESTS = Path(__file__).parents[1]
material = cache(toy_material)


@cache
def numbers(name: str) -> Numbers:
    return numbers_of(ENTRIES[name], material())


def makeable() -> list[str]:
    return [name for name, entry in ENTRIES.items() if not entry.why_not(material())]


def test_names_are_one_each_and_plain():
    from scorescope.reports.atlas.catalogue import WINGS

    every = [entry.name for entries in WINGS.values() for entry in entries]
    assert len(every) == len(set(every)) == len(ENTRIES)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in every)


def test_papers_are_in_the_bibliography():
    assert {key for entry in ENTRIES.values() for key in entry.cites} <= set(bibliography())


def test_phrases_are_phrases():
    for entry in ENTRIES.values():
        for phrase in (entry.shows, entry.differs, entry.oracle):
            assert not phrase.endswith(".") and "{" not in phrase, entry.name  # no templates
        assert entry.caption.endswith(".")
        assert set(entry.needs) <= set(NEEDS)


def test_every_oracle_is_tested():
    """By a function named after the entry in the tests of its instrument."""
    names = {
        node.name
        for file in TESTS.glob("*/test_atlas*.py") for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    }  # fmt: skip
    assert {f"test_{name.replace('-', '_')}" for name in ENTRIES} <= names


@pytest.mark.parametrize("name", makeable())
@pytest.mark.parametrize("style", ["paper-single", pytest.param("paper-double", marks=pytest.mark.slow)])
def test_figure(name, style, tmp_path):
    figure = drawn(ENTRIES[name], numbers(name), style)
    assert not numbers(name).why
    assert faults(figure) == []
    assert all(ax.has_data() for ax in figure.axes if ax.axison)
    file = theme.save(figure, tmp_path / "one.pdf").read_bytes()
    width, _ = map(float, re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+)", file).groups())
    larger = theme.STYLES[style].pictures
    assert width / 72 in [pytest.approx(theme.STYLES[style].width * scale, abs=0.01) for scale in (1, larger)]
    assert b"/Type3" not in file


@pytest.mark.parametrize("name", makeable())
def test_caption_names_its_facts(name):
    entry = ENTRIES[name]
    caption = caption_of(entry, material(), numbers(name))
    fields = [field for _, field, _, _ in string.Formatter().parse(entry.caption) if field]
    assert fields, "a caption says of what it is"
    assert "nan" not in caption and "None" not in caption
    assert all(rf"\cite{{{key}}}" in caption for key in entry.cites)


def test_numbers_of_traces_come_back_from_disk(tmp_path):
    trace = material().path(CFG(2.0), count=8)
    entry, one = ENTRIES["apg-update-parts"], Material(traces=[trace])
    first = make(entry, one, folder=tmp_path)
    again = make(entry, one, folder=tmp_path)
    assert again.table.equals(first.table) and again.table is not first.table


def test_numbers_come_back_from_disk(tmp_path):
    entry = ENTRIES["apg-update-parts"]
    first = make(entry, material(), folder=tmp_path)
    again = make(entry, material(), folder=tmp_path)
    assert again.table.equals(first.table)
    assert again.table is not first.table
    assert again.caption == first.caption


def test_captions_on_a_page_have_no_latex():
    said = plain_caption(r"Norm of $D_c - D_u$ against $\sigma$. After section 4 of \cite{sadat2025eliminating}.")
    assert said == "Norm of D_c - D_u against σ. After section 4 of Sadat et al. (2025)."
    assert plain_caption(r"\cite{kynkaanniemi2024applying}") == "Kynkaanniemi et al. (2024)"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted({*makeable(), *(name for name, entry in ENTRIES.items() if "subject" in entry.needs)})
)
def test_calls_are_at_most_as_many_as_said_and_not_far_fewer(name):
    """At the sizes of an atlas of the shipped models; fewer where settings share predictions."""
    entry, counted = ENTRIES[name], Counter[str]()
    material = shipped(count=16, progress=False)
    with counting(material, counted) as material:
        entry.numbers(material)
    said = sum(entry.calls_of(material).values()) * (1 if "subject" in entry.needs else material.count)
    assert 0.4 * said <= counted["rows"] <= 1.02 * said


@contextmanager
def counting(material, counted):
    """Every row that any of its networks is asked about, counted."""
    subject = material.subject()
    models = [material.model, material.weak, *material.checkpoints.values(), subject]

    def count(module, given):
        counted["rows"] += len(given[0])

    hooks = [model.denoiser.register_forward_pre_hook(count) for model in models]
    yield replace(material, subject=lambda: subject)
    for hook in hooks:
        hook.remove()


def test_numbers_of_other_images_are_measured_again():
    entry = replace(ENTRIES["apg-update-parts"], needs=("images",))
    one, other = (replace(material(), images=partial(dict, {"a/": digest})) for digest in ("12", "34"))
    assert key_of(entry, one) != key_of(entry, other)
    assert key_of(entry, one) == key_of(entry, replace(one))


def test_pictures_and_odd_facts_come_back(tmp_path):
    numbers = Numbers({"rows": pd.DataFrame({"a": [1.0]})}, {"x": torch.rand(2, 1, 4, 4)}, {"weight": float("nan")})
    Kept(tmp_path, "key").write(numbers)
    again = Kept(tmp_path, "key").read()
    assert torch.equal(again.pictures["x"], numbers.pictures["x"]) and np.isnan(again.facts["weight"])
    assert Kept(tmp_path, "other").read() is None
    (tmp_path / "rows.parquet").write_bytes(b"")
    assert Kept(tmp_path, "key").read() is None


def test_captions_are_latex():
    said = latex_caption(r"95 % of σ² for my_model, $D_c$ (f_1). After \cite{ho2022classifier}.")
    assert said == r"95 \% of $\sigma$$^2$ for my\_model, $D_c$ (f\_1). After \cite{ho2022classifier}."


@pytest.mark.parametrize("name", makeable())
def test_a_caption_has_nothing_that_latex_would_take_for_something_else(name):
    said = latex_caption(caption_of(ENTRIES[name], material(), numbers(name)))
    bare = re.sub(r"\$[^$]*\$|\\cite\{\w+\}|\\[%&#_{}$]|\\text\w+\{\}", "", said)
    assert not re.search(r"[%&#_{}$\\]", bare) and bare.isascii(), bare


def test_numbers_belong_to_conditions_ranges_and_traces():
    entry, one = ENTRIES["apg-update-parts"], material()
    other = replace(one.model, conditions=lambda n: torch.zeros(n, dtype=torch.long))
    wider = replace(one.model, value_range=(-9.0, 9.0))
    keys = {key_of(entry, replace(one, model=model)) for model in (one.model, other, wider)}
    weak, strong = (Material(traces=[one.path(CFG(weight), count=8)]) for weight in (1.0, 2.0))
    assert len(keys | {key_of(entry, weak), key_of(entry, strong)}) == 5


def test_what_cannot_be_told_is_a_reason_in_place_of_axes():
    silent = Material(traces=[material().path(CFG(1.0), count=8)])  # of the conditional branch alone
    assert numbers_of(ENTRIES["apg-update-parts"], silent).why.startswith("no update is known at any step")

    def no_branch(x, sigma, condition):
        return x * condition[:, None, None, None]

    lacking = ENTRIES["apg-gain-path"].why_not(replace(material(), model=replace(material().model, denoiser=no_branch)))
    assert "an unconditional branch" in lacking


def test_repeats_are_counted_in_the_caption():
    both = replace(material(), band="minmax")
    entry = ENTRIES["apg-metrics-vs-w"]
    assert "48 samples a setting, seeds 0 to 47" in caption_of(entry, both, numbers_of(entry, both))
