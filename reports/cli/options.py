"""Options that several commands have, and the names that they know."""

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps.")]

Pipeline = Annotated[
    str | None,
    typer.Option("--pipeline", help="A diffusers pipeline: a folder, an id of the hub, or one .safetensors file."),
]
Prompts = Annotated[
    Path | None, typer.Option(help="Prompts: .txt, one a line; .csv or .jsonl with prompt, seed, any call argument.")
]
Classes = Annotated[str, typer.Option(help="Class labels, as 0,207, for a class-conditional pipeline.")]
Dtype = Annotated[str, typer.Option(help="float32, float16, bfloat16 or float64, of a pipeline.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Steps of a pipeline's call (num_inference_steps).")]
Scale = Annotated[float | None, typer.Option(help="Guidance scale of a pipeline's call.")]
Scheduler = Annotated[
    str | None, typer.Option(help="A scheduler of diffusers in place of the pipeline's, as DDIMScheduler.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="key=value for anything else that the call takes; may be repeated.")
]
Config = Annotated[
    str | None, typer.Option(help="For a single file: folder or hub id of the pipeline that it is a checkpoint of.")
]
Pickles = Annotated[
    bool, typer.Option("--pickles", help="Load weights that are no safetensors: these can run any code.")
]

OF_PIPELINES = (
    "prompts", "classes", "seeds", "steps", "scale", "set", "scheduler", "dtype", "rules", "weights", "keep", "batch",
    "config", "pickles", "images", "latents", "pairs", "score", "sites",
)  # fmt: skip
"""Options of commands that say something of a pipeline alone."""

SPACES = (
    "digits, accessory, subject, inception, efficientnet_lite0, pixels, dinov2[:FOLDER], clip[:FOLDER], or timm:NAME"
)
"""Feature spaces that `scorescope report fid` knows."""

WORK = "sweep, moments, recording, activations, bank, steering, words, or package.module:function"
"""Kinds of work that `scorescope work` knows."""

Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Make it with so many processes, of one thread each.")
]
Dask = Annotated[
    str, typer.Option("--dask", help="Make it on a Dask cluster: the address of its scheduler, or its scheduler file.")
]
