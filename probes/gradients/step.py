"""One guided denoiser step as a pure function: condition tokens and state in, one number a sample out.

    step = make_step(denoiser, x, 1.0, labels, head=projection(direction), weight=3.0)
    step(tokens, x)                                    # (batch,), differentiable in both
    step(tokens, x, site="network.middle1", activation=activation)

What captum and Jacobian-vector products need, and a pipeline does not offer: the noise level is rebuilt from the
incoming batch (captum stacks its path along dim 0), everything else that belongs to a sample travels with it, and
nothing is drawn inside.

Guidance runs the denoiser twice, and hooks on a module that is called twice attribute the wrong call. So the
null prediction D_u is computed once and held constant where the tokens or a site vary, and the weight enters by
D_w = D_u + w (D_c - D_u) around the one conditional call. Only where x itself varies is D_u computed again.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.gradients.differentiable_sites import edit_site
from scorescope.probes.gradients.heads import Head, Prediction
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate

PURITY = 1e-4


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Step:
    """A denoiser step with everything frozen but condition tokens, state and one site. Made by `make_step`.

    Attributes
    ----------
    denoiser : Denoiser
        The model.
    sigma : float
        Noise level, variance-exploding, in units of the data.
    head : Head
        What is made of the prediction.
    weight : float
        Guidance weight w; 1 is no guidance.
    tokens, null : Tensor, shape (batch, token, width)
        Condition tokens and those of the null condition, token by token.
    x : Tensor, shape (batch, *shape)
        States.
    uncond : Tensor, shape (batch, *shape)
        D_u at (x, null), a constant.
    constants : tuple of Tensor
        Those of the head, one row a sample.
    """

    denoiser: Denoiser
    sigma: float
    head: Head
    weight: float
    tokens: Tensor
    null: Tensor
    x: Tensor
    uncond: Tensor
    constants: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.x)

    def __call__(
        self,
        tokens: Tensor | None = None,
        x: Tensor | None = None,
        *,
        site: str | None = None,
        activation: Tensor | None = None,
    ) -> Tensor:
        """The head's number of each sample, shape (batch,).

        Parameters
        ----------
        tokens, x : Tensor, optional
            In place of those of the step, row by row. Where x is given, D_u is computed at it.
        site, activation : str and Tensor, optional
            A module path, and what is to come out of it in the conditional call.
        """
        uncond = self.uncond if x is None else None
        state, taken = self.x if x is None else x, self.tokens if tokens is None else tokens
        if site is None or activation is None:
            return self.value(taken, state, uncond, self.null, *self.constants)
        return self.value_at_site(site, activation, taken, state, uncond, self.null, *self.constants)

    def value(self, tokens: Tensor, x: Tensor, uncond: Tensor | None, null: Tensor, *constants: Tensor) -> Tensor:
        """The pure function itself: every tensor has one row a sample, any number of rows.

        `uncond` None has D_u computed from (x, null).
        """
        if uncond is None:
            uncond = self.denoise(x, null)
        cond = self.denoise(x, tokens)
        wide = torch.promote_types(cond.dtype, torch.float32)
        cond, uncond = cond.to(wide), uncond.to(wide)
        guided = uncond + self.weight * (cond - uncond)
        prediction = Prediction(cond, uncond, guided, x.to(wide), self.sigma)
        return self.head.value(prediction, *(constant.to(cond) for constant in constants))

    def value_at_site(self, site: str, activation: Tensor, tokens: Tensor, x: Tensor, uncond: Tensor | None,
                      null: Tensor, *constants: Tensor) -> Tensor:  # fmt: skip
        """`value` with a site's activation replaced in the conditional call."""
        if uncond is None:
            uncond = self.denoise(x, null)
        with edit_site(self.denoiser, site, lambda _: activation):
            return self.value(tokens, x, uncond, null, *constants)

    def denoise(self, x: Tensor, tokens: Tensor) -> Tensor:
        """The denoiser at the step's noise level, built for the rows of x."""
        sigma = torch.full((len(x),), self.sigma, dtype=x.dtype, device=x.device)
        return evaluate(self.denoiser, x, sigma, tokens, branch="cond")

    def context(self, rows: slice) -> tuple[Tensor, ...]:
        """(tokens, x, uncond, null, *constants) of some samples, in the order of `value`."""
        return tuple(part[rows] for part in (self.tokens, self.x, self.uncond, self.null, *self.constants))


