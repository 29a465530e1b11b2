"""The denoiser calls that feed each scheduler step of a guided pipeline: hooks that keep what came out of them.

Where a rule computes branches of its own, the calls are kept as `MadeCall`, with what they were given.
"""

import functools
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scorescope.probes.pipelines.labels import LabelTap
from scorescope.probes.pipelines.made_call import MadeCall
from scorescope.probes.pipelines.taps import Call, is_compiled, is_repeated, leaves


class CallTap:
    """Hooks on denoisers.

    Parameters
    ----------
    repeatable : bool
        Keep what calls were given, to make them again.
    guider : bool
        The predictions come from our guider (`receive`); calls are kept only to make them again.
    """

    def __init__(self, *, repeatable: bool, guider: bool) -> None:
        self.known: deque[int] = deque(maxlen=32)  # where denoiser inputs and returned states lie
        self.pending: list[Any] = []
        self.place = 0
        """How many steps the latest calls have fed."""
        self._repeatable, self._guider = repeatable, guider
        self._group: list[Call] = []
        self._asked: dict[str, tuple[Any, Any]] = {}  # arguments of the call that is being made
        self._fed: list[tuple[MadeCall, list[Tensor]]] = []  # calls since the guider's latest prediction
        self._labels = LabelTap(self.pending)
        self._handles: list[Any] = []

    def hook(self, denoisers: Mapping[str, nn.Module]) -> None:
        """Put hooks on denoisers; those that feed a guider matter only where they are made again."""
        for name, module in denoisers.items() if self._repeatable or not self._guider else ():
            keep = self._append if is_compiled(module) else self._copy
            if self._repeatable and not is_compiled(module):  # before other hooks, which change the repeated call too
                ask = functools.partial(self._ask, name)
                self._handles.append(module.register_forward_pre_hook(ask, prepend=True, with_kwargs=True))
            self._handles.append(module.register_forward_hook(functools.partial(keep, name), with_kwargs=True))
            if not self._guider:
                self._labels.tap_module(module)

    def remove(self) -> None:
        """Take the hooks off and forget the calls."""
        for handle in self._handles:
            handle.remove()
        self._labels.remove()
        for kept in (self._handles, self.pending, self._group, self._asked, self._fed):
            kept.clear()

    def calls(self) -> list[Call]:
        """The calls that feed this step: those since the last one, else the same again."""
        if self.pending:
            self._group = [self._call(entry, place) for place, entry in enumerate(self.pending)]
            self.pending.clear()
            self._labels.spans.clear()
            self.place = 0
        return self._group

    def receive(self, cond: Tensor, uncond: Tensor | None) -> None:
        """The predictions of a pipeline that uses our guider."""
        self.pending.append(self._behind(cond))
        if uncond is not None:
            self.pending.append(Call("guider", [uncond.detach().clone()], label="uncond"))
        self._fed.clear()

    def _ask(self, name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        if not is_repeated(module):
            self._asked[name] = args, kwargs

    def _copy(self, name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if is_repeated(module):
            return
        self.known.extend(tensor.data_ptr() for tensor in leaves([*args, *kwargs.values()])[:1])
        call, outputs = Call(name, []), leaves(output)
        if self._repeatable:
            args, kwargs = self._asked.pop(name, (args, kwargs))
            call = MadeCall(name, [], network=module, args=args, kwargs=kwargs, context=self._labels.current)
            if self._guider:
                self._fed.append((call, outputs))
                return
        call.outputs = [leaf.detach().clone() for leaf in outputs]
        self.pending.append(call)

    def _append(self, name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """The hook of a compiled module runs no operation: it would be compiled with it."""
        if not is_repeated(module):
            kept = self._fed if self._guider else self.pending
            kept.append((MadeCall(name, [], network=module, args=args, kwargs=kwargs), output))

    def _call(self, entry: Any, place: int) -> Call:
        call: Call = entry if isinstance(entry, Call) else entry[0]
        if call is not entry:
            call.outputs = [leaf.detach() for leaf in leaves(entry[1])]
        call.label = call.label or self._labels.of(place)
        return call

    def _behind(self, cond: Tensor) -> Call:
        """The guider's cond prediction, as the denoiser call that it is an output of, where it is one."""
        outputs = [cond.detach().clone()]
        for call, found in self._fed:
            for place, leaf in enumerate(leaves(found)):
                if leaf.untyped_storage().data_ptr() == cond.untyped_storage().data_ptr():
                    pick = functools.partial(_same_part, place=place, of=leaf.detach(), part=cond.detach())
                    return MadeCall("guider", outputs, "cond", network=call.network, args=call.args,
                                    kwargs=call.kwargs, pick=pick)  # fmt: skip
        return Call("guider", outputs, label="cond")


def _same_part(outputs: list[Tensor], *, place: int, of: Tensor, part: Tensor) -> list[Tensor]:
    """The part of one output that `part` is of `of`."""
    found = outputs[place]
    if found.shape != of.shape or found.stride() != of.stride():
        return [found]
    offset = found.storage_offset() + part.storage_offset() - of.storage_offset()
    return [torch.as_strided(found, part.shape, part.stride(), offset)]
