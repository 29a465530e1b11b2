"""The arrays of a trace, read when they are asked for, one step at a time."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.pipelines.branches import Aligned, Hypothesis, cut, without_variance
from scorescope.probes.pipelines.call import Call
from scorescope.probes.pipelines.naming import Verdict
from scorescope.probes.pipelines.proof import Proved

Load = Callable[[Mapping[str, Any], str], Tensor]

DERIVED = ("cond", "uncond")


class Arrays:
    """Named arrays of each step.

    Parameters
    ----------
    events, proved
        Recorded steps and their proofs.
    load : callable
        (record, stored name) -> Tensor on the host.
    """

    def __init__(self, events: Sequence[Mapping[str, Any]], proved: Sequence[Proved], load: Load) -> None:
        self.events, self.proved, self._load = events, proved, load

    def names(self) -> list[str]:
        """What can be loaded in at least one step."""
        stored = {name for event in self.events for name in event["arrays"]}
        plain = {name for name in stored if "|" not in name}
        sites = {name.split("|")[1] for name in stored if name.startswith("site|")}
        branches = set(DERIVED) if any(name.startswith("call") for name in stored) else set()
        return sorted(plain | branches | {f"site:{site}" for site in sites})

    def load(self, name: str, place: int, *, space: str = "prediction") -> Tensor:
        """One array of one step.

        Parameters
        ----------
        name : str
            x, x_prev, guided, x0, cond, uncond, perturbed, call0, call1, ... (branches in the order of the calls).
        place : int
            Place of the step among all recorded steps, from 0, in order of run and event.
        space : {"prediction", "denoised"}
            `prediction` gives what the denoiser or scheduler produced, in its own type; `denoised` converts
            predictions to D, float64 (needs x to have been kept).

        Returns
        -------
        Tensor, shape (batch, *shape)

        Raises
        ------
        InputError
            Where it was not kept in this step, or the branch was not proved (with the reason).
        """
        event, step = self.events[place], self.proved[place]
        if space not in ("prediction", "denoised"):
            raise InputError("space", found=repr(space), expected="prediction or denoised")
        if name in (*DERIVED, "perturbed") or (name.startswith("call") and name[4:].isdigit()):
            value = self._branch(event, step, name)
        elif name in event["arrays"]:
            value = self._load(event, name)
        else:
            raise InputError("name", found=f"{name}, not kept in step {place}", expected=f"one of {self._kept(event)}")
        if space == "prediction" or name not in (*DERIVED, "perturbed", "guided"):
            return value
        return self._denoised(event, step, name, value)

    def site(self, name: str, place: int, branch: str, *, turn: int = 0) -> Tensor:
        """The activation at a site in one branch of one step.

        Parameters
        ----------
        name : str
            Site, for instance `unet.mid_block`.
        place : int
            Place of the step.
        branch : str
            cond, uncond, or call0, call1, ...
        turn : int
            Which time, where the module runs more than once in a denoiser call.
        """
        event, step = self.events[place], self.proved[place]
        hypothesis = step.hypothesis
        if hypothesis is None:
            raise InputError(
                "branch", found=branch, expected=f"a step whose branches are known: {step.verdicts[0].reason}"
            )
        index = _place_of(step.verdicts, branch)
        stored = [key for key in event["arrays"] if key.startswith(f"site|{name}|") and key.endswith(f"|{turn}")]
        if not stored:
            raise InputError("site", found=f"{name}, not kept in step {place}", expected=f"one of {self.names()}")
        found = {int(key.split("|")[2]): key for key in stored}
        chosen = [call for call in hypothesis.get("calls") or found if call in found]  # others made no branch
        if len(chosen) != len(hypothesis["parts"]):
            raise InputError(
                "site",
                found=f"{name}, kept in {len(chosen)} calls for {len(hypothesis['parts'])} that made the branches",
                expected="a module that is called in each of them",
            )
        return _branches_of([self._load(event, found[call]) for call in sorted(chosen)], hypothesis)[index]

    @staticmethod
    def _kept(event: Mapping[str, Any]) -> str:
        return ", ".join(event["arrays"]) or "nothing: arrays are kept with keep="

    def _branch(self, event: Mapping[str, Any], step: Proved, name: str) -> Tensor:
        index = step.perturbed if name == "perturbed" else _place_of(step.verdicts, name)
        if index is None:
            expected = "a step of three branches, one of them with the inputs of cond"
            raise InputError("name", found=f"{name}, which this step has not", expected=expected)
        found = self._cut(event, step).branches
        if index >= len(found):
            raise InputError("name", found=name, expected=f"call0 to call{len(found) - 1}")
        return found[index]

    def _cut(self, event: Mapping[str, Any], step: Proved) -> Hypothesis:
        hypothesis = step.hypothesis
        if hypothesis is None:
            raise InputError(
                "name", found="a branch", expected=f"a step whose branches are known: {step.verdicts[0].reason}"
            )
        stored = [
            name for name in event["arrays"] if name.startswith("call") and name.split("|")[1] == hypothesis["view"]
        ]
        if not stored:
            raise InputError("name", found="a branch, not kept in this step", expected='keep="branches" or "all"')
        rows = [self._load(event, name) for name in sorted(stored, key=lambda name: int(name[4:].split("|")[0]))]
        aligned = [Aligned(hypothesis["view"], Call("", []), part) for part in rows]
        like = torch.empty(event["shape"], device="cpu")
        cuts = cut(aligned, like, like)
        return next(
            c for c in cuts if c.layout.order == hypothesis["order"] and list(c.layout.parts) == hypothesis["parts"]
        )

    def _denoised(self, event: Mapping[str, Any], step: Proved, name: str, value: Tensor) -> Tensor:
        if "x" not in event["arrays"]:
            raise InputError("space", found="denoised, where x was not kept", expected="x among the kept arrays")
        x = self._load(event, "x").double()
        if name == "guided":
            target = without_variance(value, x)
            assert target is not None  # the step was recorded with it
            value = target
        x = x[: len(value)]
        skip, out = (_column(event["level"][key], len(value), x) for key in ("skip", "out"))
        if name == "guided":
            return skip * x + out * value.double()
        scale, mix = (_column([getattr(v, key) for v in step.verdicts], len(value), x) for key in ("scale", "mix"))
        return (skip + out * mix) * x + out * scale * value.double()

    def has(self, name: str, place: int) -> bool:
        """Whether `load` can give an array of a step."""
        event, step = self.events[place], self.proved[place]
        if name not in DERIVED:
            return name in event["arrays"]
        verdicts = step.verdicts
        known = step.hypothesis is not None and all(getattr(v, name) is not None for v in verdicts)
        return known and any(key.startswith("call") for key in event["arrays"])


def _place_of(verdicts: Sequence[Verdict], name: str) -> int:
    if name not in DERIVED:
        return int(name[4:])
    found = {getattr(verdict, name) for verdict in verdicts}
    if len(found) != 1 or None in found:
        reason = next((v.reason for v in verdicts if v.reason), "samples of this step differ")
        raise InputError("name", found=name, expected=f"call0, call1, ...: {reason}")
    return int(found.pop())


def _branches_of(values: list[Tensor], hypothesis: Mapping[str, Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value, count in zip(values, hypothesis["parts"], strict=True):
        if hypothesis["order"] == "interleaved":
            found += [value[place::count] for place in range(count)]
        else:
            found += list(value.chunk(count))
    return found


def _column(value: Any, rows: int, like: Tensor) -> Tensor:
    values = value[:rows] if isinstance(value, list) else [value] * rows
    numbers = torch.tensor(values, dtype=torch.float64, device="cpu")
    return numbers.reshape(-1, *(1,) * (like.ndim - 1))
