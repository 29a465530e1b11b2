"""Directions of an attribute in condition tokens: text embeddings or embedded labels.

    plus, minus = label_pairs(labels, column("size"), 2, 0)
    found = token_direction(denoiser, plus, minus, method="learned", bank=bank, tokens=[column("size")])
    found.direction, found.losses
    gap = linearity_gap(denoiser, {"difference": a, "learned": b}, bank, plus, minus)

With f the prediction, e the condition tokens, S the tokens of the subject and delta = f(plus) - f(minus), a direction
d is to make f(e + m d at S) - f(e) equal m delta, for any multiple m (attribute control, arXiv 2403.17064). Three ways
to find it: the mean of plus - minus; minimising that error; and its first order, argmin_d ||J d - delta||^2 by
conjugate gradients. What is left of the error, relative to m delta, is the linearity gap.

Pairs are to differ in the attribute alone, and other factors to be spread evenly over them: the mean of pairs that
differ in more is a direction of that too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorescope.analysis.directions.token_fits import Piece, find_pieces, learn, linearise, squared_errors
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.bootstrap import per_unit
from scorescope.analysis.statistics.intervals import skewed_ratio_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.bank.points import Bank
from scorescope.probes.gradients.step import condition_tokens
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.spaces import Space
from scorescope.probes.sites.direction import CONDITION, Direction
from scorescope.probes.sites.tokens import Tokens, token_mask

TokenMethod = Literal["difference", "learned", "linearised"]
MULTIPLES = (-1.0, -0.5, 0.5, 1.0)

TOKEN_LOSSES = Schema(
    "token_direction",
    (
        Column("attribute", str, "", "what the direction is of"),
        Column("method", str, "", "how it was found"),
        Column("space", str, "", "prediction space of the loss"),
        Column("sigma", float, "data", "noise level"),
        Column("log_snr", float, "1", "-2 ln sigma"),
        Column("n", int, "", "images"),
        Column("loss", float, "space^2", "mean square of f(e + m d) - f(e) - m delta per element, over multiples m"),
        *ends("space^2", "over images, corrected for skewness; of the best direction, see `token_direction`"),
        Column("relative", float, "1", "sum of squares against that of m delta; the same in every space"),
        *ends("1", "the same", of="relative"),
    ),
)

LINEARITY = Schema(
    "linearity_gap",
    (
        Column("direction", str, "", "name of the direction"),
        Column("method", str, "", "how it was found"),
        Column("sigma", float, "data", "noise level"),
        Column("log_snr", float, "1", "-2 ln sigma"),
        Column("strength", float, "1", "in scales of the direction: standard deviations of the projection"),
        Column("multiple", float, "1", "the same in lengths of its vector, the m of m delta"),
        Column("n", int, "", "images"),
        Column("gap", float, "1", "||f(e + m d) - f(e) - m delta|| / ||m delta||, root of the ratio of sums"),
        *ends("1", "over images, corrected for skewness"),
    ),
)


@displayed
@checked
@dataclass(frozen=True, eq=False)
class TokenDirection:
    """A direction in condition tokens and how well it does.

    Attributes
    ----------
    direction : Direction
        At "condition", or "condition.<token>" where one token is shifted; its vector is one multiple.
    losses : DataFrame or None
        Columns of `TOKEN_LOSSES`, one row a noise level; None without a bank.
    iterations : int
        Of L-BFGS or of conjugate gradients; 0 for the difference.
    error : float
        Norm of the gradient against that at the start (learned: of d = 0; linearised: of the normal equations).
    """

    direction: Direction
    losses: pd.DataFrame | None
    iterations: int
    error: float


@checked
def label_pairs(labels: Tensor, column: int | None, plus: int, minus: int) -> tuple[Tensor, Tensor]:
    """Labels with an attribute set one way and the other, all else equal: pairs that are counterbalanced.

    Parameters
    ----------
    labels : Tensor, int64, shape (n, attribute) or (n,)
        Labels whose other attributes are kept.
    column : int or None
        The attribute; None for class labels (n,).
    plus, minus : int
        Its two values.

    Returns
    -------
    plus, minus : Tensor
        Labels of the same shape.
    """
    if (column is None) != (labels.ndim == 1) or plus == minus:
        found = f"labels of shape {tuple(labels.shape)}, column {column}, values {plus} and {minus}"
        raise InputError(
            "labels, column", found=found, expected="(n, attribute) with a column, (n,) without; two values"
        )
    pair = labels.clone(), labels.clone()
    for found_labels, value in zip(pair, (plus, minus), strict=True):
        found_labels[... if column is None else (slice(None), column)] = value
    return pair


@checked
def token_direction(
    denoiser: Denoiser,
    plus: Condition,
    minus: Condition,
    *,
    method: TokenMethod = "difference",
    tokens: Tokens = None,
    attribute: str = "",
    bank: Bank | None = None,
    target: Condition = None,
    space: Space = "denoised",
    sigma_data: float | None = None,
    multiples: Sequence[float] = MULTIPLES,
    iterations: int = 30,
    tolerance: float = 1e-3,
    batch: int = 64,
    progress: bool = False,
) -> TokenDirection:
    """Find a direction of an attribute in condition tokens.

    Parameters
    ----------
    denoiser : Denoiser
        The model; takes tokens (batch, token, width).
    plus, minus : Tensor
        Conditions of the pairs, row by row: labels, or tokens (pairs, token, width).
    method : {"difference", "learned", "linearised"}
        Mean of plus - minus over pairs and the chosen tokens; L-BFGS on the full loss over the bank, from the
        difference on; or conjugate gradients on its first order at the target.
    tokens : sequence of int or Tensor of bool, optional
        Tokens of the subject, which the direction is added to; a mask may differ from row to row. By default all.
    attribute : str
        Its name.
    bank : Bank, optional
        Points at which predictions are compared, one pair an image; the difference does without.
    target : Tensor, optional
        Condition that is shifted, one row an image; by default `minus`.
    space : str
        Prediction space of the loss, which decides how noise levels are weighted: errors in `denoised` count mostly at
        high noise, in `eps` at low noise.
    sigma_data : float, optional
        For space "edm".
    multiples : sequence of float
        Multiples m of the learned loss.
    iterations : int
        At most so many, of L-BFGS or conjugate gradients.
    tolerance : float
        Stop at this norm of the gradient, relative to the start.
    batch : int
        Samples computed together; changes the result by rounding.
    progress : bool
        Show a progress bar.

    Returns
    -------
    TokenDirection
        Losses are those on the pairs that it was found from. Their intervals are about the loss of the best direction
        of all pairs; on other pairs that of the one that was found is larger than both, of a difference of n pairs by
        some 1 / n of what no direction explains.

    Raises
    ------
    InputError
        For pairs that do not differ, sizes that do not fit, a method without its bank, gradients asked where autograd
        is off.
    """
    if method not in ("difference", "learned", "linearised"):
        raise InputError("method", found=repr(method), expected="difference, learned or linearised")
    if bank is None and method != "difference":
        raise InputError("bank", found="None", expected=f"a bank, for the {method} direction")
    first, second = _pairs(denoiser, plus, minus)
    mask = token_mask(tokens, first)
    vector, used, error = _difference(first, second, mask), 0, float("nan")
    losses = None
    if bank is not None:
        pieces = find_pieces(denoiser, bank, first, second, target, tokens, space, sigma_data, batch, progress)
        if method == "learned":
            vector, used, error = learn(denoiser, pieces, vector, multiples, iterations, tolerance, progress)
        elif method == "linearised":
            vector, used, error = linearise(denoiser, pieces, len(vector), iterations, tolerance, progress)
        losses = _losses(denoiser, pieces, vector, multiples, len(bank)).assign(
            attribute=attribute, method=method, space=space
        )
    direction = Direction(vector.to(first), _site(mask), attribute, method, _scale(first, second, mask, vector))
    return TokenDirection(direction, None if losses is None else TOKEN_LOSSES.check(losses), used, error)


@checked
def linearity_gap(
    denoiser: Denoiser,
    directions: Mapping[str, Direction],
    bank: Bank,
    plus: Condition,
    minus: Condition,
    *,
    target: Condition = None,
    tokens: Tokens = None,
    strengths: Sequence[float] = (-2.0, -1.0, 1.0, 2.0),
    batch: int = 64,
    progress: bool = False,
) -> pd.DataFrame:
    """How far a shift of the tokens is from the difference that it stands for, by noise level and strength.

    Parameters
    ----------
    denoiser, bank, plus, minus, target, tokens, batch, progress
        As in `token_direction`.
    directions : mapping of str to Direction
        Directions at "condition", by name.
    strengths : sequence of float
        In scales of each direction; not 0.

    Returns
    -------
    DataFrame
        Columns of `LINEARITY`. 0 where the denoiser is linear in its tokens and the direction is exact; 1 is what no
        shift at all would have. It is the same in every prediction space.

    Raises
    ------
    InputError
        For strengths of 0, directions of another width or site, and as in `token_direction`.
    """
    if not strengths or not directions or any(strength == 0 for strength in strengths):
        found = f"{list(strengths)} for {len(directions)} directions"
        raise InputError("strengths, directions", found=found, expected="a direction, and strengths other than 0")
    first, second = _pairs(denoiser, plus, minus)
    pieces = find_pieces(denoiser, bank, first, second, target, tokens, "denoised", None, batch, progress)
    frames = []
    for name, direction in directions.items():
        _check_direction(direction, first.shape[-1])
        ratio = direction.scale / float(direction.vector.norm())
        multiples = [strength * ratio for strength in strengths]
        errors = squared_errors(denoiser, pieces, direction.vector.to(first), multiples)
        for sigma, (missed, whole, unit) in errors.items():
            gap, low, high = (np.sqrt(np.maximum(value, 0.0)) for value in _ratio(missed, whole, unit))
            part = {
                "strength": np.asarray(strengths, float),
                "multiple": multiples,
                "gap": gap,
                "low": low,
                "high": high,
            }
            keys = {"direction": name, "method": direction.method, "sigma": sigma, "log_snr": -2 * np.log(sigma)}
            frames.append(pd.DataFrame(part).assign(**keys, n=len(bank)))
    return LINEARITY.check(pd.concat(frames, ignore_index=True))


def _pairs(denoiser: Denoiser, plus: Condition, minus: Condition) -> tuple[Tensor, Tensor]:
    sizes = [len(part) if isinstance(part, Tensor) and part.ndim else 0 for part in (plus, minus)]
    if sizes[0] != sizes[1] or not sizes[0]:
        raise InputError("plus, minus", found=f"{sizes[0]} and {sizes[1]} rows", expected="tensors with a row a pair")
    first = condition_tokens(denoiser, plus, sizes[0], "plus")
    second = condition_tokens(denoiser, minus, sizes[1], "minus")
    if first.shape != second.shape:
        found = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise InputError("plus, minus", found=found, expected="tokens of one shape")
    if not bool((first != second).flatten(1).any(1).all()):
        raise InputError("plus, minus", found="a pair of equal conditions", expected="pairs that differ")
    return first, second


def _difference(plus: Tensor, minus: Tensor, mask: Tensor) -> Tensor:
    chosen = mask[:, :, None].double()
    return ((plus - minus).double() * chosen).sum(1).div(chosen.sum(1)).mean(0)


def _site(mask: Tensor) -> str:
    chosen = mask.any(0).nonzero().flatten().tolist()
    return f"{CONDITION}.{chosen[0]}" if len(chosen) == 1 else CONDITION


def _scale(plus: Tensor, minus: Tensor, mask: Tensor, vector: Tensor) -> float:
    """Standard deviation over pairs and both sides of the projection, mean over the chosen tokens."""
    chosen = mask[:, :, None].double()
    rows = torch.cat([(part.double() * chosen).sum(1).div(chosen.sum(1)) for part in (plus, minus)])
    spread = float((rows @ (vector / vector.norm())).std(correction=0))
    return spread if spread > 0 else float(vector.norm())


def _check_direction(direction: Direction, width: int) -> None:
    if direction.site.split(".")[0] != CONDITION:
        raise InputError("direction", found=f"a site {direction.site!r}", expected="condition, or condition.<token>")
    direction.check_width(width)


def _losses(denoiser: Denoiser, pieces: list[Piece], vector: Tensor, multiples: Sequence[float], images: int
            ) -> pd.DataFrame:  # fmt: skip
    """Loss of each noise level, all multiples together."""
    elements = pieces[0].x[0].numel()
    rows = []
    for sigma, (missed, whole, unit) in squared_errors(denoiser, pieces, vector, multiples).items():
        missed, whole = missed.mean(0, keepdims=True), whole.mean(0, keepdims=True)
        loss, relative = _ratio(missed, np.full_like(missed, elements), unit), _ratio(missed, whole, unit)
        keys = {"sigma": sigma, "log_snr": -2 * np.log(sigma), "n": images}
        values = dict(zip(("loss", "low", "high"), loss, strict=True))
        shares = dict(zip(("relative", "relative_low", "relative_high"), relative, strict=True))
        rows.append(keys | {name: float(value[0]) for name, value in (values | shares).items()})
    return pd.DataFrame(rows)


def _ratio(numerator: Floats, denominator: Floats, unit: NDArray[np.integer[Any]]) -> tuple[Floats, Floats, Floats]:
    """Ratio of sums of each row, for values (row, sample), and its interval over images."""
    top, bottom = per_unit(numerator, unit).T, per_unit(denominator, unit).T
    return top.sum(0) / bottom.sum(0), *skewed_ratio_interval(top, bottom)
