"""Every kind of file that a public function reads: a sound one, how it is read, and how it is damaged from inside."""

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from scorescope.data.attribute_scorer import AttributeScorer, ScorerConfig, load_scorer, save_scorer
from scorescope.data.checkpoints import load_denoiser, save_denoiser
from scorescope.data.classifiers import Classifier, ClassifierConfig, load_classifier, save_classifier
from scorescope.data.unet import EDMDenoiser, UNetConfig
from scorescope.data.written_files import write_json
from scorescope.probes import CFG, Direction, Trace, record, sweep
from scorescope.probes.approximations import (
    Gaussian,
    ImageFolder,
    Mixture,
    TrainingSet,
    load_approximation,
    save_approximation,
)
from scorescope.probes.experiments import read_sweep
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
from scorescope.probes.models import find_snapshots, posthoc_ema
from scorescope.probes.recording.reading import verify
from scorescope.probes.work import Chunk, execute, finished, plan_work, read_spec
from scorescope.probes.work.chunks import check
from scorescope.reports.fid import folder_study
from tests.fuzz import damage
from tests.oracles import random_pair
from tests.pipelines import sd15

SIZE = (6, 5)
FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF", "ppm": "PPM", "gif": "GIF"}
PIXELS = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
BOXES = "name,left,top,right,bottom\na.png,0,1,3,4\nb.png,,,,\nb/c.png,0.5,0,2,1\n"


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    name : str
        For messages, and the seed.
    make : callable
        Writes a sound one to a folder and gives the path that `read` takes.
    read : callable
        Reads all of it.
    inside : callable, optional
        Damages what is in it, with sums and hashes made right again.
    sound : bool
        Whether the one that `make` writes is read without an error.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    inside: Callable[[Path, Random], None] | None = None
    sound: bool = True


def _encoded(suffix: str, pixels: Any = PIXELS) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=FORMATS[suffix])
    return buffer.getvalue()


def _written(name: str, content: bytes | Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content() if callable(content) else content)
        return path

    return make


def _images(folder: Path) -> Path:
    (folder / "deep").mkdir()
    for suffix in FORMATS:
        (folder / "deep" / f"a.{suffix}").write_bytes(_encoded(suffix))
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
            archive.writestr(f"x/a.{suffix}", _encoded(suffix))
    return buffer.getvalue()


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for suffix in ("png", "jpg", "bmp"):
            member = tarfile.TarInfo(f"x/a.{suffix}")
            member.size = len(_encoded(suffix))
            archive.addfile(member, io.BytesIO(_encoded(suffix)))
        link = tarfile.TarInfo("x/link.png")
        link.type, link.linkname = tarfile.LNKTYPE, "x/a.png"
        archive.addfile(link)
    return buffer.getvalue()


def _npz(**arrays: Any) -> Callable[[], bytes]:
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


def _direction(folder: Path) -> Path:
    return Direction(
        torch.arange(1.0, 6.0), site="x", attribute="size", method="difference", scale=2.0, sigma=0.5
    ).save(folder / "d.safetensors")


def _gaussian() -> Gaussian:
    return Gaussian(torch.zeros(2, 2), torch.eye(4)[:, :2], torch.ones(2), 0.1)


