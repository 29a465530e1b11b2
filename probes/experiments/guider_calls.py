"""The predictions that a guider is given, as the denoiser calls that they are outputs of, grouped by step."""

import functools
from dataclasses import replace

import torch
from torch import Tensor

from scorescope.probes.pipelines.call import Call


class GuiderCalls:
    """What a pipeline gives to our guider, until the scheduler steps."""

    def __init__(self) -> None:
        self._fed: list[tuple[Call, list[Tensor]]] = []  # calls since the guider's latest prediction
        self._waiting: list[Call] = []
        self._group: list[Call] = []
        self._place = -1

    def __len__(self) -> int:
        """How many predictions wait for their step."""
        return len(self._waiting)

    def feed(self, call: Call, outputs: list[Tensor]) -> None:
        """A denoiser has returned tensors that may be given to the guider next."""
        self._fed.append((call, outputs))

    def receive(self, cond: Tensor, uncond: Tensor | None) -> None:
        """The guider is given its predictions."""
        self._waiting.append(self._behind(cond))
        if uncond is not None:
            self._waiting.append(Call("guider", [uncond.detach().clone()], label="uncond"))
        self._fed.clear()

    def take(self) -> tuple[list[Call], int]:
        """Those that feed the step that comes, and how many steps they have fed before."""
        self._place += 1
        if self._waiting:
            self._group, self._waiting, self._place = self._waiting, [], 0
        return self._group, self._place

    def clear(self) -> None:
        """Let go of all."""
        self._fed, self._waiting, self._group = [], [], []

    def _behind(self, cond: Tensor) -> Call:
        """The cond prediction as the denoiser call that it is an output of, where it is one."""
        outputs = [cond.detach().clone()]
        for call, found in self._fed:
            for place, leaf in enumerate(found):
                if leaf.untyped_storage().data_ptr() == cond.untyped_storage().data_ptr():
                    pick = functools.partial(_same_part, place=place, of=leaf.detach(), part=cond.detach())
                    return replace(call, module="guider", outputs=outputs, label="cond", context="", pick=pick)
        return Call("guider", outputs, label="cond")


def _same_part(outputs: list[Tensor], *, place: int, of: Tensor, part: Tensor) -> list[Tensor]:
    """The part of one output that `part` is of `of`."""
    found = outputs[place]
    if found.shape != of.shape or found.stride() != of.stride():
        return [found]
    offset = found.storage_offset() + part.storage_offset() - of.storage_offset()
    return [torch.as_strided(found, part.shape, part.stride(), offset)]
