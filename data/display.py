"""How objects of ours show themselves: one line at a prompt, a small table in a notebook.

    @displayed
    @dataclass(frozen=True)
    class Run:
        samples: Tensor
        trace: Trace | None

    run                # Run(samples=Tensor[96, 1, 16, 16], trace=Trace(status='complete', samples=96, rows=1728))

Arrays and tables are named by their sizes and never printed whole. What short values look like is left as `dataclass`
has it, so that `CFG(weight=4.0)` can be typed in again. In a notebook every table can be unfolded.
"""

from collections.abc import Mapping
from dataclasses import fields
from html import escape
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from torch import Tensor, nn

Shown = TypeVar("Shown", bound=type)

LONGEST = 60  # characters of one field
ROWS = 10  # of a table that is unfolded
# a notebook's own colours where it has them, and else those of the text around
STYLE = "border-collapse: collapse; color: inherit; background: transparent"
IGNORED = "tex2jax_ignore mathjax_ignore"  # dollars in foreign text are no formulas


def displayed(kind: Shown) -> Shown:
    """Give a class `__repr__` of one line and `_repr_html_`, from its fields or from its own `shown_facts()`."""
    kind.__repr__ = _line  # type: ignore[assignment]
    kind._repr_html_ = _html  # type: ignore[attr-defined]
    return kind


def facts(value: Any) -> dict[str, Any]:
    """What is shown of an object, by name."""
    if hasattr(value, "shown_facts"):
        return dict(value.shown_facts())
    return {field.name: getattr(value, field.name) for field in fields(value) if field.repr}


def brief(value: Any) -> str:
    """A value in a few words of one line."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim:
        return f"{type(value).__name__}{list(value.shape)}"
    if isinstance(value, pd.DataFrame | pd.Series):
        return f"{type(value).__name__}[{' x '.join(map(str, value.shape))}]"
    if isinstance(value, nn.Module) or (callable(value) and not hasattr(value, "_repr_html_")):
        return getattr(value, "__name__", type(value).__name__)
    if isinstance(value, Mapping):
        return _within(value, f"{{{', '.join(f'{key!r}: {brief(item)}' for key, item in _first(value.items()))}}}")
    if isinstance(value, list | tuple):
        text = ", ".join(map(brief, _first(value)))
        text = f"[{text}]" if isinstance(value, list) else f"({text}{',' * (len(value) == 1)})"
        return _within(value, text if type(value) in (list, tuple) else f"{type(value).__name__}{text}")
    if hasattr(value, "_repr_html_"):
        return repr(value)
    return _cut(" ".join(repr(value).split()))


def _line(self: Any) -> str:
    return f"{type(self).__qualname__}({', '.join(f'{name}={brief(value)}' for name, value in facts(self).items())})"


def _html(self: Any) -> str:
    rows = "".join(
        f'<tr><th style="text-align: left; vertical-align: top">{escape(name)}</th>'
        f'<td style="text-align: left">{_cell(value)}</td></tr>'
        for name, value in facts(self).items()
    )
    title = escape(type(self).__qualname__)
    return f'<div class="{IGNORED}"><strong>{title}</strong><table style="{STYLE}">{rows}</table></div>'


def _cell(value: Any) -> str:
    if isinstance(value, pd.DataFrame):
        return f"<details><summary>{escape(brief(value))}</summary>{value.head(ROWS).to_html(border=0)}</details>"
    if isinstance(value, str):
        return escape(value)
    return escape(brief(value))


def _first(items: Any) -> list[Any]:
    return [item for _, item in zip(range(LONGEST), items, strict=False)]


def _within(value: Any, text: str) -> str:
    """The text of a collection, or how many it holds where that is longer than a field may be."""
    return text if len(text) <= LONGEST else f"<{type(value).__name__} of {len(value)}>"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]}...{text[-1]}"