@checked
def make_step(
    denoiser: Denoiser, x: Tensor, sigma: float, condition: Condition, *, head: Head, weight: float = 1.0,
    null: Tensor | None = None,
) -> Step:  # fmt: skip
    """Freeze one step of a denoiser.

    Parameters
    ----------
    denoiser : Denoiser
        The model; must be a function of its arguments alone (no dropout, no noise drawn inside).
    x : Tensor, shape (batch, *shape)
        States x0 + sigma * noise.
    sigma : float
        Noise level, same unit as x.
    condition : Tensor
        Condition tokens (batch, token, width); or labels, where the denoiser has `embed`.
    head : Head
        `projection`, `guidance_energy`, `attribute_score`, `paired_loss`, or one's own.
    weight : float
        Guidance weight w; 1 is no guidance.
    null : Tensor, optional
        Tokens of the null condition, one row or one a sample; by default `denoiser.embed(None, batch=...)`.

    Raises
    ------
    InputError
        For a noise level that is not positive, conditions that are not tokens, sizes that do not fit, and a denoiser
        whose predictions change from call to call.
    """
    if not 0 < sigma < float("inf"):
        raise InputError("sigma", found=str(sigma), expected="a positive finite noise level")
    tokens = condition_tokens(denoiser, condition, len(x), "condition").to(x)
    if null is None and not hasattr(denoiser, "embed"):
        raise InputError("null", found="None", expected="tokens of the null condition: the denoiser has no `embed`")
    empty = condition_tokens(denoiser, null, len(x), "null").to(x).expand_as(tokens)
    constants = tuple(_rows(constant, x, head.name).to(x.device) for constant in head.constants)
    plain = Step(denoiser, float(sigma), head, float(weight), tokens, empty, x.detach(), x.detach(), constants)
    _check_pure(plain)
    with torch.no_grad():
        uncond = plain.denoise(x, empty)
    if uncond.is_inference():
        uncond = uncond.clone()
    return Step(denoiser, float(sigma), head, float(weight), tokens, empty, x.detach(), uncond, constants)


def condition_tokens(denoiser: Denoiser, condition: Condition, batch: int, argument: str) -> Tensor:
    """A condition as floating point tokens, (batch or 1, token, width), detached.

    Labels and None are embedded by the denoiser's `embed`.

    Raises
    ------
    InputError
        For labels of a denoiser without `embed`, and tokens of another number of rows or axes.
    """
    if condition is None or (isinstance(condition, Tensor) and not condition.is_floating_point()):
        embed = cast(Any, getattr(denoiser, "embed", None))
        if embed is None:
            found = "None" if condition is None else "labels, and a denoiser without `embed`"
            raise InputError(argument, found=found, expected="floating point tokens (batch, token, width)")
        with torch.no_grad():
            condition = embed(condition, batch=batch)
    if not isinstance(condition, Tensor) or condition.ndim != 3 or len(condition) not in (1, batch):
        found = f"shape {tuple(condition.shape)}" if isinstance(condition, Tensor) else f"a {type(condition).__name__}"
        raise InputError(argument, found=found, expected=f"tokens of shape ({batch}, token, width)")
    taken = condition.detach()
    return (taken.clone() if taken.is_inference() else taken).expand(batch, -1, -1)


@checked
def same_noise(x: Tensor, x0: Tensor, other: Tensor) -> Tensor:
    """The state of another image under the noise of x: other + (x - x0).

    The baseline for attributions to x. A straight path to it keeps the noise, and with it the noise level that the
    denoiser is told; a path to zero does not.

    Parameters
    ----------
    x, x0, other : Tensor, of one shape
        State, the image in it, and the other image.
    """
    if not x.shape == x0.shape == other.shape:
        found = f"{tuple(x.shape)}, {tuple(x0.shape)}, {tuple(other.shape)}"
        raise InputError("x, x0, other", found=found, expected="one shape")
    return other + (x - x0)


def require_gradients() -> None:
    """Raise `InputError` where autograd is off: under `torch.no_grad()` or in inference mode."""
    if torch.is_inference_mode_enabled():
        raise InputError("gradients", found="inference mode", expected="a call outside torch.inference_mode()")
    if not torch.is_grad_enabled():
        raise InputError("gradients", found="torch.no_grad()", expected="a call with gradients enabled")


def check_differentiable(step: Step) -> None:
    """Raise `InputError` unless gradients of the step reach its tokens."""
    require_gradients()
    tokens, *rest = step.context(slice(0, 1))
    value = step.value(tokens.clone().requires_grad_(), *rest)
    if not value.requires_grad:
        found = "a prediction through which no gradient reaches the condition"
        expected = "a denoiser (and scorer) that do not run under no_grad or inference mode, and use their condition"
        raise InputError("denoiser", found=found, expected=expected)


def _rows(constant: Tensor, x: Tensor, head: str) -> Tensor:
    if tuple(constant.shape) == tuple(x.shape):
        return constant.detach()
    if tuple(constant.shape) == tuple(x.shape[1:]):
        return constant.detach().expand_as(x)
    expected = f"{tuple(x.shape[1:])} or {tuple(x.shape)}, as the state"
    raise InputError(f"direction of the {head}", found=f"shape {tuple(constant.shape)}", expected=expected)


def _check_pure(step: Step) -> None:
    with torch.no_grad():
        first, second = (step.denoise(step.x[:1], step.tokens[:1]) for _ in range(2))
    if not (first - second).norm() <= PURITY * first.norm():
        found = "two predictions that differ for the same arguments"
        expected = "a finite function of x, sigma and condition: call .eval(), draw no noise inside"
        raise InputError("denoiser", found=found, expected=expected)
