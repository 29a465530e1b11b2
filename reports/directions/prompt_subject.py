"""The directions report's subject made of a diffusers pipeline, pairs of prompts and a judge.

    subject = pipeline_subject(pipe, read_pairs("pairs.txt"), "my_package.judges:make", folder="report/directions")

Labelled images are latents that the pipeline makes of both ends of each pair, under its own guidance and from the same
noise. They are labelled with what was asked; how well the judge tells the two ends apart is measured on them. The
denoiser is the network's conditional branch alone (guidance weight 1); what leaves an attribute open is the pair's
prompt `open`, or without one the unconditional branch.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.statistics.intervals import share_interval
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.prompt_pairs import PromptPair, check_pairs
from scorescope.probes.experiments.pipeline_calls import check_arguments, takes
from scorescope.probes.experiments.pipeline_description import PipelineDescription, describe_pipeline
from scorescope.probes.experiments.pipeline_latents import pipeline_latents
from scorescope.probes.experiments.pipeline_model import pipeline_model
from scorescope.probes.models.decoding import Decoder, decode, vae_decoder
from scorescope.probes.models.denoiser import sigma_range
from scorescope.probes.models.model import Model
from scorescope.probes.pipelines import find
from scorescope.probes.sites.modules import capture
from scorescope.reports.directions.judges import Judge, counted_from, judge_pairs, load_judge, scorer_of
from scorescope.reports.directions.prompt_labels import PromptLabels
from scorescope.reports.directions.study import Subject

IMAGES = 200  # of each attribute
LEAST_IMAGES = 20  # two pairs in each part of a split
MOST_SITES = 6  # of those that are chosen here
SCALES = ("guidance_scale", "true_cfg_scale")
LEFT_OUT = {
    "loss": "Images of two prompts differ in more than what the prompts do, even from the same noise: they are no "
    "counterfactual pairs, so that this part is left out.",
    "tokens": "The condition is a prompt: its tokens are no attributes, so that this part is left out.",
    "information": "The condition is a prompt. A prediction that leaves an attribute open is not the mean over its two "
    "ends, so that differences to it are no information about the attribute in nats: this part is left out.",
}


@displayed
@checked
@dataclass(frozen=True)
class PromptSubject(Subject):
    """A subject made of prompts.

    Attributes
    ----------
    prompts : sequence of PromptPair
        Its pairs.
    judged : DataFrame
        How well the judge tells the ends apart: by attribute the share of pairs of images from the same noise in
        which it scores the high end's above the low end's, with its exact interval, and of those in which below; and
        from which of its log-odds its scores are counted, see `judge_pairs`.
    about : str
        Where images and predictions come from, in sentences.
    """

    prompts: Sequence[PromptPair] = ()
    judged: pd.DataFrame = field(default_factory=pd.DataFrame)
    about: str = ""

    @property
    def doubts(self) -> list[str]:
        """A sentence for each attribute whose ends the judge does not tell apart, or not by its own zero."""
        found = [
            f"Most images of both ends of {row['attribute']} are on one side of the judge's zero: its scores are "
            f"counted from a log-odds of {row['zero']:.3g}, halfway between the medians of the two."
            for row in self.judged[self.judged["zero"] != 0].to_dict("records")
        ]
        for row in self.judged[self.judged["low"] <= 0.5].to_dict("records"):
            turned = share_interval(np.arange(row["pairs"]) < round(row["below"] * row["pairs"]))[0] > 0.5
            which = f"the two ends of {row['attribute']}"
            how = f"has {which} the other way round" if turned else f"does not tell {which} apart"
            share = f"{row['share']:.0%} ({row['low']:.0%} to {row['high']:.0%}) of {row['pairs']} pairs of images"
            found.append(
                f"The judge {how}: it scores the high end above the low one in {share}, half "
                "by chance. What is said of that attribute by its scores means no more than that."
            )
        return found


@checked
def pipeline_subject(
    pipe: Any,
    pairs: Sequence[PromptPair],
    score: str | Judge,
    *,
    folder: str | Path,
    sites: Sequence[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    images: int = IMAGES,
    seed: int = 0,
    decoder: Decoder | None = None,
    batch: int = 8,
    name: str = "",
    progress: bool = True,
) -> PromptSubject:
    """Make labelled images with a pipeline and put together what the directions report needs.

    Parameters
    ----------
    pipe : object
        A text-conditional diffusers pipeline whose guidance is on.
    pairs : sequence of PromptPair
        From `read_pairs`; each attribute is a contrast, and its pairs are contexts of it.
    score : str or callable
        The judge of decoded images, or its name; see `load_judge`.
    folder : path
        Where latents are kept; what is there already is not made again.
    sites : sequence of str, optional
        Modules of the network, as "mid_block", or by the name that `describe_pipeline` gives ("unet.mid_block"); by
        default up to 6 of its blocks, spread evenly.
    arguments : mapping, optional
        Arguments of all calls of the pipeline: steps, guidance scale, height.
    images : int
        Labelled images of each attribute, half of either end.
    seed : int
        Of the first pair of images; the next pair has the next.
    decoder : callable, optional
        Latents to images in [-1, 1]; by default the pipeline's VAE (`vae_decoder`).
    batch : int
        Latents a call of the network.
    name : str
        What pages call it.
    progress : bool
        Show progress bars.

    Raises
    ------
    InputError
        For a pipeline that takes no prompt or makes no unconditional prediction, a site that is not there or cannot
        be read, a judge that gives something else than numbers of every attribute, and what `pipeline_model` and
        `pipeline_latents` refuse.
    """
    prompts, shared = checked_prompts(pipe, pairs), dict(arguments or {})
    check_images(images)
    if seed < 0 or batch < 1:
        raise InputError("seed, batch", found=f"{seed}, {batch}", expected="one from 0, one from 1")
    decoder = decoder or vae_decoder(find.components(pipe).get("vae"))
    judge = load_judge(score, pairs, device=_device(pipe)) if isinstance(score, str) else score
    scorer = scorer_of(judge, decoder, prompts.names)
    model = pipeline_model(pipe, prompts.rows(), arguments=shared, name=name, batch=batch)
    chosen = [site_in(pipe, site) for site in sites or block_sites(describe(pipe, prompts, shared))]
    batch = 1 if getattr(model.denoiser, "together", "") == "one sample" else batch
    called = _called_sites(model, chosen, min(batch, len(prompts.rows())), _device(pipe))
    scorer(torch.zeros(1, *model.shape, device=_device(pipe)))  # a judge that cannot be used is not found out later
    plan = prompts.plan(images // 2)
    rows = [{**prompts.rows()[2 * pair + end], "seed": seed + k} for k, pair in enumerate(plan) for end in (0, 1)]
    latents = pipeline_latents(pipe, rows, folder=Path(folder) / "latents", arguments=shared, progress=progress)
    latents = latents.to(_device(pipe))
    labels = torch.stack([prompts.label(pair, end) for pair in plan for end in (0, 1)])
    judged = judge_pairs(scorer, latents, labels, prompts.names)
    zeros = dict(zip(judged["attribute"], judged["zero"], strict=True))
    return PromptSubject(
        model.denoiser, model.name, latents, labels, prompts.attributes, counted_from(scorer, zeros),
        chosen if sites else called, prompts.contrasts,
        prompts.conditions, prompts.drawn, told=prompts.names, source=model.source,
        groups=torch.arange(len(plan)).repeat_interleave(2),
        pictures=lambda some: decode(decoder, some).clamp(-1, 1), images_are="images of the pipeline",
        labels_are="as their prompts asked, whatever is to be seen in them",
        left_out=LEFT_OUT, batch=batch, prompts=list(pairs), judged=judged,
        about=_about(pipe, shared, model, pairs, latents),
    )  # fmt: skip


def checked_prompts(pipe: Any, pairs: Sequence[PromptPair]) -> PromptLabels:
    """The pairs, if they make contrasts and the pipeline takes what they hold."""
    check_pairs(pairs)
    if not takes(pipe, "prompt"):
        found = f"prompts for a {type(pipe).__name__}, which takes none"
        raise InputError("pairs", found=found, expected="a pipeline that is conditioned on text")
    prompts = PromptLabels(pairs)
    for row in prompts.rows():
        check_arguments(pipe, row, argument="pairs")
    return prompts


def describe(pipe: Any, prompts: PromptLabels, arguments: Mapping[str, Any]) -> PipelineDescription:
    """What a run of two steps of the first prompt shows."""
    return describe_pipeline(pipe, prompts.rows()[0], arguments=arguments)


def block_sites(described: PipelineDescription) -> list[str]:
    """Up to `MOST_SITES` blocks that put out an image, spread evenly over the network."""
    table = described.sites[described.sites["note"] == ""]
    if table.empty:
        raise InputError("sites", found="no block whose image is known", expected="names of modules")
    places = np.unique(np.linspace(0, len(table) - 1, MOST_SITES).round().astype(int))
    return [str(site) for site in table["site"].iloc[places]]


def site_in(pipe: Any, site: str) -> str:
    """The name of a site in the denoiser, whose network is "network", whatever the pipeline calls it."""
    part, _, path = site.partition(".")
    return f"network.{path if path and part in ('network', *find.denoisers(pipe, None)) else site}"


def _device(pipe: Any) -> torch.device:
    network = next(iter(find.denoisers(pipe, None).values()))
    return next((weight.device for weight in network.parameters()), torch.device("cpu"))


@torch.no_grad()
def _called_sites(model: Model, sites: Sequence[str], rows: int, device: torch.device) -> list[str]:
    """Sites in the order of their calls: the denoiser is called once under several prompts, and once without."""
    sigma = torch.full((rows,), sigma_range(model.denoiser)[0], device=device)
    x = torch.zeros(rows, *model.shape, device=device)
    with capture(model.denoiser, sites, how="mean") as taken:
        model.denoiser(x, sigma, torch.arange(rows))
        try:
            model.denoiser(x, sigma, None)
        except InputError as error:
            if error.argument != "condition":
                raise
            expected = "guidance that is on, away from one negative prompt for all pairs: (--scale, --set)"
            raise InputError("pipe", found=error.found.removeprefix("None, for "), expected=expected) from None
    return list(taken)


def _about(pipe: Any, arguments: Mapping[str, Any], model: Model, pairs: Sequence[PromptPair], latents: Tensor) -> str:
    """Where images and predictions come from."""
    least, most = sigma_range(model.denoiser)
    open_ = "conditional on the prompt that names neither end" if pairs[0].open is not None else "unconditional"
    return (
        f"Labelled images are {len(latents)} latents that {type(pipe).__name__} made itself, under "
        f"{guidance(pipe, arguments)}; the two ends of a pair began with the same noise, and are on the same side of "
        "every split. They are labelled with what was asked, not with what is to be seen. All else is of the network's "
        "plain branches, guidance weight 1: activations are read from the unconditional one; samples are conditional "
        f"on a prompt, or, where directions are added and the attribute is left open, {open_}. Noise levels are within "
        f"σ = {most:.3g} to {least:.2g}, those that the scheduler has; the latents' standard deviation is "
        f"{float(latents.std()):.2g}."
    )


def guidance(pipe: Any, arguments: Mapping[str, Any]) -> str:
    """The guidance of the pipeline's own calls, in words."""
    known = inspect.signature(type(pipe).__call__).parameters
    given = {name: arguments.get(name, known[name].default) for name in SCALES if name in known or name in arguments}
    scales = ", ".join(f"{name} {value:g}" for name, value in given.items() if isinstance(value, int | float))
    return f"its own guidance ({scales})" if scales else "its own guidance"


def check_images(images: int, name: str = "images") -> None:
    """Raise `InputError` for a number of images of each contrast that cannot be split into pairs."""
    if images < LEAST_IMAGES or images % 2:
        raise InputError(name, found=str(images), expected=f"an even number from {LEAST_IMAGES}, of each contrast")
