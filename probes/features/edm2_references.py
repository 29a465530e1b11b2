"""Reference moments of EDM2, which come as a pickle, read without unpickling.

moments = read_edm2_reference(Path("img512.pkl"), "fid")          # or "fd_dinov2"

A pickle is a program for a small stack machine. This reader walks its instructions with the standard library's
disassembler and builds dicts, numbers, text and plain numpy arrays itself; no function that the file names is ever
called, and any instruction or name outside that short list is refused.
"""

import pickletools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import Moments, checked_moments

MARK = object()
NAMES = {
    (module, name)
    for module, names in {
        "numpy": ("ndarray", "dtype"),
        "numpy.core.multiarray": ("_reconstruct", "scalar"),
        "numpy._core.multiarray": ("_reconstruct", "scalar"),
        "numpy.core.numeric": ("_frombuffer",),  # arrays of protocol 5
        "numpy._core.numeric": ("_frombuffer",),
        "_codecs": ("encode",),  # bytes of protocol 2
    }.items()
    for name in names
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "SHORT_BINSTRING", "BINSTRING",
}  # fmt: skip
Instructions = Iterator[tuple[Any, Any, int | None]]


@checked
def read_edm2_reference(path: Path | str, metric: str = "fid") -> Moments:
    """Moments of one metric from an EDM2 reference file.

    Parameters
    ----------
    path : Path or str
        A pickle of {metric: {"mu": (d,), "sigma": (d, d)}, ...}, optionally with the number of images.
    metric : str
        `fid` or `fd_dinov2`.

    Raises
    ------
    InputError
        If the file holds anything but dicts, numbers, text and plain arrays, or lacks the metric.
    """
    path = Path(path)
    expected = "an EDM2 reference: {metric: {mu, sigma}} with plain arrays"
    if not path.is_file():
        raise InputError(str(path), found="no such file", expected=expected)
    try:
        content = _Machine(str(path)).run(pickletools.genops(path.read_bytes()))
    except InputError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise InputError(str(path), found=f"a damaged or another kind of file ({error})", expected=expected) from None
    part = content.get(metric) if isinstance(content, dict) else None
    if not isinstance(part, dict) or not all(isinstance(part.get(key), np.ndarray) for key in ("mu", "sigma")):
        keys = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise InputError(str(path), found=f"{keys}", expected=f"{metric!r} with arrays mu and sigma")
    count = part.get("num_images", content.get("num_images"))
    mean, covariance = part["mu"].astype(np.float64), part["sigma"].astype(np.float64)
    return checked_moments(str(path), mean, covariance, None if count is None else int(count))


class _Array:
    """An array that the file has announced and not yet filled."""

    def __init__(self) -> None:
        self.value: NDArray[Any] | None = None


class _Type:
    """A dtype by its text, such as f8, and whether its state says that the high byte comes first."""

    def __init__(self, text: str) -> None:
        self.text, self.big = text, False


class _Machine:
    """The few instructions of a pickle that plain arrays in dicts need."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, instructions: Instructions) -> Any:
        """What the file holds."""
        for code, argument, _ in instructions:
            if code.name == "STOP":
                return _finished(self.stack.pop())
            if code.name in VALUES:
                self.stack.append(argument)
            elif code.name in CONSTANTS:
                self.stack.append(CONSTANTS[code.name])
            elif code.name not in ("PROTO", "FRAME"):
                self._step(code.name)(argument)
        raise ValueError("no end")

    def _step(self, name: str) -> Callable[[Any], None]:
        steps: dict[str, Callable[[Any], None]] = {
            "GLOBAL": self._name, "STACK_GLOBAL": self._name_from_stack, "REDUCE": self._call, "BUILD": self._fill,
            "MARK": lambda _: self.stack.append(MARK), "EMPTY_DICT": lambda _: self.stack.append({}),
            "EMPTY_TUPLE": lambda _: self.stack.append(()), "TUPLE": lambda _: self.stack.append(self._to_mark()),
            "TUPLE1": lambda _: self._pack(1), "TUPLE2": lambda _: self._pack(2), "TUPLE3": lambda _: self._pack(3),
            "SETITEM": self._set_item, "SETITEMS": self._set_items, "MEMOIZE": lambda _: self._keep(len(self.memo)),
            "BINPUT": self._keep, "LONG_BINPUT": self._keep, "BINGET": self._recall, "LONG_BINGET": self._recall,
        }  # fmt: skip
        return steps[name] if name in steps else self._refuse(f"instruction {name}")

    def _refuse(self, what: str) -> NoReturn:
        expected = "dicts, numbers, text and plain arrays only: a pickle can run code, and this reader never does"
        raise InputError(self.source, found=what, expected=expected)

    def _name(self, argument: str) -> None:
        module, name = argument.split(" ")
        if (module, name) not in NAMES:
            self._refuse(f"the name {module}.{name}")
        self.stack.append(("name", name))

    def _name_from_stack(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._name(f"{module} {name}")

    def _call(self, _: Any) -> None:
        arguments, (kind, name) = self.stack.pop(), self.stack.pop()
        if kind != "name":
            raise ValueError("a call of no name")
        if name == "_reconstruct":
            self.stack.append(_Array())
        elif name == "dtype":
            self.stack.append(_Type(str(arguments[0])))
        elif name == "encode" and arguments[1] == "latin1":
            self.stack.append(arguments[0].encode("latin1"))
        elif name == "_frombuffer":
            content, kind, shape, order = arguments
            self.stack.append(_buffer(kind, bytes(content), (int(np.prod(shape)),)).reshape(shape, order=order))
        elif name == "scalar":
            self.stack.append(_buffer(arguments[0], arguments[1], ())[()])
        else:
            self._refuse(f"a call of {name}")

    def _fill(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Type):
            target.big = state[1] == ">"
        elif isinstance(target, _Array):
            _, shape, kind, fortran, content = state
            flat = _buffer(kind, content, (int(np.prod(shape)),))
            target.value = flat.reshape(shape, order="F" if fortran else "C")
        else:
            self._refuse(f"state for a {type(target).__name__}")

    def _to_mark(self) -> tuple[Any, ...]:
        start = max(index for index, item in enumerate(self.stack) if item is MARK)
        items = tuple(self.stack[start + 1 :])
        del self.stack[start:]
        return items

    def _pack(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def _set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][key] = value

    def _set_items(self, _: Any) -> None:
        items = self._to_mark()
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _keep(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def _recall(self, number: int) -> None:
        self.stack.append(self.memo[number])


def _buffer(kind: _Type, content: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    if kind.text not in ("f8", "f4", "i8", "i4"):
        raise ValueError(f"array type {kind.text}")
    return np.frombuffer(content, (">" if kind.big else "<") + kind.text).reshape(shape)


def _finished(value: Any) -> Any:
    """The same with arrays in place of what stood for them."""
    if isinstance(value, dict):
        return {key: _finished(item) for key, item in value.items()}
    return value.value if isinstance(value, _Array) else value
