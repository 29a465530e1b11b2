"""Attention maps of an unmodified pipeline: recomputed beside the fused kernel, which stays in place.

with attention_maps(pipe, branch="cond") as watching:
    pipe("a lighthouse by the sea")
found = watching.read()
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.attention.kernel import SeenAttention, WatchedAttention, is_attention, text_given
from scorescope.probes.attention.maps import MEAN, AttentionMaps
from scorescope.probes.attention.places import Places, grid_of, places_of, size_of
from scorescope.probes.attention.reduction import text_maps
from scorescope.probes.pipelines import find
from scorescope.probes.pipelines.branch_rows import BranchRows
from scorescope.probes.pipelines.call import Call
from scorescope.probes.pipelines.level_reader import LevelFunction
from scorescope.probes.pipelines.listener import StepEvent
from scorescope.probes.sites.once_a_pass import PassCalls
from scorescope.probes.sites.outputs import ModuleCall
from scorescope.probes.sites.pipeline_sites import DenoiserCall, PipelineSites

Apart = Literal["call", "layer", "head"]


@checked
def attention_maps(
    pipe: Any,
    sites: Sequence[str] = (),
    *,
    branch: Literal["cond", "uncond", "both"] = "cond",
    apart: Apart = "call",
    tokens: Sequence[int] | None = None,
    size: int = 16,
    budget: int = 2**30,
    branches: Sequence[str] = (),
    modules: find.Modules = None,
    level: LevelFunction | None = None,
) -> "WatchingAttention":
    """Keep what image positions attend to in the text, for the length of a with block.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline whose attention is computed by torch's `scaled_dot_product_attention`, as by default. It is
        not modified, and its images are the same to the bit: the maps are computed once more, from the queries and keys
        that the kernel was given.
    sites : sequence of str
        Attention modules ("unet.mid_block.attentions.0.transformer_blocks.0.attn2"); by default all of the denoisers
        that are given text, beside the image or in one sequence with it.
    branch : {"cond", "uncond", "both"}
        Rows of the calls to keep. Which they are is proved by the step that they feed.
    apart : {"call", "layer", "head"}
        What has a map of its own: a call, its layers, or their heads. The mean is taken over the rest, first over the
        heads of a layer, then over layers.
    tokens : sequence of int, optional
        Places in the text to keep; by default all.
    size : int
        Cells along the longer side of the maps. Finer attention is averaged, coarser repeated.
    budget : int
        Most bytes of maps, which stay on the device until the block ends.
    branches, modules, level
        See `intervene`.

    Returns
    -------
    WatchingAttention
        A context manager, whose `read()` gives `AttentionMaps` afterwards.

    Raises
    ------
    InputError
        Here, for sites that are no attention modules, and pipelines without any. While the pipeline runs: for
        attention that is computed otherwise, text that cannot be told from the image, states that are no images, rows
        of unknown branches, and maps beyond the budget, before the first step.

    Notes
    -----
    Attention says where the network looks, not what it uses: see `map_agreement` in `analysis.attention`. Maps of
    words from cross-attention: Tang et al. 2023 (arXiv 2210.04885), who resample with bicubic interpolation and sum.
    """
    denoisers = find.denoisers(pipe, modules)
    known = [
        f"{name}.{path}" for name, part in denoisers.items() for path, m in part.named_modules() if is_attention(m)
    ]
    if not known or not set(sites) <= set(known):
        found = f"{sorted(set(sites) - set(known))}" if known else f"a {type(pipe).__name__} without attention modules"
        expected = f"attention modules with to_q and to_k, such as {', '.join(known[:3])}"
        raise InputError("sites" if known else "pipe", found=found, expected=expected)
    if size < 1 or budget < 1:
        raise InputError("size, budget", found=f"{size}, {budget}", expected="at least one cell, and one byte")
    chosen = None if tokens is None else list(tokens)
    return WatchingAttention(pipe, sites or known, Kept(branch, apart, chosen, size, budget), branches, modules,
                             level, named=bool(sites))  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """What is kept of the attention; see `attention_maps`."""

    branch: str
    apart: str
    tokens: list[int] | None
    size: int
    budget: int


@displayed
@dataclass(frozen=True, eq=False)
class Entry:
    """Maps of one branch in one call, (sample, layer, head, token, y, x), or of all rows before branches are known."""

    call: DenoiserCall
    maps: Tensor
    layers: tuple[str, ...]
    run: int = 0
    step: int = 0
    branch: str = ""


class WatchingAttention(PipelineSites):
    """The context manager that `attention_maps` returns."""

    in_repeated_calls = False
    wants_outputs = wants_arguments = True

    def __init__(
        self, pipe: Any, sites: Sequence[str], kept: Kept, branches: Sequence[str], modules: find.Modules,
        level: LevelFunction | None, *, named: bool,
    ) -> None:  # fmt: skip
        super().__init__(pipe, sites, modules, level)
        self._kept, self._named, self._rows = kept, named, BranchRows(self.readers, branches)
        self._watched: dict[str, WatchedAttention] = {}
        self._layers: dict[str, Tensor] = {}
        self._joint: dict[int, Places] = {}
        self._waiting: list[Entry] = []
        self._entries: list[Entry] = []
        self._run = self._step = -1

    def __enter__(self) -> "WatchingAttention":
        self._entries, self._waiting, self._run = [], [], -1
        super().__enter__()
        self._watched = {site: WatchedAttention(module) for site, module in self._modules.items()}
        return self

    def _leave(self) -> None:
        for watched in self._watched.values():
            watched.remove()
        self._watched, self._waiting = {}, []
        super()._leave()

    def read(self) -> AttentionMaps:
        """What was kept in the block, on the CPU.

        Raises
        ------
        InputError
            Where nothing was, and for calls of different batches, texts, or layers.
        """
        if not self._entries:
            raise InputError("pipe", found="no step with attention to text", expected="a run of it inside the block")
        kinds = {(tuple(entry.maps.shape), entry.layers) for entry in self._entries}
        if len(kinds) > 1:
            found = f"maps of shapes {sorted(shape for shape, _ in kinds)}"
            raise InputError("pipe", found=found, expected="runs of one batch, text length and shape in the block")
        shape, sites = kinds.pop()
        tokens = range(shape[3]) if self._kept.tokens is None else self._kept.tokens
        return AttentionMaps(
            torch.stack([entry.maps for entry in self._entries]).cpu(),
            torch.stack([entry.call.sigma[0] for entry in self._entries]),
            tuple(entry.run for entry in self._entries), tuple(entry.step for entry in self._entries),
            tuple(entry.branch for entry in self._entries),
            (MEAN,) if self._kept.apart == "call" else sites,
            tuple(map(str, range(shape[2]))) if self._kept.apart == "head" else (MEAN,),
            tuple(map(str, tokens)), sites,
        )  # fmt: skip

    def before(self, call: DenoiserCall, args: Any, kwargs: Any) -> None:
        """See `PipelineSites.before`."""
        self._layers, self._joint = {}, {}

    def at_site(self, site: str, call: DenoiserCall, inner: ModuleCall) -> None:
        """See `PipelineSites.at_site`."""
        watch, text = self._watched[site].take(), text_given(inner.module, inner.args, inner.kwargs)
        if text is None and not self._named and not self._joint:
            return  # among image tokens alone
        seen = watch.only(site)
        places = places_of(site, seen, watch, text, self._joint)
        if places is not None:
            self._layers[site] = self._reduced(seen, places, call.made)
        elif self._named:
            raise InputError("sites", found=f"{site!r}, which is given no text", expected="an attention to text")

    def _reduced(self, seen: SeenAttention, places: Places, call: Call) -> Tensor:
        """Maps of one attention, in float32."""
        kept, count = self._kept, len(range(seen.keys)[places.text])
        if kept.tokens is not None and not set(kept.tokens) <= set(range(count)):
            raise InputError("tokens", found=str(kept.tokens), expected=f"places from 0 to {count - 1}")
        grid = grid_of(len(range(seen.queries)[places.image]), call.named(), call.state)
        size = size_of(call.state, grid, kept.size)
        return text_maps(seen, places, grid, size=size, tokens=kept.tokens, heads=kept.apart == "head").float()

    def after_call(self, call: Call, outputs: list[Tensor]) -> None:
        """See `Listener`: put the layers of a call together."""
        now = self._now
        if not self._named:
            self._called = PassCalls()  # pipelines may skip layers, in calls of a branch of their own
        super().after_call(call, outputs)
        if now is not None and self._layers:
            layers = torch.stack(_same_heads(list(self._layers.values())), 1)
            maps = layers.mean(1, keepdim=True) if self._kept.apart == "call" else layers
            self._waiting.append(Entry(now, maps, tuple(self._layers)))
        self._layers = {}

    def before_step(self, step: StepEvent) -> None:
        """See `Listener`: the step proves which rows are of which branch."""
        self._rows.learn(step)
        begins = step.begins or self._run < 0
        self._run, self._step = (self._run + 1, 0) if begins else (self._run, self._step + 1)
        fed = [entry for entry in self._waiting if any(entry.call.made is call for call in step.calls)]
        self._waiting = []
        for entry in fed:
            self._entries += self._by_branch(entry)
        total = sum(entry.maps.nbytes for entry in self._entries)
        if begins and fed:  # what the first step has kept, each other step will keep
            new = sum(entry.maps.nbytes for entry in self._entries if entry.run == self._run)
            total += new * (len(getattr(step.owner, "timesteps", (0,))) - 1)
        if total > self._kept.budget:
            expected = f"at most budget={self._kept.budget}: fewer tokens=, a smaller size=, or less apart="
            raise InputError("budget", found=f"maps of {total} bytes", expected=expected)

    def _by_branch(self, entry: Entry) -> list[Entry]:
        """The rows of each branch that is kept, as far as the call holds it."""
        names = ("cond", "uncond") if self._kept.branch == "both" else (self._kept.branch,)
        call, found = entry.call, list[Entry]()
        for name in names:
            rows = self._rows.of(name, call.made, call.batch, same_run=True).nonzero()[:, 0]
            if len(rows):
                maps = entry.maps[rows.to(entry.maps.device)]
                found.append(Entry(call, maps, entry.layers, self._run, self._step, name))
        return found


def _same_heads(layers: list[Tensor]) -> list[Tensor]:
    """Layers (row, head, token, y, x) with as many heads as the one that has most, NaN where there is none."""
    most = max(layer.shape[1] for layer in layers)
    return [functional.pad(layer, (*(0,) * 6, 0, most - layer.shape[1]), value=torch.nan) for layer in layers]
