"""Directions of a denoiser's Jacobian: what a small change of one thing does most to another.

    found = jacobian_directions(denoiser, x, 1.0, labels, of="network.middle1", to="x", count=5)
    found.right                        # (batch, 5, *shape): changes of x that move the site most
    jacobian_directions(denoiser, x, 1.0, labels, of="denoised", to="network.middle1")   # channel directions
    moved = transport_direction(vector, found_here, found_there)

Block subspace iteration with Jacobian-vector products in forward mode and vector-Jacobian products in reverse mode
(Haas et al. 2023, arXiv 2303.11073; Park et al. 2023, arXiv 2307.12868), for all samples of a batch at once: samples
do not interact, so each row of a batch has its own Jacobian.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.gradients.jacobian_products import Function, check_call, differential, like
from scorescope.probes.gradients.step import condition_tokens
from scorescope.probes.models.denoiser import Condition, Denoiser


@displayed
@checked
@dataclass(frozen=True, eq=False)
class JacobianDirections:
    """Top singular triples of each sample's Jacobian.

    Attributes
    ----------
    right : Tensor, shape (batch, count, *input)
        Right singular vectors, orthonormal: directions of `to`.
    left : Tensor, shape (batch, count, *output)
        Left singular vectors: what they do to `of`.
    values : Tensor, shape (batch, count)
        Singular values, falling; change of the output for a unit change of the input.
    residual : Tensor, shape (batch, count)
        ||J^T u - s v|| / s_1, the error of each triple.
    iterations : Tensor of int, shape (batch,)
        Iterations, of one product with J and one with J^T.
    tolerance : float
        Residual at which the iteration stops.
    of, to : str
        Output and input of the Jacobian.
    sigma : float
        Noise level.
    """

    right: Tensor
    left: Tensor
    values: Tensor
    residual: Tensor
    iterations: Tensor
    tolerance: float
    of: str
    to: str
    sigma: float

    @property
    def converged(self) -> Tensor:
        """Samples whose every residual is within the tolerance, shape (batch,)."""
        return (self.residual <= self.tolerance).all(1)


@checked
def jacobian_directions(
    denoiser: Denoiser,
    x: Tensor,
    sigma: float,
    condition: Condition,
    *,
    of: str = "denoised",
    to: str = "x",
    count: int = 5,
    mean: bool = False,
    mask: Tensor | None = None,
    tolerance: float = 1e-3,
    iterations: int = 50,
    spare: int = 2,
    batch: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> JacobianDirections:
    """Top singular vectors of d(of)/d(to) of each sample.

    Parameters
    ----------
    denoiser : Denoiser
        The model; an nn.Module where a site is named.
    x : Tensor, shape (batch, *shape)
        States at `sigma`.
    sigma : float
        Noise level, same unit as x.
    condition : Tensor
        Labels or condition tokens, one row a sample.
    of : str
        "denoised" or a site.
    to : str
        "x", "tokens", or a site: then a vector over its channels, added at every position or token, as a direction
        is in an intervention.
    count : int
        Singular triples.
    mean : bool
        Average a site over positions or tokens before differentiating: left vectors are then channel directions.
    mask : Tensor, optional
        Factor on the output, shaped like one sample of it: what lies outside does not count.
    tolerance : float
        A sample is done when ||J^T u - s v|| <= tolerance * s_1 for all its wanted triples.
    iterations : int
        At most so many.
    spare : int
        Extra vectors carried along; they speed up the last wanted one.
    batch : int
        Samples computed together, each with count + spare rows.
    seed : int
        Of the first vectors, which are the same for every sample.
    progress : bool
        Show a progress bar.

    Returns
    -------
    JacobianDirections
        `converged` says where the tolerance was reached.

    Raises
    ------
    InputError
        For unknown, compiled or repeated sites, compiled denoisers, gradients asked where autograd is off, an output
        that does not depend on the input, more triples than the smaller side of the Jacobian has.
    """
    check_call(denoiser, x, sigma)
    if count < 1 or iterations < 1 or batch < 1:
        found = f"{count}, {iterations}, {batch}"
        raise InputError("count, iterations, batch", found=found, expected="at least 1 each")
    tokens = condition_tokens(denoiser, condition, len(x), "condition").to(x)
    chunks = torch.arange(len(x)).split(batch)
    parts = []
    for rows in tqdm(chunks, desc="Jacobian", disable=not progress, leave=False):
        forward, backward, start = differential(
            denoiser, x[rows].detach(), float(sigma), tokens[rows], of, to, mean, mask
        )
        parts.append(_iterate(forward, backward, start, count, spare, tolerance, iterations, seed))
    right, left, values, residual, used = (torch.cat(found) for found in zip(*parts, strict=True))
    return JacobianDirections(right, left, values, residual, used, tolerance, of, to, float(sigma))


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Transported:
    """A direction carried elsewhere.

    Attributes
    ----------
    vector : Tensor, shape (batch, *input)
        At length 1.
    kept : Tensor, shape (batch,)
        Share of the squared length of J v that the left basis at the goal holds; near 0 nothing is transported.
    """

    vector: Tensor
    kept: Tensor


@checked
def transport_direction(vector: Tensor, source: JacobianDirections, goal: JacobianDirections) -> Transported:
    """Carry a direction of x from some samples or level to others, through what it does at a site.

    Push it forward at the source, u = U0 S0 V0^T v; express u in the left basis at the goal; and pull back,
    v' ~ V1 U1^T u (Park et al. 2023): singular values of the goal do not enter.

    Parameters
    ----------
    vector : Tensor, shape (batch, *input) or (*input)
        Direction at the source, in the span of its right vectors as far as it matters.
    source, goal : JacobianDirections
        Of the same output and input, with one row a sample, or one row for all.

    Raises
    ------
    InputError
        For Jacobians of different things, or a vector of another size.
    """
    if (source.of, source.to) != (goal.of, goal.to) or source.left.shape[2:] != goal.left.shape[2:]:
        found = f"d({source.of})/d({source.to}) and d({goal.of})/d({goal.to})"
        raise InputError("source, goal", found=found, expected="Jacobians of the same output and input")
    start = like(vector, source.right[:, 0], "vector").flatten(1)
    coordinates = source.values * torch.einsum("bki,bi->bk", source.right.flatten(2), start)
    effect = torch.einsum("bk,bko->bo", coordinates, source.left.flatten(2))
    held = torch.einsum("bko,bo->bk", goal.left.flatten(2), effect)
    moved = torch.einsum("bk,bki->bi", held, goal.right.flatten(2))
    kept = held.square().sum(1) / effect.square().sum(1)
    unit = moved / moved.norm(dim=1, keepdim=True)
    return Transported(unit.reshape(len(unit), *goal.right.shape[2:]), kept)


def _iterate(forward: Function, backward: Function, start: Tensor, count: int, spare: int, tolerance: float,
             iterations: int, seed: int) -> list[Tensor]:  # fmt: skip
    """Subspace iteration, each sample up to its own tolerance: later iterations, for others, leave it alone."""
    size = start[0].numel()
    width = min(count + spare, size)
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(size, width, generator=generator, dtype=torch.float64).to(start)
    basis = torch.linalg.qr(first)[0].T.expand(len(start), width, size)
    kept: list[Tensor] = []
    steps = torch.zeros(len(start), dtype=torch.int64)
    for _ in range(iterations):
        shaped = basis.reshape(*basis.shape[:2], *start.shape[1:])
        found, pulled = _ritz(forward, backward, shaped, count)
        open_ = _open(kept, tolerance, len(start)).to(start.device)
        kept = [torch.where(_spread(open_, new), new, old) for new, old in zip(found, kept or found, strict=True)]
        steps += open_.cpu()
        if not bool(_open(kept, tolerance, len(start)).any()):
            break
        basis = torch.linalg.qr(pulled.mT)[0].mT
    return [*kept, steps]


def _ritz(forward: Function, backward: Function, basis: Tensor, count: int) -> tuple[list[Tensor], Tensor]:
    """Singular triples within a basis (batch, k, *input) with their residuals, and J^T of their left vectors.

    The next basis is that product, so the residual costs nothing.
    """
    images = forward(basis).to(basis)
    _check_rank(images, count)
    # images are the rows of (J V)^T: their left factor turns the basis, their right factor are left vectors of J
    turn, values, rows = torch.linalg.svd(images.flatten(2), full_matrices=False)
    right = turn.mT @ basis.flatten(2)
    left = rows.reshape(*rows.shape[:2], *images.shape[2:])
    pulled = backward(left).flatten(2)
    residual = (pulled - values[..., None] * right).norm(dim=2) / values[:, :1]
    shaped = right.reshape(*right.shape[:2], *basis.shape[2:])
    return [part[:, :count] for part in (shaped, left, values, residual)], pulled


def _open(kept: list[Tensor], tolerance: float, batch: int) -> Tensor:
    """Samples that are still iterated."""
    return (kept[3] > tolerance).any(1) if kept else torch.ones(batch, dtype=torch.bool)


def _spread(flags: Tensor, like: Tensor) -> Tensor:
    return flags.reshape(-1, *(1,) * (like.ndim - 1))


def _check_rank(images: Tensor, count: int) -> None:
    if min(images.shape[1], images[0, 0].numel()) < count:
        found = f"{count} for an input of at least {images.shape[1]} and an output of {images[0, 0].numel()} elements"
        raise InputError("count", found=found, expected="at most the smaller of the two")
    if not bool((images.flatten(1).norm(dim=1) > 0).all()):
        expected = "an output that depends on the input, and a denoiser that does not run under no_grad"
        raise InputError("of, to", found="a Jacobian of zeros", expected=expected)
