"""What people write: prompts, pairs of prompts, specs of work, studies."""

import contextlib
import json
from pathlib import Path
from random import Random

import numpy as np

from scorescope.data import read_pairs, read_prompts
from scorescope.probes.work import plan_work, read_spec
from scorescope.reports.cli import read_study
from tests.fuzz import damage
from tests.fuzz.image_kinds import PIXELS, npz
from tests.fuzz.kind import Kind, written

PROMPTS = {
    "txt": "a lighthouse\na red car, at night\n\u2028 three apples\n",
    "csv": 'prompt,negative_prompt,seed,height\n"a car, red",,3,512\na house,blurred,7,256\n',
    "jsonl": '{"prompt": "a car", "seed": 1, "scale": [1.0, {"a": 2}]}\n{"prompt": "a house", "height": 512}\n',
}
PAIRS = {
    "txt": "a red car | a blue car\nthe red house | the blue house\n",
    "csv": "attribute,low,high,low_name,high_name,open,height\nage,a young man,an old man,young,old,a man,512\n",
    "jsonl": '{"low": "a red car", "high": "a blue car", "open": "a car", "steps": 4}\n',
}
STUDY = """
out = "study"
[subjects]
digits = "digits"
mine = { denoiser = "digits_weak", count = 7 }
[reports]
guidance = { quick = true, device = "cpu" }
gaussian = { quick = true }
[settings]
few = { seed = 3 }
"""


def in_lines(path: Path, rng: Random) -> None:
    """Damage the object of one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    chosen = rng.randrange(len(lines))
    lines[chosen] = json.dumps(damage.damage_json(json.loads(lines[chosen]), rng))
    path.write_text("\n".join(lines), encoding="utf-8")


def _sweep() -> bytes:
    rules = {"CFG": {"class": "CFG", "weight": 1.0}, "in": {"class": "Interval", "rule": {"class": "APG", "weight": 2}}}
    return json.dumps(
        {
            "kind": "sweep", "model": "digits", "rules": rules, "weights": [1.0, 2.0], "seeds": [0, 4], "size": 2,
            "sigmas": [1.0, 0.5], "solver": {"class": "Heun", "churn": 2.0}, "record": {"band_edges": [0.1, 0.2]},
        }
    ).encode()  # fmt: skip


def _moments(folder: Path) -> Path:
    (folder / "images.npz").write_bytes(npz(arr_0=np.stack([PIXELS, PIXELS]))())
    spec = {"kind": "moments", "images": str(folder / "images.npz"), "features": "pixels", "size": 2, "batch": 1}
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder / "spec.json"


def _recording() -> bytes:
    spec = {
        "kind": "recording", "pipeline": "owner/name", "classes": [0, 3], "seeds": 2, "size": 2, "keep": "branches",
        "arguments": {"num_inference_steps": 3},
    }  # fmt: skip
    return json.dumps(spec).encode()


def _toml() -> bytes:
    return b'kind = "sweep"\nmodel = "digits"\nseeds = 4\n[rules.CFG]\nclass = "CFG"\nweight = 2.0\n'


def _plan(path: Path) -> None:
    with contextlib.chdir(path.parent):  # what a spec names is looked for there
        plan_work(read_spec(path))


TEXT_KINDS = (
    *(
        Kind(f"prompts, {suffix}", written(f"p.{suffix}", text.encode()), read_prompts, inside)
        for (suffix, text), inside in zip(PROMPTS.items(), (None, None, in_lines), strict=True)
    ),
    *(
        Kind(f"pairs of prompts, {suffix}", written(f"p.{suffix}", text.encode()), read_pairs, inside)
        for (suffix, text), inside in zip(PAIRS.items(), (None, None, in_lines), strict=True)
    ),
    Kind("sweep to make", written("spec.json", _sweep), _plan, damage.in_json),
    Kind("work in TOML", written("spec.toml", _toml), _plan, damage.in_toml),
    Kind("moments to make", _moments, _plan, damage.in_json),
    Kind("recording to make", written("spec.json", _recording), _plan, damage.in_json),
    Kind("study to make", written("study.toml", STUDY.encode()), lambda path: read_study(path).made, damage.in_toml),
)
