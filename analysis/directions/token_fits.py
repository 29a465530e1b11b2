"""Fitting a direction in condition tokens to differences of predictions, over the points of a bank.

    pieces = find_pieces(denoiser, bank, plus, minus, None, [4], "denoised", None, 64, False)
    learn(denoiser, pieces, start, ...)             # the loss itself, by L-BFGS
    linearise(denoiser, pieces, width, ...)         # its first order, by conjugate gradients
    squared_errors(denoiser, pieces, vector, multiples)

Predictions that do not depend on the direction are computed once and kept: three arrays of the size of the bank's
points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.statistics.arrays import Floats
from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.bank.points import Bank
from scorescope.probes.gradients.jacobian_products import pull_back, push_forward
from scorescope.probes.gradients.step import condition_tokens, require_gradients
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate
from scorescope.probes.models.spaces import NoiseLevel, Space, from_denoised
from scorescope.probes.sites.tokens import Tokens, token_mask

Integers = NDArray[np.integer[Any]]
_USES_TOKENS = "a denoiser that uses its condition tokens and does not run under no_grad"


@displayed
@dataclass(frozen=True, eq=False)
class Piece:
    """Some points of the bank at one level, with what does not depend on the direction."""

    x: Tensor
    sigma: float
    rows: Tensor
    target: Tensor
    mask: Tensor
    base: Tensor
    delta: Tensor
    weight: float


def find_pieces(denoiser: Denoiser, bank: Bank, plus: Tensor, minus: Tensor, target: Condition, tokens: Tokens,
            space: Space, sigma_data: float | None, batch: int, progress: bool) -> list[Piece]:  # fmt: skip
    """The points of a bank, each image with its pair, its target and the tokens that are shifted."""
    if len(plus) != len(bank):
        raise InputError("plus, minus", found=f"{len(plus)} pairs", expected=f"{len(bank)}, one an image of the bank")
    goal = minus if target is None else condition_tokens(denoiser, target, len(bank), "target")
    plus, minus, goal = (part.to(bank.x0) for part in (plus, minus, goal))
    mask = token_mask(tokens, goal)
    pieces = []
    with torch.no_grad():
        for point in bank.points(batch=batch, progress=progress):
            rows = point.rows.to(goal.device)
            base, high, low = (
                evaluate(denoiser, point.x, point.sigma, part[rows], branch="cond") for part in (goal, plus, minus)
            )
            sigma = float(bank.sigmas[point.level])
            weight = _space_factor(sigma, space, sigma_data)
            pieces.append(Piece(point.x, sigma, point.rows, goal[rows], mask[rows], base, high - low, weight))
    return pieces


def _space_factor(sigma: float, space: Space, sigma_data: float | None) -> float:
    """What a difference in denoised space is multiplied by in another."""
    level = NoiseLevel.ve(torch.tensor([sigma], dtype=torch.float64))
    zero, one = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    ends = [from_denoised(end, zero, level, space=space, sigma_data=sigma_data) for end in (one, zero)]
    return float(ends[0] - ends[1])


def shifted(denoiser: Denoiser, piece: Piece, vector: Tensor, multiple: float) -> Tensor:
    """f(e + m d) - f(e) - m delta, in denoised space."""
    tokens = piece.target + piece.mask[:, :, None] * (multiple * vector.to(piece.target))
    sigma = torch.full((len(piece.x),), piece.sigma, dtype=piece.x.dtype, device=piece.x.device)
    moved = evaluate(denoiser, piece.x, sigma, tokens, branch="cond")
    return moved - piece.base - multiple * piece.delta


def _square(values: Tensor) -> Tensor:
    return values.double().square().flatten(1).sum(1)


def learn(denoiser: Denoiser, pieces: list[Piece], start: Tensor, multiples: Sequence[float], iterations: int,
          tolerance: float, progress: bool) -> tuple[Tensor, int, float]:  # fmt: skip
    """Minimise the whole loss by L-BFGS, from `start` on; (direction, iterations, gradient against that at 0).

    The loss is counted in units of what d = 0 has, and d in lengths of the start. Weights of the model collect no
    gradient.
    """
    require_gradients()
    whole = sum(float((p.weight * m) ** 2 * _square(p.delta).sum()) for p in pieces for m in multiples)
    length = float(start.norm()) or 1.0
    variable = torch.zeros_like(start, requires_grad=True)
    bar = tqdm(desc="learned direction, evaluations", disable=not progress, leave=False)

    def closure() -> Tensor:
        total, gradient = torch.zeros_like(start[0]), torch.zeros_like(start)
        for piece in pieces:
            for multiple in multiples:
                error = piece.weight * shifted(denoiser, piece, variable * length, multiple)
                part = _square(error).sum() / whole
                gradient += _gradient(part, variable)
                total += part.detach()
        variable.grad = gradient
        bar.update()
        return total

    with bar:
        closure()
        first = _norm(variable)
        if not first > 0:
            raise InputError("denoiser", found="a loss that the tokens do not change", expected=_USES_TOKENS)
        with torch.no_grad():
            variable.copy_(start / length)
        optimiser = torch.optim.LBFGS(
            [variable], max_iter=iterations, tolerance_grad=tolerance * first / len(start) ** 0.5,
            tolerance_change=0.0, history_size=20, line_search_fn="strong_wolfe",
        )  # fmt: skip
        optimiser.step(closure)
        closure()  # the line search may have ended with another evaluation than its best
    return variable.detach() * length, int(optimiser.state[variable]["n_iter"]), _norm(variable) / first


def _gradient(part: Tensor, variable: Tensor) -> Tensor:
    if not part.requires_grad:
        raise InputError("denoiser", found="a prediction without gradient in the tokens", expected=_USES_TOKENS)
    return torch.autograd.grad(part, variable)[0]


def _norm(variable: Tensor) -> float:
    return 0.0 if variable.grad is None else float(variable.grad.norm())


def linearise(denoiser: Denoiser, pieces: list[Piece], width: int, iterations: int, tolerance: float, progress: bool
               ) -> tuple[Tensor, int, float]:  # fmt: skip
    """Conjugate gradients on the normal equations of min ||J d - delta||^2 (CGLS), J over all pieces."""
    left = [piece.weight * piece.delta for piece in pieces]
    gradient = _adjoint(denoiser, pieces, left, width)
    step, size = gradient, float(gradient @ gradient)
    if not size > 0:
        raise InputError("denoiser", found="predictions that the tokens do not change", expected=_USES_TOKENS)
    first, vector = size, torch.zeros_like(gradient)
    done = 0
    for _ in tqdm(range(iterations), desc="conjugate gradients", disable=not progress, leave=False):
        done += 1
        images = _image(denoiser, pieces, step)
        share = size / sum(float(_square(image).sum()) for image in images)
        vector = vector + share * step
        left = [part - share * image for part, image in zip(left, images, strict=True)]
        gradient = _adjoint(denoiser, pieces, left, width)
        size, before = float(gradient @ gradient), size
        if size <= tolerance**2 * first:
            break
        step = gradient + size / before * step
    return vector, done, (size / first) ** 0.5


def _image(denoiser: Denoiser, pieces: list[Piece], vector: Tensor) -> list[Tensor]:
    found = []
    for piece in pieces:
        change = piece.mask[:, :, None] * vector.to(piece.target)
        found.append(piece.weight * push_forward(denoiser, piece.x, piece.sigma, piece.target, change, to="tokens"))
    return found


def _adjoint(denoiser: Denoiser, pieces: list[Piece], parts: list[Tensor], width: int) -> Tensor:
    total = torch.zeros(width, dtype=torch.float64, device=pieces[0].x.device)
    for piece, part in zip(pieces, parts, strict=True):
        back = pull_back(denoiser, piece.x, piece.sigma, piece.target, piece.weight * part, to="tokens")
        total += (back.double() * piece.mask[:, :, None]).sum((0, 1))
    return total


def squared_errors(denoiser: Denoiser, pieces: list[Piece], vector: Tensor, multiples: Sequence[float]
            ) -> dict[float, tuple[Floats, Floats, Integers]]:  # fmt: skip
    """By noise level: squared errors and squares of m delta, (multiples, points), and the image of each point."""
    found: dict[float, tuple[list[Floats], list[Floats], list[Integers]]] = {}
    with torch.no_grad():
        for piece in pieces:
            missed, whole, unit = found.setdefault(piece.sigma, ([], [], []))
            errors = [_square(piece.weight * shifted(denoiser, piece, vector, multiple)) for multiple in multiples]
            missed.append(torch.stack(errors).cpu().numpy())
            size = _square(piece.weight * piece.delta).clamp_min(torch.finfo(torch.float64).tiny).cpu().numpy()
            whole.append(np.outer(np.square(multiples), size))
            unit.append(piece.rows.numpy())
    return {sigma: (np.hstack(a), np.hstack(b), np.hstack(c)) for sigma, (a, b, c) in found.items()}
