"""What is expected of every scheduler class of diffusers: read right in these configurations, or refused.

`docs/schedulers.md` is made of this table: `python -m tests.judged_schedulers`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.schedulers import Case

PAGE = Path(__file__).parents[1] / "docs" / "schedulers.md"


@dataclass(frozen=True)
class Judged:
    """A class.

    Attributes
    ----------
    says : str
        How it is read, or why it is not.
    cases : tuple of Case
        Configurations in which it is read right; none where it is refused.
    refused : tuple of (Case, str)
        Configurations that are refused, and words of the reason.
    least : float
        Level at which its x0 lies.
    """

    says: str
    cases: tuple[Case, ...] = ()
    refused: tuple[tuple[Case, str], ...] = ()
    least: float = 0.0


def _each(common: Mapping[str, Any] | None = None, **values: tuple[Any, ...]) -> tuple[Case, ...]:
    """What is common alone, and with each value of each switch."""
    base = dict(common or {})
    return (Case(base), *(Case(base | {name: value}) for name, several in values.items() for value in several))


def _switched(*names: str) -> tuple[Case, ...]:
    return tuple(Case({name: True}) for name in names)


_OTHERS = ("sample", "v_prediction")
_SPACINGS = ("leading", "trailing")
_SPACED = _switched("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
_UNCLIPPED = {"clip_sample": False}
_ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}

_PRODUCTS = (
    *_each(_UNCLIPPED, prediction_type=_OTHERS, timestep_spacing=("linspace", "trailing")),
    Case(_UNCLIPPED | _ZERO_SNR),
)
_SOLVER = _each(prediction_type=_OTHERS, timestep_spacing=_SPACINGS)
_SOLVER += (*_SPACED, Case(_FLOW), Case(_FLOW | {"flow_shift": 3.0}))
_SOLVER += (Case(_FLOW | {"prediction_type": "v_prediction"}),)
_NO_FLOW = ((Case({"prediction_type": "flow_prediction"}), "without flow sigmas"),)
_FEW = {"num_train_timesteps": 200, "beta_end": 0.06}  # for classes that take seconds to make
_VE = _each(_FEW, prediction_type=("v_prediction",), timestep_spacing=_SPACINGS)
_VE += tuple(Case(_FEW | dict(case.config)) for case in _SPACED)
_VE_X0 = (*_VE, Case(_FEW | {"prediction_type": "sample"}))
_EDM = _each(prediction_type=("v_prediction",), sigma_data=(1.0,), sigma_max=(10.0,), sigma_schedule=("exponential",))
_MATCHED = (
    *_each(shift=(3.0,), shift_terminal=(0.1,)),
    *_SPACED,
    Case({"use_dynamic_shifting": True}, {"mu": 0.7}),
)
_COSMOS = {"sigma_max": 80.0, "sigma_min": 0.002}
_PROTEIN = {"schedule_mode": "log", "noise_mode": "tan", "tsr_k": 1.0, "tsr_sigma": 1.0}
_STAGES = {"num_inference_steps": 4, "stage_index": 1}

_CATEGORICAL = "refused: categorical, without a continuous noise level"
_PRODUCT = "variance preserving; eps, x0 or v by the table of cumulative products"
_PRESERVING = "variance preserving, or flow matching; eps, x0, v or flow by its sigmas"
_PRECONDITIONED = "variance exploding; EDM preconditioning"
_EXPLODING = "variance exploding; eps or v by its sigmas, or x0 where its step takes that"

JUDGED: dict[str, Judged] = {
    "AmusedScheduler": Judged(_CATEGORICAL, refused=((Case({"mask_token_id": 7}), "categorical"),)),
    "BlockRefinementScheduler": Judged(_CATEGORICAL, refused=((Case(), "categorical"),)),
    "CMStochasticIterativeScheduler": Judged(
        "variance exploding; consistency function, whose x0 lies at its least level",
        _each({"clip_denoised": False}, sigma_data=(1.0,), sigma_max=(10.0,)),
        least=0.002,
    ),
    "CogVideoXDDIMScheduler": Judged(_PRODUCT, _PRODUCTS),
    "CogVideoXDPMScheduler": Judged(_PRODUCT, _PRODUCTS[:-1]),
    "ConsistencyDecoderScheduler": Judged(
        "refused: part of an image decoder", refused=((Case(timesteps={"num_inference_steps": 2}), "unknown"),)
    ),
    "CosineDPMSolverMultistepScheduler": Judged(_PRECONDITIONED, _EDM),
    "DDIMInverseScheduler": Judged(
        _PRODUCT + "; levels rise",
        _each(_UNCLIPPED | {"set_alpha_to_one": False}, prediction_type=_OTHERS, timestep_spacing=_SPACINGS),
    ),
    "DDIMParallelScheduler": Judged(_PRODUCT, _PRODUCTS),
    "DDIMScheduler": Judged(_PRODUCT, (*_PRODUCTS, Case(_UNCLIPPED, step={"eta": 1.0}))),
    "DDPMParallelScheduler": Judged(_PRODUCT, _PRODUCTS),
    "DDPMScheduler": Judged(_PRODUCT, _PRODUCTS),
    "DDPMWuerstchenScheduler": Judged("variance preserving; eps by a cosine of time", _each(scaler=(2.0, 0.5))),
    "DEISMultistepScheduler": Judged(_PRESERVING, _SOLVER, _NO_FLOW),
    "DPMSolverMultistepInverseScheduler": Judged(_PRESERVING + "; levels rise", _SOLVER, _NO_FLOW),
    "DPMSolverMultistepScheduler": Judged(
        _PRESERVING,
        (
            *_SOLVER,
            *_each(algorithm_type=("sde-dpmsolver++",), final_sigmas_type=("sigma_min",), solver_order=(3,)),
            Case({"use_lu_lambdas": True}),
            Case({"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}),
        ),
    ),
    "DPMSolverSDEScheduler": Judged(_EXPLODING, _VE),
    "DPMSolverSinglestepScheduler": Judged(
        _PRESERVING, (*_each(prediction_type=_OTHERS, solver_order=(3,)), *_SPACED, Case(_FLOW))
    ),
    "DiscreteDDIMScheduler": Judged(_CATEGORICAL, refused=((Case(), "categorical"),)),
    "EDMDPMSolverMultistepScheduler": Judged(_PRECONDITIONED, _EDM),
    "EDMEulerScheduler": Judged(_PRECONDITIONED, _EDM),
    "EntropyBoundScheduler": Judged(_CATEGORICAL, refused=((Case(), "categorical"),)),
    "EulerAncestralDiscreteScheduler": Judged(
        _EXPLODING, (*_each(prediction_type=("v_prediction",), timestep_spacing=_SPACINGS), Case(_ZERO_SNR))
    ),
    "EulerDiscreteScheduler": Judged(
        _EXPLODING,
        (
            *_VE_X0,
            Case(_ZERO_SNR),
            Case({"sigma_min": 0.1, "sigma_max": 50.0, "use_karras_sigmas": True}),
            Case({"timestep_type": "continuous", "prediction_type": "v_prediction"}),
            Case({"final_sigmas_type": "sigma_min"}),
        ),
    ),
    "FlowMapEulerDiscreteScheduler": Judged(
        "flow matching, n - x0: the mean velocity up to the next level, followed straight to the end",
        (*_each(shift=(3.0,)), Case(step={"r_timestep": torch.tensor(50.0)})),
    ),
    "FlowMatchEulerDiscreteScheduler": Judged(
        "flow matching, n - x0; x0 - n with `invert_sigmas`, and by token; variance exploding, eps, if sigmas exceed 1",
        (
            *_MATCHED,
            *_switched("stochastic_sampling", "invert_sigmas"),
            Case({"use_karras_sigmas": True}, registered=_COSMOS),
        ),
        (
            (Case({"invert_sigmas": True, "stochastic_sampling": True}), "count the data"),
            (Case({"use_karras_sigmas": True, "stochastic_sampling": True}, registered=_COSMOS), "above 1"),
        ),
    ),
    "FlowMatchHeunDiscreteScheduler": Judged("flow matching, n - x0", _each(shift=(3.0,))),
    "FlowMatchLCMScheduler": Judged(
        "flow matching, n - x0", _MATCHED, ((Case({"invert_sigmas": True}), "count the data"),)
    ),
    "HeliosDMDScheduler": Judged(
        "refused: takes its levels from the arguments of its step",
        refused=((Case({"stages": 1}), "arguments of its step"), (Case(timesteps=_STAGES), "stages")),
    ),
    "HeliosScheduler": Judged(
        "flow matching, n - x0; refused with several stages, whose sigmas count from the end of a stage",
        (
            *_each({"stages": 1}, scheduler_type=("euler",), prediction_type=("flow_prediction", *_OTHERS)),
            Case({"stages": 1, "prediction_type": "epsilon"}, {"sigmas": np.array([0.9, 0.6, 0.3, 0.1])}),
        ),
        ((Case(timesteps=_STAGES), "stages"),),
    ),
    "HeunDiscreteScheduler": Judged(_EXPLODING, _VE_X0),
    "IPNDMScheduler": Judged("variance preserving; v by its tables `alphas` and `betas`", (Case(),)),
    "KDPM2AncestralDiscreteScheduler": Judged(_EXPLODING, _VE),
    "KDPM2DiscreteScheduler": Judged(_EXPLODING, _VE),
    "KarrasVeScheduler": Judged("refused: keeps its levels nowhere", refused=((Case(), "unknown"),)),
    "LCMScheduler": Judged(_PRODUCT, _each(prediction_type=_OTHERS, set_alpha_to_one=(False,))),
    "LMSDiscreteScheduler": Judged(_EXPLODING, _VE_X0),
    "LTXEulerAncestralRFScheduler": Judged("flow matching, n - x0", _each(eta=(0.0,))),
    "MiniMaxH3Scheduler": Judged("flow matching, x0 - n, as its timesteps count the data", _each(shift=(3.0,))),
    "PNDMScheduler": Judged(
        "variance preserving; eps or v by the table of cumulative products; stages of one step are its calls",
        (
            *_each({"skip_prk_steps": True}, timestep_spacing=("trailing",), set_alpha_to_one=(True,)),
            Case({"skip_prk_steps": True, "timestep_spacing": "linspace"}, drifts=True),
            Case({"skip_prk_steps": True, "prediction_type": "v_prediction"}, drifts=True),
            Case({"skip_prk_steps": False}),
        ),
    ),
    "PiflowScheduler": Judged(
        "refused: predicts x0 for many times of a step at once", refused=((Case(), "one for each time"),)
    ),
    "RFD4ProteinaScheduler": Judged(
        "refused: steps by a score at a temperature of its own",
        refused=((Case(_PROTEIN, {"num_inference_steps": 40}), "unknown"),),
    ),
    "RePaintScheduler": Judged(
        "variance preserving; eps by the table of cumulative products; time travel is no step",
        (Case(_UNCLIPPED), Case(_UNCLIPPED, {"num_inference_steps": 10, "jump_length": 3, "jump_n_sample": 2})),
    ),
    "SASolverScheduler": Judged(
        _PRESERVING + "; stochastic `noise_prediction` steps do not end where they say",
        (*_SOLVER, Case({"algorithm_type": "noise_prediction", "tau_func": lambda time: 0})),
    ),
    "SCMScheduler": Judged(
        "TrigFlow: cos(t) x0 + sin(t) sigma_data n; D = cos(t) x - sin(t) F",
        (
            Case(timesteps={"num_inference_steps": 2}),
            Case({"sigma_data": 1.0}, {"intermediate_timesteps": None}),
            Case({"sigma_data": 0.25}, {"intermediate_timesteps": None, "max_timesteps": 1.4}),
        ),
        ((Case(timesteps={"intermediate_timesteps": None, "max_timesteps": 1.7}), "TrigFlow angle"),),
    ),
    "ScoreSdeVeScheduler": Judged("refused: has no `step`"),
    "ScoreSdeVpScheduler": Judged("refused: has no `step`"),
    "TCDScheduler": Judged(_PRODUCT, (*_each(prediction_type=_OTHERS), Case(step={"eta": 0.0}))),
    "UnCLIPScheduler": Judged(
        "variance preserving; eps or x0 by the table of cumulative products",
        _each(_UNCLIPPED, prediction_type=("sample",)),
    ),
    "UniPCMultistepScheduler": Judged(
        _PRESERVING,
        (*_SOLVER, *_each({"final_sigmas_type": "sigma_min"}, predict_x0=(False,), solver_order=(3,))),
    ),
    "VQDiffusionScheduler": Judged(_CATEGORICAL, refused=((Case({"num_vec_classes": 16}), "categorical"),)),
}


def page() -> str:
    """The documentation's table."""
    rows = [f"| `{name}` | {one.says} |" for name, one in sorted(JUDGED.items())]
    return "\n".join((_HEAD, "| class | how it is read |", "|---|---|", *rows, ""))


_HEAD = """# Schedulers

How the noise level of every scheduler class of diffusers is read, and what its prediction is taken for. Each line is
tested: a network that knows x0, written in the space in which the scheduler itself takes it, gives D = x0 at every
step; the state holds the noise that `sigma` says, and after the step the noise that `sigma_next` says, also after a
stage of a step, a repeated step and before a jump back. What is refused has no level and no number that needs one, with
the reason in `note`; `record(pipe, level=...)` takes your own conversion.

A scheduler of your own is read as the class whose tables it carries. Made by `python -m tests.judged_schedulers`.
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
