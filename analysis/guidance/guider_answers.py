"""What a guider says along a path, fed in one space; and in batches whose other samples are exchanged.

answers(guider, path, "eps")
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scorescope.analysis.guidance.paper_rules import PERTURBING
from scorescope.probes.experiments.batch_coupling import Coupling, couplings
from scorescope.probes.experiments.diffusers_guider import RuleGuider
from scorescope.probes.guidance.base import PERTURBED
from scorescope.probes.models.spaces import NoiseLevel, Space, from_denoised, to_denoised
from scorescope.probes.pipelines.level import Level
from scorescope.probes.recording.trace import Visit

ROUNDING = 1e-4  # the most that rounding does in a batch of another size, where guiders compute in float32 inside


def steps_of(path: Sequence[Visit]) -> int:
    """Steps of the run, as far as they are known."""
    return max(visit.step for visit in path) + 1


class Answer(NamedTuple):
    """What a guider made of its predictions, in denoised space, float64; NaN with what it raised."""

    guided: Tensor
    error: str


def answers(guider: Any, path: Sequence[Visit], space: Space) -> list[Answer]:
    """What a copy of the guider says along a path; anything random is drawn alike each time.

    A method, or a function with arguments bound to it, is not copied: it may hold a whole network.
    """
    peer = guider if isinstance(guider, MethodType | partial) else copy.deepcopy(guider)
    memory: dict[str, Any] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [_answer(peer, visit, space, steps_of(path), memory) for visit in path]


def _answer(guider: Any, visit: Visit, space: Space, steps: int, memory: dict[str, Any]) -> Answer:
    x, branches = predictions(guider, visit)
    level = level_of(x, visit)
    error, guided = "", torch.full_like(x, torch.nan)
    try:
        fed = [from_denoised(tensor, x, level, space=space) for tensor in branches]
        guided = to_denoised(_call(guider, fed, visit, x, space, steps, memory), x, level, space=space)
        error = "" if torch.isfinite(guided).all() else "a prediction that is not finite"
    except Exception as raised:  # whatever a guider raises is what the audit is there to tell
        error = f"{type(raised).__name__}: {raised}"
    return Answer(guided, error)


def predictions(guider: Any, visit: Visit) -> tuple[Tensor, list[Tensor]]:
    """State and branches that the guider combines, float64."""
    assert visit.uncond is not None  # _visits has seen to it
    others = [visit.others[PERTURBED]] if type(guider).__name__ in PERTURBING else []
    x, *branches = (tensor.detach().double() for tensor in (visit.x, visit.cond, visit.uncond, *others))
    return x, branches


def level_of(x: Tensor, visit: Visit) -> NoiseLevel:
    """The noise level of a visit, one a sample."""
    return NoiseLevel.ve(torch.full((len(x),), visit.sigma, dtype=torch.float64, device=x.device))


def guider_couplings(guider: Any, path: Sequence[Visit], space: Space, plain: Sequence[Answer]) -> list[Coupling]:
    """How much the guider's answers depend on the other samples, at each visit."""

    def run(rows: list[int], exchanged: list[bool]) -> list[Tensor]:
        arranged = [_arranged(visit, rows, exchanged) for visit in path]
        return [answer.guided for answer in answers(guider, arranged, space)]

    return couplings(run, [answer.guided for answer in plain], rounding=ROUNDING)


def _arranged(visit: Visit, rows: list[int], exchanged: list[bool]) -> Visit:
    """The samples in another order, some with another state: twice its size, three times its update, turned round."""
    assert visit.uncond is not None
    cond, change = visit.cond[rows], torch.tensor([exchanged[k] for k in rows], device=visit.cond.device)
    change = change.reshape(-1, *(1,) * (cond.ndim - 1))

    def other(branch: Tensor) -> Tensor:
        return torch.where(change, -2 * cond - 3 * (cond - branch[rows]), branch[rows])

    x = torch.where(change, -2 * visit.x[rows], visit.x[rows])
    others = {name: other(branch) for name, branch in visit.others.items()}
    return replace(visit, x=x, cond=other(visit.cond), uncond=other(visit.uncond), others=others)


def _call(
    guider: Any, fed: list[Tensor], visit: Visit, x: Tensor, space: Space, steps: int, memory: dict[str, Any]
) -> Tensor:
    if isinstance(guider, RuleGuider):
        level = Level.of(1.0, visit.sigma, space, sigma_next=visit.sigma_next)
        guider.at(x, level, step=visit.step, call=visit.call, memory=memory)
    elif hasattr(guider, "forward"):
        guider.set_state(visit.step, steps, torch.tensor(float(visit.step)))
        guider.prepare_inputs({})  # this is where guiders begin a run
    result = guider.forward(*fed) if hasattr(guider, "forward") else guider(*fed)
    prediction: Tensor = result if isinstance(result, Tensor) else result[0]
    return prediction.to(fed[0].dtype)
