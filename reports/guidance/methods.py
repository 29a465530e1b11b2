"""Methods of papers behind guidance rules: keys of `reports/studies/references.bib`."""

from collections.abc import Iterable

from scorescope.probes.guidance import (
    APG,
    CFG,
    AdaptiveGuidance,
    Autoguidance,
    CFGZeroStar,
    FrequencyDecoupled,
    Interval,
    Rescaled,
    Rule,
    TangentialCFG,
)

SPLIT = ("sadat2025eliminating",)  # the update in two parts, as every page on guidance shows it
OF_RULES = {
    CFG: "ho2022classifier",
    APG: "sadat2025eliminating",
    Interval: "kynkaanniemi2024applying",
    Autoguidance: "karras2024guiding",
    AdaptiveGuidance: "castillo2025adaptive",
    Rescaled: "lin2024common",
    TangentialCFG: "kwon2025tcfg",
    CFGZeroStar: "fan2025cfgzero",
    FrequencyDecoupled: "sadat2025guidance",
}
"""Rules that the reports sample, but those whose paper is not known for certain."""


def methods_of(rules: Iterable[Rule]) -> list[str]:
    """Keys of the split and of the rules, those that they are around too, each once."""
    found = [*SPLIT]
    for rule in rules:
        inner: object = rule
        while inner is not None:
            found += [OF_RULES[type(inner)]] if type(inner) in OF_RULES else []
            inner = getattr(inner, "rule", None)
    return list(dict.fromkeys(found))
