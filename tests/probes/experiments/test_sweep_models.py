import pytest
import torch
from tests.oracles import random_pair

from scorescope.data import InputError
from scorescope.probes import CFG, sweep
from scorescope.probes.experiments import sweep_models

LABELS = torch.zeros(4, dtype=torch.long)
HOW = {"seeds": range(4), "condition": LABELS, "shape": (6,), "progress": False}


def test_each_model_is_swept_as_it_would_be_alone(tmp_path):
    models = {"early": random_pair(seed=0), "late": random_pair(seed=1)}
    found = sweep_models(models, {"CFG": CFG(1.0)}, weights=(1.0, 2.0), folder=tmp_path, **HOW)
    assert list(found) == ["early", "late"]
    for name, model in models.items():
        alone = sweep(model, {"CFG": CFG(1.0)}, weights=(1.0, 2.0), **HOW)
        for one, other in zip(found[name], alone, strict=True):
            assert one.name == other.name and torch.equal(one.run.samples, other.run.samples)


def test_folders_are_kept_apart_and_read_again(tmp_path):
    """Names that differ in signs alone have folders of their own; what was made is not made again."""
    models = {"a/1": random_pair(seed=0), "a 1": random_pair(seed=1), "..": random_pair(seed=2)}
    first = sweep_models(models, {"CFG": CFG(2.0)}, folder=tmp_path, **HOW)
    assert len(list(tmp_path.iterdir())) == 3
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    again = sweep_models(models, {"CFG": CFG(2.0)}, folder=tmp_path, **HOW)
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    for name in models:
        assert torch.equal(first[name][0].run.samples, again[name][0].run.samples)


def test_what_is_missing_is_named():
    with pytest.raises(InputError, match="models"):
        sweep_models({}, {"CFG": CFG(1.0)}, **HOW)
    with pytest.raises(InputError, match="condition"):
        sweep_models({"a": random_pair()}, {"CFG": CFG(1.0)}, seeds=range(4))
