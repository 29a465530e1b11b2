"""Judges of decoded images, by name, and how a denoiser's latents come before them.

    judge = load_judge("my_package.my_module:make_judge", pairs)       # or "clip:FOLDER"
    scorer = scorer_of(judge, vae_decoder(pipe.vae), ["colour"])
    scorer(latents)["colour"]                                          # (n, 2) log-probabilities

A judge maps images (n, 3, y, x) in [-1, 1] to {attribute: log-odds (n,) of its high end, or log-probabilities (n, 2) of
both}, or to one such tensor where there is one attribute. Attributes that no pair is about are judged as off-target.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.statistics.arrays import are_shares
from scorescope.analysis.statistics.intervals import share_interval
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.prompt_pairs import PromptPair
from scorescope.data.untrusted import reason
from scorescope.probes.models.decoding import Decoder, decode
from scorescope.probes.models.factories import import_factory

Judge = Callable[[Tensor], Tensor | Mapping[str, Tensor]]
CLIP = "clip:"
EXPECTED = "log-odds (n,) or log-probabilities (n, 2) by attribute"


@checked
def load_judge(name: str, pairs: Sequence[PromptPair], *, device: str | torch.device = "cpu") -> Judge:
    """The judge that a name on a command line stands for.

    Parameters
    ----------
    name : str
        "package.module:factory", whose factory takes no arguments and returns the judge; or "clip:FOLDER", a CLIP
        model of images and texts that tells the prompts of the pairs apart.
    pairs : sequence of PromptPair
        Prompts for CLIP.
    device : str
        Where CLIP runs.

    Raises
    ------
    InputError
        For a name that stands for no judge.
    """
    if name.startswith(CLIP):
        from scorescope.probes.features.zero_shot import zero_shot_judge

        return zero_shot_judge(name.removeprefix(CLIP), texts_of(pairs), device=device)
    factory = import_factory(name, argument="score", known=["clip:FOLDER"])
    try:
        judge = factory()
    except Exception as error:
        found = f"{name!r}, which failed with {type(error).__name__}: {reason(error)}"
        raise InputError("score", found=found, expected="a factory without arguments that returns a judge") from error
    if not callable(judge):
        raise InputError("score", found=f"a {type(judge).__name__} from {name!r}", expected=f"images to {EXPECTED}")
    made: Judge = judge
    return made


def texts_of(pairs: Sequence[PromptPair]) -> dict[str, tuple[list[str], list[str]]]:
    """Prompts of both ends of each attribute."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for pair in pairs:
        low, high = found.setdefault(pair.attribute, ([], []))
        low.append(pair.low)
        high.append(pair.high)
    return found


def scorer_of(
    judge: Judge, decoder: Decoder, attributes: Sequence[str], *, chunk: int = 8
) -> Callable[[Tensor], dict[str, Tensor]]:
    """A judge of latents: they are decoded, clipped to [-1, 1] and judged, `chunk` at a time.

    Parameters
    ----------
    judge : callable
        See above.
    decoder : callable
        Latents to images.
    attributes : sequence of str
        What it has to know.
    chunk : int
        Images at a time.

    Returns
    -------
    callable
        Latents to {attribute: (n, 2) log-probabilities of its low and its high end}, float32 on the latents' device.
        Raises `InputError` where the judge gives something else.
    """

    @torch.no_grad()
    def score(latents: Tensor) -> dict[str, Tensor]:
        parts = [_judged(judge, decode(decoder, part, chunk=chunk), attributes) for part in latents.split(chunk)]
        return {name: torch.cat([part[name] for part in parts]).to(latents.device) for name in parts[0]}

    return score


