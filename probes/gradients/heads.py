"""Heads: one number a sample, from what a guided denoiser step predicts.

make_step(denoiser, x, 1.0, labels, head=projection(direction))
make_step(denoiser, x, 1.0, labels, head=Head("mean", "data", lambda p: p.guided.flatten(1).mean(1)))
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked, require_returned
from scorescope.data.errors import InputError

Scores = Callable[[Tensor], Mapping[str, Tensor]]
Component = Literal["parallel", "orthogonal", "total"]


@displayed
@checked
@dataclass(frozen=True)
class Prediction:
    """What a head sees, all in denoised space and at least float32, shape (batch, *shape).

    Attributes
    ----------
    cond, null : Tensor
        D_c and D_u.
    guided : Tensor
        D_u + w (D_c - D_u).
    x : Tensor
        The state.
    sigma : float
        Its noise level.
    """

    cond: Tensor
    null: Tensor
    guided: Tensor
    x: Tensor
    sigma: float


@displayed
@checked
@dataclass(frozen=True)
class Head:
    """One number a sample, from a prediction.

    Attributes
    ----------
    name, unit : str
        What it is, and its unit ("data" is that of x).
    value : callable
        (prediction, *constants) -> (batch,); must not mix samples.
    constants : tuple of Tensor
        Shaped like one sample or like the batch: they follow their sample through every expansion.
    """

    name: str
    unit: str
    value: Callable[..., Tensor]
    constants: tuple[Tensor, ...] = ()


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


@checked
def projection(direction: Tensor) -> Head:
    """<D_w - D_u, d>, the guided-minus-null prediction along a direction or summed over a mask.

    Parameters
    ----------
    direction : Tensor, shape (*shape) or (batch, *shape)
        Direction d, or a mask; its length scales the number.
    """
    return Head("projection", "data", lambda p, d: _inner(p.guided - p.null, d), (direction,))


@checked
def guidance_energy(component: Component = "parallel", *, detach_axis: bool = False) -> Head:
    """Squared norm of a component of the guidance update D_w - D_u = w (D_c - D_u), along or across D_c.

    Parameters
    ----------
    component : {"parallel", "orthogonal", "total"}
        Parallel to D_c, orthogonal to it, or the whole update.
    detach_axis : bool
        Hold the axis D_c constant in derivatives. Then a path integral of the gradient does not add up to the
        effect: use it with plain gradients only.

    Raises
    ------
    InputError
        For another component.
    """
    if component not in ("parallel", "orthogonal", "total"):
        raise InputError("component", found=repr(component), expected="parallel, orthogonal or total")

    def value(p: Prediction) -> Tensor:
        update = p.guided - p.null
        if component == "total":
            return _inner(update, update)
        axis = p.cond.detach() if detach_axis else p.cond
        gain = _inner(update, axis) / _inner(axis, axis)
        parallel = gain.reshape(-1, *(1,) * (axis.ndim - 1)) * axis
        part = parallel if component == "parallel" else update - parallel
        return _inner(part, part)

    return Head(f"{component} energy{', axis detached' if detach_axis else ''}", "data^2", value)


@checked
def attribute_score(scores: Scores, name: str) -> Head:
    """A scorer's number on the guided prediction D_w.

    Parameters
    ----------
    scores : callable
        Images (n, *shape) to a mapping of name to (n,) floats, such as log-odds; differentiable.
    name : str
        The score that counts.

    Raises
    ------
    InputError
        In the call, if the scorer has no such name or gives another shape.
    """

    def value(p: Prediction) -> Tensor:
        found = scores(p.guided)
        require_returned("scores", found, Mapping[Any, Tensor])
        if name not in found:
            raise InputError("name", found=repr(name), expected=f"one of {', '.join(map(str, found))}")
        if found[name].shape != (len(p.guided),):
            shape = tuple(found[name].shape)
            raise InputError(f"scores[{name!r}]", found=f"shape {shape}", expected=f"({len(p.guided)},)")
        return found[name]

    return Head(f"score of {name}", "1", value)


@checked
def paired_loss(noise: Tensor) -> Head:
    """0.5 ||eps - eps_w||^2 with eps_w = (x - D_w) / sigma: the loss on the very noise that x holds.

    Two conditions are compared on the same noise. At guidance weight 1 alone does it mean a likelihood.

    Parameters
    ----------
    noise : Tensor, shape (batch, *shape)
        Standard normal noise of x = x0 + sigma * noise.
    """

    def value(p: Prediction, eps: Tensor) -> Tensor:
        error = eps - (p.x - p.guided) / p.sigma
        return 0.5 * _inner(error, error)

    return Head("paired loss", "1", value, (noise,))
