"""Directions that were found from labels, judged by what the same recipe finds from labels that mean nothing.

Rates may exceed the stated level by three binomial standard errors; draws are fixed.
"""

import math

import numpy as np
import pytest
import torch
from tests.read_directions import IMAGES, SAMPLING, activations, found, judged, meaningless
from tests.read_networks import CHANNELS, FAMILIES, Reader, score

from scorescope.analysis.directions import compare_directions, steer_curve, steering_effect
from scorescope.analysis.directions.verdicts import against_draws
from scorescope.data.errors import InputError
from scorescope.probes.sites import Direction, shuffled_direction, shuffled_directions


def planted(model, values, seed):
    """What the output's first pixel takes from `mid`, above its median, one label in five at random."""
    read = values @ model.v[0]
    other = torch.rand(IMAGES, generator=torch.Generator().manual_seed(seed)) < 0.2
    return torch.where(other, meaningless(values, seed), (read > read.median()).long())


def bound(level, draws):
    return level + 3 * math.sqrt(level * (1 - level) / draws)


def verdicts(family, labelled, draws, **more):
    """Verdicts on directions of `draws` sets of labels, ten to a network."""
    rows = []
    for seed in range(draws):
        model = Reader(family, seed=seed // 10)
        values = activations(model, seed // 10)
        labels = labelled(values, seed) if labelled is meaningless else labelled(model, values, seed)
        rows.append(judged(model, values, labels, seed=seed, **more))
    return rows


def moved(rows):
    return float(np.mean([row["verdict"] in ("steerable", "reversed") for row in rows]))


def test_labels_that_mean_nothing_are_found_out_where_random_directions_do_not():
    rows = verdicts("aligned", meaningless, 20)
    assert np.mean([row["p_random"] <= 0.05 for row in rows]) > 0.2  # what random directions alone would let pass
    assert moved(rows) <= bound(0.05, 20)
    assert all(row["shuffled"] == 8 and row["untested"] == "" and row["p"] >= row["p_shuffled"] for row in rows)
    assert moved(verdicts("aligned", planted, 4)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_verdicts_on_labels_that_mean_nothing_are_wrong_in_at_most_5_of_100(family):
    """A minute each. The table of tests/benchmarks/RESULTS.md, 'Directions that were found'; -s prints its numbers."""
    rows = verdicts(family, meaningless, 150)
    assert moved(rows) <= bound(0.05, 150)
    assert np.mean([row["p_shuffled"] <= 0.05 for row in rows]) <= bound(0.05, 150)
    few = verdicts(family, meaningless, 60, random=4, shuffled=4)
    assert moved(few) <= bound(0.05, 60)
    power = verdicts(family, planted, 50)
    shares = {f"{name} alone": [float(np.mean([row[name] <= 0.05 for row in part])) for part in (rows, power)]
              for name in ("p_random", "p_shuffled")}  # fmt: skip
    print(f"{family}: null {moved(rows):.3f}, four of each {moved(few):.3f}, planted {moved(power):.3f}; {shares}")
    # the law of labels is passed by all; random directions bound it where the planted one is far from what is read
    assert np.mean([row["p_shuffled"] <= 0.05 for row in power]) == 1
    assert moved(power) >= {"isotropic": 0.7, "anisotropic": 0.15, "aligned": 0.7}[family]


def linear_effects(values, labels, gradient, *, method, count, seed, groups=None):
    """What a network that is linear in the site makes of a direction and of those of shuffled labels, by length."""
    direction = found(values, labels, method)

    def find(x, y):
        return found(x, y, method).vector

    law = shuffled_directions(direction, values, labels, count=count, find=find, groups=groups, seed=seed)
    return float(direction.step(1.0) @ gradient), np.array([float(way.step(1.0) @ gradient) for way in law])


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_students_t_holds_from_one_shuffled_direction_on(count):
    # ranks would need 19 to reach 0.05
    model = Reader("aligned")
    values = activations(model, 0)
    for method, draws in (("difference", 200), ("lda", 60)):
        p = [
            against_draws(
                *linear_effects(values, meaningless(values, k), model.v[0], method=method, count=count, seed=k)
            )
            for k in range(draws)
        ]
        assert np.mean([value <= 0.05 for _, value in p]) <= bound(0.05, draws)


def test_rows_of_one_image_keep_one_label():
    # four identical rows an image: labels that are shuffled row by row differ too little
    model = Reader("aligned")
    values = activations(model, 1)[:40]
    images = torch.arange(40).repeat(4)
    rates = {}
    for name, groups in (("rows", None), ("images", images)):
        p = []
        for k in range(200):
            labels = (torch.from_numpy(np.random.default_rng(k).permutation(40)) % 2).repeat(4)
            given = {"method": "difference", "count": 8, "seed": k, "groups": groups}
            p.append(against_draws(*linear_effects(values.repeat(4, 1), labels, model.v[0], **given))[1])
        rates[name] = np.mean(np.array(p) <= 0.05)
    assert rates["images"] <= bound(0.05, 200) and rates["rows"] > 0.2


def test_movers_of_a_comparison_are_not_found_from_labels_that_mean_nothing():
    draws, moves, alone = 60, [], []
    for seed in range(draws):
        model = Reader("aligned", seed=seed // 10)
        values, labels = activations(model, seed // 10), meaningless(None, seed)
        gradient = model.v[0]
        direction = found(values, labels)
        law = shuffled_directions(direction, values, labels, seed=seed)

        def effect(way, gradient=gradient):
            return {"target": (way.step(1.0) @ gradient).repeat(8) + 1e-6 * torch.arange(8)}

        given = {"effect": effect, "resamples": 10, "seed": seed}
        row = compare_directions([direction], values, labels.numpy(), shuffled=[law], **given).iloc[0]
        moves.append(row["moves"])
        alone.append(row["p_random"] <= 0.05)
        bare = compare_directions([direction], values, labels.numpy(), **given).iloc[0]
        assert not bare["moves"] and "found from labels" in bare["untested"]
    assert np.mean(moves) <= bound(0.05, draws) < np.mean(alone)


def test_a_random_direction_is_rarely_a_mover_among_random_ones():
    rng, moves = np.random.default_rng(0), []
    values, labels = torch.randn(40, 64, generator=torch.Generator().manual_seed(0)), np.arange(40) % 2
    for seed in range(100):
        vector = torch.from_numpy(rng.normal(size=64)).float()
        way = Direction(vector, "mid", "target", "imported", 1.0)
        given = {"effect": lambda one: {"target": one.step(1.0)[0].repeat(8) + 1e-6 * torch.arange(8)}, "random": 2}
        moves.append(compare_directions([way], values, labels, resamples=5, seed=seed, **given)["moves"].iloc[0])
    assert 0 < np.mean(moves) <= bound(0.05, 100)


def test_a_direction_from_labels_needs_their_law_and_says_so():
    model = Reader("isotropic")
    values = activations(model, 0)
    labels = planted(model, values, 0)
    row = judged(model, values, labels, shuffled=0)
    assert row["verdict"] == "undecided" and math.isnan(row["p"]) and "shuffled" in row["untested"]
    one = shuffled_direction(found(values, labels), values, labels)
    curve = steer_curve(
        model, found(values, labels), score, target="target", seeds=range(8), strengths=(-2, 2), shuffled=one,
        sampling=SAMPLING, resamples=2, progress=False,
    )  # fmt: skip
    assert curve.verdicts["untested"].str.contains("law of shuffled").all()


def test_shuffled_directions_are_as_long_as_they_were_found():
    model = Reader("anisotropic")
    values = activations(model, 0)
    labels = planted(model, values, 0)
    direction = found(values, labels)
    law = shuffled_directions(direction, values, labels, count=400)
    lengths = np.array([float(way.step(1.0).norm()) for way in law])
    assert np.median(lengths) < 0.6 * float(direction.step(1.0).norm())
    ratio = float(law[0].vector.norm() / direction.vector.norm())
    assert lengths[0] == pytest.approx(direction.scale * ratio, rel=1e-5)
    # random labels have the covariance 4 S / n
    expected = 4 * values.double().T.cov(correction=0).trace() / IMAGES
    squares = torch.stack([way.vector.double().square().sum() for way in law]).mean()
    assert float(squares / expected) == pytest.approx(1, abs=0.2)


def test_controls_are_drawn_within_a_span():
    model = Reader("isotropic")
    values = activations(model, 0)
    labels = planted(model, values, 0)
    span = torch.linalg.svd(values - values.mean(0), full_matrices=False).Vh[:3]
    curve = steer_curve(
        model, found(values, labels), score, target="target", seeds=range(8), strengths=(-2, 2), random=4, within=span,
        shuffled=shuffled_directions(found(values, labels), values, labels, count=2), sampling=SAMPLING, resamples=2,
        progress=False,
    )  # fmt: skip
    assert list(curve.controls) == ["shuffled 1", "shuffled 2", *[f"random {k}" for k in range(1, 5)]]
    limit = float((span @ found(values, labels).unit).norm())
    assert all(abs(curve.controls[f"random {k}"]) <= limit + 1e-6 for k in range(1, 5))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"labels": torch.zeros(IMAGES, dtype=torch.int64)}, "both 0 and 1"),
        ({"labels": torch.arange(IMAGES) % 2}, "cosine"),  # others than it was found from
        ({"find": lambda x, y: x[y == 1].mean(0)}, "how the direction was found"),
        ({"count": 0}, "at least one"),
        ({"groups": torch.zeros(IMAGES, dtype=torch.int64)}, "one label a group"),
        ({"groups": torch.arange(3)}, "one a row"),
        ({"activations": torch.ones(IMAGES, 3)}, f"{CHANNELS}"),
    ],
)
def test_bad_input(more, words):
    model = Reader("isotropic")
    values = activations(model, 0)
    labels = planted(model, values, 0)
    with pytest.raises(InputError, match=words):
        shuffled_directions(found(values, labels), **({"activations": values, "labels": labels} | more))
    with pytest.raises(InputError, match="one a direction"):
        effect = steering_effect(model, score, seeds=range(8), sampling=SAMPLING)
        compare_directions([found(values, labels)], values, labels.numpy(), effect=effect, shuffled=[])