def judge_pairs(
    scorer: Callable[[Tensor], Mapping[str, Tensor]], latents: Tensor, labels: Tensor, names: Sequence[str]
) -> pd.DataFrame:
    """How often a judge scores the high end of a pair of images above the low end, and what parts the two.

    Parameters
    ----------
    scorer : callable
        From `scorer_of`.
    latents : Tensor, shape (2 n, *shape)
        Low and high end in turn.
    labels : Tensor, shape (2 n, attribute)
        -1 where a pair is not about an attribute.
    names : sequence of str
        Attributes, in the order of the columns.

    Returns
    -------
    DataFrame
        attribute, pairs, share with its exact interval (low, high), below (share of pairs the other way round), and
        zero, in log-odds: the judge's own, 0, where it lies between the medians of the two ends; where it does not and
        the ends are told apart, the middle of the two.
    """
    found, rows = scorer(latents), []
    for place, name in enumerate(names):
        odds = (found[name][:, 1] - found[name][:, 0])[labels[:, place].to(latents.device) >= 0].cpu()
        low, high = odds[::2], odds[1::2]
        above, below = (high > low).numpy(), (high < low).numpy()
        ends, (least, most) = sorted((float(low.median()), float(high.median()))), share_interval(above)
        apart = least > 0.5 and not ends[0] < 0 < ends[1]
        zero = sum(ends) / 2 if apart else 0.0
        rows.append((name, len(above), float(above.mean()), least, most, float(below.mean()), zero))
    return pd.DataFrame(rows, columns=["attribute", "pairs", "share", "low", "high", "below", "zero"])


def counted_from(
    scorer: Callable[[Tensor], Mapping[str, Tensor]], zeros: Mapping[str, float]
) -> Callable[[Tensor], dict[str, Tensor]]:
    """A scorer whose log-odds are counted from others than its own zero: {attribute: log-odds that become 0}."""

    def score(latents: Tensor) -> dict[str, Tensor]:
        found = dict(scorer(latents))
        for name, zero in zeros.items():
            if zero:
                found[name] = _of_odds(found[name][:, 1] - found[name][:, 0] - zero)
        return found

    return score


def _of_odds(odds: Tensor) -> Tensor:
    """Log-probabilities (n, 2) of log-odds (n,)."""
    return torch.nn.functional.logsigmoid(torch.stack([-odds, odds], dim=1))


def _judged(judge: Judge, images: Tensor, attributes: Sequence[str]) -> dict[str, Tensor]:
    """What the judge says of some images, checked."""
    try:
        found: Any = judge(images.clamp(-1, 1))
    except Exception as error:
        said = f"a judge that failed with {type(error).__name__}: {reason(error)}"
        raise InputError("score", found=said, expected=f"images (n, 3, y, x) to {EXPECTED}") from error
    if isinstance(found, Tensor) and len(attributes) == 1:
        found = {attributes[0]: found}
    if not isinstance(found, Mapping) or (absent := [name for name in attributes if name not in found]):
        said = f"a mapping without {absent[0]!r}" if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise InputError("score", found=said, expected=f"{EXPECTED}: {', '.join(attributes)}")
    return {name: _log_probabilities(name, values, len(images)) for name, values in found.items()}


def _log_probabilities(name: str, values: Any, count: int) -> Tensor:
    if isinstance(values, Tensor) and tuple(values.shape) == (count, 1):  # what a linear head of one output gives
        values = values[:, 0]
    if not isinstance(values, Tensor) or tuple(values.shape) not in ((count,), (count, 2)):
        found = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else f"a {type(values).__name__}"
        expected = f"({count},) or ({count}, 2)"
        raise InputError("score", found=f"{found} of {name!r} for {count} images", expected=expected)
    values = values.detach().float().cpu()
    if not torch.isfinite(values).all():
        raise InputError("score", found=f"values of {name!r} that are not finite", expected="finite numbers")
    if values.ndim == 2 and are_shares(values.numpy()):
        raise InputError("score", found=f"probabilities of {name!r}", expected="their logarithms")
    odds = values if values.ndim == 1 else values[:, 1] - values[:, 0]
    return _of_odds(odds)
