"""The FID commands: `scorescope report fid [[REAL] FAKE]` and `scorescope weights convert`."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from scorescope.data.classifiers import shipped_classifiers
from scorescope.data.digits import SHAPE
from scorescope.data.errors import InputError
from scorescope.probes.features.class_names import load_class_names
from scorescope.probes.features.efficientnet import efficientnet_extractor
from scorescope.probes.features.extractors import (
    Extractor,
    classifier_extractor,
    inception_extractor,
    pixel_extractor,
    spatial_readings,
)
from scorescope.probes.features.images import open_images
from scorescope.probes.features.inception_weights import convert_inception
from scorescope.probes.features.public_extractors import clip_extractor, dinov2_extractor, timm_extractor
from scorescope.reports import fid
from scorescope.reports.cli.endings import finish, this_command
from scorescope.reports.fid import folder_study, read_reference
from scorescope.reports.page.texts import say

SPACES = (
    "digits, accessory, subject, inception, efficientnet_lite0, pixels, dinov2[:FOLDER], clip[:FOLDER], or timm:NAME"
)
weights_app = typer.Typer(help="Weight files of feature networks.", no_args_is_help=True)

MASKS = "Region of the generated images, repeatable: folder of mask images, .csv of boxes, or .npz."
Set = Annotated[Path | None, typer.Argument(help="Folder, .zip, .tar, or .npz with arr_0.")]
SpaceName = Annotated[str | None, typer.Option("--features", help=f"Feature space that is judged: {SPACES}.")]
SecondName = Annotated[
    str | None,
    typer.Option(
        "--second", help="The second feature space; by default pixels, beside them the shipped subject network."
    ),
]
Inception = Annotated[Path | None, typer.Option(help="Weights of the 2015 Inception network.")]
WeightFile = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="Weight file of the network of --features: inception, efficientnet_lite0.",
    ),
]
REFERENCE = "Statistics in place of REAL, so that FAKE is given alone: .npz with mu and sigma, or EDM2's .pkl."
ReferenceFile = Annotated[Path | None, typer.Option("--reference", help=REFERENCE)]


def report_fid(
    real: Set = None,
    fake: Set = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("report/fid"),
    features: SpaceName = None,
    second: SecondName = None,
    reference: ReferenceFile = None,
    reference_images: Annotated[
        int | None, typer.Option(min=2, help="How many images the reference is of, where its file does not say.")
    ] = None,
    other_real: Annotated[Path | None, typer.Option(help="Other real images, for the floor.")] = None,
    inception: Inception = None,
    weights: WeightFile = None,
    preprocessing: Annotated[str, typer.Option(help="For Inception: tf, nvidia, pytorch_fid or clean_fid.")] = "tf",
    names: Annotated[
        Path | None, typer.Option(help="1008 class names, one a line, in place of the shipped ones.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="CSV of generated images: name, and any labels.")] = None,
    masks: Annotated[list[Path] | None, typer.Option(help=MASKS)] = None,
    sfid: Annotated[bool | None, typer.Option("--sfid/--no-sfid", help="sFID by both published readings.")] = None,
    occlusion: Annotated[bool | None, typer.Option("--occlusion/--no-occlusion", help="Maps by occlusion.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out and count images that are damaged.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer samples; for the shipped digits only.")] = False,
    count: Annotated[int | None, typer.Option(min=66, help="Samples a weight, for the shipped digits.")] = None,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps.")] = "cpu",
) -> None:
    """Where a Frechet distance comes from; without REAL and FAKE, on the shipped digits."""
    if reference is not None:
        real, fake = None, _only_set(real, fake)
    elif (real is None) != (fake is None):
        raise InputError("REAL, FAKE", found="one of them", expected="both, or none for the shipped digits")
    study = None
    if fake is None:
        _refuse_without_sets(
            {
                "--masks": masks, "--labels": labels, "--other-real": other_real, "--features": features,
                "--second": second, "--inception": inception, "--weights": weights, "--names": names,
            }
        )  # fmt: skip
    else:
        space = features or ("inception" if inception is not None or not _digit_sized(real or fake) else "digits")
        make = partial(
            _extractor, files=_weight_files(space, inception, weights), preprocessing=preprocessing, names=names,
            device=device,
        )  # fmt: skip
        first = make(space)
        if sfid and not spatial_readings(first):
            raise InputError("--sfid", found=first.name, expected="--features inception, or a shipped classifier")
        if real is not None and second is None:
            second = "subject" if space == "pixels" else "pixels"  # a space cannot confirm itself
        study = folder_study(
            real or read_reference(reference or "", first, count=reference_images), fake, first,
            None if second is None else make(second), other_real=other_real, labels=labels, masks=masks or (),
            skip_bad=skip_bad, batch=batch,
        )  # fmt: skip
    finish(
        fid.build(
            out, command=this_command(), study=study, quick=quick, count=count, sfid=sfid, occlusion=occlusion,
            device=device,
        )
    )  # fmt: skip


@weights_app.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(help="The public state dict, a .pth file.")],
    target: Annotated[Path, typer.Argument(help="The safetensors file to write.")] = Path("inception-2015.safetensors"),
) -> None:
    """Check the public Inception weights and write them as safetensors."""
    digest = convert_inception(source, target)
    say(f"wrote {target}, sha256 {digest}")


def _only_set(real: Path | None, fake: Path | None) -> Path:
    """The generated images beside a reference, which are the one set given."""
    if real is None or fake is not None:
        found = "no FAKE" if real is None else "REAL, FAKE and --reference"
        expected = "FAKE alone: the statistics stand in place of REAL (images of the same file are used as REAL)"
        raise InputError("--reference", found=found, expected=expected)
    return real


def _refuse_without_sets(given: Mapping[str, Any]) -> None:
    """Raise `InputError` for what would say nothing of the shipped digits."""
    for name, value in given.items():
        if value:
            whose = "masks belong to the images of FAKE" if name == "--masks" else "the shipped digits do not take it"
            raise InputError(name, found="no REAL and FAKE", expected=f"both: {whose}")


def _weight_files(space: str, inception: Path | None, weights: Path | None) -> dict[str, Path | None]:
    """Weight file by network, None for its own."""
    files = {"inception": inception, "efficientnet_lite0": None}
    if weights is not None:
        if space not in files or files[space] is not None:
            found = "--inception too" if space == "inception" else f"--features {space}"
            raise InputError("--weights", found=found, expected=f"one file, for --features {' or '.join(files)}")
        files[space] = weights
    return files


def _digit_sized(path: Path) -> bool:
    """Whether a set's first image has the size of the shipped digits."""
    _, images = next(open_images(path).batches(1, skip_bad=True), ([], None))
    return images is not None and images.shape[2:] == SHAPE[1:]


def _extractor(
    name: str, *, files: Mapping[str, Path | None], preprocessing: str, names: Path | None, device: str
) -> Extractor:
    if name == "inception":
        classes = None if names is None else tuple(load_class_names(names))
        return inception_extractor(files[name], preprocessing=preprocessing, class_names=classes, device=device)
    if name == "efficientnet_lite0":
        return efficientnet_extractor(files[name], device=device)
    if name in shipped_classifiers():
        return classifier_extractor(name, device=device)
    if name == "pixels":
        return pixel_extractor(8)
    kind, _, which = name.partition(":")
    if kind in ("dinov2", "clip"):
        make = dinov2_extractor if kind == "dinov2" else clip_extractor
        return make(which, device=device) if which else make(device=device)
    if kind == "timm" and which:
        return timm_extractor(which, device=device)
    raise InputError("features", found=repr(name), expected=f"one of {SPACES}")
