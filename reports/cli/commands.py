"""The command line: `scorescope` with reports, studies, reruns, and what looks at pipelines, traces and weights.

A command imports what it runs when it runs: `scorescope --help` loads neither torch nor pandas nor matplotlib.
"""

import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from scorescope.data.errors import InputError
from scorescope.reports.cli import atlas as atlas_cli
from scorescope.reports.cli import fid as fid_cli
from scorescope.reports.cli import trace as trace_cli
from scorescope.reports.cli.options import (
    OF_PIPELINES,
    WORK,
    Classes,
    Config,
    Dask,
    Device,
    Dtype,
    Pickles,
    Pipeline,
    Prompts,
    Scale,
    Scheduler,
    Settings,
    Steps,
    Workers,
)
from scorescope.reports.cli.repeatable import repeatable

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="Measure what a diffusion model does at every step."
)
report_app = typer.Typer(help="Make reports; without a name, every report there is, at --quick size.")
app.add_typer(report_app, name="report")
app.add_typer(fid_cli.weights_app, name="weights")
app.add_typer(trace_cli.trace_app, name="trace")
report_app.command("fid")(fid_cli.report_fid)
app.command("atlas")(atlas_cli.atlas)

Out = Annotated[Path, typer.Option(help="Folder of the report.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="Fewer samples: wider intervals. Directions: fewer attributes and sites too.")
]
DenoiserName = Annotated[
    str, typer.Option("--denoiser", "--edm", help="A shipped model, package.module:factory, or a file with --factory.")
]
Factory = Annotated[
    str | None,
    typer.Option(help="package.module:function that returns the untrained network of a safetensors file."),
]
SubjectName = Annotated[
    str, typer.Option(help="shapes, digits, a safetensors file of another shapes model, or package.module:factory.")
]
Pairs = Annotated[
    Path | None, typer.Option(help="Pairs of prompts: .txt, low | high a line; .csv or .jsonl with low and high.")
]
Score = Annotated[str, typer.Option(help="The judge of decoded images: package.module:factory, or clip:FOLDER.")]
PipelineBatch = Annotated[int, typer.Option(min=1, help="Latents a call of a pipeline's network.")]
Count = Annotated[int | None, typer.Option(min=2, help="Samples a setting, in place of 256 (96 with --quick).")]


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"scorescope {metadata.version('scorescope')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")]


@app.callback()
def _options(version: Version = False) -> None: ...


@report_app.callback(invoke_without_command=True)
def report(context: typer.Context, out: Out = Path("report"), workers: Workers = None, dask: Dask = "") -> None:
    """Make every report at --quick size, with an index page."""
    if context.invoked_subcommand is not None:
        return
    from scorescope.reports.cli.all_reports import make_all, usual_workers
    from scorescope.reports.cli.endings import exit_unless_complete
    from scorescope.reports.cli.work import executor_of
    from scorescope.reports.page.texts import say

    with executor_of(workers if dask else usual_workers(workers), dask) as executor:
        assert executor is not None  # there are workers either way
        outcomes = make_all(out, executor)
    say(f"wrote {out / 'index.html'}")
    exit_unless_complete(outcomes)


