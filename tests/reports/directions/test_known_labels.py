"""Splits and probes of images of which each attribute is known of some alone."""

import numpy as np
import torch

from scorescope.analysis.statistics.splits import grouped_split
from scorescope.probes.activations import Activations
from scorescope.reports.directions.known_labels import scan_known, split_known


def test_every_attribute_is_in_every_part_and_no_group_is_in_two():
    for seed in range(20):
        known = torch.zeros(40, 2, dtype=torch.bool)
        known[0::4, 0] = known[1::4, 0] = known[2::4, 1] = known[3::4, 1] = True
        groups = torch.arange(40) // 2
        split = split_known(known, groups, seed=seed)
        for part, share in (("train", 12), ("validation", 4), ("test", 4)):
            rows = getattr(split, part)
            assert known[rows].sum(0).tolist() == [share, share]  # of 20 images each
        split.check(groups.numpy())


def test_where_all_is_known_the_split_is_the_usual_one():
    groups = torch.arange(30)
    made, usual = (
        split_known(torch.ones(30, 2, dtype=torch.bool), groups, seed=3),
        grouped_split(groups.numpy(), seed=3),
    )
    np.testing.assert_array_equal(made.test, usual.test)


def test_a_probe_sees_the_images_of_its_attribute_alone():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    values = torch.randn(1, 200, 3, generator=generator)
    values[0, :100, 0] += 6 * labels[:100] - 3
    values[0, 100:, 1] += 6 * labels[100:] - 3  # in another channel, where the other attribute is known
    first, second = labels.clone(), labels.clone()
    first[100:], second[:100] = -1, -1
    activations = Activations({"a": values}, (1.0,), torch.arange(200), {"a": "mean"}, "uncond")
    known = torch.stack([first, second], dim=1) >= 0
    split = split_known(known, torch.arange(200), seed=0)
    scan = scan_known(
        activations, {"first": first, "second": second}, split=split, groups=torch.arange(200), resamples=20, seed=0,
        progress=False,
    )  # fmt: skip
    assert scan.final["attribute"].tolist() == ["first", "second"] and scan.final["n"].tolist() == [20, 20]
    assert (scan.final["chance"] == 0.5).all() and (scan.final["value"] > 0.9).all()
    assert scan.split is split and set(scan.probes) == {("first", "a", 0), ("second", "a", 0)}
