"""Rows of conditions: of some samples, of many arms for the same images, with some attributes left open.

    table = ConditionRows.join([labels_a, labels_b], count=len(images))
    table.take(arms, rows)                        # the condition of each (arm, image), in one batch

    open_attributes(labels, sizes, keep=[1])      # only attribute 1 is stated
    attribute_candidates(sizes, 1)                # every value of attribute 1, the others open

A condition has one row an image, or a single row that serves every image.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked, describe_value
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition


@displayed
@dataclass(frozen=True)
class ConditionRows:
    """The rows of several conditions, one under the other.

    Attributes
    ----------
    table : Condition
        All rows.
    offsets : Tensor, shape (arms,), int64
        First row of each arm.
    single : Tensor, shape (arms,), bool
        Arms with one row for every image.
    """

    table: Condition
    offsets: Tensor
    single: Tensor

    @classmethod
    def join(cls, conditions: Sequence[Condition], *, count: int) -> "ConditionRows":
        """Put conditions of one kind (see `kind_of`) together.

        Raises
        ------
        InputError
            If one has neither a row for each of `count` images nor a single one, or their kinds differ.
        """
        sizes = [row_count(condition) for condition in conditions]
        if wrong := [size for size in sizes if size not in (1, count)]:
            raise InputError("condition", found=f"{wrong[0]} rows for {count} images", expected=f"{count} rows, or one")
        total = torch.tensor(sizes)
        return cls(stack_conditions(conditions), total.cumsum(0) - total, total == 1)

    def take(self, arms: Tensor, rows: Tensor) -> Condition:
        """Conditions of (arm, image) pairs; both of shape (batch,), int64, on the CPU."""
        return select_rows(self.table, self.offsets[arms] + rows.masked_fill(self.single[arms], 0))


def row_count(condition: Condition) -> int:
    """Number of rows of a condition.

    Raises
    ------
    InputError
        For a scalar, or a dict whose entries differ in length.
    """
    if isinstance(condition, dict):
        sizes = {row_count(value) for value in condition.values()}
        if len(sizes) != 1:
            raise InputError("condition", found=f"entries of {sorted(sizes)} rows", expected="equally many rows")
        return sizes.pop()
    if not hasattr(condition, "__len__") or (isinstance(condition, Tensor) and condition.ndim == 0):
        raise InputError("condition", found=f"a {type(condition).__name__}", expected="a tensor, list or dict of rows")
    return len(condition)


def kind_of(condition: Condition) -> Hashable:
    """What two conditions must share for their rows to go through a denoiser in one batch."""
    if isinstance(condition, dict):
        return tuple(sorted((key, kind_of(value)) for key, value in condition.items()))
    if isinstance(condition, Tensor):
        return ("tensor", str(condition.dtype), str(condition.device), tuple(condition.shape[1:]))
    return (type(condition).__name__,)


def stack_conditions(conditions: Sequence[Condition]) -> Condition:
    """The rows of several conditions, one under the other; None for several times None.

    Raises
    ------
    InputError
        If their kinds (see `kind_of`) differ.
    """
    kinds = {kind_of(condition) for condition in conditions}
    if len(kinds) != 1:
        found = f"kinds {sorted(map(str, kinds))}"
        raise InputError("conditions", found=found, expected="one kind (all of them labels, or all tokens)")
    return _stack(conditions)


def _stack(conditions: Sequence[Condition]) -> Condition:
    first = conditions[0]
    if first is None:
        return None
    if isinstance(first, dict):
        return {key: _stack([condition[key] for condition in conditions]) for key in first}
    if isinstance(first, Tensor):
        return torch.cat(list(conditions))
    return [row for condition in conditions for row in condition]


def select_rows(condition: Condition, rows: slice | Tensor) -> Condition:
    """Some rows of a condition, by a slice or integer positions; dicts entry by entry."""
    if condition is None:
        return None
    if isinstance(condition, dict):
        return {key: select_rows(value, rows) for key, value in condition.items()}
    try:
        if isinstance(rows, slice) or isinstance(condition, Tensor):
            return condition[rows]
        return [condition[i] for i in rows.tolist()]
    except (TypeError, IndexError):
        expected = "a tensor, list or dict with the rows that are asked for"
        raise InputError("condition", found=describe_value(condition), expected=expected) from None


def to_device(condition: Condition, device: torch.device) -> Condition:
    """A condition with its tensors on `device`."""
    if isinstance(condition, dict):
        return {key: to_device(value, device) for key, value in condition.items()}
    return condition.to(device) if isinstance(condition, Tensor) else condition


@checked
def open_attributes(labels: Tensor, sizes: Sequence[int], keep: Sequence[int]) -> Tensor:
    """Labels with every attribute left open but those of `keep`.

    Parameters
    ----------
    labels : Tensor, shape (n, attributes), int64
        Attribute values.
    sizes : sequence of int
        Number of values of each attribute; attribute i is open where its value is sizes[i]. A denoiser conditioned on
        attributes has them as `denoiser.config.attributes`.
    keep : sequence of int
        Columns that stay as they are.

    Raises
    ------
    InputError
        For labels of another shape or columns that are not there.
    """
    _check_labels(labels, sizes)
    for column in keep:
        _check_column(column, sizes)
    out = torch.tensor(sizes, dtype=labels.dtype, device=labels.device).repeat(len(labels), 1)
    out[:, list(keep)] = labels[:, list(keep)]
    return out


@checked
def attribute_candidates(
    sizes: Sequence[int], column: int, *, labels: Tensor | None = None, names: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """A condition for every value of one attribute.

    Parameters
    ----------
    sizes : sequence of int
        Number of values of each attribute.
    column : int
        The attribute.
    labels : Tensor, shape (n, attributes), int64, optional
        Values at which the other attributes are held, image by image; by default they are left open.
    names : sequence of str, optional
        Names of the values.

    Returns
    -------
    dict of str to Tensor
        By value: conditions of shape (n, attributes), or (1, attributes) where the others are open.

    Raises
    ------
    InputError
        For a column that is not there, labels of another shape or another number of names.
    """
    _check_column(column, sizes)
    names = [str(value) for value in range(sizes[column])] if names is None else list(names)
    if len(set(names)) != sizes[column]:
        raise InputError("names", found=str(names), expected=f"{sizes[column]} different names")
    labels = torch.tensor([list(sizes)]) if labels is None else labels
    _check_labels(labels, sizes)
    return {
        name: labels.index_fill(1, torch.tensor([column], device=labels.device), value)
        for value, name in enumerate(names)
    }


def _check_labels(labels: Tensor, sizes: Sequence[int]) -> None:
    if labels.ndim != 2 or labels.shape[1] != len(sizes):
        raise InputError("labels", found=f"shape {tuple(labels.shape)}", expected=f"(n, {len(sizes)})")


def _check_column(column: int, sizes: Sequence[int]) -> None:
    if not 0 <= column < len(sizes):
        raise InputError("column", found=str(column), expected=f"an attribute from 0 to {len(sizes) - 1}")
