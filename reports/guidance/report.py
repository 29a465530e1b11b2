"""The guidance report: what guidance did at every noise level, sampled here or recorded elsewhere.

build(Path("report/guidance"), load_model("digits"), command="...")
build_from_traces(Path("report/recorded"), [Path("runs/a"), Path("runs/b")], command="...")
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.pipeline_calls import plan_calls
from scorescope.probes.models.decoding import Decoder
from scorescope.probes.models.factories import call_factory, import_factory
from scorescope.probes.models.model import Model
from scorescope.probes.recording.plan import Keep
from scorescope.reports.guidance.methods import SPLIT, methods_of
from scorescope.reports.guidance.pipeline_study import PipelineStudy, check_rules
from scorescope.reports.guidance.sections_paths import separation_section
from scorescope.reports.guidance.sections_pipeline import pipeline_section, sections
from scorescope.reports.guidance.sections_recorded import recorded_sections
from scorescope.reports.guidance.sections_rules import comparison_section, effects_section, information_section
from scorescope.reports.guidance.sections_update import gain_section, tables_section, update_section
from scorescope.reports.guidance.sections_values import samples_section, values_section
from scorescope.reports.guidance.study import WEIGHTS, Study
from scorescope.reports.guidance.trace_study import open_traces
from scorescope.reports.page.pages import Outcome, ReportWriter
from scorescope.reports.page.requests import by_call
from scorescope.reports.page.texts import say

FULL, QUICK = 256, 96
SWEPT = (
    ("update", "The update at each noise level", update_section),
    ("saturation", "The parallel part as a gain", gain_section),
    ("values", "Values and range of the samples", values_section),
    ("samples", "The same seeds under every rule", samples_section),
)
COMPARED = (
    ("information", "Where the condition tells", information_section),
    ("paths", "Where the paths of two rules part", separation_section),
    ("rules", "The rules compared", comparison_section),
    ("effects", "Known effects, tested", effects_section),
)


@checked
def build(
    out: Path | str,
    model: Model,
    *,
    command: str,
    quick: bool = False,
    count: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Outcome:
    """Record CFG and APG at several weights and other rules, all from the same seeds; analyse and write the report.

    Parameters
    ----------
    out : Path or str
        Folder of the report.
    model : Model
        What to sample from.
    command : str
        What the manifest says made it.
    quick : bool
        96 samples a setting in place of 256: wider intervals, nothing else changed.
    count : int, optional
        Samples a setting, in place of both.
    seed : int
        Of the first sample; the next has the next.
    device : str
        Where to sample.
    progress : bool
        Show progress bars.

    Returns
    -------
    Outcome
        Its status says whether a part is missing.

    Raises
    ------
    InputError
        For a model without conditions, and one that cannot be sampled.
    """
    if model.conditions(1) is None:
        found = f"{model.name}, which has no conditions"
        raise InputError("model", found=found, expected="one that can be guided; `report gaussian` needs none")
    request = by_call("report guidance", denoiser=model.loaded_as, quick=quick, count=count, seed=seed, device=device)
    count = count or (QUICK if quick else FULL)
    manifest = {
        "model": model.name, "model_source": model.source, "device": device, "samples_per_setting": count,
        "seeds": f"{seed} to {seed + count - 1}", "weights": list(WEIGHTS),
        "rules": ["CFG", "APG with eta = 0, no norm clip, no momentum"],
        "sampler": "Heun, 18 steps on the EDM grid from sigma 80 to 0.002",
    }  # fmt: skip
    title, question = f"Guidance: {model.name}", "What does the guidance update do at each noise level?"
    how: dict[str, Any] = {"command": command, "manifest": manifest, "request": request}
    with ReportWriter(out, name="guidance", title=title, question=question, **how) as page:
        study = Study(model, count, device, progress, page.fail, seed)
        if progress:
            with suppress(Exception):  # a denoiser that cannot be called is told of where it is sampled
                say(f"guidance: {study.cost()}", err=True)
        if not study.swept:
            cause = next(iter(page.failures.values()))
            raise InputError("model", found=f"no setting that could be sampled ({cause})", expected="at least one")
        for name, heading, make in SWEPT:
            page.section(name, heading, partial(make, study))
        comparable = _comparable(study)
        for name, heading, make in COMPARED:
            if comparable:
                page.section(name, heading, partial(make, study))
            else:
                page.absent(name, heading, "It needs an unguided run, which failed: see the top of the page.")
        page.section("tables", "Tables", partial(tables_section, study))
        page.manifest["methods"] = ["karras2022elucidating", *methods_of(one.rule for one in study.sampled)]
    return page.outcome


@checked
def build_from_traces(
    out: Path | str, paths: Sequence[Path | str], *, command: str, decoder: Decoder | str | None = None
) -> Outcome:
    """Write a report on recorded traces; one that cannot be read or decomposed is named on the page.

    Parameters
    ----------
    out : Path or str
        Folder of the report.
    paths : sequence of Path or str
        Trace folders.
    command : str
        What the manifest says made it.
    decoder : callable or str, optional
        Last states of a trace that kept them (`record(keep="all")`) to images (n, channel, y, x) in [-1, 1], or
        "package.module:factory" of one: for the images of traces that have none beside them.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        For a name that is no factory.
    """
    shown = decoder
    if isinstance(decoder, str):
        shown = call_factory(import_factory(decoder, argument="decoder", known=[]), decoder, argument="decoder")
    if shown is not None and not callable(shown):
        raise InputError("decoder", found=f"a {type(shown).__name__}", expected="a function of last states")
    folders = [Path(path) for path in paths]
    manifest = {"traces": [str(folder) for folder in folders]}
    title, question = "Guidance along recorded traces", "What did the guidance update do at each noise level?"
    how: dict[str, Any] = {"command": command, "manifest": manifest}
    named = by_call("report guidance", trace=folders, decoder=decoder if isinstance(decoder, str) else None)
    unnamed = "it was made in Python with a decoder, and no command names that"
    how["request"] = unnamed if shown is not None and not isinstance(decoder, str) else named
    with ReportWriter(out, name="guidance", title=title, question=question, **how) as page:
        study = open_traces(folders, page.fail, shown)
        for name, heading, make in recorded_sections(study):
            page.section(name, heading, partial(make, study))
        page.manifest["methods"] = list(SPLIT)
    return page.outcome


@checked
def build_from_pipeline(
    out: Path | str,
    pipe: Any,
    prompts: Sequence[Mapping[str, Any]],
    *,
    command: str,
    arguments: Mapping[str, Any] | None = None,
    seeds: Sequence[int] | None = None,
    count: int | None = None,
    seed: int = 0,
    rules: Sequence[str] = (),
    weights: Sequence[float] = (),
    keep: Keep = "branches",
    batch: int = 4,
    source: str = "",
    progress: bool = True,
    **options: Any,
) -> Outcome:
    """Record a pipeline's own guidance, replay other rules at its states, sample rules if asked, and write the report.

    What was recorded lies in `runs/` of the report's folder: a report that was cut off goes on from there.

    Parameters
    ----------
    out : Path or str
        Folder of the report.
    pipe : object
        A diffusers pipeline, as from `load_pipeline`.
    prompts : sequence of mapping
        Arguments of one call each, as from `read_prompts`: {"prompt": "a lighthouse", "seed": 3}, for a
        class-conditional pipeline {"class_labels": [207]}, for an unconditional one {}.
    command : str
        What the manifest says made it.
    arguments : mapping, optional
        Arguments that all calls share: num_inference_steps, guidance_scale, height, ...
    seeds, count, seed
        Which images are made of them; see `plan_calls`.
    rules : sequence of str
        What is sampled beside the pipeline's own guidance: cfg, apg, rescaled, tangential, cfg-zero-star,
        magnitude-aware.
    weights : sequence of float
        Every rule at each of these; with cfg at 1 the report says where the condition tells.
    keep : str
        "scalars" writes no arrays: then no rule is replayed. See `record`.
    batch : int
        Images a call, of the sampled rules.
    source : str
        Where the pipeline comes from, for the manifest.
    progress : bool
        Show progress bars, and say what it costs before it starts.
    **options
        modules, level and branches of `record`.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        For arguments that the pipeline does not take, unknown rules, and what `record` refuses.
    """
    calls = plan_calls(pipe, prompts, seeds=seeds, count=count, seed=seed)
    shared = dict(arguments or {})
    check_rules(rules, weights)
    name = type(pipe).__name__
    given = {key: str(value) for key, value in shared.items()}
    manifest = {
        "pipeline": name, "pipeline_source": source, "calls": calls, "arguments": given, "rules": list(rules),
        "weights": list(weights),
    }  # fmt: skip
    title, question = f"Guidance: {source or name}", "What does the guidance update do at each noise level?"
    how: dict[str, Any] = {"command": command, "manifest": manifest, "request": f"it was made in Python of a {name}"}
    with ReportWriter(out, name="guidance", title=title, question=question, **how) as page:
        study = PipelineStudy(
            pipe, calls, shared, Path(out) / "runs", tuple(rules), tuple(float(w) for w in weights), keep, batch,
            progress, page.fail, options,
        )  # fmt: skip
        if progress:
            say(f"guidance: {study.cost()}", err=True)
        study.recorded  # noqa: B018  first of all, so that what fails later loses no image
        page.section("pipeline", "The pipeline", partial(pipeline_section, study))
        for part, heading, make in sections(study):
            if isinstance(make, str):
                page.absent(part, heading, make)
            else:
                page.section(part, heading, partial(make, study))
        page.manifest["methods"] = methods_of(study.other_rules)
    return page.outcome


def _comparable(study: Study) -> bool:
    """Whether the unguided run that the comparison of rules starts from can be made; if not, that is noted."""
    try:
        return study.below > 0
    except Exception as error:
        study.failed("the comparison of rules", error)
        return False
