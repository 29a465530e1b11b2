"""A scheduler's tables on the host, and where a step stands in them.

Tables are copied once for each `set_timesteps`; a timestep that is a view of `scheduler.timesteps` is found by its
place in memory, without waiting for the device.
"""

from typing import Any

import torch
from torch import Tensor


class SchedulerTables:
    """The tables of one scheduler."""

    def __init__(self) -> None:
        self._host: dict[str, tuple[Any, int | None, Tensor]] = {}
        self._device: dict[str, tuple[Any, torch.device, Tensor]] = {}

    def table(self, scheduler: Any, name: str) -> Tensor:
        """A table of the scheduler on the host, float64, copied once for each new or edited table."""
        table = getattr(scheduler, name)
        kept, edition = self._host.get(name), _edition(table)
        if kept is None or kept[0] is not table or kept[1] != edition:
            kept = (table, edition, torch.as_tensor(table, dtype=torch.float64, device="cpu").detach())
            self._host[name] = kept
        return kept[2]

    def on(self, scheduler: Any, name: str, device: torch.device) -> Tensor:
        """The same table on a device."""
        host = self.table(scheduler, name)
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
        return None if place is None else float(self.table(scheduler, "timesteps")[place])

    def scheduled(self, scheduler: Any, given: Any) -> float | None:
        """The scheduler's own timestep for what a denoiser was given; None where rows were given different ones.

        Some pipelines divide by the training steps, or count the data instead of the noise. What is none of the
        scheduler's timesteps is returned as it is.
        """
        given = given.detach() if isinstance(given, Tensor) else number(given)
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
        table = self.table(scheduler, "timesteps").flatten()
        scale = training_steps(scheduler)
        for candidate in (time, time * scale, (1 - time) * scale):
            place = int((table - candidate).abs().argmin())
            if abs(float(table[place]) - candidate) <= 1e-3 * max(1.0, abs(candidate)) and candidate >= 0:
                return float(table[place])
        return time

    def index(self, scheduler: Any, timestep: Any) -> int:
        """Index of this step in `sigmas`: the scheduler's own count, else the place of the timestep."""
        for name in ("step_index", "begin_index"):
            value = getattr(scheduler, name, None)
            if isinstance(value, int):
                return value
        time = self.time(scheduler, timestep)
        time = float(timestep) if time is None else time
        matches = (self.table(scheduler, "timesteps") == time).nonzero().flatten().tolist()
        if not matches:
            return int((self.table(scheduler, "timesteps") - time).abs().argmin())
        return int(matches[min(1, len(matches) - 1)])  # a run started in the middle skips the first of a pair

    def sigmas(self, scheduler: Any, timestep: Any) -> tuple[float, float]:
        """This and the next entry of `sigmas`."""
        table = self.table(scheduler, "sigmas").flatten()
        index = min(self.index(scheduler, timestep), len(table) - 1)
        return float(table[index]), float(table[min(index + 1, len(table) - 1)])


def config(scheduler: Any, name: str, default: Any = None) -> Any:
    """An entry of the scheduler's configuration."""
    return getattr(getattr(scheduler, "config", None), name, default)


def training_steps(scheduler: Any) -> float:
    """Timesteps of the training, by which pipelines scale time."""
    return float(config(scheduler, "num_train_timesteps", 1000))


def is_a(scheduler: Any, *names: str) -> bool:
    """Whether the scheduler is of a class of diffusers, where only its `step` says what it does."""
    return any(kind.__name__ in names for kind in type(scheduler).__mro__)


def number(value: float) -> Tensor:
    """On the host, whatever the default device is."""
    return torch.tensor(value, dtype=torch.float64, device="cpu")


def _edition(table: Any) -> int | None:
    """Counts the changes of a tensor in place."""
    return table._version if isinstance(table, Tensor) and not table.is_inference() else None


def _place(timestep: Tensor, table: Any) -> int | None:
    """Index of a timestep in the table whose memory it shares."""
    if not isinstance(table, Tensor) or table.dtype != timestep.dtype or table.device != timestep.device:
        return None
    if timestep.untyped_storage().data_ptr() != table.untyped_storage().data_ptr() or not table.numel():
        return None
    stride = table.stride(0) if table.ndim else 1
    place = (timestep.storage_offset() - table.storage_offset()) // max(1, stride)
    return place if 0 <= place < len(table) else None
