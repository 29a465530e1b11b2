"""A closed-form edit of the key and value projections of cross-attention: a concept is read as another one.

    edit = edit_projections(pipe, states_of("a fox"), states_of("a cat"), keep=states_of("a dog"))
    with edit:
        pipe("a fox in the snow")
    edit.weights()                              # each projection before and after, by name

With W a projection, k_i the text states to edit, v_i those they are to be read as, p_j those to keep, the edit solves

    min over W'  sum_i |W' k_i - W v_i|^2 + sum_j |W' p_j - W p_j|^2 + ridge |W' - W|^2,

so that W' = W M with M = I + (sum (v - k) k^T) (sum k k^T + sum p p^T + ridge I)^-1: one matrix for all layers
(Orgad et al. 2023, arXiv 2303.08084; Gandikota et al. 2024, arXiv 2308.14761).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.attention.cross import cross_attention_sites, linear_of
from scorescope.probes.pipelines import find
from scorescope.probes.sites.pipeline_sites import site_in

PROJECTIONS = ("to_k", "to_v")


@checked
def edit_projections(
    pipe: Any,
    source: Tensor,
    target: Tensor,
    *,
    keep: Tensor | None = None,
    sites: Sequence[str] = (),
    ridge: float = 0.1,
    modules: find.Modules = None,
) -> "ProjectionEdit":
    """An edit of the projections of a pipeline's cross-attention, in place for the length of a with block.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline with cross-attention to text.
    source, target : Tensor, shape (..., width)
        Text states, as the layers are given them: each of `source` is to be read as that of `target`. Which tokens
        these are is the caller's to say: the last of the subject, and what follows it, in the papers.
    keep : Tensor, shape (..., width), optional
        Text states that are to be read as before.
    sites : sequence of str
        Cross-attention modules to edit; by default all.
    ridge : float
        Weight of what the projections were, in units of the states squared; larger edits less.
    modules : str, sequence or mapping, optional
        Denoisers; see `record`.

    Returns
    -------
    ProjectionEdit
        A context manager, which may be entered again. Nothing is changed before it is entered, and on leaving the
        very parameters that were there are back.

    Raises
    ------
    InputError
        For states of different shapes or other width than the projections', states that are not finite, a ridge that
        is not positive, and projections with an adapter.
    """
    sites = list(sites) or cross_attention_sites(pipe, modules=modules)
    kept = source[:0] if keep is None else keep
    parts = [part.detach().cpu().double().reshape(-1, part.shape[-1]) for part in (source, target, kept)]
    finite, widths = all(bool(part.isfinite().all()) for part in parts), {part.shape[-1] for part in parts}
    if source.shape != target.shape or len(widths) > 1 or not finite or not 0 < ridge < float("inf"):
        shapes = [tuple(part.shape) for part in (source, target, kept)]
        expected = "finite (..., width), source and target of one shape, a positive ridge"
        raise InputError("source, target, keep, ridge", found=f"{shapes}, {ridge:g}", expected=expected)
    denoisers = find.denoisers(pipe, modules)
    linears = {
        f"{site}.{name}": linear_of(site, site_in(site, denoisers), name) for site in sites for name in PROJECTIONS
    }
    for name, linear in linears.items():
        if linear.in_features not in widths:
            found = f"states of width {sorted(widths)}"
            raise InputError("source", found=found, expected=f"{linear.in_features}, the width that {name} reads")
    given, wanted, same = parts
    gram = given.mT @ given + same.mT @ same + ridge * torch.eye(source.shape[-1], dtype=torch.float64)
    return ProjectionEdit(linears, torch.eye(len(gram)).double() + _right_solve((wanted - given).mT @ given, gram))


def _right_solve(numbers: Tensor, gram: Tensor) -> Tensor:
    """numbers gram^-1, of a symmetric gram matrix."""
    found: Tensor = torch.linalg.solve(gram, numbers.mT)
    return found.mT


@checked
class ProjectionEdit:
    """The context manager that `edit_projections` returns.

    Attributes
    ----------
    matrix : Tensor, shape (width, width), float64
        M: text states x are read as W (M x).
    """

    def __init__(self, linears: Mapping[str, nn.Linear], matrix: Tensor) -> None:
        self.matrix, self._linears = matrix, dict(linears)
        self._before: dict[str, Tensor] = {}
        self._ours: dict[str, nn.Parameter] = {}

    def weights(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Each projection as it is without the edit and with it, in its own dtype, by name."""
        before = {name: self._before.get(name, linear.weight) for name, linear in self._linears.items()}
        return {name: (weight.detach(), self._edited(weight)) for name, weight in before.items()}

    def _edited(self, weight: Tensor) -> Tensor:
        return (weight.detach().cpu().double() @ self.matrix).to(weight)

    def __enter__(self) -> "ProjectionEdit":
        if self._before:
            raise InputError(
                "edit", found="one that is in place", expected="one that was left: enter it once at a time"
            )
        try:
            for name, linear in self._linears.items():
                ours = nn.Parameter(self._edited(linear.weight), requires_grad=linear.weight.requires_grad)
                self._before[name], linear.weight, self._ours[name] = linear.weight, ours, ours
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """Put the parameters back; `InputError` where somebody has put others in the place of ours."""
        if foreign := [name for name, weight in self._ours.items() if self._linears[name].weight is not weight]:
            expected = "edits that are left in the reverse of the order that they were entered in"
            raise InputError("edit", found=f"other parameters in {foreign[0]}", expected=expected)
        for name in self._ours:
            self._linears[name].weight = self._before[name]
        self._before, self._ours = {}, {}
