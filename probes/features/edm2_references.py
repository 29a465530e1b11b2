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
from scorescope.data.untrusted import only_input_errors, read_bytes
from scorescope.probes.features.moments import Moments, checked_moments

MARK = object()
INSTRUCTIONS = 10_000  # a reference has about a hundred
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
    file = read_bytes(path, expected=expected)
    with only_input_errors(path, expected=expected, found="a damaged or another kind of file"):
        content = _Machine(str(path)).run(pickletools.genops(file))
    part = content.get(metric) if isinstance(content, dict) else None
    mean, covariance = (_array(part.get(key)) if isinstance(part, dict) else None for key in ("mu", "sigma"))
    if not isinstance(content, dict) or not isinstance(part, dict) or mean is None or covariance is None:
        keys = f"{sorted(content)[:9]}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise InputError(str(path), found=keys, expected=f"{metric!r} with arrays mu and sigma")
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise InputError(str(path), found=f"shapes {mean.shape} and {covariance.shape}", expected="(d,) and (d, d)")
    return checked_moments(str(path), mean, covariance, part.get("num_images", content.get("num_images")))


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
        for done, (code, argument, _) in enumerate(instructions):
            if done > INSTRUCTIONS:
                self._refuse(f"more than {INSTRUCTIONS} instructions")
            if code.name == "STOP":
                return self.stack.pop()
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
        self._name(f"{_text(module)} {_text(name)}")

    def _call(self, _: Any) -> None:
        arguments, (kind, name) = self.stack.pop(), self.stack.pop()
        if kind != "name":
            raise ValueError("a call of no name")
        if name == "_reconstruct":
            self.stack.append(_Array())
        elif name == "dtype":
            self.stack.append(_Type(_text(arguments[0])))
        elif name == "encode" and arguments[1] == "latin1":
            self.stack.append(_text(arguments[0]).encode("latin1"))
        elif name == "_frombuffer":
            content, kind, shape, order = arguments
            self.stack.append(_buffer(kind, content, _shape(shape), order))
        elif name == "scalar":
            self.stack.append(_buffer(arguments[0], arguments[1], (), "C")[()])
        else:
            self._refuse(f"a call of {name}")

    def _fill(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Type):
            target.big = state[1] == ">"
        elif isinstance(target, _Array):
            _, shape, kind, fortran, content = state
            target.value = _buffer(kind, content, _shape(shape), "F" if fortran is True else "C")
        else:
            self._refuse(f"state for a {type(target).__name__}")

    def _to_mark(self) -> tuple[Any, ...]:
        start = next(index for index in reversed(range(len(self.stack))) if self.stack[index] is MARK)
        items = tuple(self.stack[start + 1 :])
        del self.stack[start:]
        return items

    def _pack(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def _set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][_text(key)] = value

    def _set_items(self, _: Any) -> None:
        items = self._to_mark()
        self.stack[-1].update(zip(map(_text, items[::2]), items[1::2], strict=True))

    def _keep(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def _recall(self, number: int) -> None:
        self.stack.append(self.memo[number])


def _buffer(kind: Any, content: Any, shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    if not isinstance(kind, _Type) or kind.text not in ("f8", "f4", "i8", "i4"):
        raise ValueError(f"array type {kind.text if isinstance(kind, _Type) else type(kind).__name__}")
    if not isinstance(content, bytes | bytearray) or order not in ("C", "F"):
        raise ValueError("no bytes of an array")
    return np.frombuffer(content, (">" if kind.big else "<") + kind.text).reshape(shape, order=order)


def _shape(shape: Any) -> tuple[int, ...]:
    """A shape with at most two sides; nothing else is looked into, however deep it is nested."""
    if not isinstance(shape, tuple) or len(shape) > 2 or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError("no shape of a vector or matrix")
    return shape


def _text(value: Any) -> str:
    """A text; anything else, whose hash or text could take forever, is no key and no name."""
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__} where a text belongs")
    return value


def _array(value: Any) -> NDArray[Any] | None:
    found = value.value if isinstance(value, _Array) else value
    return found if isinstance(found, np.ndarray) else None
