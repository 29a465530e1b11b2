"""Regions of images that a user marks: a folder of mask images, boxes in a CSV file, or arrays in an npz.

    masks = open_masks("faces.csv")               # name, left, top, right, bottom
    masks.check_names(names)
    masks.mask("0001.png", (256, 256))            # (256, 256), share of each pixel inside

Every image needs a mask, so that a wrong folder is an error and not a share of nothing: an all-black mask, or a row
of the CSV without numbers, says that an image has no such region. This module knows nothing of feature networks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.image_files import list_images, open_picture
from scorescope.data.untrusted import (
    WHOLE,
    array_headers,
    check_growth,
    only_input_errors,
    read_array,
    read_bytes,
    read_csv,
)

Floats = NDArray[np.float64]
Size = tuple[int, int]
BOX = ("left", "top", "right", "bottom")


@displayed
@dataclass(frozen=True, eq=False)
class MaskSource:
    """One region of every image of a set.

    Attributes
    ----------
    region : str
        What tables call it.
    path : str
        Where it was read from, for messages.
    names : frozenset of str or None
        Images that have a mask, without suffix; None for an array in the order of the images.
    count : int or None
        Length of such an array.
    read : callable
        (key, row, size of the image) to values in [0, 1] of shape (Y, X), not always at the image's size.
    """

    region: str
    path: str
    names: frozenset[str] | None
    count: int | None
    read: Callable[[str, int, Size], Floats]

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse a set of which an image has no mask.

        Parameters
        ----------
        names : sequence of str
            Of all images, in order.

        Raises
        ------
        InputError
            Naming the first one and counting the others.
        """
        if self.names is None:
            if self.count != len(names):
                found = f"{self.count} masks without names for {len(names)} images"
                raise InputError(self.path, found=found, expected="as many, in the order of the images")
            return
        absent = [name for name in names if _key(name) not in self.names]
        if absent:
            others = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            expected = "one an image, under its name; an all-black mask or a row without numbers for no such region"
            raise InputError(
                self.path, found=f"no mask for {absent[0]}{others} of {len(names)} images", expected=expected
            )

    def mask(self, name: str, size: Size, *, row: int = 0) -> Floats:
        """The mask of an image, shape (Y, X) with Y / X as in `size`: 1 inside, 0 outside, or shares.

        Parameters
        ----------
        name : str
            Of the image.
        size : (int, int)
            Height and width of the image.
        row : int
            Its place in the set, for masks without names.

        Raises
        ------
        InputError
            If the mask cannot be read, is no mask, or has other proportions than the image.
        """
        values = self.read(_key(name), row, size)
        if values.shape[0] * size[1] != values.shape[1] * size[0]:
            found = f"{values.shape[0]} x {values.shape[1]} for an image of {size[0]} x {size[1]}"
            raise InputError(f"{self.path}: {name}", found=found, expected="the image's size, or its proportions")
        return values


@checked
def open_masks(path: str | Path, *, region: str = "") -> MaskSource:
    """Masks of one region from a folder, a CSV of boxes, or an npz.

    Parameters
    ----------
    path : str or Path
        A folder of images with one value inside and 0 outside, each at its image's path but for the suffix; a CSV
        with columns name, left, top, right, bottom, in pixels of the image, right and bottom outside, several rows an
        image allowed; or an npz of arrays (Y, X) by name, or of `arr_0` (n, Y, X) in the order of the images, of bool
        or shares in [0, 1].
    region : str
        What tables call it; by default the name of the file or folder.

    Raises
    ------
    InputError
        If there is no such path, or it holds no masks.
    """
    path = Path(path)
    region = region or path.stem
    if path.is_dir():
        return _from_folder(path, region)
    expected = "masks: a folder of images, a .csv of boxes, or a .npz"
    if not path.exists():
        raise InputError(str(path), found="no such file or folder", expected=expected)
    if path.suffix.lower() not in (".csv", ".npz"):
        raise InputError(str(path), found=f"a {path.suffix or 'nameless'} file", expected=expected)
    return _from_csv(path, region) if path.suffix.lower() == ".csv" else _from_npz(path, region)


def _key(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix("") if path.name else path)


def _from_folder(path: Path, region: str) -> MaskSource:
    files = {_key(file.relative_to(path).as_posix()): file for file in list_images(path).files}
    return MaskSource(region, str(path), frozenset(files), None, lambda key, _row, _size: _read_image(files[key]))


