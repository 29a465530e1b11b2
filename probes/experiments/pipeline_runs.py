"""Sampling from a diffusers pipeline as `sample` does from a denoiser: one sample a seed, under a rule, recorded.

    run = sample_pipeline(
        pipe, rule=APG(6.0), seeds=range(16), condition={"prompt": prompts}, arguments={"num_inference_steps": 30}
    )
    run.samples                    # (16, channel, y, x)
    run.trace.scalars              # one row a (sample, step, call)

The pipeline is called unmodified, a few samples at a time, with one generator a sample.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.guided_pipeline import Evaluations, guide
from scorescope.probes.experiments.replay import visits
from scorescope.probes.guidance.base import Rule, describe
from scorescope.probes.models.conditions import select_rows
from scorescope.probes.pipelines import find
from scorescope.probes.recording.session import record as record_pipeline
from scorescope.probes.recording.trace import Recording, Trace
from scorescope.probes.sampling.sample import Run, parameters_of

Call = Callable[[Any, Mapping[str, Any]], Any]

_OUTPUTS = ("images", "frames", "audios")


def is_pipeline(model: Any) -> bool:
    """Whether there is a scheduler among the parts of `model`: a pipeline has one, a denoiser has not."""
    try:
        return bool(find.schedulers(model))
    except InputError:
        return False


@checked
@torch.no_grad()
def sample_pipeline(
    pipe: Any,
    *,
    rule: Rule,
    seeds: Sequence[int],
    condition: Mapping[str, Any],
    arguments: Mapping[str, Any] | None = None,
    call: Call | None = None,
    options: Mapping[str, Any] | None = None,
    record: Recording | None = None,
    batch: int = 4,
    progress: bool = True,
) -> Run:
    """Draw one sample for each seed from a pipeline under a guidance rule.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline; see `guide` for what it has to be. For rules of cond and uncond its own guidance has to
        be on.
    rule : Rule
        Guidance rule.
    seeds : sequence of int
        One a sample. The pipeline gets a list of generators, one a sample, so a sample does not depend on those
        beside it; what a rule draws is the seed's too. What a pipeline draws past its generators (DiT with a
        stochastic scheduler does) is seeded by the first seed of each batch.
    condition : mapping
        Arguments with one row a sample, for instance {"prompt": [...]}, {"class_labels": [...]} or tensors of
        embeddings.
    arguments : mapping, optional
        Arguments that all samples share. Without an `output_type` there, pictures are asked for as arrays ("np").
    call : callable, optional
        (pipe, arguments) to the result, for pipelines that are not called with keywords; `arguments` hold the
        generators under `generator`.
    options : mapping, optional
        Further arguments of `guide`: modules, level, branches.
    record : Recording, optional
        `value_range` and `keep` of it are for pipelines; by default `Recording()`.
    batch : int
        Samples a call.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Run
        Samples as the pipeline made them, in [0, 1] for pictures, (n, channel, y, x); latents unchanged. In the
        trace, `needed` counts the denoiser evaluations that the rule asked for, and `observed` those beyond that
        were made all the same: by the pipeline, or to prove that a call can be made again (see `guide`).

    Raises
    ------
    InputError
        For arguments that do not fit together, a result without samples, and what `guide` refuses.
    """
    seeds, record, options = [int(seed) for seed in seeds], record or Recording(), dict(options or {})
    fixed = {"output_type": "np"} | dict(arguments or {})
    _check(seeds, condition, fixed, record, batch)
    seen = {key: options[key] for key in ("modules", "level", "branches") if key in options}
    outside = record_pipeline(
        pipe, keep="branches" if record.keep else "scalars", value_range=record.value_range, **seen
    )
    parts: list[Tensor] = []
    counted: list[Evaluations] = []
    with outside as trace:
        # a run a batch, whether or not the call sets timesteps of its own
        batches = [{"first": first} for first in range(0, len(seeds), batch)]
        runs = trace.runs(batches, progress=False)
        for spec in tqdm(runs, total=len(batches), desc="sampling", disable=not progress, leave=False):
            first = spec["first"]
            rows = slice(first, first + batch)
            given = fixed | select_rows(dict(condition), rows)
            given["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds[rows]]
            drawn = options | {"seeds": seeds[rows]}
            with guide(pipe, rule, **drawn) as session, seeded(seeds[first]):
                result = pipe(**given) if call is None else call(pipe, given)
            parts.append(samples_of(result, len(seeds[rows])).cpu())
            counted += session.evaluations
    return Run(torch.cat(parts), _described(trace, rule, seeds, condition, counted, record))


def _check(
    seeds: Sequence[int], condition: Mapping[str, Any], fixed: Mapping[str, Any], record: Recording, batch: int
) -> None:
    if not seeds or batch < 1:
        raise InputError("seeds, batch", found=f"{len(seeds)} seeds, batch {batch}", expected="at least one of each")
    if not isinstance(condition, Mapping) or not condition:
        found = f"a {type(condition).__name__}" if condition else "no condition"
        raise InputError("condition", found=found, expected='arguments with one row a sample, as {"prompt": [...]}')
    for name, rows in condition.items():
        if isinstance(rows, str) or not hasattr(rows, "__len__") or len(rows) != len(seeds):
            found = repr(rows)[:60] if isinstance(rows, str) or not hasattr(rows, "__len__") else f"{len(rows)} rows"
            raise InputError(f"condition[{name!r}]", found=found, expected=f"{len(seeds)} rows, one for each seed")
    if clash := {"generator", *condition} & {*fixed} | {"generator"} & {*condition}:
        expected = "each argument once, and no generator: the seeds make one a sample"
        raise InputError("arguments", found=f"{', '.join(sorted(clash))} given as well", expected=expected)
    if record.all_branches or record.centred or record.band_edges:
        expected = "value_range and keep: a pipeline computes the branches that it computes"
        raise InputError("record", found="all_branches, centred or band_edges", expected=expected)


def seeded(seed: int) -> ExitStack:
    """The global generators seeded, for the length of a with block, and as they were afterwards."""
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        torch.manual_seed(seed)
        return stack.pop_all()


def samples_of(result: Any, count: int | None = None) -> Tensor:
    """Samples of a pipeline's result, channels before space; `count` of them, where that is known."""
    found = next((value for name in _OUTPUTS if (value := getattr(result, name, None)) is not None), result)
    if isinstance(found, tuple) and found:
        found = found[0]
    if isinstance(found, list) and found and not isinstance(found[0], Tensor):
        found = np.stack([_array(picture) for picture in found])
    elif isinstance(found, list) and found:
        found = torch.stack(found)
    if isinstance(found, np.ndarray):  # pictures and videos as arrays have their channels last
        found = torch.from_numpy(np.ascontiguousarray(np.moveaxis(found, -1, 1) if found.ndim >= 4 else found))
    if not isinstance(found, Tensor) or not found.ndim or len(found) != (len(found) if count is None else count):
        text = f"{len(found)} samples" if isinstance(found, Tensor) and found.ndim else f"a {type(result).__name__}"
        expected = "a tensor or array of samples" if count is None else f"a tensor or array of {count} samples"
        raise InputError("pipe", found=f"a result with {text}", expected=expected)
    return found


