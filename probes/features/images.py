"""Images from wherever they lie: folder, archive, array file, tensor, or a function that makes them.

    source = open_images("samples/")                       # or .zip, .tar, .npz with arr_0
    source = tensor_images(samples, value_range=(-1, 1))   # quantised to 8 bits, as a file would be
    source = made_images(lambda: (sample(...).samples for _ in range(20)), value_range=(-1, 1), count=5000)
    for names, images in source.batches(64, log=log): ...  # uint8, (batch, 3, y, x)

Images stream: one batch is held at a time. Files are opened by `data.image_files` and `data.untrusted`. This module
knows nothing of networks; resizing is `preprocessing`'s.
"""

import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.image_files import Pixels, check_any, decode_image, list_images, why_passed_over
from scorescope.data.untrusted import (
    WHOLE,
    array_headers,
    check_file,
    check_members,
    only_input_errors,
    read_array,
    read_bytes,
    reason,
)
from scorescope.probes.features.quantisation import Rounding, check_range, quantise
from scorescope.probes.features.tar_images import is_tar, tar_items

Decode = Callable[[], tuple[Pixels, tuple[str, ...]]]  # pixels, and how they were converted
Item = tuple[str, Decode]


@displayed
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
        How many images were changed to 8-bit RGB, by kind: `grayscale`, `alpha` (dropped), `16-bit` (scaled),
        `16-bit colour` (the high byte), `palette`, `other`; and of how many there was more than was read:
        `first frame` of a moving image, `EXIF rotation` that was not applied.
    passed_over : Counter
        How many files are no images of the set, by reason: `hidden` (also folders, and __MACOSX), `link in a circle`,
        `no plain file`, or a suffix that is not read.
    """

    read: int = 0
    bad: dict[str, str] = field(default_factory=dict)
    converted: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class ImageSource:
    """Images that can be read from the start any number of times.

    Attributes
    ----------
    name : str
        What messages and tables call it.
    items : callable
        Makes an iterator over (name, decode) and notes in a `ReadLog` what it passes over; decode gives pixels
        (y, x, 3) and the kinds of conversion.
    count : int or None
        Number of images, None where only reading tells.
    """

    name: str
    items: Callable[[ReadLog], Iterator[Item]]
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
        for name, decode in self.items(log):
            try:
                image, kinds = decode()
            except Exception as error:  # damaged images make decoders raise nearly anything
                if not skip_bad:
                    expected = "an image that can be read; skip_bad (--skip-bad) leaves such images out and counts them"
                    raise InputError(f"{self.name}: {name}", found=reason(error), expected=expected) from None
                log.bad[name] = reason(error)
                continue
            log.converted.update(kinds)
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

    As clean-fid reads them: links to files and folders are followed, hidden files and folders and `__MACOSX` are
    passed over, and so are files of other suffixes; moving images give their first frame; a camera's note on rotation
    is not applied. Gray images are repeated in three channels, alpha is dropped, gray of 16 bits is scaled to 8 and
    colours of 16 bits give their high byte, palettes are resolved. How often is noted in the `ReadLog`.

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
        listing = list_images(path)
        names = [(file.relative_to(path).as_posix(), file) for file in listing.files]
        return ImageSource(str(path), _noting(listing.passed_over, lambda: _file_items(names)), len(names))
    expected = "a folder, .zip, .tar or .npz of images"
    if not path.exists():
        raise InputError(str(path), found="no such file or folder", expected=expected)
    check_file(path, expected=expected)
    if path.suffix.lower() == ".npz":
        return _open_npz(path)
    if zipfile.is_zipfile(path):
        return _open_zip(path)
    if is_tar(path):
        return ImageSource(str(path), lambda log: tar_items(path, log.passed_over), None)
    raise InputError(str(path), found=f"a {path.suffix or 'nameless'} file", expected=expected)


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

    Raises
    ------
    InputError
        For values that are plainly of another range, such as 0 to 1 or 0 to 255 for (-1, 1), and as `quantise` does.
    """
    check_range(images, value_range)
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

    def items(_: ReadLog) -> Iterator[Item]:
        number = 0
        for batch in make():
            check_range(batch, value_range, few=True)
            pixels = quantise(batch, value_range=value_range, rounding=rounding).movedim(1, 3).numpy()
            kinds = ("grayscale",) * (pixels.shape[3] == 1)
            for image in np.broadcast_to(pixels, (*pixels.shape[:3], 3)):
                yield str(number), _constant(image, kinds)
                number += 1

    return ImageSource(name, items, count)


def _stack(pixels: list[Pixels]) -> Tensor:
    return torch.from_numpy(np.stack(pixels)).movedim(3, 1)


def _constant(image: Pixels, kinds: tuple[str, ...]) -> Decode:
    return lambda: (image, kinds)


def _noting(passed_over: Counter[str], items: Callable[[], Iterator[Item]]) -> Callable[[ReadLog], Iterator[Item]]:
    def start(log: ReadLog) -> Iterator[Item]:
        log.passed_over.update(passed_over)
        return items()

    return start


def _file_items(names: list[tuple[str, Path]]) -> Iterator[Item]:
    for name, file in names:
        yield name, lambda file=file: decode_image(_content(file))  # type: ignore[misc]


def _content(file: Path) -> bytes:
    try:
        return read_bytes(file, expected="")
    except InputError as error:  # the caller names the file
        broken = file.is_symlink() and not file.exists()
        raise ValueError("a link that leads nowhere" if broken else error.found) from None


def _open_zip(path: Path) -> ImageSource:
    expected = "a zip of images"
    with only_input_errors(path, expected=expected), zipfile.ZipFile(path) as archive:
        members = {
            member.filename: why_passed_over(member.filename)
            for member in check_members(path, archive, expected=expected)
        }
    names = sorted(name for name, why in members.items() if not why)
    check_any(path, len(names))
    passed_over = Counter(why for why in members.values() if why)
    return ImageSource(str(path), _noting(passed_over, lambda: _zip_items(path, names)), len(names))


def _zip_items(path: Path, names: list[str]) -> Iterator[Item]:
    with zipfile.ZipFile(path) as archive:
        for name in names:
            yield name, lambda name=name: decode_image(_member(archive, name))  # type: ignore[misc]


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if (size := archive.getinfo(name).file_size) > WHOLE:
        raise ValueError(f"{size} bytes; at most {WHOLE}")
    return archive.read(name)


def _open_npz(path: Path) -> ImageSource:
    expected = "an npz whose arr_0 is uint8 of shape (n, y, x, 3)"
    headers = array_headers(path, expected=expected, wanted=("arr_0",))
    header = headers.get("arr_0")
    if header is None:
        hint = "; statistics are given as --reference FILE, or read with read_moments" if "mu" in headers else ""
        raise InputError(str(path), found=f"arrays {sorted(headers)[:9]}", expected=expected + hint)
    if header.dtype != np.uint8 or len(header.shape) != 4 or header.shape[3] not in (1, 3) or 0 in header.shape:
        raise InputError(str(path), found=f"arr_0 of {header.dtype}, shape {header.shape}", expected=expected)
    pixels = read_array(path, header, expected=expected, always=WHOLE)
    return tensor_images(torch.from_numpy(pixels).movedim(3, 1), name=str(path))
