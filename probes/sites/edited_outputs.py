"""Edits of what modules put out: at the output that is meant, which the network has to go on with.

The text of a last block is often returned and dropped: what is added to it reaches nothing, and looks like no effect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.pipelines.call import leaves
from scorescope.probes.sites.outputs import ModuleCall, Output, check_same
from scorescope.probes.sites.row_edits import RowEdit
from scorescope.probes.sites.watched_tensor import Watched, plain, watch


class EditedOutputs:
    """The outputs that are edited, and whether anything was computed from them in the pass that is under way."""

    def __init__(self) -> None:
        self._meant: dict[tuple[str, int | None], Output] = {}
        self._watched: dict[tuple[str, int], Watched] = {}
        self._read: set[tuple[str, int]] = set()  # those that are known to be: they need not be watched

    def begin(self) -> None:
        """Another pass."""
        self._watched.clear()

    def edit(self, call: ModuleCall, edits: Sequence[RowEdit]) -> Any:
        """What a module has put out, with the tensor that each edit means replaced; other objects are passed on.

        Raises
        ------
        InputError
            As in `ModuleCall.output_of`; for another output than in an earlier call, or than the cache was filled from.
        """
        output = call.output
        for edit in edits:
            output, _ = _replace_leaf(output, self._place(call, edit), edit, self)
        return output

    def check(self, prediction: Any) -> None:
        """The pass is over.

        Raises
        ------
        InputError
            For an output that nothing was computed from, and that is not part of the prediction itself.
        """
        watched, self._watched = self._watched, {}
        put_out = leaves(prediction)
        for (site, place), tensor in watched.items():
            if not tensor.read and not any(one is tensor for one in put_out):
                found = f"output {place} of {site!r}, which nothing in the network reads"
                raise InputError("output", found=found, expected="an output that the network goes on with")
            self._read.add((site, place))

    def describe(self) -> str:
        """One line for each site that was edited: which of its outputs."""
        return "\n".join(dict.fromkeys(f"{site}: {output}" for (site, _), output in self._meant.items()))

    def replaced(self, edit: RowEdit, place: int, tensor: Tensor) -> Tensor:
        """A tensor after an edit, watched unless it is known to be read, or to be the only one of its module."""
        site, changed = edit.given.site, edit(plain(tensor))
        known = (site, place) in self._read
        if changed is tensor or (known and not isinstance(tensor, Watched)):
            return changed
        watched = watch(changed, instead_of=tensor)
        if not known:
            self._watched[site, place] = watched
        return watched

    def _place(self, call: ModuleCall, edit: RowEdit) -> int:
        given = edit.given
        cached = None if given.source is None else given.source.outputs.get(given.site)
        wanted = cached.place if given.output is None and cached is not None else given.output
        output = call.output_of(given.site, wanted)
        if cached is not None:
            check_same(given.site, cached, output, before="in the source")
        check_same(given.site, self._meant.setdefault((given.site, wanted), output), output)
        if output.count == 1:
            self._read.add((given.site, output.place))
        return output.place


def _replace_leaf(output: Any, place: int, edit: RowEdit, edited: EditedOutputs, left: int | None = None) -> Any:
    """The output with its `place`-th tensor edited; and how many tensors are still to be passed, -1 once found."""
    left = place if left is None else left
    if left < 0:
        return output, left
    if isinstance(output, Tensor):
        return (edited.replaced(edit, place, output), -1) if left == 0 else (output, left - 1)
    if isinstance(output, Mapping):
        new = {}
        for name, value in output.items():
            new[name], left = _replace_leaf(value, place, edit, edited, left)
        return type(output)(**new) if is_dataclass(output) else type(output)(new), left  # type: ignore[call-arg]
    if isinstance(output, list | tuple):
        parts = []
        for value in output:
            part, left = _replace_leaf(value, place, edit, edited, left)
            parts.append(part)
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts), left
    if is_dataclass(output) and not isinstance(output, type):
        changed = {}
        for item in fields(output):
            changed[item.name], left = _replace_leaf(getattr(output, item.name), place, edit, edited, left)
        return replace(output, **changed), left
    return output, left
