"""Images, masks, and what is measured of images: folders, archives, moments of ours and of others, feature weights."""

import gzip
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from scorescope.probes.approximations import ImageFolder
from scorescope.probes.features import (
    Moments,
    load_class_names,
    open_images,
    open_masks,
    pixel_extractor,
    read_edm2_reference,
    read_moments,
    write_moments,
)
from scorescope.probes.features.inception_weights import load_inception
from scorescope.reports.fid import folder_study, read_reference
from tests.fuzz import damage
from tests.fuzz.kind import Kind, written

SIZE = (6, 5)
FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF", "ppm": "PPM", "gif": "GIF"}
PIXELS = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
BOXES = "name,left,top,right,bottom\na.png,0,1,3,4\nb.png,,,,\nb/c.png,0.5,0,2,1\n"


def encoded(suffix: str, pixels: Any = PIXELS) -> bytes:
    """A picture in one format."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=FORMATS[suffix])
    return buffer.getvalue()


def _images(folder: Path) -> Path:
    (folder / "deep").mkdir()
    for suffix in FORMATS:
        (folder / "deep" / f"a.{suffix}").write_bytes(encoded(suffix))
    moving = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    moving[0].save(folder / "b.gif", save_all=True, append_images=moving[1:])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(folder / "c.jpg", exif=exif)
    Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257).save(folder / "d.png")
    return folder


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for suffix in FORMATS:
            archive.writestr(f"x/a.{suffix}", encoded(suffix))
    return buffer.getvalue()


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for suffix in ("png", "jpg", "bmp"):
            member = tarfile.TarInfo(f"x/a.{suffix}")
            member.size = len(encoded(suffix))
            archive.addfile(member, io.BytesIO(encoded(suffix)))
        link = tarfile.TarInfo("x/link.png")
        link.type, link.linkname = tarfile.LNKTYPE, "x/a.png"
        archive.addfile(link)
    return buffer.getvalue()


def npz(**arrays: Any) -> Callable[[], bytes]:
    """An npz of arrays."""

    def content() -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    return content


def _read_images(path: Path) -> None:
    source = open_images(path)
    for _ in source.batches(4, skip_bad=True):
        pass
    for _ in source.batches(4):
        pass


def _masks(folder: Path) -> Path:
    (folder / "b").mkdir()
    for name in ("a.png", "b/c.png"):
        Image.fromarray((PIXELS[:, :, 0] > 127).astype(np.uint8)).save(folder / name)
    return folder


def _read_masks(path: Path) -> None:
    masks = open_masks(path)
    names = ["a.jpg", "b/c.jpg"]
    masks.check_names(names)
    for row, name in enumerate(names):
        assert masks.mask(name, SIZE, row=row).shape == SIZE


def _moments() -> Moments:
    return Moments.of(np.random.default_rng(0).normal(size=(20, 4)))


def _ours(folder: Path) -> Path:
    write_moments(folder / "m.npz", _moments())
    return folder / "m.npz"


def _edm2(protocol: int) -> Callable[[], bytes]:
    part = {"mu": _moments().mean, "sigma": _moments().covariance}
    return lambda: pickle.dumps({"fid": part, "fd_dinov2": part, "num_images": np.int64(50)}, protocol=protocol)


def _study(folder: Path) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        (folder / name).write_bytes(encoded("png"))
    (folder / "labels.csv").write_text("name,prompt\na.png,red\nb.png,blue\nc.png,red\n")
    return folder


def _read_study(path: Path) -> None:
    folder_study(path, path, pixel_extractor(4), pixel_extractor(2), labels=path / "labels.csv", progress=False)


def _class_names() -> bytes:
    names = [f"class {index}" for index in range(1008)]
    names[1], names[2], names[3], names[1000] = "kit fox", "English setter", "Siberian husky", "dumbbell"
    return "\n".join(names).encode()


def _state_dict() -> bytes:
    buffer = io.BytesIO()
    torch.save({"fc.weight": torch.zeros(3, 4), "fc.bias": torch.zeros(3)}, buffer)
    return buffer.getvalue()


def _converted(folder: Path) -> Path:
    save_file({"fc.weight": torch.zeros(3, 4), "fc.bias": torch.zeros(3)}, folder / "w.safetensors", {"format": "pt"})
    return folder / "w.safetensors"


def _read_inception(path: Path) -> None:
    load_inception(path, expected_sha256=None)


IMAGE_KINDS = (
    Kind("folder of images", _images, _read_images),
    Kind("folder of images for a fit", _images, lambda path: [len(part) for part in ImageFolder(path, size=4)]),
    Kind("zip of images", written("a.zip", _zip), _read_images, damage.in_zip),
    Kind("tar of images", written("a.tar", _tar), _read_images),
    Kind("compressed tar of images", written("a.tar.gz", lambda: gzip.compress(_tar())), _read_images),
    Kind("npz of images", written("a.npz", npz(arr_0=PIXELS[None])), _read_images, damage.in_zip),
    Kind("folder of masks", _masks, _read_masks),
    Kind("CSV of masks", written("m.csv", BOXES.encode()), _read_masks),
    Kind(
        "npz of masks by name",
        written("m.npz", npz(**{"a.png": np.ones(SIZE, bool), "b/c.png": np.full(SIZE, 0.5)})),
        _read_masks, damage.in_zip,
    ),
    Kind("npz of masks in order", written("m.npz", npz(arr_0=np.ones((2, *SIZE), bool))), _read_masks, damage.in_zip),
    Kind("moments of ours", _ours, read_moments, damage.in_zip),
    Kind(
        "moments of others",
        written("m.npz", npz(mu=_moments().mean, sigma=_moments().covariance.astype(np.float32), num_images=20)),
        read_moments, damage.in_zip,
    ),
    Kind("moments as a reference", _ours, lambda path: read_reference(path, pixel_extractor(2)), damage.in_zip),
    *(Kind(f"EDM2 pickle {p}", written("r.pkl", _edm2(p)), read_edm2_reference) for p in (2, 3, 4, 5)),
    Kind("labels", _study, _read_study),
    Kind("class names", written("names.txt", _class_names), load_class_names),
    # all 566 entries would be 95 MB
    Kind("Inception weights", written("w.pth", _state_dict), _read_inception, damage.in_zip, sound=False),
    Kind("Inception weights, converted", _converted, _read_inception, damage.in_safetensors, sound=False),
)  # fmt: skip
