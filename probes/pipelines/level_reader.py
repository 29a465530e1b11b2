"""Noise levels: what a scheduler's state and prediction mean, read before its `step`.

    level = LevelReader().read(scheduler, timestep, state)
    denoised = level.skip * state + level.out * prediction
    x_ve = state / level.alpha                    # x0 + level.sigma * n

Schedulers are recognised by the tables and methods that they carry, not by class, so a user's own scheduler that
keeps to one of these conventions needs nothing. Tables are copied to the host once for each `set_timesteps`; a
timestep that is a view of `scheduler.timesteps` is found by its place in memory, without waiting for the device.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.pipelines.level import Level, divide

_SPACES = {
    "epsilon": "eps",
    "v_prediction": "v",
    "sample": "denoised",
    "flow_prediction": "flow",
    "trigflow": "v",
}

_SLACK = 1e-5  # tables in float32

LevelFunction = Callable[[Any, Any, Tensor], Level]
"""A user's own conversion: (scheduler, timestep, state) -> Level."""


class LevelReader:
    """Reads levels of one scheduler, with its tables on the host."""

    def __init__(self, custom: LevelFunction | None = None) -> None:
        self._custom = custom
        self._host: dict[str, tuple[Any, Tensor]] = {}
        self._device: dict[str, tuple[Any, torch.device, Tensor]] = {}

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
            Further arguments of the step by name (per-token timesteps).

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
        if (extra or {}).get("per_token_timesteps") is not None:
            return self._per_token(scheduler, (extra or {})["per_token_timesteps"], state)
        for applies, method in _FAMILIES:
            if applies(scheduler):
                found: Level = method(self, scheduler, timestep, state)
                return found
        return _unknown(scheduler)

    def _table(self, scheduler: Any, name: str) -> Tensor:
        """A table of the scheduler on the host, float64, copied once for each new table."""
        table = getattr(scheduler, name)
        kept = self._host.get(name)
        if kept is None or kept[0] is not table:
            kept = (table, torch.as_tensor(table, dtype=torch.float64, device="cpu").detach())
            self._host[name] = kept
        return kept[1]

    def _on(self, scheduler: Any, name: str, device: torch.device) -> Tensor:
        host = self._table(scheduler, name)
        kept = self._device.get(name)
        if kept is None or kept[0] is not host or kept[1] != device:
            kept = (host, device, host.to(device))
            self._device[name] = kept
        return kept[2]

    def time(self, scheduler: Any, timestep: Any) -> float | None:
        """The timestep as a host number; None where that would wait for the device or there is one a sample."""
        if not isinstance(timestep, Tensor):
            return float(timestep)
        if timestep.numel() != 1:
            return None
        if timestep.device.type == "cpu":
            return float(timestep)
        place = _place(timestep, getattr(scheduler, "timesteps", None))
        return None if place is None else float(self._table(scheduler, "timesteps")[place])

    def scheduled(self, scheduler: Any, given: Any) -> float | None:
        """The scheduler's own timestep for what a denoiser was given; None where rows were given different ones.

        Some pipelines divide by the training steps, or count the data instead of the noise. What is none of the
        scheduler's timesteps is returned as it is.
        """
        given = given.detach() if isinstance(given, Tensor) else _number(given)
        spread = [stride for stride, size in zip(given.stride(), given.shape, strict=True) if size > 1]
        first = given if any(spread) else given[(0,) * given.ndim]  # an expanded timestep still lies in the table
        if (time := self.time(scheduler, first)) is None:
            values = given.cpu().flatten()
            if not bool((values == values[0]).all()):
                return None
            time = float(values[0])
        grid = getattr(scheduler, "timesteps", None)
        if not isinstance(grid, Tensor) or not grid.numel():
            return time
        table = self._table(scheduler, "timesteps").flatten()
        scale = float(getattr(getattr(scheduler, "config", None), "num_train_timesteps", 1000))
        for candidate in (time, time * scale, (1 - time) * scale):
            place = int((table - candidate).abs().argmin())
            if abs(float(table[place]) - candidate) <= 1e-3 * max(1.0, abs(candidate)) and candidate >= 0:
                return float(table[place])
        return time

    def _index(self, scheduler: Any, timestep: Any) -> int:
        """Index of this step in `sigmas`: the scheduler's own count, else the place of the timestep."""
        for name in ("step_index", "begin_index"):
            value = getattr(scheduler, name, None)
            if isinstance(value, int):
                return value
        time = self.time(scheduler, timestep)
        time = float(timestep) if time is None else time
        matches = (self._table(scheduler, "timesteps") == time).nonzero().flatten().tolist()
        if not matches:
            return int((self._table(scheduler, "timesteps") - time).abs().argmin())
        return int(matches[min(1, len(matches) - 1)])  # a run started in the middle skips the first of a pair

    def _sigmas(self, scheduler: Any, timestep: Any) -> tuple[float, float]:
        table = self._table(scheduler, "sigmas").flatten()
        index = min(self._index(scheduler, timestep), len(table) - 1)
        return float(table[index]), float(table[min(index + 1, len(table) - 1)])

    def _per_token(self, scheduler: Any, times: Tensor, state: Tensor) -> Level:
        scale = float(getattr(scheduler.config, "num_train_timesteps", 1000))
        s = times.to(state.device).double() / scale
        s = s.reshape(*s.shape, *(1,) * (state.ndim - s.ndim))
        return Level.of(1 - s, s, "flow", note="")

    def _trigflow(self, scheduler: Any, timestep: Any, state: Tensor) -> Level:
        table = self._table(scheduler, "timesteps")
        index = self._index(scheduler, timestep)
        angle, after = float(table[index]), float(table[min(index + 1, len(table) - 1)])
        return Level.of(math.cos(angle), math.sin(angle), "v", sigma_next=math.tan(after))

    def _edm(self, scheduler: Any, timestep: Any, state: Tensor) -> Level:
        sigma, after = self._sigmas(scheduler, timestep)
        spread = float(scheduler.config.sigma_data)
        total = math.sqrt(sigma**2 + spread**2)
        out = sigma * spread / total
        if scheduler.config.prediction_type == "v_prediction":
            out = -out
        return Level(sigma, after, 1.0, spread**2 / total**2, out, "edm")

    def _consistency(self, scheduler: Any, timestep: Any, state: Tensor) -> Level:
        sigma, after = self._sigmas(scheduler, timestep)
        skip, out = scheduler.get_scalings_for_boundary_condition(_number(sigma))
        return Level(sigma, after, 1.0, float(skip), float(out), "edm")

    def _solver(self, scheduler: Any, timestep: Any, state: Tensor) -> Level:
        """DPM-Solver and kin: `sigmas` are s / alpha, or flow times; the scheduler says which."""
        pair = [
            tuple(map(float, scheduler._sigma_to_alpha_sigma_t(_number(sigma))))
            for sigma in self._sigmas(scheduler, timestep)
        ]
        (alpha, s), (alpha_next, s_next) = pair
        return Level.of(alpha, s, _space(scheduler), sigma_next=divide(s_next, alpha_next))

    def _exploding(self, scheduler: Any, timestep: Any, state: Tensor) -> Level:
        sigma, after = self._sigmas(scheduler, timestep)
        if not getattr(scheduler, "state_in_first_order", True):
            sigma = self._second_stage(scheduler, timestep, sigma)
        return Level.of(1.0, sigma, _space(scheduler), sigma_next=after)

    def _second_stage(self, scheduler: Any, timestep: Any, sigma: float) -> float:
        """Second calls are made at a level between two grid points (KDPM2) or at a proposed one (DPM-SDE)."""
        if (middle := getattr(scheduler, "mid_point_sigma", None)) is not None:
            return float(middle)
        if hasattr(scheduler, "sigmas_interpol"):
            shift = 1 if hasattr(scheduler, "sigmas_down") else 0
            return float(self._table(scheduler, "sigmas_interpol")[self._index(scheduler, timestep) - shift])
        return sigma

    def _flow(self, scheduler: Any, timestep: Any, state: Tensor) -> Level:
        if not float(self._table(scheduler, "sigmas").max()) <= 1 + _SLACK:
            return Level(note=f"sigmas of {type(scheduler).__name__} above 1 are not flow times; pass level=")
        if isinstance(timestep, Tensor) and timestep.ndim == 1 and len(timestep) == len(state) > 1:
            s = timestep.to(state.device).double() / float(getattr(scheduler.config, "num_train_timesteps", 1000))
            return Level.of(1 - s, s, "flow")
        now, after = self._sigmas(scheduler, timestep)
        inverted = bool(getattr(getattr(scheduler, "config", None), "invert_sigmas", False))
        if not inverted:
            return Level.of(1 - now, now, "flow", sigma_next=divide(after, 1 - after))
        # with inverted sigmas the network predicts x0 - n and sigma counts the data
        level = Level.of(now, 1 - now, "flow", sigma_next=divide(1 - after, after))
        return Level(level.sigma, level.sigma_next, level.alpha, level.skip, -level.out, "flow", level.note)

    def _table_pair(self, scheduler: Any, timestep: Any, state: Tensor) -> Level:
        """IPNDM: alpha and s in two tables of their own; elsewhere they are 1 - beta and the variances added."""
        alphas, noises = self._table(scheduler, "alphas"), self._table(scheduler, "betas")
        if alphas.shape != noises.shape or not bool((alphas**2 + noises**2 - 1).abs().max() <= _SLACK):
            return _unknown(scheduler)
        index = self._index(scheduler, timestep)
        after = min(index + 1, len(alphas) - 1)
        return Level.of(
            float(alphas[index]), float(noises[index]), "eps",
            sigma_next=divide(float(noises[after]), float(alphas[after])),
        )  # fmt: skip

    def _wuerstchen(self, scheduler: Any, timestep: Any, state: Tensor) -> Level:
        product = scheduler._alpha_cumprod(timestep, state.device).double().flatten()
        return Level.of(product.sqrt(), (1 - product).sqrt(), "eps")

    def _preserving(self, scheduler: Any, timestep: Any, state: Tensor) -> Level:
        """DDPM, DDIM, PNDM, LCM, TCD: a table of cumulative products by integer timestep."""
        space = _space(scheduler)
        time = self.time(scheduler, timestep)
        if time is None:
            index = timestep.to(state.device).long().flatten()
            product = self._on(scheduler, "alphas_cumprod", state.device)[index]
            return Level.of(product.sqrt(), (1 - product).sqrt(), space)
        now, after = self._products(scheduler, time)
        return Level.of(math.sqrt(now), math.sqrt(1 - now), space, sigma_next=_ratio(after))

    def _products(self, scheduler: Any, time: float) -> tuple[float, float]:
        products = self._table(scheduler, "alphas_cumprod")
        times: list[float] = self._table(scheduler, "timesteps").flatten().tolist()
        if hasattr(scheduler, "initial_alpha_cumprod"):  # inversion: the state is one interval below the timestep
            interval = int(scheduler.config.num_train_timesteps) // max(1, int(scheduler.num_inference_steps or 1))
            before = int(time) - interval
            start = float(scheduler.initial_alpha_cumprod)
            return (float(products[before]) if before >= 0 else start), float(products[int(time)])
        later = times[times.index(time) + 1 :] if time in times else []
        after = next((t for t in later if t != time), None)
        if after is not None:
            return float(products[int(time)]), float(products[int(after)])
        return float(products[int(time)]), float(getattr(scheduler, "final_alpha_cumprod", 1.0))


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


