"""The FID commands: `scorescope report fid [[REAL] FAKE]` and `scorescope weights convert`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from scorescope.data.errors import InputError
from scorescope.reports.cli.options import SPACES, Device
from scorescope.reports.cli.repeatable import repeatable

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


@repeatable("report fid", needs={"reference_images": "reference"}, silences={"real": ("quick", "count")})
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
    device: Device = "cpu",
) -> None:
    """Where a Frechet distance comes from; without REAL and FAKE, on the shipped digits."""
    if reference is not None:
        real, fake = None, _only_set(real, fake)
    elif (real is None) != (fake is None):
        raise InputError("REAL, FAKE", found="one of them", expected="both, or none for the shipped digits")
    from scorescope.reports import fid
    from scorescope.reports.cli.endings import finish, this_command
    from scorescope.reports.cli.feature_spaces import named_spaces

    study = None
    if fake is None:
        _refuse_without_sets(
            {
                "--masks": masks, "--labels": labels, "--other-real": other_real, "--features": features,
                "--second": second, "--inception": inception, "--weights": weights, "--names": names,
            }
        )  # fmt: skip
    else:
        first, other = named_spaces(
            real, fake, features, second, files={"inception": inception, "--weights": weights}, names=names,
            preprocessing=preprocessing, device=device, sfid=bool(sfid),
        )  # fmt: skip
        study = fid.folder_study(
            real or fid.read_reference(reference or "", first, count=reference_images), fake, first, other,
            other_real=other_real, labels=labels, masks=masks or (), skip_bad=skip_bad, batch=batch,
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
    from scorescope.probes.features.inception_weights import convert_inception
    from scorescope.reports.page.texts import say

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
