"""Images from wherever they lie: folder, archive, array file, tensor, or a function that makes them.

    source = open_images("samples/")                       # or .zip, .tar, .npz with arr_0
    source = tensor_images(samples, value_range=(-1, 1))   # quantised to 8 bits, as a file would be
    source = made_images(lambda: (sample(...).samples for _ in range(20)), value_range=(-1, 1), count=5000)
    for names, images in source.batches(64, log=log): ...  # uint8, (batch, 3, y, x)

Images stream: one batch is held at a time. This module knows nothing of networks; resizing is `preprocessing`'s.
"""

import io
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"})
Rounding = Literal["nearest", "truncate"]
Pixels = NDArray[np.uint8]  # (y, x, 3)
Item = tuple[str, Callable[[], tuple[Pixels, str]]]


@dataclass
class ReadLog:
    """What was read: filled while a source is read.

    Attributes
    ----------
    read : int
        Images that were used.
    bad : dict of str to str
        Name and reason of each image that was left out.
    converted : Counter
        How many images were changed to 8-bit RGB, by kind: `grayscale`, `alpha`, `16-bit`, `palette`, `other`.
    """

    read: int = 0
    bad: dict[str, str] = field(default_factory=dict)
    converted: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class ImageSource:
    """Images that can be read from the start any number of times.

    Attributes
    ----------
    name : str
        What messages and tables call it.
    items : callable
        Makes an iterator over (name, decode); decode gives pixels (y, x, 3) and the kind of conversion.
    count : int or None
        Number of images, None where only reading tells.
    """

    name: str
    items: Callable[[], Iterator[Item]]
    count: int | None

    def batches(
        self, size: int, *, skip_bad: bool = False, log: ReadLog | None = None
    ) -> Iterator[tuple[list[str], Tensor]]:
        """Names and images, `size` at a time and fewer where the image size changes.

        Parameters
        ----------
        size : int
            Largest batch.
        skip_bad : bool
            Leave out images that cannot be read, and note them in `log`; else the first is an error.
        log : ReadLog, optional
            Filled as images are read.

        Yields
        ------
        names : list of str
        images : Tensor, shape (batch, 3, y, x), uint8

        Raises
        ------
        InputError
            Naming the image that cannot be read.
        """
        log = ReadLog() if log is None else log
        names: list[str] = []
        pixels: list[Pixels] = []
        for name, decode in self.items():
            try:
                image, kind = decode()
            except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
                if not skip_bad:
                    expected = "an image that can be read; skip_bad (--skip-bad) leaves such images out and counts them"
                    raise InputError(f"{self.name}: {name}", found=str(error), expected=expected) from None
                log.bad[name] = str(error)
                continue
            if kind:
                log.converted[kind] += 1
            if pixels and (len(pixels) == size or image.shape != pixels[0].shape):
                yield names, _stack(pixels)
                names, pixels = [], []
            names.append(name)
            pixels.append(image)
            log.read += 1
        if pixels:
            yield names, _stack(pixels)


@checked
def open_images(path: str | Path) -> ImageSource:
    """Images of a folder (recursive, sorted), a zip (sorted), a tar (in its own order), or an npz with `arr_0`.

    Gray images are repeated in three channels, alpha is dropped, 16 bits are scaled to 8, palettes are resolved; how
    often is noted in the `ReadLog`.

    Parameters
    ----------
    path : str or Path
        Folder or file.

    Raises
    ------
    InputError
        If there is no such file, it is of another kind, or it holds no image.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and is_image(p.name))
        _check_any(path, files)
        return ImageSource(
            str(path), lambda: ((p.relative_to(path).as_posix(), _file_decoder(p)) for p in files), len(files)
        )
    if not path.is_file():
        raise InputError(str(path), found="no such file or folder", expected="a folder, .zip, .tar or .npz of images")
    if path.suffix.lower() == ".npz":
        return _open_npz(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if is_image(name))
        _check_any(path, names)
        return ImageSource(str(path), lambda: _zip_items(path, names), len(names))
    if tarfile.is_tarfile(path):
        return ImageSource(str(path), lambda: _tar_items(path), None)
    raise InputError(str(path), found=f"a {path.suffix or 'nameless'} file", expected="a folder, .zip, .tar or .npz")


@checked
def tensor_images(
    images: Tensor, *, value_range: tuple[float, float] = (-1.0, 1.0), rounding: Rounding = "nearest", name: str = ""
) -> ImageSource:
    """A tensor as a source.

    Parameters
    ----------
    images : Tensor, shape (n, 1 or 3, y, x)
        uint8, or float within `value_range`; floats are quantised as `quantise` does.
    value_range : (float, float)
        Values that become 0 and 255.
    rounding : str
        See `quantise`.
    name : str
        What messages call it.
    """
    return made_images(
        lambda: iter([images]), value_range=value_range, rounding=rounding, count=len(images), name=name or "tensor"
    )


@checked
def made_images(
    make: Callable[[], Iterable[Tensor]],
    *,
    value_range: tuple[float, float] = (-1.0, 1.0),
    rounding: Rounding = "nearest",
    count: int | None = None,
    name: str = "generator",
) -> ImageSource:
    """Images from a function that starts an iteration over batches: a generator, a sampler, a data loader.

    Parameters
    ----------
    make : callable
        Called once a reading; gives batches of shape (batch, 1 or 3, y, x).
    value_range, rounding, name
        As in `tensor_images`.
    count : int, optional
        How many images will come, for the progress bar.
    """

    def items() -> Iterator[Item]:
        number = 0
        for batch in make():
            pixels = quantise(batch, value_range=value_range, rounding=rounding).movedim(1, 3).numpy()
            kind = "grayscale" if pixels.shape[3] == 1 else ""
            for image in np.broadcast_to(pixels, (*pixels.shape[:3], 3)):
                yield str(number), _constant(image, kind)
                number += 1

    return ImageSource(name, items, count)


def quantise(
    images: Tensor, *, value_range: tuple[float, float] = (-1.0, 1.0), rounding: Rounding = "nearest"
) -> Tensor:
    """Images as the 8 bits that a file would hold, on the CPU.

    Parameters
    ----------
    images : Tensor, shape (batch, 1 or 3, y, x)
        uint8 is passed through; floats are scaled and clipped.
    value_range : (float, float)
        Values that become 0 and 255.
    rounding : str
        `nearest`, or `truncate`, which lowers the mean by half a level: some tools do, and their values differ.

    Raises
    ------
    InputError
        For another shape, values that are not finite, or an empty range.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError("images", found=f"shape {tuple(images.shape)}", expected="(batch, 1 or 3, y, x)")
    images = images.detach().cpu()
    if images.dtype == torch.uint8:
        return images
    low, high = value_range
    if not images.is_floating_point() or not low < high:
        expected = "uint8, or floats with a range (low, high)"
        raise InputError("images", found=f"{images.dtype} with range {value_range}", expected=expected)
    if not bool(torch.isfinite(images).all()):
        raise InputError("images", found="NaN or infinite values", expected="finite images")
    scaled = ((images.float() - low) * (255 / (high - low))).clamp(0, 255)
    if rounding == "nearest":
        scaled = scaled.round()
    elif rounding != "truncate":
        raise InputError("rounding", found=repr(rounding), expected="'nearest' or 'truncate'")
    return scaled.to(torch.uint8)


