import numpy as np
import pandas as pd
import pytest
import torch

from scorescope.analysis.guidance import (
    class_agreement,
    error_by_sigma,
    image_table,
    nearest_distances,
    value_density,
)
from scorescope.analysis.guidance.quality import attribute_agreement, nearest_images
from scorescope.data import InputError, load_denoiser, load_digits


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def test_the_shipped_model_keeps_its_promises():
    quality = load_denoiser("digits")[1]["quality"]
    samples, held_out = quality["class_agreement"]
    assert samples["n"] == 1000 and samples["agreement"] >= 0.95 and held_out["agreement"] >= 0.97
    distances = {row["what"]: row for row in quality["nearest_training_image"]}
    assert distances["samples"]["nearer_share"] <= 0.20
    errors = pd.DataFrame(quality["denoising_error"]).pivot(index="sigma", columns="images", values="mean")
    assert len(errors) >= 10 and (errors["held out"] < 1.25 * errors["train"]).all()


def test_the_card_is_what_a_measurement_gives(digits):
    # a tenth of the card's samples: the exact intervals of both must overlap
    from scorescope.probes import sample

    denoiser, card = load_denoiser("digits")
    labels = torch.arange(100) % 10
    images = sample(denoiser, seeds=range(100), condition=labels, progress=False).samples
    found = class_agreement(images, labels, train=digits.train, held_out=digits.held_out).iloc[0]
    said = card["quality"]["class_agreement"][0]
    assert found["low"] <= said["high"] and said["low"] <= found["high"]


def test_agreement_of_real_images_and_of_shuffled_labels(digits):
    held = digits.held_out
    right = class_agreement(held.images, held.labels, train=digits.train, held_out=held)
    assert right["agreement"].iloc[0] == right["agreement"].iloc[1] >= 0.97
    wrong = class_agreement(held.images, (held.labels + 1) % 10, train=digits.train, held_out=held)
    assert wrong["agreement"].iloc[0] < 0.05


def test_memorised_samples_are_seen(digits):
    copies = digits.train.images[:100] + 0.01
    found = nearest_distances({"samples": copies, "held out": digits.held_out.images}, digits.train.images)
    found = found.set_index("what")
    assert found.loc["samples", "nearer_share"] == 1 and found.loc["samples", "mean"] == pytest.approx(0.08, rel=1e-3)
    assert found.loc["held out", "nearer_share"] == pytest.approx(0.05, abs=0.01)


def test_the_nearest_is_named(digits):
    moved = digits.train.images[[7, 3]] + 0.01
    found = nearest_images({"samples": moved}, digits.train.images)
    assert found["nearest"].tolist() == [7, 3] and found["image"].tolist() == [0, 1]
    assert found["distance"].to_numpy() == pytest.approx(0.08, rel=1e-3)


def test_errors_of_a_known_denoiser(digits):
    # D = 0 has the mean square of the data as its error, at every noise level
    table = error_by_sigma(lambda x, sigma, condition: torch.zeros_like(x), digits.train, digits.held_out, [0.1, 1.0])
    expected = digits.held_out.images.double().square().mean().item()
    held = table[table["images"] == "held out"]
    assert held["mean"].to_numpy() == pytest.approx(expected, rel=1e-6) and (held["n"] == 360).all()


def test_image_table_and_density():
    images = torch.linspace(-1.2, 1.2, 1000).reshape(10, 1, 10, 10)
    table = image_table(images, (-1, 1), rule="CFG", weight=2.0)
    assert len(table) == 10 and table["overshoot_share"].mean() == pytest.approx(1 - 2.0 / 2.4, abs=0.01)
    grid = np.linspace(-2, 2, 801)
    density = value_density(images, rule="CFG", weight=2.0, grid=grid)
    assert np.trapezoid(density["density"], grid) == pytest.approx(1, abs=1e-3)
    assert density["density"][400] == pytest.approx(1 / 2.4, rel=0.02)
    with pytest.raises(InputError, match="bandwidth"):
        value_density(images, rule="CFG", weight=2.0, grid=grid, bandwidth=0.0)


def test_agreement_counts_each_attribute_and_all_at_once():
    labels = torch.tensor([[0, 1], [1, 1], [1, 0], [0, 0]])
    named = torch.tensor([[0, 1], [1, 0], [0, 1], [0, 0]])

    def scorer(images):
        rows = images[:, 0].long()
        one_hot = torch.nn.functional.one_hot(named[rows], 2)
        return {"a": one_hot[:, 0], "b": one_hot[:, 1], "nuisance": one_hot[:, 1]}

    table = attribute_agreement(scorer, {"samples": (torch.arange(4.0)[:, None], labels)}, batch=3)
    assert table.set_index("attribute").agreement.to_dict() == {"a": 0.75, "b": 0.5, "all": 0.5}
    row = table.iloc[1]
    assert row.low == pytest.approx(0.0676, abs=1e-3) and row.high == pytest.approx(0.9324, abs=1e-3)  # 2 of 4, exact
    with pytest.raises(InputError, match="sets"):
        attribute_agreement(scorer, {"samples": (torch.zeros(3, 1), labels)})


def test_a_scorer_can_be_differentiated_afterwards():
    """What a user's module keeps from its first call must be able to enter a gradient."""
    kept = {}

    def scorer(images):
        kept.setdefault("scale", torch.ones(2) * 1)
        return {"a": images.flatten(1)[:, :2] * kept["scale"]}

    images = torch.rand(4, 1, 2, 2)
    attribute_agreement(scorer, {"made": (images, torch.zeros(4, 1, dtype=torch.long))})
    leaf = images.clone().requires_grad_()
    scorer(leaf)["a"].square().sum().backward()
    assert leaf.grad is not None