def _array(picture: Any) -> NDArray[Any]:
    """A picture as floats; PIL's eight bits in [0, 1]."""
    array = np.asarray(picture)
    if array.dtype == np.uint8:
        array = array.astype(np.float32) / 255
    return array[..., None] if array.ndim == 2 else array


def _described(
    trace: Trace, rule: Rule, seeds: Sequence[int], condition: Mapping[str, Any],
    counted: Sequence[Evaluations], record: Recording,
) -> Trace:  # fmt: skip
    """The trace with what only the caller knows: rule, seeds, conditions, and evaluations by their number."""
    scalars = trace.scalars.sort_values(["run", "event", "sample"], ignore_index=True)
    needed = np.concatenate([step.needed for step in counted])
    made = np.concatenate([[step.made] * len(step.asked) for step in counted])
    if len(needed) != len(scalars) or scalars["sample"].nunique() != len(seeds):
        found = f"{len(scalars)} recorded rows of {scalars['sample'].nunique()} samples, {len(needed)} guided ones"
        raise InputError("pipe", found=found, expected="one scheduler state a sample in every step")
    # a batch is a run of the pipeline, but no run of its own of what is sampled
    scalars = scalars.assign(needed=needed, observed=np.maximum(made - needed, 0), batch=scalars["run"], run=0)
    first = next(iter(condition.values()))
    labels = [one if isinstance(one, str | int) else None for one in first]
    samples = pd.DataFrame({"sample": range(len(seeds)), "seed": list(seeds), "condition": labels})
    manifest = {
        **trace.manifest,
        "rule": describe(rule),
        "rule_parameters": parameters_of(rule),
        "weight": rule.weight,
        "recording": {"value_range": record.value_range, "band_edges": ()},
    }
    return Trace(scalars, samples, manifest, [replace(one, run=0) for one in visits(trace)] if record.keep else ())
