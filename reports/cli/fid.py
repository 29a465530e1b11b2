"""The FID commands: `scorescope report fid [REAL FAKE]` and `scorescope weights convert`."""

from pathlib import Path
from typing import Annotated

import typer

from scorescope.data.errors import InputError
from scorescope.reports.cli.options import SPACES, Device

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


def report_fid(
    real: Set = None,
    fake: Set = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("report/fid"),
    features: SpaceName = None,
    second: SecondName = None,
    inception: Inception = None,
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
    if masks and fake is None:
        raise InputError("--masks", found="no REAL and FAKE", expected="both: masks belong to the images of FAKE")
    if (real is None) != (fake is None):
        raise InputError("REAL, FAKE", found="one of them", expected="both, or none for the shipped digits")
    from scorescope.reports import fid
    from scorescope.reports.cli.endings import finish, this_command
    from scorescope.reports.cli.feature_spaces import named_spaces

    study = None
    if real is not None and fake is not None:
        first, other = named_spaces(
            real, features, second, inception=inception, preprocessing=preprocessing, names=names, device=device,
            sfid=bool(sfid),
        )  # fmt: skip
        study = fid.folder_study(
            real, fake, first, other, labels=labels, masks=masks or (), skip_bad=skip_bad, batch=batch
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
