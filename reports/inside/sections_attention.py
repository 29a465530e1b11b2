"""The section of the inside report on attention to text: where a word is looked at, and where it changes anything."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from scorescope.analysis.attention import WordComparison, compare_word
from scorescope.data.errors import InputError
from scorescope.data.prompt_pairs import PromptPair, differing_words
from scorescope.probes.attention import word_tokens
from scorescope.reports import attention
from scorescope.reports.directions import PromptSubject
from scorescope.reports.inside import findings, readings
from scorescope.reports.inside.workbench import Workbench
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

PLAIN = "Not made: it takes a pipeline that is conditioned on text (--pipeline)."


def attention_section(bench: Workbench) -> Section:
    """For the first pair of prompts of each attribute: attention to the word that differs, beside what it changes."""
    if bench.pipe is None or not isinstance(bench.subject, PromptSubject):
        return Section(text=PLAIN)
    asked = {contrast.attribute for contrast in bench.contrasts}
    pairs = {pair.attribute: pair for pair in reversed(bench.subject.prompts) if pair.attribute in asked}
    found: dict[str, WordComparison] = {}
    refused: dict[str, str] = {}
    for attribute, pair in pairs.items():
        try:
            found[attribute] = _compared(bench, pair)
        except InputError as error:
            refused[attribute] = str(error)
    why = " ".join(f"Not made for {name}: {reason}." for name, reason in refused.items())
    return _section(bench, pairs, found, why) if found else Section(text=why)


def _section(
    bench: Workbench, pairs: Mapping[str, PromptPair], found: Mapping[str, WordComparison], why: str
) -> Section:
    table = pd.concat([one.agreement.assign(word=word_of(pairs[name])[0]) for name, one in found.items()])
    first = next(iter(found))
    shown, word = found[first], word_of(pairs[first])[0]
    rows = {"attention": shown.attention.mean(1), "influence": shown.influence.mean(1)}
    seeds = shown.attention.shape[1]
    made = f"{pairs[first].call(word_of(pairs[first])[1])['prompt']!r}"
    return Section(
        text=f"{seeds} seeds a word. Attention: how much the network looks at the word's tokens, averaged over heads "
        "and layers, of the conditional branch. Influence: how far its prediction at the same states changes with the "
        f"prompt without the word. {why}",
        figures=[
            ReportFigure(
                "attention_maps", attention.figures.map_rows(rows, shown.sigmas, scale="map"),
                f"Attention to '{word}' in {made}, and its influence, averaged over {seeds} seeds.",
                "Columns: noise levels of the run. A map has a scale of its own.", wide=True,
            ),
            ReportFigure(
                "attention_agreement", attention.figures.agreement_curves(shown.agreement),
                readings.read_agreement(table),
                f"'{word}': Spearman's rank correlation over the cells of a map, mean over {seeds} seeds with 95 % "
                "intervals. Influence: at the same level; image: of the last latents. Dashed: maps of different seeds, "
                "what all maps share.",
            ),
        ],
        tables=[ReportTable("attention", table, "One row a (word, what it is compared with, noise level).")],
        findings=findings.looked_at(table),
    )  # fmt: skip


def word_of(pair: PromptPair) -> tuple[str, str, str]:
    """The words that one prompt of a pair has, that prompt, and the one without them."""
    low, high = differing_words(pair.low, pair.high)
    if high in pair.high:
        return high, pair.high, pair.low if pair.open is None else pair.open
    return low, pair.low, pair.high


def _compared(bench: Workbench, pair: PromptPair) -> WordComparison:
    word, prompt, without = word_of(pair)
    tokens = word_tokens(prompt, [word], _tokenizer(bench.pipe))[word]
    seeds = range(bench.seed, bench.seed + bench.size(24, 12))
    return compare_word(
        bench.pipe, pair.call(prompt), pair.call(without), tokens, seeds=seeds, arguments=bench.arguments,
        grid=_grid(bench.subject.images.shape[1:], bench.arguments), progress=bench.progress,
    )  # fmt: skip


def _tokenizer(pipe: Any) -> Any:
    """Of the text whose states the denoiser looks at: the second one's of a Flux, whose first is pooled."""
    return pipe.tokenizer_2 if type(pipe).__name__.startswith("Flux") else pipe.tokenizer


def _grid(shape: Sequence[int], arguments: Mapping[str, Any]) -> tuple[int, int] | None:
    """Rows and columns of latents that are packed to tokens, of the asked size or else square."""
    if len(shape) != 2:
        return None
    rows = round(math.sqrt(shape[0] * float(arguments.get("height", 1)) / float(arguments.get("width", 1))))
    return rows, shape[0] // rows