def _approximation(make: Callable[[], Any]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        save_approximation(folder / "a.safetensors", make())
        return folder / "a.safetensors"

    return write


def _read_approximation(path: Path) -> None:
    found = load_approximation(path)
    if tuple(found.shape) == (2, 2):
        found(torch.zeros(1, 2, 2, dtype=found.mean.dtype), 1.0)


def _network(write: Callable[[Path], None]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write(folder / "n.safetensors")
        return folder / "n.safetensors"

    return make


def _save_denoiser(path: Path) -> None:
    config = UNetConfig(channels=(8,), classes=2, embedding=8, attention=False)
    save_denoiser(path, EDMDenoiser(config, 0.5), {"name": "small"})


def _save_classifier(path: Path) -> None:
    save_classifier(path, Classifier(ClassifierConfig((1, 8, 8), (4, 4), (1, 2), ("a", "b"))), {"name": "small"})


def _save_scorer(path: Path) -> None:
    save_scorer(path, AttributeScorer(ScorerConfig((3, 8, 8), (4, 4), {"hue": ("red", "blue")})), {"name": "small"})


def _trace(folder: Path) -> Path:
    pipe, arguments = sd15(steps=3)
    with record(pipe, path=folder / "t", keep="all") as trace:
        for _ in trace.runs([{"seed": 1, "prompt": "a"}], progress=False):
            pipe(**arguments)
    return folder / "t"


def _read_trace(path: Path) -> None:
    list(verify(path))
    trace = Trace.open(path)
    _ = trace.scalars, trace.samples, trace.proof, trace.manifest, repr(trace)
    for name in trace.arrays.names():
        trace.load(name, 0)
    trace.to_xarray()


class _Pair:
    def __init__(self) -> None:
        self.pair, self.shape = random_pair(), (6,)

    def __call__(self, x: Any, sigma: Any, condition: Any) -> Any:
        return self.pair(x, sigma, condition)

    def __str__(self) -> str:
        return "pair"


def _sweep(folder: Path) -> Any:
    return sweep(
        _Pair(), {"CFG": CFG(2.0)}, seeds=range(2), condition=torch.zeros(2, dtype=torch.long), folder=folder,
        sigmas=torch.tensor([1.0, 0.5, 0.0]), progress=False,
    )  # fmt: skip


def _snapshots(folder: Path) -> Path:
    for length in ("0.05", "0.1"):
        about = {"training_step": "10", "sigma_rel": length}
        save_file({"w": torch.arange(4.0), "count": torch.tensor(3)}, folder / f"{length}.safetensors", about)
    return folder


def _make_sweep(folder: Path) -> Path:
    _sweep(folder)
    return folder


WORK = Chunk("tests.probes.work.jobs:numbers", {"stream": 1}, range(3))


def _chunk(folder: Path) -> Path:
    execute([WORK], folder, progress=False)
    return folder


def _in_chunk(path: Path, rng: Random) -> None:
    """Damage what a chunk says of itself, and give that a hash that is right."""
    said = path / "chunks" / WORK.name / "chunk.json"
    content = damage.damage_json({k: v for k, v in json.loads(said.read_text()).items() if k != "seal"}, rng)
    write_json(said, content if isinstance(content, dict) else {})


def _read_chunk(path: Path) -> None:
    """As those do who go on with some work, and those who verify it."""
    list(finished([WORK], path))
    check(path / "chunks" / WORK.name)


def _spec() -> bytes:
    rules = {"CFG": {"class": "CFG", "weight": 1.0}, "in": {"class": "Interval", "rule": {"class": "APG", "weight": 2}}}
    return json.dumps(
        {
            "kind": "sweep", "model": "digits", "rules": rules, "weights": [1.0, 2.0], "seeds": [0, 4], "size": 2,
            "sigmas": [1.0, 0.5], "solver": {"class": "Heun", "churn": 2.0}, "record": {"band_edges": [0.1, 0.2]},
        }
    ).encode()  # fmt: skip


def _study(folder: Path) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        (folder / name).write_bytes(_encoded("png"))
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


KINDS = (
    Kind("folder of images", _images, _read_images),
    Kind("folder of images for a fit", _images, lambda path: [len(part) for part in ImageFolder(path, size=4)]),
    Kind("zip of images", _written("a.zip", _zip), _read_images, damage.in_zip),
    Kind("tar of images", _written("a.tar", _tar), _read_images),
    Kind("compressed tar of images", _written("a.tar.gz", lambda: gzip.compress(_tar())), _read_images),
    Kind("npz of images", _written("a.npz", _npz(arr_0=PIXELS[None])), _read_images, damage.in_zip),
    Kind("folder of masks", _masks, _read_masks),
    Kind("CSV of masks", _written("m.csv", BOXES.encode()), _read_masks),
    Kind(
        "npz of masks by name",
        _written("m.npz", _npz(**{"a.png": np.ones(SIZE, bool), "b/c.png": np.full(SIZE, 0.5)})),
        _read_masks, damage.in_zip,
    ),
    Kind("npz of masks in order", _written("m.npz", _npz(arr_0=np.ones((2, *SIZE), bool))), _read_masks, damage.in_zip),
    Kind("moments of ours", _ours, read_moments, damage.in_zip),
    Kind(
        "moments of others",
        _written("m.npz", _npz(mu=_moments().mean, sigma=_moments().covariance.astype(np.float32), num_images=20)),
        read_moments, damage.in_zip,
    ),
    *(Kind(f"EDM2 pickle {p}", _written("r.pkl", _edm2(p)), read_edm2_reference) for p in (2, 3, 4, 5)),
    Kind("direction", _direction, Direction.load, damage.in_safetensors),
    Kind("Gaussian", _approximation(_gaussian), _read_approximation, damage.in_safetensors),
    Kind(
        "mixture", _approximation(lambda: Mixture((_gaussian(), _gaussian()), torch.tensor([0.5, 0.5]), (0, 1))),
        _read_approximation, damage.in_safetensors,
    ),
    Kind(
        "training set", _approximation(lambda: TrainingSet(torch.eye(4).reshape(4, 2, 2))),
        _read_approximation, damage.in_safetensors,
    ),
    Kind("denoiser and card", _network(_save_denoiser), load_denoiser, damage.in_card),
    Kind("classifier and card", _network(_save_classifier), load_classifier, damage.in_card),
    Kind("scorer and card", _network(_save_scorer), load_scorer, damage.in_card),
    Kind("trace", _trace, _read_trace, damage.in_trace),
    Kind("sweep", _make_sweep, _sweep, damage.one_file(damage.in_json, ".json")),
    Kind("sweep, read alone", _make_sweep, read_sweep, damage.one_file(damage.in_json, ".json")),
    Kind(
        "EMA snapshots", _snapshots, lambda path: posthoc_ema(find_snapshots(path), 0.07, at_most=1),
        damage.one_file(damage.in_safetensors, ".safetensors"),
    ),
    Kind("chunk of work", _chunk, _read_chunk, _in_chunk),
    Kind("sweep to make", _written("spec.json", _spec), lambda path: plan_work(read_spec(path)), damage.in_json),
    Kind("labels", _study, _read_study),
    Kind("class names", _written("names.txt", _class_names), load_class_names),
    Kind(
        "Inception weights", _written("w.pth", _state_dict), lambda path: load_inception(path, expected_sha256=None),
        damage.in_zip, sound=False,  # all 566 entries would be 95 MB
    ),
)  # fmt: skip
