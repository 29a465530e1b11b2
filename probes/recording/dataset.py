"""The arrays of one run as a lazy xarray Dataset."""

from typing import Any

import numpy as np
import torch
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from scorescope.data.errors import InputError
from scorescope.probes.recording.arrays import DERIVED, Arrays

_DIMENSIONS = {
    1: ("element",),
    2: ("token", "channel"),
    3: ("channel", "y", "x"),
    4: ("channel", "frame", "y", "x"),
}


def dataset(arrays: Arrays, run: int) -> xr.Dataset:
    """The arrays of one run as a lazy Dataset with dimensions (step, sample, ...); see `Trace.to_xarray`."""
    places = [place for place, event in enumerate(arrays.events) if event["run"] == run]
    variables: dict[str, xr.Variable] = {}
    for name in (name for name in arrays.names() if not name.startswith("site:")):
        kept = [place for place in places if arrays.has(name, place)]
        if not kept:
            continue
        variables |= _variable(arrays, name, places, kept)
    events = [arrays.events[place] for place in places]
    coordinates = {
        "step": np.arange(len(places)),
        "sigma": ("step", np.array([_first(event["level"]["sigma"]) for event in events])),
        "t": ("step", np.array([_first(event["t"]) for event in events])),
        "solver_step": ("step", np.array([event["step"] for event in events])),
        "call": ("step", np.array([event["call"] for event in events])),
    }
    return xr.Dataset(variables, coords=coordinates, attrs={"run": run})


def _variable(arrays: Arrays, name: str, places: list[int], kept: list[int]) -> dict[str, xr.Variable]:
    first = arrays.load(name, kept[0])
    shapes = {tuple(arrays.events[place]["shape"]) for place in kept}
    if len(shapes) > 1:
        raise InputError("run", found=f"states of shapes {sorted(shapes)}", expected="one shape; read them with load()")
    data = _Lazy(arrays, name, places, set(kept), tuple(first.shape), _numpy_type(first.dtype))
    inner = _DIMENSIONS.get(first.ndim - 1, tuple(f"axis{i}" for i in range(first.ndim - 1)))
    lazy = indexing.LazilyIndexedArray(data)
    attributes = {"dtype_recorded": str(first.dtype).removeprefix("torch."), "space": "prediction"}
    # names that differ where the sizes do: a prediction may carry learned variance beside it
    names = ["step", "sample", *inner]
    if name == "guided" and list(first.shape) != arrays.events[kept[0]]["shape"]:
        names = ["step", "guided_sample", *(f"guided_{axis}" for axis in inner)]
    elif name in DERIVED and first.shape[0] != arrays.events[kept[0]]["shape"][0]:
        names[1] = "branch_sample"
    return {name: xr.Variable(names, lazy, attributes)}


class _Lazy(BackendArray):
    """One array over the steps of a run; NaN where it was not kept."""

    def __init__(
        self, arrays: Arrays, name: str, places: list[int], kept: set[int], shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self._arrays, self._name, self._places, self._kept = arrays, name, places, kept
        self.shape, self.dtype = (len(places), *shape), dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:
        step, rest = key[0], key[1:]
        if not isinstance(step, slice):
            return self._one(int(step))[rest]
        chosen = range(len(self._places))[step]
        parts = [self._one(place)[rest] for place in chosen]
        return (
            np.stack(parts) if parts else np.empty((0, *np.empty(self.shape[1:], self.dtype)[rest].shape), self.dtype)
        )

    def _one(self, place: int) -> np.ndarray[Any, Any]:
        where = self._places[place]
        if where not in self._kept:
            return np.full(self.shape[1:], np.nan, self.dtype)
        tensor = self._arrays.load(self._name, where)
        return tensor.to(torch.float32).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def _numpy_type(dtype: torch.dtype) -> np.dtype[Any]:
    """The numpy type of an array; bfloat16 has none and is read as float32, which holds it exactly."""
    return torch.empty(0, dtype=torch.float32 if dtype == torch.bfloat16 else dtype, device="cpu").numpy().dtype


def _first(value: Any) -> float:
    value = value[0] if isinstance(value, list) else value
    return float("nan") if value is None else float(value)
