"""Noise levels: what a scheduler's state and prediction mean, read before its `step`.

    level = LevelReader().read(scheduler, timestep, state)
    denoised = level.skip * state + level.out * prediction
    x_ve = state / level.alpha                    # x0 + level.sigma * n

Schedulers are recognised by the tables and methods that they carry, so a user's own scheduler that keeps to one of
these conventions needs nothing. Where only the code of a `step` tells what it does, its class counts. What is not
known is refused, with the reason in the level's note.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.pipelines import level_sigmas, level_timesteps
from scorescope.probes.pipelines.level import Level
from scorescope.probes.pipelines.scheduler_tables import SchedulerTables, config, is_a

LevelFunction = Callable[[Any, Any, Tensor], Level]
"""A user's own conversion: (scheduler, timestep, state) -> Level."""


class LevelReader(SchedulerTables):
    """Reads levels of one scheduler, with its tables on the host."""

    def __init__(self, custom: LevelFunction | None = None) -> None:
        super().__init__()
        self._custom = custom

    def read(self, scheduler: Any, timestep: Any, state: Tensor, extra: dict[str, Any] | None = None) -> Level:
        """The level at which `scheduler.step` is about to be called.

        Parameters
        ----------
        scheduler : object
            As it is before the step.
        timestep : float, int or Tensor
            What the step was given; a scalar, or one a sample.
        state : Tensor, shape (batch, *shape)
            The sample that the step was given.
        extra : dict, optional
            Further arguments of the step by name (per-token timesteps, where the step is to end).

        Returns
        -------
        Level
            With a `note` where nothing is known.
        """
        if self._custom is not None:
            level = self._custom(scheduler, timestep, state)
            if not isinstance(level, Level):
                raise InputError("level", found=f"a {type(level).__name__}", expected="a function that returns a Level")
            return level
        if reason := _refused(scheduler, state):
            return Level(note=reason)
        read = next((family for applies, family in _FAMILIES if applies(scheduler)), None)
        if read is None:
            return level_timesteps.unknown(scheduler)
        level = read(self, scheduler, timestep, state, extra or {})
        if level.space != "unknown" or level.note:
            return level
        kind = config(scheduler, "prediction_type")
        return replace(
            level, note=f"predictions of type {kind!r} of {type(scheduler).__name__} are unknown; pass level="
        )


class LevelReaders:
    """A reader for each scheduler.

    Parameters
    ----------
    custom : callable, optional
        A user's own conversion.
    """

    def __init__(self, custom: LevelFunction | None = None) -> None:
        self._custom = custom
        self._readers: dict[int, tuple[Any, LevelReader]] = {}

    def __len__(self) -> int:
        return len(self._readers)

    def of(self, scheduler: Any) -> LevelReader:
        """The reader of a scheduler."""
        owner, reader = self._readers.get(id(scheduler), (None, None))
        if reader is None or owner is not scheduler:
            reader = LevelReader(self._custom)
            self._readers[id(scheduler)] = scheduler, reader
        return reader

    def forget(self) -> None:
        """Of schedulers that may be copies for one run."""
        self._readers = {}


def _refused(scheduler: Any, state: Tensor) -> str:
    """Why a scheduler that looks like one of a family is none; empty where it may be."""
    name = type(scheduler).__name__
    if _is_discrete(scheduler) or not (state.is_floating_point() or state.is_complex()):
        return "a categorical scheduler has no continuous noise level"
    if int(config(scheduler, "stages", 1) or 1) > 1:
        return f"sigmas of {name} count from the end of one of several stages, not from x0; pass level="
    if is_a(scheduler, "HeliosDMDScheduler"):
        return f"{name} takes its noise levels from the arguments of its step; pass level="
    if is_a(scheduler, "PiflowScheduler"):
        return f"a prediction of {name} is many of x0, one for each time of a step; none of them is D"
    return ""


def _is_discrete(scheduler: Any) -> bool:
    """Masked tokens, or indices of a codebook."""
    return config(scheduler, "num_vec_classes") is not None or config(scheduler, "mask_token_id") is not None


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda scheduler: all(getattr(scheduler, name, None) is not None for name in names)


def _is_flow(scheduler: Any) -> bool:
    return _has("sigmas")(scheduler) and not hasattr(scheduler, "alphas_cumprod")


def _is_trigflow(scheduler: Any) -> bool:
    return bool(config(scheduler, "prediction_type") == "trigflow")


Family = Callable[[SchedulerTables, Any, Any, Tensor, dict[str, Any]], Level]

_FAMILIES: tuple[tuple[Callable[[Any], bool], Family], ...] = (
    (_is_trigflow, level_timesteps.trigflow),
    (_has("precondition_outputs", "sigmas"), level_sigmas.edm),
    (_has("get_scalings_for_boundary_condition", "sigmas"), level_sigmas.consistency),
    (_has("_sigma_to_alpha_sigma_t", "sigmas"), level_sigmas.solver),
    (_has("_alpha_cumprod"), level_timesteps.wuerstchen),
    (_has("alphas_cumprod", "sigmas"), level_sigmas.exploding),
    (_is_flow, level_sigmas.flow),
    (_has("alphas_cumprod", "timesteps"), level_timesteps.preserving),
    (_has("alphas", "betas", "timesteps"), level_timesteps.table_pair),
)
