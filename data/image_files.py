"""Image files: which files of a folder are images, and what is in one.

listing = list_images("samples")            # listing.files, listing.passed_over
pixels, kinds = decode_image(content)       # uint8 (y, x, 3), and what had to be changed

What is read is what clean-fid's users expect: links are followed, hidden folders are not read, of moving images the
first frame counts, and a camera's note on rotation is not applied. All of it is counted.
"""

import contextlib
import io
import os
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from scorescope.data.display import displayed
from scorescope.data.errors import InputError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"})
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF")  # others start programs (EPS) or are seldom looked after
KINDS = ("grayscale", "alpha", "16-bit", "16-bit colour", "palette", "other", "first frame", "EXIF rotation")
FILES = 10_000_000
ROTATION = 0x0112  # the EXIF tag
Pixels = NDArray[np.uint8]  # (y, x, 3)


@displayed
@dataclass(frozen=True)
class Listing:
    """The images of a folder.

    Attributes
    ----------
    files : list of Path
        Sorted; a link that leads nowhere is among them, as an image that cannot be read.
    passed_over : Counter
        How many other files there are, by reason: see `why_passed_over`.
    """

    files: list[Path]
    passed_over: Counter[str]


def list_images(folder: Path) -> Listing:
    """Images of a folder and all folders in it, through links, but not in circles.

    Raises
    ------
    InputError
        If it holds no image, or more than `FILES` files.
    """
    files: list[Path] = []
    passed_over: Counter[str] = Counter()
    waiting = [(folder, frozenset[tuple[int, int]]())]
    while waiting:
        here, above = waiting.pop()
        try:
            status = here.stat()
            entries = list(os.scandir(here))
        except OSError as error:
            raise InputError(str(here), found=str(error), expected="a folder that can be read") from None
        inside = above | {(status.st_dev, status.st_ino)}
        for entry in entries:
            path = here / entry.name
            kind = path if entry.is_symlink() else entry  # a path says of a link in a circle that it is nothing
            if kind.is_dir():
                status = path.stat()
                if (status.st_dev, status.st_ino) in inside:
                    passed_over["link in a circle"] += 1
                else:
                    waiting.append((path, inside))
            elif why := why_passed_over(path.relative_to(folder).as_posix()):
                passed_over[why] += 1
            elif kind.is_file() or not path.exists():
                files.append(path)
            else:
                passed_over["no plain file"] += 1
        if len(files) + passed_over.total() > FILES:
            raise InputError(str(folder), found=f"more than {FILES} files", expected="fewer, or a folder without links")
    check_any(folder, len(files))
    return Listing(sorted(files), passed_over)


def why_passed_over(name: str) -> str:
    """Why a file of this name is no image of the set: `hidden`, or its suffix; empty for an image."""
    path = PurePosixPath(name)
    if any(part.startswith(".") or part == "__MACOSX" for part in path.parts if part not in (".", "..")):
        return "hidden"
    suffix = path.suffix.lower()
    return "" if suffix in EXTENSIONS else suffix or "no suffix"


def check_any(source: Path, count: int) -> None:
    """Raise `InputError` where there is no image."""
    if not count:
        expected = f"files ending in {', '.join(sorted(EXTENSIONS))}"
        raise InputError(str(source), found="no images", expected=expected)


def decode_image(content: bytes) -> tuple[Pixels, tuple[str, ...]]:
    """Pixels (y, x, 3) of a file's content, and how they were changed to 8-bit RGB: some of `KINDS`, or none.

    Raises as `open_picture` does, and `ValueError` for values that are no 16 bits.
    """
    image, deep = open_picture(content)
    kinds = [kind for kind, found in (("first frame", _moves(image)), ("EXIF rotation", _rotated(image))) if found]
    mode = image.mode
    if mode.startswith("I") or mode == "F":  # Pillow would clip 16 bits at 255 rather than scale them
        return np.repeat(_eight_bits(image)[:, :, None], 3, axis=2), ("16-bit", *kinds)
    modes = {"RGB": "", "L": "grayscale", "1": "grayscale", "RGBA": "alpha", "LA": "alpha", "P": "palette"}
    first = [modes.get(mode, "other")] + ["16-bit colour"] * deep
    return np.array(image.convert("RGB")), tuple(kind for kind in first + kinds if kind)


def open_picture(content: bytes) -> tuple[Image.Image, bool]:
    """A file's content as Pillow's image, loaded, and whether it was cut from 16 bits a colour.

    Only files of `FORMATS` are tried, whatever their names, and no more pixels than Pillow's own
    `Image.MAX_IMAGE_PIXELS`, which may be set higher.

    Raises
    ------
    ValueError
        For content that is empty, of another kind or too large; for damaged content whatever Pillow raises.
    """
    if not content:
        raise ValueError("empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on what is too large, and on damaged notes beside the pixels
        try:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError:
            raise ValueError(f"not an image, or none of {', '.join(FORMATS)}") from None
        most = Image.MAX_IMAGE_PIXELS
        if most is not None and image.width * image.height > most:
            raise ValueError(f"{image.width} x {image.height} pixels; at most {most} (PIL.Image.MAX_IMAGE_PIXELS)")
        deep = _is_deep(image)
        image.load()
    return image, deep


def _is_deep(image: Image.Image) -> bool:
    """Whether Pillow takes 8 of the 16 bits of each colour: it has no mode that would hold them."""
    return len(image.getbands()) > 1 and any(_deep_tile(*tile) for tile in getattr(image, "tile", []))


def _deep_tile(codec: str, _extents: Any, _offset: int, arguments: Any) -> bool:
    parts = arguments if isinstance(arguments, tuple) else (arguments,)
    if codec.startswith("ppm"):
        return any(isinstance(part, int) and part > 255 for part in parts)
    return any(isinstance(part, str) and ";16" in part for part in parts)


def _moves(image: Image.Image) -> bool:
    with contextlib.suppress(Exception):  # later frames may be damaged: they are not looked at
        return bool(getattr(image, "is_animated", False))
    return True


def _rotated(image: Image.Image) -> bool:
    with contextlib.suppress(Exception), warnings.catch_warnings():  # a damaged note is none
        warnings.simplefilter("ignore")
        return image.getexif().get(ROTATION, 1) not in (0, 1)
    return False


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Gray values of 16 bits, rounded to 8."""
    gray = np.asarray(image)
    low, high = float(gray.min()), float(gray.max())
    if image.mode == "F" or low < 0 or high > 65535:
        raise ValueError(f"mode {image.mode} with values from {low:g} to {high:g}")
    levels: NDArray[np.uint8] = ((gray.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 257 is odd: no ties
    return levels
