"""Where the data of a fit come from: arrays, image folders, streams of batches.

    Batches(images)                                   # Tensor or array, (n, *shape)
    Batches(ImageFolder("celeba", size=64))           # decoded batch by batch
    Batches(loader)                                   # anything that can be iterated again; labels are left out
    Batches(lambda: stream())                         # a function that starts the stream anew

A source is passed over more than once and never held: one batch at a time is in memory. What comes out are
flat rows, checked on the first pass for shape, finiteness and the stated range.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from scorescope.data.doors import checked, describe_value
from scorescope.data.errors import InputError
from scorescope.data.image_files import decode_image, list_images
from scorescope.data.untrusted import only_input_errors, read_bytes

Source = Any
"""Tensor or array (n, *shape); iterable of batches, or of (batch, labels); function returning such an iterable."""


@checked
class Batches:
    """A source as flat rows, batch by batch.

    Parameters
    ----------
    source : Tensor, array, iterable of batches, or function returning one
        Of an iterable of tuples the first entry is taken. A batch has shape (any, *shape).
    value_range : (float, float), optional
        Data outside it are an error: a fit in [0, 1] used on data in [-1, 1] is wrong by a factor 4 in variance.
    batch : int
        Rows taken at once from an array.

    Attributes
    ----------
    shape : tuple of int
        Shape of one sample, known from the first batch on.

    Raises
    ------
    InputError
        For an iterator that can only be used once, an empty source, batches of another shape, integer data, NaN,
        infinite values and values outside the range, naming the batch.
    """

    def __init__(self, source: Source, *, value_range: tuple[float, float] | None = None, batch: int = 1024) -> None:
        is_array = isinstance(source, np.ndarray | Tensor)
        is_one = isinstance(source, str) or (is_array and not source.ndim)
        if is_one or not (callable(source) or isinstance(source, Iterable)):
            expected = "an array (n, *shape), an iterable of batches, or a function that returns one"
            raise InputError("source", found=describe_value(source), expected=expected)
        if isinstance(source, Iterator):
            raise InputError(
                "source",
                found="an iterator, used up after one pass",
                expected="a list, a loader, or a function that starts it anew",
            )
        if is_array and len(source) == 0:
            raise InputError("source", found="no samples", expected="an array of shape (n >= 1, *shape)")
        self._source, self._range, self._batch = source, value_range, batch
        self._checked = False
        self._shape: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        if self._shape is None:
            self._shape = next(iter(self._raw())).shape[1:]
        return tuple(self._shape)

    @property
    def dimension(self) -> int:
        """Elements of one sample."""
        return int(np.prod(self.shape))

    def rows(self, dtype: torch.dtype) -> Iterator[Tensor]:
        """Pass over the data: (batch, d) in `dtype`, on the host, where fits are made."""
        for index, batch in enumerate(self._raw()):
            if not self._checked:
                self._check(index, batch)
            yield batch.reshape(len(batch), -1).to("cpu", dtype)
        self._checked = True

    def _raw(self) -> Iterator[Tensor]:
        if isinstance(self._source, np.ndarray | Tensor):
            parts: Iterable[Any] = (
                self._source[start : start + self._batch] for start in range(0, len(self._source), self._batch)
            )
        else:
            parts = self._source() if callable(self._source) else self._source
        empty = True
        for part in parts:
            empty = False
            yield _tensor(part[0] if isinstance(part, tuple | list) and part else part)
        if empty:
            raise InputError("source", found="no batches", expected="at least one batch of shape (n, *shape)")

    def _check(self, index: int, batch: Tensor) -> None:
        argument = f"source (batch {index})"
        if batch.ndim < 2 or tuple(batch.shape[1:]) != self.shape or not batch.is_floating_point():
            found = f"{batch.dtype} of shape {tuple(batch.shape)}"
            raise InputError(
                argument, found=found, expected=f"floating point data, (batch, {self.shape}) like the first"
            )
        low, high = (float(v) for v in batch.aminmax())
        if not (-float("inf") < low and high < float("inf")):
            raise InputError(argument, found="NaN or infinite values", expected="finite data")
        if self._range and (low < self._range[0] or high > self._range[1]):
            expected = f"data inside value_range {self._range}; rescale them, or state their range"
            raise InputError(argument, found=f"values from {low:g} to {high:g}", expected=expected)


def _tensor(batch: Any) -> Tensor:
    try:
        return torch.as_tensor(batch)
    except (TypeError, RuntimeError, ValueError):
        expected = "a tensor, or an array of numbers"
        raise InputError("source (a batch)", found=describe_value(batch), expected=expected) from None


@checked
class ImageFolder:
    """The images of a folder and its sub-folders, in order of their names, as batches in [-1, 1].

    The same files are images as for `features.open_images`, decoded in the same way.

    Parameters
    ----------
    folder : Path or str
        Where the images are.
    size : int or (int, int), optional
        Side in pixels to resize to, or height and width (to cover them, then centre crop); by default images must
        share one size.
    batch : int
        Images decoded at once.

    Raises
    ------
    InputError
        For a folder without images, an image that cannot be decoded, or sizes that differ.
    """

    def __init__(self, folder: Path | str, *, size: int | tuple[int, int] | None = None, batch: int = 256) -> None:
        if not Path(folder).is_dir():
            raise InputError("folder", found=f"no folder {folder}", expected="a folder of images")
        self.files = list_images(Path(folder)).files
        self.size, self._batch = size, batch
        self._first: tuple[int, ...] | None = None

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.files) // self._batch)

    def __iter__(self) -> Iterator[Tensor]:
        """Batches of shape (batch, 3, y, x), float32 in [-1, 1]."""
        self._first = None
        for start in range(0, len(self.files), self._batch):
            yield self.read(self.files[start : start + self._batch])

    def read(self, files: Sequence[Path]) -> Tensor:
        """Some images as a batch, of the size of those before."""
        images = []
        for path in files:
            image = _decode(path, self.size)
            self._first = self._first or image.shape
            if image.shape != self._first:
                found = f"{image.shape[1]} x {image.shape[0]} pixels"
                raise InputError(str(path), found=found, expected=f"{self._first[1]} x {self._first[0]}, or a `size`")
            images.append(image)
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return stacked.to(torch.float32) / 127.5 - 1


def _decode(path: Path, size: int | tuple[int, int] | None) -> NDArray[np.uint8]:
    content = read_bytes(path, expected="a whole image")
    with only_input_errors(path, expected="a whole image", found="an image that cannot be read"):
        pixels, _ = decode_image(content)
    if not size:
        return pixels
    height, width = (size, size) if isinstance(size, int) else size
    return np.asarray(ImageOps.fit(Image.fromarray(pixels), (width, height)))


def filtered(
    batches: Callable[[], Iterator[Tensor]], keep: Callable[[int, Tensor], Tensor]
) -> Callable[[], Iterator[Tensor]]:
    """A stream of the rows that `keep(index of the first row, rows)` marks, batches without any left out."""

    def start() -> Iterator[Tensor]:
        first = 0
        for rows in batches():
            kept = rows[keep(first, rows)]
            first += len(rows)
            if len(kept):
                yield kept

    return start