def decode_image(content: bytes) -> tuple[Pixels, str]:
    """Pixels (y, x, 3) of a file's content and how they were converted, "" for plain 8-bit RGB.

    Raises what Pillow raises for a damaged image.
    """
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        mode = image.mode
        if mode.startswith("I") or mode == "F":  # Pillow would clip 16 bits at 255 rather than scale them
            gray = np.asarray(image, np.float64)
            if mode == "F" or gray.min() < 0 or gray.max() > 65535:
                raise ValueError(f"mode {mode} with values from {gray.min():g} to {gray.max():g}")
            levels = np.round(gray / 257).astype(np.uint8)
            return np.repeat(levels[:, :, None], 3, axis=2), "16-bit"
        kinds = {"RGB": "", "L": "grayscale", "1": "grayscale", "RGBA": "alpha", "LA": "alpha", "P": "palette"}
        return np.array(image.convert("RGB")), kinds.get(mode, "other")


def _stack(pixels: list[Pixels]) -> Tensor:
    return torch.from_numpy(np.stack(pixels)).movedim(3, 1)


def is_image(name: str) -> bool:
    """Whether a file name is that of an image, and not a hidden one."""
    path = PurePosixPath(name)
    hidden = path.name.startswith(".") or "__MACOSX" in path.parts
    return path.suffix.lower() in EXTENSIONS and not hidden


def _check_any(path: Path, found: list[Path] | list[str]) -> None:
    if not found:
        raise InputError(str(path), found="no images", expected=f"files ending in {', '.join(sorted(EXTENSIONS))}")


def _file_decoder(path: Path) -> Callable[[], tuple[Pixels, str]]:
    return lambda: decode_image(path.read_bytes())


def _constant(image: Pixels, kind: str) -> Callable[[], tuple[Pixels, str]]:
    return lambda: (image, kind)


def _zip_items(path: Path, names: list[str]) -> Iterator[Item]:
    with zipfile.ZipFile(path) as archive:
        for name in names:
            yield name, lambda name=name: decode_image(archive.read(name))  # type: ignore[misc]


def _tar_items(path: Path) -> Iterator[Item]:
    found = False
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and is_image(member.name):
                found = True
                stream = archive.extractfile(member)
                content = b"" if stream is None else stream.read()
                yield member.name, lambda content=content: decode_image(content)  # type: ignore[misc]
    if not found:
        _check_any(path, [])


def _open_npz(path: Path) -> ImageSource:
    expected = "an npz whose arr_0 is uint8 of shape (n, y, x, 3)"
    try:
        with np.load(path, allow_pickle=False) as file:
            if "arr_0" not in file.files:
                hint = "; moments are read with read_moments" if "mu" in file.files else ""
                raise InputError(str(path), found=f"arrays {sorted(file.files)}", expected=expected + hint)
            pixels = file["arr_0"]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(str(path), found=f"a file that numpy refuses ({error})", expected=expected) from None
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] not in (1, 3) or not len(pixels):
        raise InputError(str(path), found=f"arr_0 of {pixels.dtype}, shape {pixels.shape}", expected=expected)
    return tensor_images(torch.from_numpy(pixels).movedim(3, 1), name=str(path))
