"""Attention maps of the calls of a run: by branch, sample, layer, head and token, or by word.

    found.maps                                        # (call, sample, layer, head, token, y, x)
    found.sigmas, found.branches                      # of the calls
    found.by_word(word_tokens(prompt, ["lighthouse", "sea"], pipe.tokenizer)).table()

This module calls no network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked, require_some
from scorescope.data.errors import InputError

MEAN = "mean"
"""The name of the one layer, or head, that is the mean of all."""


@displayed
@checked
@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """What image positions attend to, call by call.

    Attributes
    ----------
    maps : Tensor, shape (call, sample, layer, head, token, y, x), float32
        Probability with which a query in this cell of the image looks at this text token: the softmax over all keys,
        averaged over the cell. In cross-attention the tokens sum to 1; in joint attention what is missing to 1 goes to
        image tokens. NaN for heads that a layer does not have. On the CPU.
    sigmas : Tensor, shape (call,), float64
        Variance-exploding noise level; NaN where it is unknown.
    runs, steps : tuple of int
        Of each call: which run of the pipeline inside the block, and which step of it, from 0.
    branches : tuple of str
        Of each call.
    layers, heads, tokens : tuple of str
        Sites, or "mean"; numbers, or "mean"; places in the text, or words.
    sites : tuple of str
        Attention modules that were read, whether or not they were kept apart.

    Raises
    ------
    InputError
        For names that do not fit the axes of the maps.
    """

    maps: Tensor
    sigmas: Tensor
    runs: tuple[int, ...]
    steps: tuple[int, ...]
    branches: tuple[str, ...]
    layers: tuple[str, ...]
    heads: tuple[str, ...]
    tokens: tuple[str, ...]
    sites: tuple[str, ...]

    def __post_init__(self) -> None:
        calls = {len(part) for part in (self.sigmas, self.runs, self.steps, self.branches)}
        named = (len(self.layers), len(self.heads), len(self.tokens))
        if self.maps.ndim != 7 or calls != {len(self.maps)} or named != tuple(self.maps.shape[2:5]):
            found = f"shape {tuple(self.maps.shape)}, with {sorted(calls)} calls and names {named}"
            raise InputError("maps", found=found, expected="(call, sample, layer, head, token, y, x), a name for each")

    @checked
    def by_word(self, words: Mapping[str, Sequence[int]]) -> "AttentionMaps":
        """The same by word: the probability of looking at any of its tokens, their sum.

        Parameters
        ----------
        words : mapping of str to sequence of int
            Places of each word's tokens in the text, as from `word_tokens`.

        Returns
        -------
        AttentionMaps
            Its `tokens` are the words.

        Raises
        ------
        InputError
            For a word without a token, and tokens that were not kept, or that the text was cut before.
        """
        require_some("words", words)
        places = {int(token): place for place, token in enumerate(self.tokens) if token.isdecimal()}
        for word, tokens in words.items():
            if not len(tokens) or not set(tokens) <= set(places):
                kept = f"tokens among the {len(places)} that are kept"
                raise InputError(f"words[{word!r}]", found=str(list(tokens)), expected=kept)
        chosen = [[places[token] for token in dict.fromkeys(tokens)] for tokens in words.values()]
        maps = torch.stack([self.maps[..., rows, :, :].sum(-3) for rows in chosen], dim=-3)
        return replace(self, maps=maps, tokens=tuple(words))

    @checked
    def of_branch(self, branch: str) -> "AttentionMaps":
        """The calls of one branch; `InputError` where there are none."""
        kept = [place for place, name in enumerate(self.branches) if name == branch]
        if not kept:
            raise InputError("branch", found=repr(branch), expected=f"one of {sorted(set(self.branches))}")
        runs, steps = (tuple(part[place] for place in kept) for part in (self.runs, self.steps))
        return replace(self, maps=self.maps[kept], sigmas=self.sigmas[kept], runs=runs, steps=steps,
                       branches=(branch,) * len(kept))  # fmt: skip

    def table(self) -> pd.DataFrame:
        """How much, and how widely, each token is looked at.

        Returns
        -------
        DataFrame
            One row a call, sample, layer, head and token: `run`, `step`, `sigma`, `branch`, `sample`, `layer`,
            `head`, `token`; `share`, the mean of the map; `spread`, the exponential of the entropy of the map as a
            distribution over cells, as a share of them: 1 for an even map, 1 / cells for all in one cell.
        """
        calls, samples = self.maps.shape[:2]
        cells = self.maps.double().flatten(-2)
        places = cells / cells.sum(-1, keepdim=True)
        spread = torch.special.entr(places).sum(-1).exp() / cells.shape[-1]
        axes = [range(calls), range(samples), self.layers, self.heads, self.tokens]
        index = pd.MultiIndex.from_product(axes, names=["call", "sample", "layer", "head", "token"])
        table = pd.DataFrame({"share": cells.mean(-1).flatten(), "spread": spread.flatten()}, index).reset_index()
        of_calls = {"run": self.runs, "step": self.steps, "sigma": self.sigmas.tolist(), "branch": self.branches}
        return pd.DataFrame(of_calls).iloc[table.pop("call")].reset_index(drop=True).join(table)
