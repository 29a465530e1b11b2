"""What tells one row of a denoiser's arguments from another: equal keys, equal rows, to the bit.

keys = row_keys(x, sigma, labels)              # one hash a row; None where a condition cannot be told
"""

import hashlib
from typing import Any

import torch
from torch import Tensor

from scorescope.probes.models.conditions import row_count
from scorescope.probes.models.denoiser import Condition


def row_keys(x: Tensor, sigma: Tensor, condition: Condition) -> list[bytes] | None:
    """A hash of each row's state, noise level and condition.

    Parameters
    ----------
    x : Tensor, shape (batch, *shape)
    sigma : Tensor, shape (batch,)
    condition : Condition
        None, or one row a sample: a tensor, or lists and dicts of tensors, words and numbers.

    Returns
    -------
    list of bytes, or None
        None for a condition that holds anything else, or has another number of rows.
    """
    named = _parts(condition, len(x))
    if named is None:
        return None
    parts = zip(_bytes(x), _bytes(sigma.expand(len(x))), named, strict=True)
    return [hashlib.blake2b(b"|".join(part), digest_size=16).digest() for part in parts]


def _parts(condition: Condition, count: int) -> list[bytes] | None:
    """Each row of a condition as bytes."""
    if condition is None:
        return [b"none"] * count
    if isinstance(condition, dict):
        columns = [_parts(condition[name], count) for name in sorted(condition, key=repr)]
        known = [column for column in columns if column is not None]
        names = repr(sorted(condition, key=repr)).encode()
        return None if len(known) < len(columns) else [names + b";".join(row) for row in zip(*known, strict=True)]
    if not isinstance(condition, Tensor | list | tuple) or row_count(condition) != count:
        return None
    if isinstance(condition, Tensor):
        return _bytes(condition)
    rows = [_row(row) for row in condition]
    told = [row for row in rows if row is not None]
    return told if len(told) == count else None


def _row(row: Any) -> bytes | None:
    if isinstance(row, Tensor):
        return _bytes(row[None])[0]
    return repr(row).encode() if isinstance(row, str | int | float) else None


def _bytes(rows: Tensor) -> list[bytes]:
    """The bytes of each row, with the type and shape that they are of."""
    kind = f"{rows.dtype}{tuple(rows.shape[1:])}".encode()
    flat = rows.detach().cpu().contiguous().reshape(len(rows), -1).view(torch.uint8).numpy()
    return [kind + row.tobytes() for row in flat]
