"""What a colour, a marker and a dash mean in all figures: branches, guidance rules, parts of an update, spaces, series.

    looks(["CFG", "APG"])["APG"].color       # the same in every figure
    series(2).line                           # of things without a meaning of their own, such as attributes

Public through `theme`. What meets in one figure is told apart by colour-blind eyes too, or by its dash: a test has such
eyes.
"""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_hex, to_rgb

PALETTE = [
    "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9",
]  # fmt: skip  # seaborn's "colorblind"
REFERENCE = "#6b7280"  # floors, chance levels and other lines to compare with
HIGHLIGHT = "#882255"  # what a figure is about, where that is no rule, part or space
REAL = "#222222"  # real data


@dataclass(frozen=True)
class Look:
    """How one thing is drawn: with this colour, marker and dash, in every figure."""

    color: str
    marker: str
    linestyle: Any = "-"

    @property
    def line(self) -> dict[str, Any]:
        """Colour and dash, for a line without marks."""
        return {"color": self.color, "linestyle": self.linestyle}


BRANCHES = {
    "cond": Look("#004488", "o", "-"),
    "uncond": Look("#bb5566", "s", "--"),
    "guided": Look("#ddaa33", "^", "-."),
    "weak": Look("#88a0b8", "v", ":"),
    "perturbed": Look("#7a5c00", "P", (0, (5, 1, 1, 1, 1, 1))),
}
# rules by the first words of a name
RULES = {
    "cfg": Look(PALETTE[0], "o", "-"),
    "apg": Look(PALETTE[1], "s", "--"),
    "interval": Look(PALETTE[4], "^", "-."),
    "adaptive": Look("#aa4499", "v", ":"),
    "no guidance": Look(PALETTE[9], "D", ":"),
}
ALIASES = {"negated cfg": "cfg", "adaptiveguidance": "adaptive"}
OTHER_RULES = (Look(PALETTE[5], "D", "-."), Look("#999933", "v", ":"), Look("#661100", "P", "--"))
PARTS = {
    "update": Look("#444444", ""),
    "orthogonal": Look(PALETTE[2], ""),
    "parallel": Look(PALETTE[3], "", "--"),
    "mean removed": Look("#117733", "", "-."),
}
SPACES = {"denoised": Look("#332288", ""), "eps": Look("#44aa99", "", "--")}
# what has no meaning of its own, such as attributes and laws, in the order in which it comes; neighbours far apart
SERIES = tuple(
    Look(PALETTE[place], marker, style)
    for place, marker, style in zip(
        (0, 1, 2, 3, 4, 9, 5, 7, 6, 8),
        "os^DvPXos^",
        ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), "-", "--", "-.", ":"),
        strict=True,
    )
)


def looks(names: Iterable[str]) -> dict[str, Look]:
    """The look of each guidance rule of a figure, by its name; rules without one of their own get different ones.

    Samplers write 'CFG' or 'Interval[CFG]', recorded runs 'cfg', settings 'CFG, w = 4': the first words count.
    """
    others, found = itertools.cycle(OTHER_RULES), dict[str, Look]()
    for name in names:
        key = re.split(r"[\[(,]", name.casefold())[0].strip()
        key = ALIASES.get(key, key)
        found[name] = RULES.get(key) or RULES.get(key.partition(" ")[0]) or next(others)
    return found


def series(place: int) -> Look:
    """The look of one of several things that have no meaning of their own, such as attributes or laws."""
    return SERIES[place % len(SERIES)]


def shades(color: str, count: int) -> list[str]:
    """`count` shades of one colour, light to full, for an ordered quantity."""
    import seaborn as sns  # two seconds of every command, were it above

    return list(sns.light_palette(color, count + 2).as_hex())[2:]


def pale(color: str, share: float = 0.3) -> str:
    """A colour mixed with white, of which `share` is left: as if transparent, but a hatch over it stays in an SVG."""
    return to_hex(tuple(1 - share * (1 - np.array(to_rgb(color)))))