def _read_image(path: Path) -> Floats:
    """A mask image: 0 outside and one other value inside, in all channels."""
    expected = "a mask: 0 outside and one other value inside; shares between them go into an npz"
    content = read_bytes(path, expected=expected)
    with only_input_errors(path, expected=expected, found="an image that cannot be read"):
        image, _ = open_picture(content)
        values = np.asarray(image.convert("RGB") if image.mode == "P" else image)
    if values.ndim == 3 and (values != values[:, :, :1]).any():
        raise InputError(str(path), found=f"{values.shape[2]} channels that differ", expected=expected)
    flat = values if values.ndim == 2 else values[:, :, 0]
    kinds = np.unique(flat)
    if not np.isfinite(kinds).all() or len(kinds) > 2 or (len(kinds) == 2 and kinds[0] != 0):
        shown = ", ".join(f"{kind:g}" for kind in kinds[:4])
        raise InputError(str(path), found=f"{len(kinds)} different values: {shown} ...", expected=expected)
    inside: Floats = (flat != 0).astype(np.float64)
    return inside


def _from_csv(path: Path, region: str) -> MaskSource:
    table = read_csv(path, expected="a CSV of boxes", dtype={"name": str})
    if not {"name", *BOX} <= set(table):
        raise InputError(str(path), found=f"columns {list(table)}", expected=f"columns name, {', '.join(BOX)}")
    try:
        boxes = table[list(BOX)].to_numpy(np.float64)
    except ValueError as error:
        raise InputError(str(path), found=str(error), expected="boxes in pixels") from None
    if table["name"].isna().any():
        row = int(table["name"].isna().argmax())
        raise InputError(str(path), found=f"row {row + 1} without a name", expected="the image that each box is of")
    given = ~np.isnan(boxes)
    odd = (given.any(axis=1) != given.all(axis=1)) | (boxes[:, 0] >= boxes[:, 2]) | (boxes[:, 1] >= boxes[:, 3])
    if odd.any():
        row = int(odd.argmax())
        found = f"{table['name'][row]} with {dict(zip(BOX, boxes[row].tolist(), strict=True))}"
        raise InputError(str(path), found=found, expected="left < right and top < bottom, or no numbers at all")
    by_name: dict[str, list[Floats]] = {}
    for name, box, full in zip(table["name"], boxes, given.all(axis=1), strict=True):
        by_name.setdefault(_key(name), []).extend([box] if full else [])

    def read(key: str, _row: int, size: Size) -> Floats:
        return _fill_boxes(f"{path}: {key}", by_name[key], size)

    return MaskSource(region, str(path), frozenset(by_name), None, read)


def _fill_boxes(where: str, boxes: list[Floats], size: Size) -> Floats:
    """Union of boxes; a pixel that a border crosses counts by its covered part."""
    mask = np.zeros(size)
    for left, top, right, bottom in boxes:
        if left < 0 or top < 0 or right > size[1] or bottom > size[0]:
            found = f"a box to x = {right:g}, y = {bottom:g} from {left:g}, {top:g}"
            raise InputError(where, found=found, expected=f"inside the image of {size[1]} x {size[0]} (x, y)")
        y, x = (np.arange(length) for length in size)
        tall = np.clip(np.minimum(bottom, y + 1) - np.maximum(top, y), 0, 1)
        wide = np.clip(np.minimum(right, x + 1) - np.maximum(left, x), 0, 1)
        mask = np.maximum(mask, tall[:, None] * wide)
    return mask


def _from_npz(path: Path, region: str) -> MaskSource:
    expected = "arrays (Y, X) by image name, or arr_0 (n, Y, X), of bool or shares in [0, 1]"
    headers = {key: header for key, header in array_headers(path, expected=expected).items() if header is not None}
    stacked = list(headers) == ["arr_0"]
    for key, header in headers.items():
        if len(header.shape) != (3 if stacked else 2) or 0 in header.shape:
            raise InputError(str(path), found=f"{key}: {header.dtype} of shape {header.shape}", expected=expected)
    check_growth(path, sum(h.member.file_size for h in headers.values()), expected=expected, always=WHOLE)
    arrays = {key: read_array(path, header, expected=expected, always=WHOLE) for key, header in headers.items()}
    for key, values in arrays.items():
        if not bool(((values >= 0) & (values <= 1)).all()):
            found = (
                f"{key}: {values.dtype} of shape {values.shape} with values from {values.min():g} to {values.max():g}"
            )
            raise InputError(str(path), found=found, expected=expected)
    if not arrays:
        raise InputError(str(path), found="no arrays", expected=expected)
    if stacked:
        stack = arrays["arr_0"]
        return MaskSource(region, str(path), None, len(stack), lambda _key, row, _size: stack[row].astype(np.float64))
    by_name = {_key(name): values for name, values in arrays.items()}
    return MaskSource(
        region, str(path), frozenset(by_name), None, lambda key, _row, _size: by_name[key].astype(np.float64)
    )
