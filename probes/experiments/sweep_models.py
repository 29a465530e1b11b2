"""The same seeds, rules and weights over several models, such as checkpoints of one training run.

swept = sweep_models({"1000": early, "20000": late}, {"CFG": CFG(1.0)}, weights=(1.0, 2.0), seeds=range(64),
                     condition=labels, folder="runs/checkpoints")
table = pd.concat({name: measure_sweep(settings) for name, settings in swept.items()}, names=["checkpoint"])
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.sweep import Setting, sweep
from scorescope.probes.guidance.base import Rule
from scorescope.probes.models.denoiser import Denoiser


@checked
def sweep_models(
    models: Mapping[str, Denoiser | Any], rules: Mapping[str, Rule], *, folder: str | Path | None = None, **how: Any
) -> dict[str, list[Setting]]:
    """A `sweep` of each model, from the same seeds and conditions.

    Parameters
    ----------
    models : mapping of str to Denoiser or object
        By name: denoisers, or diffusers pipelines.
    rules : mapping of str to Rule
        Settings by name; branches that a rule itself holds, such as a weak model, are the same for every model.
    folder : path, optional
        Where finished settings are kept, and looked for first: a folder in it for each model. None keeps them in memory
        alone.
    **how
        Further arguments of `sweep`, the same for every model: seeds, condition, weights, over, solver, ...

    Returns
    -------
    dict of str to list of Setting
        In the order of `models`.

    Raises
    ------
    InputError
        Without models, for an argument that `sweep` needs and was not given, and what `sweep` refuses.
    """
    if not models:
        raise InputError("models", found="none", expected="at least one, by name")
    if missing := {"seeds", "condition"} - set(how):
        raise InputError(", ".join(sorted(missing)), found="nothing", expected="the same for every model")
    places = {name: None if folder is None else Path(folder) / folder_name(name) for name in models}
    return {name: sweep(model, rules, folder=places[name], **how) for name, model in models.items()}


def folder_name(name: str) -> str:
    """Letters and digits of a model's name, and enough of its hash that no two share a folder."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in name)[:40]
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