@report_app.command("guidance")
@repeatable(
    "report guidance", needs={**dict.fromkeys(OF_PIPELINES, "pipeline"), "decoder": "trace"},
    silences={
        "trace": ("denoiser", "factory", "pipeline", "quick", "count", "seed"), "pipeline": ("denoiser", "factory"),
    },
)  # fmt: skip
def report_guidance(
    out: Out = Path("report/guidance"),
    denoiser: DenoiserName = "digits",
    factory: Factory = None,
    quick: Quick = False,
    count: Count = None,
    device: Device = "cpu",
    trace: Annotated[
        list[Path] | None, typer.Option(help="Recorded traces to report on, in place of sampling; may be repeated.")
    ] = None,
    decoder: Annotated[
        str, typer.Option(help="package.module:factory of what makes images of a trace's last states, with --trace.")
    ] = "",
    pipeline: Pipeline = None,
    prompts: Prompts = None,
    classes: Classes = "",
    seeds: Annotated[str, typer.Option(help="Every prompt with each of these seeds, as 0-3 or 1,7.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first image, where nothing else says one.")] = 0,
    steps: Steps = None,
    scale: Scale = None,
    settings: Settings = None,
    scheduler: Scheduler = None,
    dtype: Dtype = "float32",
    rules: Annotated[str, typer.Option(help="Rules to sample with the pipeline too, as cfg,apg; with --weights.")] = "",
    weights: Annotated[str, typer.Option(help="Their guidance weights, as 1,2,4,8.")] = "",
    keep: Annotated[str, typer.Option(help="branches, or scalars: no arrays, so no replayed rules.")] = "branches",
    batch: Annotated[int, typer.Option(min=1, help="Images a call of the sampled rules.")] = 4,
    config: Config = None,
    pickles: Pickles = False,
) -> None:
    """What guidance does at each noise level: of a denoiser, of recorded traces, or of a diffusers pipeline."""
    from scorescope.reports.cli.endings import finish, this_command

    if pipeline is not None:
        from scorescope.reports.cli.pipeline_inputs import PipelineOptions
        from scorescope.reports.cli.pipeline_report import report_pipeline

        given = PipelineOptions(
            pipeline, device, dtype, scheduler, config, pickles, prompts, classes, steps, scale, settings or ()
        )
        outcome = report_pipeline(
            out, given, quick=quick, count=count, seeds=seeds, seed=seed, rules=rules, weights=weights, keep=keep,
            batch=batch, command=this_command(),
        )  # fmt: skip
        return finish(outcome)
    from scorescope.probes.models.model import load_model
    from scorescope.reports import guidance

    if trace:
        return finish(guidance.build_from_traces(out, trace, command=this_command(), decoder=decoder or None))
    model = load_model(denoiser, device=device, factory=factory)
    finish(guidance.build(out, model, quick=quick, count=count, seed=seed, device=device, command=this_command()))


