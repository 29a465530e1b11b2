"""The command `scorescope atlas`: named figures of papers, one or all, for a model, traces, or folders of images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scorescope.data.errors import InputError
from scorescope.reports.cli.options import (
    SPACES,
    Classes,
    Config,
    Device,
    Dtype,
    Pickles,
    Pipeline,
    Prompts,
    Scale,
    Scheduler,
    Settings,
)
from scorescope.reports.cli.repeatable import repeatable

if TYPE_CHECKING:
    from scorescope.probes.features.extractors import Extractor
    from scorescope.probes.models.model import Model
    from scorescope.reports.cli.pipeline_inputs import PipelineOptions
    from scorescope.reports.entries import Material
    from scorescope.reports.fid.study import Study

COARSE = 4  # pixels a side, of the space beside pixels
FEW, MANY = 8, 32  # samples a setting: of a pipeline, and of all figures


@repeatable(
    "atlas", needs=dict.fromkeys(("prompts", "classes", "scale", "set", "scheduler", "dtype", "config", "pickles"),
                                 "pipeline"),
    silences={"pipeline": ("denoiser", "factory"), "trace": ("denoiser", "factory", "pipeline")},
)  # fmt: skip
def atlas(
    name: Annotated[str | None, typer.Argument(help="Which figure; with --all the first folder of images.")] = None,
    sets: Annotated[
        list[Path] | None, typer.Argument(metavar="[REAL FAKE...]", help="Folders of images, for figures of those.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder that is written to.")] = Path("atlas"),
    every: Annotated[bool, typer.Option("--all", help="Every figure, and a page of all.")] = False,
    denoiser: Annotated[
        str, typer.Option("--denoiser", "--edm", help="A shipped model, package.module:factory, or a file.")
    ] = "",
    factory: Annotated[str | None, typer.Option(help="Of the untrained network of a safetensors file.")] = None,
    pipeline: Pipeline = None,
    trace: Annotated[list[Path] | None, typer.Option(help="Recorded traces in their place; may be repeated.")] = None,
    weak: Annotated[str, typer.Option(help="A weaker model to guide with, as --denoiser.")] = "",
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="NAME=MODEL, as --denoiser, in the order of training; repeated.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of real images in [-1, 1] units, a fifth of them held out.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Side in pixels that these are brought to.")] = None,
    features: Annotated[str, typer.Option(help=f"Feature space of distances: {SPACES}.")] = "",
    inception: Annotated[Path | None, typer.Option(help="Weights of the 2015 Inception network.")] = None,
    subject: Annotated[str, typer.Option(help="shapes, digits, or package.module:factory of a Subject.")] = "",
    count: Annotated[
        int | None, typer.Option(min=8, help="Samples a setting: 96; with --all 32; of a pipeline 8.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first sample.")] = 0,
    grid: Annotated[int, typer.Option(min=2, help="Heun steps along the grid of EDM.")] = 18,
    weights: Annotated[str, typer.Option(help="Guidance weights that are swept.")] = "1,2,4,8",
    weight: Annotated[float, typer.Option(help="The one of them that figures of one run show.")] = 4.0,
    band: Annotated[str, typer.Option(help="interval (95 %), or minmax: ends of --repeats seed sets.")] = "interval",
    repeats: Annotated[int, typer.Option(min=2, help="Seed sets of what is repeated for a band.")] = 3,
    style: Annotated[
        str, typer.Option(help="paper-single, paper-double, slides, cvpr, cvpr-double, iclr, neurips, siggraph, ...")
    ] = "paper-single",
    formats: Annotated[str, typer.Option(help="Of one figure: pdf, svg, png, pgf; several with commas.")] = "pdf",
    prompts: Prompts = None,
    classes: Classes = "",
    scale: Scale = None,
    settings: Settings = None,
    scheduler: Scheduler = None,
    dtype: Dtype = "float32",
    config: Config = None,
    pickles: Pickles = False,
    device: Device = "cpu",
) -> None:
    """Figures of the field's papers for your own model: without a name they are listed; NAME, or --all."""
    if name is None and not every:
        return _list()
    folders = [*([Path(name)] if every and name else []), *(sets or ())]
    from scorescope.reports.atlas import find_entry, make_all, make_each
    from scorescope.reports.cli.endings import finish, this_command
    from scorescope.reports.cli.pipeline_inputs import PipelineOptions, weights_of
    from scorescope.reports.page.files import make_folder
    from scorescope.reports.page.texts import say

    entry = None if every else find_entry(name or "")
    make_folder(out)
    swept = tuple(weights_of(weights))
    few = FEW if pipeline else MANY if every else 96
    sizes: dict[str, Any] = {
        "count": count or few, "seed": seed, "steps": grid, "weights": swept, "weight": weight, "band": band,
        "repeats": repeats, "device": device, "folder": out / "runs", "progress": True,
    }  # fmt: skip
    asked = PipelineOptions(
        pipeline or "", device, dtype, scheduler, config, pickles, prompts, classes, None, scale, settings or ()
    )
    material = _material(asked, denoiser, factory, folders, trace or (), checkpoint or (), features, inception, sizes)
    material = _with_more(
        material, weak=weak, checkpoints=checkpoint or (), data=data, size=size, subject=subject, seed=seed
    )
    material = _with_features(material, features, inception, device)  # of checkpoints too, which came last
    if entry is None:
        return finish(make_all(out, material, command=this_command(), style=style))
    kinds = tuple(f".{kind.strip().lstrip('.')}" for kind in formats.split(","))
    for made in make_each(entry, material, folder=out / "numbers", style=style):
        for path in made.save(out, formats=kinds):
            say(f"wrote {path}")
        say(made.caption)