def _unknown(scheduler: Any) -> Level:
    return Level(note=f"the noise level of {type(scheduler).__name__} is unknown; pass level=")


def _ratio(product: float) -> float:
    return math.sqrt((1 - product) / product) if product > 0 else math.inf


def _number(value: float) -> Tensor:
    """On the host, whatever the default device is."""
    return torch.tensor(value, dtype=torch.float64, device="cpu")


def _place(timestep: Tensor, table: Any) -> int | None:
    """Index of a timestep in the table whose memory it shares."""
    if not isinstance(table, Tensor) or table.dtype != timestep.dtype or table.device != timestep.device:
        return None
    if timestep.untyped_storage().data_ptr() != table.untyped_storage().data_ptr() or not table.numel():
        return None
    stride = table.stride(0) if table.ndim else 1
    place = (timestep.storage_offset() - table.storage_offset()) // max(1, stride)
    return place if 0 <= place < len(table) else None


def _space(scheduler: Any) -> str:
    kind = getattr(getattr(scheduler, "config", None), "prediction_type", "epsilon")
    return _SPACES.get(kind, "unknown")


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda scheduler: all(getattr(scheduler, name, None) is not None for name in names)


def _is_flow(scheduler: Any) -> bool:
    return _has("sigmas")(scheduler) and not hasattr(scheduler, "alphas_cumprod")


