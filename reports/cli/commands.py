"""The command line: `scorescope` with `report`, `trace`, `verify`, `weights` and `card`."""

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from scorescope.data.errors import InputError
from scorescope.data.written_files import alone_in
from scorescope.probes.models.model import check_device, load_model
from scorescope.reports import directions, fid, gaussian, guidance
from scorescope.reports.cli import card as cards
from scorescope.reports.cli import fid as fid_cli
from scorescope.reports.cli import trace as trace_cli
from scorescope.reports.cli.endings import exit_unless_complete, finish, this_command
from scorescope.reports.cli.verify import verify
from scorescope.reports.directions import load_subject
from scorescope.reports.gaussian import from_folder
from scorescope.reports.page.pages import Outcome, make_folder, write_index
from scorescope.reports.page.texts import say, say_table

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="Measure what a diffusion model does at every step."
)
report_app = typer.Typer(help="Make reports; without a name, every report there is, at --quick size.")
app.add_typer(report_app, name="report")
app.add_typer(fid_cli.weights_app, name="weights")
app.add_typer(trace_cli.trace_app, name="trace")
report_app.command("fid")(fid_cli.report_fid)
app.command("verify")(verify)

Out = Annotated[Path, typer.Option(help="Folder of the report.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="Fewer samples: wider intervals. Directions: fewer attributes and sites too.")
]
DenoiserName = Annotated[str, typer.Option("--denoiser", help="A shipped model, or package.module:factory.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps.")]
Count = Annotated[int | None, typer.Option(min=2, help="Samples a setting, in place of 256 (96 with --quick).")]


def _show_version(asked: bool) -> None:
    if asked:
        say(f"scorescope {metadata.version('scorescope')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")]


@app.callback()
def _options(version: Version = False) -> None: ...


# every report that `scorescope report` makes, in the order of the index page
REPORTS: dict[str, Callable[[Path], Outcome]] = {
    "guidance": lambda out: guidance.build(out, load_model("digits"), quick=True, command=this_command()),
    "gaussian": lambda out: gaussian.build(out, load_model("digits"), quick=True, command=this_command()),
    "fid": lambda out: fid.build(out, quick=True, command=this_command()),
    "directions": lambda out: directions.build(out, load_subject("shapes"), quick=True, command=this_command()),
}


@report_app.callback(invoke_without_command=True)
def report(context: typer.Context, out: Out = Path("report")) -> None:
    """Make every report at --quick size, with an index page."""
    if context.invoked_subcommand is not None:
        return
    outcomes: list[Outcome] = []
    make_folder(out)
    with alone_in(out):
        for name, build in REPORTS.items():
            try:
                outcomes.append(build(out / name))
            finally:
                write_index(out, outcomes)  # after each one, so that a run cut off leaves an index of what it made
    say(f"wrote {out / 'index.html'}")
    exit_unless_complete(outcomes)


@report_app.command("guidance")
def report_guidance(
    out: Out = Path("report/guidance"),
    denoiser: DenoiserName = "digits",
    quick: Quick = False,
    count: Count = None,
    device: Device = "cpu",
    trace: Annotated[
        list[Path] | None, typer.Option(help="Recorded traces to report on, in place of sampling; may be repeated.")
    ] = None,
) -> None:
    """What guidance does at each noise level."""
    if trace:
        return finish(guidance.build_from_traces(out, trace, command=this_command()))
    model = load_model(denoiser, device=device)
    finish(guidance.build(out, model, quick=quick, count=count, device=device, command=this_command()))


@report_app.command("gaussian")
def report_gaussian(
    out: Out = Path("report/gaussian"),
    denoiser: DenoiserName = "digits",
    quick: Quick = False,
    data: Annotated[
        Path | None, typer.Option(help="Folder of images in [-1, 1] units, a fifth of them held out; for other models.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Side in pixels that images of --data are brought to.")
    ] = None,
) -> None:
    """Where the learned score is a Gaussian's, and what that saves."""
    model = load_model(denoiser)
    given = None if data is None else from_folder(data, model, size=size)
    finish(gaussian.build(out, model, data=given, quick=quick, command=this_command()))


@report_app.command("directions")
def report_directions(
    out: Out = Path("report/directions"),
    subject: Annotated[
        str,
        typer.Option(help="shapes, digits, a safetensors file of another shapes model, or package.module:factory."),
    ] = "shapes",
    quick: Quick = False,
    device: Device = "cpu",
) -> None:
    """Where an attribute is readable, where it is steerable, and how its direction travels."""
    check_device(device)
    finish(directions.build(out, load_subject(subject, device=device), quick=quick, command=this_command()))


@app.command()
def card(
    weights: Annotated[Path, typer.Argument(help="A safetensors file whose card is to get its quality figures.")],
) -> None:
    """Measure the quality of a denoiser of digits or shapes and write it on the card beside its weights."""
    say_table(cards.measure_card(weights))


def main() -> None:
    """Entry point: wrong input ends with one line and exit code 2."""
    try:
        app()
    except InputError as error:
        say(f"error: {error}", err=True)
        sys.exit(2)