def _list() -> None:
    """Every name with what it shows and needs."""
    from scorescope.reports.atlas.catalogue import WINGS
    from scorescope.reports.entries import NEEDS
    from scorescope.reports.page.texts import say

    for wing, entries in WINGS.items():
        say(f"{wing}:")
        for entry in entries:
            say(f"  {entry.name:28}  {entry.shows} [{', '.join(entry.needs)}]")
    say("in brackets, what to bring:")
    for word, what in NEEDS.items():
        say(f"  {word:28}  {what}")


def _material(
    asked: "PipelineOptions",
    denoiser: str,
    factory: str | None,
    folders: Sequence[Path],
    traces: Sequence[Path],
    checkpoints: Sequence[str],
    features: str,
    inception: Path | None,
    sizes: dict[str, Any],
) -> "Material":
    """The model, traces or images that are named; where nothing is, the shipped ones."""
    from scorescope.probes.models.model import load_model
    from scorescope.probes.recording.trace import Trace
    from scorescope.reports.atlas import shipped
    from scorescope.reports.entries import Material
    from scorescope.reports.gaussian.study import digits_of
    from scorescope.reports.page.requests import hash_of

    if len({path.resolve() for path in folders}) < len(folders):
        raise InputError("REAL, FAKE", found=", ".join(map(str, folders)), expected="every folder once")
    if len(folders) == 1:
        raise InputError("REAL, FAKE", found=str(folders[0]), expected="real images, and at least one generated set")
    if not (asked.source or denoiser or folders or traces or checkpoints):
        return shipped(**sizes)
    if traces:
        material = Material(traces=tuple(Trace.open(path) for path in traces), **sizes)
    elif asked.source:
        material = Material(_pipeline_model(asked), **sizes)
    else:
        model = load_model(denoiser, device=asked.device, factory=factory) if denoiser else None
        real = None if model is None or model.digits is None else digits_of(model)
        material = Material(model, data=real, **sizes)
    if folders:
        known = {folder: hash_of(folder) for folder in folders}  # numbers that are kept belong to these very images
        study = partial(_comparison, known, features, inception, asked.device)
        return replace(material, images=study)
    return material


def _with_features(material: "Material", features: str, inception: Path | None, device: str) -> "Material":
    """The same with the feature space that is named, for distances between samples."""
    from scorescope.reports.atlas import features_of

    models = [material.model, *material.checkpoints.values()]
    model = next((one for one in models if one is not None), None)
    if features and model is not None:
        extractor = _space(features, inception, device)
        found = features_of(extractor, value_range=model.value_range or (-1.0, 1.0))
        material = replace(material, features=found, space=f"features of {extractor.name}")
    return material


def _pipeline_model(asked: "PipelineOptions") -> "Model":
    from scorescope.probes.experiments.pipeline_model import pipeline_model

    pipe = asked.load()
    return pipeline_model(
        pipe, asked.rows(pipe), arguments=asked.arguments(pipe), name=Path(asked.source).name, batch=8
    )


def _with_more(
    material: "Material",
    *,
    weak: str,
    checkpoints: Sequence[str],
    data: Path | None,
    size: int | None,
    subject: str,
    seed: int,
) -> "Material":
    """The same with what is named beside the model."""
    from scorescope.probes.models.model import load_model
    from scorescope.reports.directions.shipped_subjects import load_subject
    from scorescope.reports.gaussian.study import from_folder

    more: dict[str, Any] = {}
    if weak:
        more["weak"] = load_model(weak, device=material.device)
    if checkpoints:
        named = dict(_named(one) for one in checkpoints)
        if len(named) < len(checkpoints):
            raise InputError("--checkpoint", found=", ".join(checkpoints), expected="every name once")
        more["checkpoints"] = {name: load_model(model, device=material.device) for name, model in named.items()}
    if data is not None:
        every = [material.model, *more.get("checkpoints", {}).values()]
        model = next((one for one in every if one is not None), None) or material.studied  # or the error of none
        more["data"] = from_folder(data, model, size=size, seed=seed)
    if subject:
        more["subject"] = partial(load_subject, subject, device=material.device)
    return replace(material, **more)


def _named(one: str) -> tuple[str, str]:
    name, equals, model = one.partition("=")
    if not name or not equals or not model:
        raise InputError("--checkpoint", found=repr(one), expected="NAME=MODEL, as 500=runs/step-500.safetensors")
    return name, model


def _space(features: str, inception: Path | None, device: str) -> "Extractor":
    from scorescope.reports.cli.feature_spaces import named_space

    return named_space(features, inception=inception, device=device)


def _comparison(hashes: Mapping[Path, str], features: str, inception: Path | None, device: str) -> "Study":
    """Real images against one or more generated sets, in the first space and the one beside it."""
    from scorescope.probes.features.extractors import pixel_extractor
    from scorescope.probes.features.images import open_images
    from scorescope.reports.cli.feature_spaces import named_spaces
    from scorescope.reports.fid.comparisons import folder_study, image_set

    real, *fakes = hashes
    first, second = named_spaces(
        real, fakes[0], features or None, None, files={"inception": inception, "--weights": None}, names=None,
        preprocessing="tf", device=device, sfid=False,
    )  # fmt: skip
    if features == "pixels":  # the network that stands beside them else is one of large images
        second = pixel_extractor(COARSE)
    study = folder_study(real, fakes[-1], first, second)
    names = [fake.name for fake in fakes]
    names = names if len(set(names)) == len(names) else [str(fake) for fake in fakes]
    others = [
        image_set(name, open_images(fake), first, study.second, progress=True)
        for name, fake in zip(names, fakes[:-1], strict=False)
    ]
    return replace(study, fakes=[*others, replace(study.fakes[-1], name=names[-1])])
