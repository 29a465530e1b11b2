"""Conditions that are independent of the sample, for `ICG`: called with one generator a sample and the condition.

In `sample` the condition is that of the denoiser. Inside a pipeline it is what the network was called with beside
state and time: the tensor itself where there is one (`class_labels`, `encoder_hidden_states`), else a mapping of
tensors by their argument ("encoder_hidden_states", "added_cond_kwargs.text_embeds"), one row a sample. What a draw
returns for a mapping may leave names out; those stay as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import per_sample
from scorescope.probes.models.denoiser import Condition


@displayed
@checked
@dataclass(frozen=True)
class RandomLabels:
    """Uniform class labels: called with generators and a condition, gives (batch,) labels, int64.

    Attributes
    ----------
    classes : int
        Labels are drawn from 0 to classes - 1.
    """

    classes: int

    def __call__(self, generators: list[torch.Generator], condition: Condition) -> Condition:
        """One label a generator, on the device of `condition`."""
        if isinstance(condition, Mapping) or condition.is_floating_point():
            found = f"inputs {', '.join(condition)}" if isinstance(condition, Mapping) else "embeddings"
            expected = "class labels as the condition; GaussianEmbeddings or RandomRows draw others"
            raise InputError("draw", found=f"RandomLabels for {found}", expected=expected)
        labels = torch.cat([torch.randint(self.classes, (1,), generator=generator) for generator in generators])
        return labels.to(condition.device)


@displayed
@checked
@dataclass(frozen=True)
class GaussianEmbeddings:
    """Gaussian noise with the standard deviation of each sample's embeddings (arXiv 2407.02687).

    Attributes
    ----------
    names : tuple of str
        Which inputs are embeddings, where the condition is a mapping.
    """

    names: tuple[str, ...] = ()

    def __call__(self, generators: list[torch.Generator], condition: Condition) -> Condition:
        """Shaped like `condition`.

        Raises
        ------
        InputError
            For a condition of several inputs without names, for names that are not there, and for labels.
        """
        if isinstance(condition, Mapping):
            return {name: _gaussian(generators, value) for name, value in _chosen(self.names, condition).items()}
        return _gaussian(generators, condition)


@displayed
@checked
@dataclass(frozen=True)
class RandomRows:
    """Rows of given conditions, for instance the embeddings of other prompts, each drawn with equal chance.

    Attributes
    ----------
    table : Tensor or mapping of str to Tensor
        Conditions, (rows, ...); for several inputs by their names, and the same row is taken of each.
    """

    table: Tensor | Mapping[str, Tensor]

    def __post_init__(self) -> None:
        tensors = list(self.table.values()) if isinstance(self.table, Mapping) else [self.table]
        if len({len(tensor) for tensor in tensors}) != 1 or not len(tensors[0]):
            raise InputError("table", found=f"{[len(t) for t in tensors]} rows", expected="equally many, at least one")

    def __call__(self, generators: list[torch.Generator], condition: Condition) -> Condition:
        """One row a generator, in the type and on the device of `condition`.

        Raises
        ------
        InputError
            For a tensor where the condition is a mapping, and for names that are not there.
        """
        if isinstance(self.table, Mapping):
            rows = _rows(generators, len(next(iter(self.table.values()))))
            found = _chosen(tuple(self.table), condition).items()
            return {name: self.table[name][rows.to(self.table[name].device)].to(value) for name, value in found}
        if isinstance(condition, Mapping):
            raise _unnamed(condition)
        return self.table[_rows(generators, len(self.table)).to(self.table.device)].to(condition)


def _rows(generators: Sequence[torch.Generator], count: int) -> Tensor:
    return torch.cat([torch.randint(count, (1,), generator=generator) for generator in generators])


def _chosen(names: Sequence[str], condition: Condition) -> dict[str, Tensor]:
    """The inputs of these names."""
    if not isinstance(condition, Mapping):
        raise InputError("draw", found=f"names {', '.join(names)}", expected="none: the condition is a single tensor")
    if not names:
        raise _unnamed(condition)
    if absent := [name for name in names if name not in condition]:
        raise InputError("draw", found=f"the name {absent[0]}", expected=f"names among {', '.join(condition)}")
    return {name: condition[name] for name in names}


def _unnamed(condition: Mapping[str, Tensor]) -> InputError:
    expected = f"names of those to be drawn, among {', '.join(condition)}"
    return InputError("draw", found=f"a condition of {len(condition)} inputs", expected=expected)


def _gaussian(generators: Sequence[torch.Generator], value: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        found = f"a condition of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise InputError("draw", found=found, expected="embeddings, in floating point; RandomLabels draws labels")
    noise = torch.stack([torch.randn(value.shape[1:], generator=generator) for generator in generators])
    return per_sample(value.flatten(1).float().std(1), value) * noise.to(value)