@report_app.command("gaussian")
@repeatable(
    "report gaussian", needs={**dict.fromkeys(OF_PIPELINES, "pipeline"), "size": "data"},
    silences={"pipeline": ("denoiser", "factory", "data")},
)  # fmt: skip
def report_gaussian(
    out: Out = Path("report/gaussian"),
    denoiser: DenoiserName = "digits",
    factory: Factory = None,
    quick: Quick = False,
    data: Annotated[
        Path | None, typer.Option(help="Folder of images in [-1, 1] units, a fifth of them held out; for other models.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Side in pixels that images of --data are brought to.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=2, help="At most so many training and held-out images.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the images that are taken, of noise and paths.")] = 0,
    device: Device = "cpu",
    pipeline: Pipeline = None,
    images: Annotated[
        Path | None, typer.Option(help="With --pipeline: folder of images, which its own VAE encodes.")
    ] = None,
    latents: Annotated[
        Path | None, typer.Option(help="In their place: .safetensors, .npz or .npy of latents as its scheduler steps.")
    ] = None,
    prompts: Prompts = None,
    classes: Classes = "",
    scale: Scale = None,
    settings: Settings = None,
    scheduler: Scheduler = None,
    dtype: Dtype = "float32",
    batch: Annotated[int, typer.Option(min=1, help="Samples that a pipeline's network is given at once.")] = 8,
    config: Config = None,
    pickles: Pickles = False,
) -> None:
    """Where the learned score is a Gaussian's, and what that saves: of a denoiser, or of a diffusers pipeline."""
    from scorescope.reports import gaussian
    from scorescope.reports.cli.endings import finish, this_command

    if pipeline is not None:
        from scorescope.reports.cli.pipeline_inputs import PipelineOptions
        from scorescope.reports.cli.pipeline_report import report_pipeline_gaussian

        asked = PipelineOptions(
            pipeline, device, dtype, scheduler, config, pickles, prompts, classes, None, scale, settings or ()
        )
        outcome = report_pipeline_gaussian(
            out, asked, images=images, latents=latents, quick=quick, count=count, seed=seed, batch=batch,
            command=this_command(),
        )  # fmt: skip
        return finish(outcome)
    from scorescope.probes.models.model import load_model

    model = load_model(denoiser, device=device, factory=factory)
    given = None if data is None else gaussian.from_folder(data, model, size=size, seed=seed)
    finish(
        gaussian.build(
            out, model, data=given, quick=quick, count=count, seed=seed, device=device, command=this_command()
        )
    )


@report_app.command("trajectories")
@repeatable(
    "report trajectories", needs={"size": "data", **{name: "pipeline" for name in OF_PIPELINES if name != "scale"}},
    silences={"pipeline": ("denoiser", "factory", "data")},
)  # fmt: skip
def report_trajectories(
    out: Out = Path("report/trajectories"),
    denoiser: DenoiserName = "digits",
    factory: Factory = None,
    quick: Quick = False,
    weight: Annotated[float, typer.Option(help="Guidance weight of CFG, of a pipeline too; 1 is no guidance.")] = 1.0,
    data: Annotated[
        Path | None, typer.Option(help="Folder of images that the model was trained on, for its gradients.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Side in pixels that images of --data are brought to.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=8, help="Seeds, in place of 64 (24 with --quick).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    device: Device = "cpu",
    pipeline: Pipeline = None,
    prompts: Prompts = None,
    classes: Classes = "",
    settings: Settings = None,
    scheduler: Scheduler = None,
    dtype: Dtype = "float32",
    batch: Annotated[int, typer.Option(min=1, help="Samples that a pipeline's network is given at once.")] = 8,
    config: Config = None,
    pickles: Pickles = False,
) -> None:
    """Which steps matter, where a solver errs, and better levels: of a denoiser, or of a diffusers pipeline."""
    from scorescope.reports import trajectories
    from scorescope.reports.cli.endings import finish, this_command

    if pipeline is not None:
        from scorescope.reports.cli.pipeline_inputs import PipelineOptions
        from scorescope.reports.cli.pipeline_report import report_pipeline_trajectories

        asked = PipelineOptions(
            pipeline, device, dtype, scheduler, config, pickles, prompts, classes, None, None, settings or ()
        )
        outcome = report_pipeline_trajectories(
            out, asked, weight=weight, quick=quick, count=count, seed=seed, batch=batch, command=this_command()
        )
        return finish(outcome)
    from scorescope.probes.models.model import load_model

    model = load_model(denoiser, device=device, factory=factory)
    images = None
    if data is not None:
        from scorescope.reports.gaussian import from_folder

        images = from_folder(data, model, size=size, seed=seed).train
    finish(
        trajectories.build(
            out, model, weight=weight, images=images, quick=quick, count=count, seed=seed, device=device,
            command=this_command(),
        )
    )  # fmt: skip


@report_app.command("directions")
@repeatable("report directions", needs=dict.fromkeys(OF_PIPELINES, "pipeline"), silences={"pipeline": ("subject",)})
def report_directions(
    out: Out = Path("report/directions"),
    subject: SubjectName = "shapes",
    quick: Quick = False,
    device: Device = "cpu",
    count: Annotated[
        int | None,
        typer.Option(min=2, help="Labelled images; of a pipeline those of each attribute, 200 or 80."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first image, of noise and of splits.")] = 0,
    pipeline: Pipeline = None,
    pairs: Pairs = None,
    score: Score = "",
    sites: Annotated[
        str, typer.Option(help="Modules of the network, as mid_block,up_blocks.1; else some blocks.")
    ] = "",
    steps: Steps = None,
    scale: Scale = None,
    settings: Settings = None,
    scheduler: Scheduler = None,
    dtype: Dtype = "float32",
    batch: PipelineBatch = 8,
    config: Config = None,
    pickles: Pickles = False,
) -> None:
    """Where an attribute is readable, where it is steerable, and how its direction travels."""
    from scorescope.probes.models.model import check_device
    from scorescope.reports import directions
    from scorescope.reports.cli.endings import finish, this_command

    check_device(device)
    if pipeline is not None:
        from scorescope.reports.cli.pipeline_inputs import PipelineOptions
        from scorescope.reports.cli.pipeline_report import report_pairs

        given = PipelineOptions(
            pipeline, device, dtype, scheduler, config, pickles, None, "", steps, scale, settings or ()
        )
        outcome = report_pairs(
            out, given, pairs=pairs, score=score, sites=sites, quick=quick, count=count, seed=seed, batch=batch,
            command=this_command(), build=directions.build_from_pipeline,
        )  # fmt: skip
        return finish(outcome)
    studied = directions.load_subject(subject, images=max(2000, count or 0), device=device)
    finish(directions.build(out, studied, quick=quick, count=count, seed=seed, command=this_command()))


@report_app.command("inside")
@repeatable("report inside", needs=dict.fromkeys(OF_PIPELINES, "pipeline"), silences={"pipeline": ("subject",)})
def report_inside(
    out: Out = Path("report/inside"),
    subject: SubjectName = "shapes",
    quick: Quick = False,
    device: Device = "cpu",
    sites: Annotated[
        str, typer.Option(help="Modules of the network, as network.middle2,network.up.0; else two, --quick one.")
    ] = "",
    count: Annotated[
        int | None, typer.Option(min=2, help="Labelled images, 1800; of a pipeline those of each attribute, 200.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of noise, of weights, of splits.")] = 0,
    pipeline: Pipeline = None,
    pairs: Pairs = None,
    score: Score = "",
    steps: Steps = None,
    scale: Scale = None,
    settings: Settings = None,
    scheduler: Scheduler = None,
    dtype: Dtype = "float32",
    batch: PipelineBatch = 8,
    config: Config = None,
    pickles: Pickles = False,
) -> None:
    """What sparse features of a network keep, read and move, and where a pipeline looks at words."""
    from scorescope.probes.models.model import check_device
    from scorescope.reports import directions, inside
    from scorescope.reports.cli.endings import finish, this_command

    check_device(device)
    if pipeline is not None:
        from scorescope.reports.cli.pipeline_inputs import PipelineOptions
        from scorescope.reports.cli.pipeline_report import report_pairs

        given = PipelineOptions(
            pipeline, device, dtype, scheduler, config, pickles, None, "", steps, scale, settings or ()
        )
        outcome = report_pairs(
            out, given, pairs=pairs, score=score, sites=sites, quick=quick, count=count, seed=seed, batch=batch,
            command=this_command(), build=inside.build_from_pipeline,
        )  # fmt: skip
        return finish(outcome)
    named = [name.strip() for name in sites.split(",")] if sites else []
    studied = directions.load_subject(subject, images=max(2000, count or 0), device=device)
    finish(inside.build(out, studied, sites=named, quick=quick, count=count, seed=seed, command=this_command()))


@app.command()
@repeatable("compare", needs={"size": "images", "at_most": "snapshots"})
def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Recorded runs (traces, reports on pipelines), sweeps, reports, or denoisers; the others beside the "
            "first. Of one sweep its settings."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("report/changes"),
    snapshots: Annotated[
        Path | None, typer.Option(help="In place of names: a folder of EMA snapshots, of which --ema makes others.")
    ] = None,
    ema: Annotated[str, typer.Option(help="EMA lengths (sigma_rel) to compare, as 0.03,0.05,0.1,0.15.")] = "",
    at_most: Annotated[float, typer.Option(help="Largest predicted error of such an EMA that is not refused.")] = 0.1,
    images: Annotated[
        Path | None, typer.Option(help="For denoisers: images that none of them was trained on; by default the digits.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Side in pixels that they are brought to.")] = None,
    factory: Factory = None,
    device: Device = "cpu",
    workers: Workers = None,
    dask: Dask = "",
) -> None:
    """What changed: quantities, noise levels, images; and how small a difference would have been seen."""
    from scorescope.reports.cli import compare as made
    from scorescope.reports.cli.endings import finish, this_command
    from scorescope.reports.cli.work import executor_of

    if (snapshots is None) != (not ema) or (snapshots is not None and names):
        raise InputError("--snapshots, --ema", found="one without the other, or names too", expected="both, or names")
    if snapshots is not None and (workers or dask):
        raise InputError("--workers, --dask", found="workers for EMA snapshots", expected="denoisers, or none")
    command = this_command()
    if snapshots is not None:
        found = made.compare_ema(
            out,
            snapshots,
            ema,
            at_most=at_most,
            images=images,
            size=size,
            factory=factory,
            device=device,
            command=command,
        )
        return finish(found)
    with executor_of(workers, dask) as executor:
        found = made.compare(
            out, names or [], images=images, size=size, factory=factory, device=device, command=command,
            executor=executor,
        )  # fmt: skip
    finish(found)


@app.command()
def describe(
    pipeline: Annotated[str, typer.Argument(help="A folder, an id of the hub, or one .safetensors file.")],
    prompts: Prompts = None,
    classes: Classes = "",
    scale: Scale = None,
    settings: Settings = None,
    scheduler: Scheduler = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    config: Config = None,
    pickles: Pickles = False,
) -> None:
    """What there is in a diffusers pipeline, by a run of two steps: denoisers, branches, sites, memory."""
    from scorescope.probes.experiments import describe_pipeline
    from scorescope.reports.cli.pipeline_inputs import PipelineOptions
    from scorescope.reports.page.texts import say

    given = PipelineOptions(
        pipeline, device, dtype, scheduler, config, pickles, prompts, classes, None, scale, settings or ()
    )
    pipe = given.load()
    found = describe_pipeline(pipe, given.example(pipe), arguments=given.arguments(pipe))
    for line in str(found).splitlines():
        say(line)


@app.command()
def verify(
    paths: Annotated[list[Path], typer.Argument(help="Files, trace or report folders, or folders of any of them.")],
) -> None:
    """Check every hash of what Scorescope wrote; exit code 1 and a line for each problem where there is one."""
    from scorescope.reports.cli.verify import look_at
    from scorescope.reports.page.texts import say

    findings = [finding for path in paths for finding in look_at(path)]
    for finding in findings:
        say(f"{finding.path}: {finding.words}")
    if not all(finding.is_sound for finding in findings):
        raise typer.Exit(1)


@app.command()
def study(
    file: Annotated[
        Path, typer.Argument(help="A TOML file with out and the tables subjects, reports and, if wanted, settings.")
    ],
    workers: Workers = None,
    dask: Dask = "",
) -> None:
    """Make reports of many checkpoints, those made already kept, and one page of all; code 1 where one is missing."""
    from scorescope.reports.cli.endings import finish
    from scorescope.reports.cli.study import run_study
    from scorescope.reports.cli.work import executor_of

    with executor_of(workers, dask) as executor:
        outcome = run_study(file, executor=executor)
    finish(outcome.page)


@app.command()
def work(
    spec: Annotated[Path, typer.Argument(help=f"A TOML or JSON file: kind ({WORK}) and what the kind takes.")],
    out: Annotated[Path, typer.Option(help="Folder of the work; what is there is not made again.")] = Path("work"),
    rank: Annotated[
        int | None, typer.Option(min=0, help="Of this process; else RANK, or SLURM_ARRAY_TASK_ID, where that is set.")
    ] = None,
    world_size: Annotated[
        int | None, typer.Option(min=1, help="How many ranks share the work; else WORLD_SIZE, or that of the array.")
    ] = None,
    workers: Workers = None,
    dask: Dask = "",
    attempts: Annotated[int, typer.Option(min=1, help="How often a chunk is tried.")] = 3,
) -> None:
    """Make work that is cut into chunks: here, by processes, on a cluster, by ranks of a job; code 1 for failures."""
    from scorescope.reports.cli.work import work as made
    from scorescope.reports.page.texts import say

    done = made(spec, out, rank=rank, world_size=world_size, workers=workers, dask=dask, attempts=attempts)
    for name, error in done.failed.items():
        say(f"failed: {name}: {error}", err=True)
    say(f"{done.folder}: {done.count - len(done.missing)} of {done.count} chunks, {done.made} made now")
    if done.failed:
        raise typer.Exit(1)


@app.command()
def rerun(
    manifest: Annotated[Path, typer.Argument(help="A report's manifest.json, or its folder.")],
    out: Annotated[
        Path | None, typer.Option(help="New folder to keep the report in; else it is compared only.")
    ] = None,
) -> None:
    """Make a report again as its manifest says, and compare: code 0 for the same tables, 1 for others.

    It imports what the manifest names, a factory say: use it on manifests that you trust.
    """
    from scorescope.reports.cli.reruns import rerun as made
    from scorescope.reports.page.texts import say

    found = made(manifest, out)
    say(*found.lines)
    if not found.is_same:
        raise typer.Exit(1)


@app.command()
def card(
    weights: Annotated[Path, typer.Argument(help="A safetensors file whose card is to get its quality figures.")],
) -> None:
    """Measure the quality of a denoiser of digits or shapes and write it on the card beside its weights."""
    from scorescope.reports.cli.card import measure_card
    from scorescope.reports.page.texts import say_table

    say_table(measure_card(weights))


def main() -> None:
    """Entry point: wrong input ends with one line and exit code 2."""
    try:
        app()
    except InputError as error:
        from scorescope.reports.page.texts import say

        say(f"error: {error}", err=True)
        sys.exit(2)