def _is_trigflow(scheduler: Any) -> bool:
    return getattr(getattr(scheduler, "config", None), "prediction_type", None) == "trigflow"


def _is_discrete(scheduler: Any) -> bool:
    """Masked-token and categorical schedulers have no continuous noise level."""
    config = getattr(scheduler, "config", None)
    return hasattr(config, "num_vec_classes") or getattr(config, "mask_token_id", None) is not None


_FAMILIES: tuple[tuple[Callable[[Any], bool], Callable[..., Level]], ...] = (
    (_is_discrete, lambda *_: Level(note="a categorical scheduler has no continuous noise level")),
    (_is_trigflow, LevelReader._trigflow),
    (_has("precondition_outputs", "sigmas"), LevelReader._edm),
    (_has("get_scalings_for_boundary_condition", "sigmas"), LevelReader._consistency),
    (_has("_sigma_to_alpha_sigma_t", "sigmas"), LevelReader._solver),
    (_has("_alpha_cumprod"), LevelReader._wuerstchen),
    (_has("alphas_cumprod", "sigmas"), LevelReader._exploding),
    (_is_flow, LevelReader._flow),
    (_has("alphas_cumprod", "timesteps"), LevelReader._preserving),
    (_has("alphas", "betas", "timesteps"), LevelReader._table_pair),
)
