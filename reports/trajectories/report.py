"""The trajectories report: which steps matter, where a solver errs, and which levels would be better.

outcome = build(Path("report/trajectories"), load_model("digits"), command="...")
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.pipeline_model import pipeline_model
from scorescope.probes.guidance import CFG
from scorescope.probes.models.model import Model, check_device
from scorescope.reports.page.methods import Keys, noting
from scorescope.reports.page.pages import Outcome, write_report
from scorescope.reports.page.requests import by_call
from scorescope.reports.page.texts import say
from scorescope.reports.trajectories.sections_paths import decided_section, noise_section, shape_section
from scorescope.reports.trajectories.sections_solvers import calls_section, errors_section, schedule_section
from scorescope.reports.trajectories.sections_steps import affinity_section, steps_section
from scorescope.reports.trajectories.study import Study

SECTIONS = (
    ("errors", "Where the solver errs", errors_section),
    ("calls", "Error against calls", calls_section),
    ("schedule", "Levels that suit the model", schedule_section),
    ("steps", "Which steps matter", steps_section),
    ("shape", "Shape of paths", shape_section),
    ("decided", "When a sample is decided", decided_section),
    ("noise", "Noise that the states have", noise_section),
    ("affinity", "Training gradients between noise levels", affinity_section),
)
METHODS: dict[str, Keys] = {
    "step_errors": ["karras2022elucidating", "lu2022dpmpp"],
    "end_errors": ["karras2022elucidating", "lu2022dpmpp", "sabour2024align"],
    "schedules": ["karras2022elucidating", "sabour2024align", "tong2024learning"],
    "step_damages": ["liu2024timestep"],
    "path_numbers": ["liu2023flow"],
    "variance_bias": ["ning2024elucidating"],
    "affinity": ["go2023addressing"],
}
LEAST = 8  # seeds: fewer have no intervals


@checked
def build(
    out: Path | str,
    model: Model,
    *,
    command: str,
    weight: float = 1.0,
    images: Tensor | None = None,
    quick: bool = False,
    count: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Outcome:
    """Measure and write the trajectories report.

    Parameters
    ----------
    out : Path or str
        Folder of the report.
    model : Model
        The denoiser.
    command : str
        What the manifest says made it.
    weight : float
        Of CFG; 1 is no guidance, with its condition.
    images : Tensor, shape (n, *shape), optional
        What the model was trained on, for the section on its gradients; by default the shipped digits, where the model
        has them.
    quick : bool
        Fewer seeds, fewer iterations: wider intervals, levels tuned less.
    count : int, optional
        Seeds, at least 8; four times as many judge the tuned levels.
    seed : int
        The first seed.
    device : str
        Where the denoiser is.
    progress : bool
        Show progress bars.

    Returns
    -------
    Outcome
        Its status says whether a part is missing.

    Raises
    ------
    InputError
        For too few seeds, images of another shape than the model's, and a weight of a model without an unconditional
        branch.
    """
    if count is not None and count < LEAST:
        raise InputError("count", found=str(count), expected=f"at least {LEAST} seeds")
    if images is None and model.digits is not None:
        images = model.digits.train.images
    if images is not None and tuple(images.shape[1:]) != tuple(model.shape):
        raise InputError("images", found=f"shape {tuple(images.shape)}", expected=f"(n, *{tuple(model.shape)})")
    if images is not None and not bool(images.isfinite().all()):
        raise InputError("images", found="NaN or infinite values", expected="finite ones")
    check_device(device)
    CFG(weight)  # which refuses what is no weight
    if weight != 1.0 and model.conditions(1) is None:
        raise InputError("weight", found=f"{weight:g}, of a model without conditions", expected="1, no guidance")
    missing = getattr(model.denoiser, "missing", "")
    if weight != 1.0 and missing:
        raise InputError("weight", found=f"{weight:g}, but {missing}", expected="1, no guidance")
    study = Study(model, quick, progress, float(weight), count, seed, device, images)
    say(f"trajectories: {study.cost()}", err=True)
    asked = by_call(
        "report trajectories",
        denoiser=model.loaded_as,
        weight=weight,
        quick=quick,
        count=count,
        seed=seed,
        device=device,
    )
    methods: list[str] = []
    manifest = {
        "model": model.name, "model_source": model.source, "weight": weight, "seeds": len(study.seeds),
        "held_out_seeds": len(study.held_out_seeds), "quick": quick, "seed": seed, "device": device,
        "sigma_range": list(study.span), "methods": methods,
    }  # fmt: skip
    return write_report(
        out, noting(methods, SECTIONS, METHODS), study, name="trajectories", title=f"Trajectories: {model.name}",
        question="Which steps matter, where does a solver err, and which levels would be better?", command=command,
        manifest=manifest, request=asked,
    )  # fmt: skip


@checked
def build_from_pipeline(
    out: Path | str,
    pipe: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    command: str,
    arguments: Mapping[str, Any] | None = None,
    weight: float = 1.0,
    quick: bool = False,
    count: int | None = None,
    seed: int = 0,
    batch: int = 8,
    source: str = "",
    progress: bool = True,
) -> Outcome:
    """Measure and write the trajectories report on a diffusers pipeline's network.

    Its own calls are made, but from the states and at the levels of the report.

    Parameters
    ----------
    out, command, weight, quick, count, seed, progress
        See `build`.
    pipe : object
        A diffusers pipeline, as from `load_pipeline`.
    rows : sequence of mapping
        Arguments of its call, one row a condition, as `pipeline_model` takes them.
    arguments : mapping, optional
        More of them: height, width, ...
    batch : int
        Samples that the network is given at once.
    source : str
        Where the pipeline comes from, for the page.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        What `build` and `pipeline_model` refuse.
    """
    name = Path(source).name or type(pipe).__name__
    model = pipeline_model(pipe, rows, arguments=arguments, name=name, batch=batch)
    return build(
        out, model, command=command, weight=weight, quick=quick, count=count, seed=seed, progress=progress,
        device=str(getattr(pipe, "device", "cpu")),
    )  # fmt: skip
