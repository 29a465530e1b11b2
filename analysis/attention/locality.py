"""How far an edit of projections reaches: what it changes in the text that it is for, and in every other text."""

from collections.abc import Mapping

import pandas as pd
from torch import Tensor

from scorescope.analysis.statistics.tables import Column, Schema
from scorescope.data.doors import checked, require_some
from scorescope.data.errors import InputError
from scorescope.probes.attention.projection_edit import ProjectionEdit

PROJECTION_CHANGES = Schema(
    "projection_changes",
    (
        Column("text", str, "", "name of the text"),
        Column("projection", str, "", "denoiser, module and to_k or to_v"),
        Column("n", int, "", "tokens"),
        Column("change", float, "1", "|W' x - W x| / |W x|: root of the ratio of sums of squares over tokens"),
        Column("largest", float, "1", "the same of the token that changes most"),
    ),
)


@checked
def projection_changes(edit: ProjectionEdit, texts: Mapping[str, Tensor]) -> pd.DataFrame:
    """What an edit changes in keys and values, text by text.

    Parameters
    ----------
    edit : ProjectionEdit
        In place or not.
    texts : mapping of str to Tensor, shape (..., width)
        Text states by name: those that are edited, their neighbours that should not change, and others.

    Returns
    -------
    DataFrame
        One row a text and projection. It is no sample: the change of these texts is known exactly, that of others
        not at all.

    Raises
    ------
    InputError
        For states of another width.
    """
    require_some("texts", texts)
    rows = []
    for text, states in texts.items():
        tokens = states.detach().cpu().double().reshape(-1, states.shape[-1])
        if tokens.shape[1] != len(edit.matrix):
            found = f"width {tokens.shape[1]}"
            raise InputError(f"texts[{text!r}]", found=found, expected=f"{len(edit.matrix)}, that of the edit")
        for name, (before, after) in edit.weights().items():
            old, new = (tokens @ weight.cpu().double().mT for weight in (before, after))
            moved, length = (new - old).square().sum(1), old.square().sum(1)
            each = (moved / length).sqrt()
            change = float((moved.sum() / length.sum()).sqrt())
            rows.append((text, name, len(tokens), change, float(each.max())))
    return PROJECTION_CHANGES.check(pd.DataFrame(rows, columns=PROJECTION_CHANGES.names))
