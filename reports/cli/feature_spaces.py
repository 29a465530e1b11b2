"""The feature spaces in which `scorescope report fid REAL FAKE` compares, as they are named there."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from scorescope.data.digits import SHAPE
from scorescope.data.errors import InputError
from scorescope.probes.features.class_names import load_class_names
from scorescope.probes.features.extractors import Extractor, spatial_readings
from scorescope.probes.features.images import open_images
from scorescope.probes.features.named_extractors import named_extractor


def named_spaces(
    real: Path | None,
    fake: Path,
    features: str | None,
    second: str | None,
    *,
    files: Mapping[str, Path | None],
    preprocessing: str,
    names: Path | None,
    device: str,
    sfid: bool,
) -> tuple[Extractor, Extractor | None]:
    """The space that is judged and the one beside it: those that are named, else those that fit the images.

    `files` has the weights of `inception`, and under `--weights` those of the network that is judged. Statistics in
    place of real images are of one space, so there is none beside it unless it is named.
    """
    given = files["inception"] is not None
    space = features or ("inception" if given or not _digit_sized(real or fake) else "digits")
    known = _weight_files(space, files)
    make = partial(_extractor, files=known, preprocessing=preprocessing, names=names, device=device)
    first = make(space)
    if sfid and not spatial_readings(first):
        raise InputError("--sfid", found=first.name, expected="--features inception, or a shipped classifier")
    if real is not None and second is None:
        second = "subject" if space == "pixels" else "pixels"  # a space cannot confirm itself
    return first, None if second is None else make(second)


def named_space(name: str, *, inception: Path | None = None, device: str = "cpu") -> Extractor:
    """One space by its name."""
    files = {"inception": inception, "efficientnet_lite0": None}
    return _extractor(name, files=files, preprocessing="tf", names=None, device=device)


def _weight_files(space: str, given: Mapping[str, Path | None]) -> dict[str, Path | None]:
    """Weight file by network, None for its own."""
    files = {"inception": given["inception"], "efficientnet_lite0": None}
    if given["--weights"] is not None:
        if space not in files or files[space] is not None:
            found = "--inception too" if space == "inception" else f"--features {space}"
            raise InputError("--weights", found=found, expected=f"one file, for --features {' or '.join(files)}")
        files[space] = given["--weights"]
    return files


def _digit_sized(path: Path) -> bool:
    """Whether a set's first image has the size of the shipped digits."""
    _, images = next(open_images(path).batches(1, skip_bad=True), ([], None))
    return images is not None and images.shape[2:] == SHAPE[1:]


def _extractor(
    name: str, *, files: Mapping[str, Path | None], preprocessing: str, names: Path | None, device: str
) -> Extractor:
    classes = load_class_names(names) if names is not None and name == "inception" else None
    return named_extractor(
        name, weights=files.get(name), preprocessing=preprocessing, class_names=classes, device=device
    )
