"""What labels mean where attributes are named by prompts: one column an attribute, and one that says which pair.

prompts = PromptLabels(read_pairs("pairs.txt"))
prompts.label(pair=3, end=1)               # the high end of its attribute; -1 for others, not named
prompts.conditions(labels)                 # rows of `prompts.rows()`, or None where no prompt leaves open
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.prompt_pairs import PromptPair
from scorescope.reports.directions.study import Contrast

PAIR = "pair"  # the column after those of the attributes
OPEN = 2  # the value that leaves an attribute open, after its two ends


@displayed
@dataclass(frozen=True)
class PromptLabels:
    """Pairs of prompts as the attributes, labels and conditions of a subject.

    Attributes
    ----------
    pairs : sequence of PromptPair
        Those of one attribute are contexts of one contrast.
    """

    pairs: Sequence[PromptPair]

    @cached_property
    def names(self) -> list[str]:
        """Attributes."""
        return list(dict.fromkeys(pair.attribute for pair in self.pairs))

    @cached_property
    def contexts(self) -> list[list[int]]:
        """Pairs of each attribute."""
        return [[k for k, pair in enumerate(self.pairs) if pair.attribute == name] for name in self.names]

    @property
    def contrasts(self) -> list[Contrast]:
        """Low to high of each attribute."""
        first = [self.pairs[contexts[0]] for contexts in self.contexts]
        return [Contrast(pair.attribute, pair.low_name, pair.high_name) for pair in first]

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """Values of each attribute, and the pairs."""
        ends = {contrast.attribute: (contrast.low, contrast.high) for contrast in self.contrasts}
        return {**ends, PAIR: tuple(map(str, self.pairs))}

    def rows(self) -> list[dict[str, Any]]:
        """Arguments of a pipeline's call for every prompt: low and high of each pair in turn, then all open ones."""
        ends = [pair.call(prompt) for pair in self.pairs for prompt in (pair.low, pair.high)]
        return ends + [pair.call(pair.open) for pair in self.pairs if pair.open is not None]

    def label(self, pair: int, end: int) -> Tensor:
        """Values of the attributes, of which a pair knows its own alone, and the pair."""
        own = self.names.index(self.pairs[pair].attribute)
        return torch.tensor([*(end if place == own else -1 for place in range(len(self.names))), pair])

    def plan(self, count: int) -> list[int]:
        """Pairs to make pairs of images of: `count` for each attribute, whose contexts take turns."""
        return [contexts[number % len(contexts)] for number in range(count) for contexts in self.contexts]

    def drawn(self, count: int) -> Tensor:
        """Labels of samples: attributes take turns, each with all its contexts, and then with the other end."""
        found = [
            self.label(contexts[number % len(contexts)], number // len(contexts) % 2)
            for number in range(-(-count // len(self.names)))
            for contexts in self.contexts
        ]
        return torch.stack(found[:count])

    def conditions(self, labels: Tensor) -> Tensor | None:
        """Rows of `rows()`; None, the unconditional branch, for labels that leave open what no prompt does."""
        pairs = labels[:, -1]
        ends = labels[:, :-1].amax(1)  # all others are -1
        if self.pairs[0].open is None and bool((ends == OPEN).all()):
            return None
        return torch.where(ends == OPEN, 2 * len(self.pairs) + pairs, 2 * pairs + ends)
