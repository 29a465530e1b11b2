"""The planted case: a network that only names the accessory in the corner, and one that only names the subject."""

import pytest

from scorescope.analysis.fid.gaming import FeaturePair, gaming_audit
from scorescope.analysis.fid.heatmaps import gradient_maps, influence_maps, mask_share
from scorescope.analysis.fid.influence_tables import class_table, group_table
from scorescope.analysis.fid.matching import match_histogram
from scorescope.analysis.fid.optimal_transport import image_gradients, influence, transport
from scorescope.analysis.fid.verdicts import verdict
from scorescope.data.scenes import ACCESSORIES, render_scenes
from scorescope.probes.features.extraction import extract, extract_maps
from scorescope.probes.features.extractors import classifier_extractor
from scorescope.probes.features.images import tensor_images

SKEWED = (0.55, 0.15, 0.15, 0.15)


@pytest.fixture(scope="module")
def planted():
    scenes = {
        "fake": render_scenes(1500, seed=101, accessory_shares=SKEWED, bitten=0.8),
        "real": render_scenes(1000, seed=100),
        "spare": render_scenes(800, seed=102),
    }
    spaces = {name: classifier_extractor(name) for name in ("accessory", "subject")}
    sources = {name: tensor_images(scene.images) for name, scene in scenes.items()}
    found = {
        name: {space: extract(source, e, batch=250, progress=False) for space, e in spaces.items()}
        for name, source in sources.items()
    }
    pairs = {name: FeaturePair(f["accessory"].features, f["subject"].features) for name, f in found.items()}
    return scenes, spaces, sources, found, pairs


def test_maps_point_at_the_accessory(planted):
    scenes, spaces, sources, _, pairs = planted
    fake = scenes["fake"]
    plan = transport(pairs["fake"].first, pairs["real"].first)
    maps = extract_maps(sources["fake"], spaces["accessory"])
    gradients = image_gradients(plan, pairs["fake"].first)
    for found in (gradient_maps(maps, gradients), gradient_maps(maps, gradients, signed=True)):
        on = mask_share(found, fake.accessory_mask.numpy(), dilate=1)
        off = mask_share(found, fake.subject_mask.numpy())
        assert on["sensitivity_share"].mean() >= 0.7
        assert off["sensitivity_share"].mean() < 0.1
        assert on["area_share"].mean() < 0.2
    assert (
        mask_share(influence_maps(plan, maps), fake.accessory_mask.numpy(), dilate=1)["sensitivity_share"].mean() > 0.7
    )


def test_the_subject_network_looks_elsewhere(planted):
    """The same images: where the sensitivity lies is the network's doing, not the images'."""
    scenes, spaces, sources, _, pairs = planted
    plan = transport(pairs["fake"].second, pairs["real"].second)
    maps = gradient_maps(extract_maps(sources["fake"], spaces["subject"]), image_gradients(plan, pairs["fake"].second))
    assert mask_share(maps, scenes["fake"].accessory_mask.numpy())["sensitivity_share"].mean() < 0.1


def test_the_skewed_accessory_leads_the_tables(planted):
    scenes, spaces, _, found, pairs = planted
    plan = transport(pairs["fake"].first, pairs["real"].first)
    values = influence(plan, pairs["fake"].first)
    groups = group_table(values, [ACCESSORIES[k] for k in scenes["fake"].accessory])
    assert groups["group"][0] == "ring"
    assert groups["low"][0] > 0
    tops = (found[name]["accessory"].top1 for name in ("fake", "real"))
    table = class_table(plan, values, *tops, spaces["accessory"].weight, names=ACCESSORIES)
    assert table["class_name"][0] == "ring"
    assert table["gap"][0] == pytest.approx(0.3, abs=0.05)


def test_matching_the_accessories_fools_one_space_only_and_the_audit_says_so(planted):
    _, _, _, found, pairs = planted
    match = match_histogram(found["fake"]["accessory"].top1, found["real"]["accessory"].top1)
    assert match.unreachable == 0
    audit = gaming_audit(
        pairs["fake"], pairs["real"], {"top-1 matched": match}, spare=pairs["spare"],
        spaces=("accessory", "subject"), draws=3,
    )  # fmt: skip
    said = verdict(audit, "top-1 matched")
    assert said.share > 0.5
    assert abs(said.second_change) < 0.1
    assert "by choice of images alone" in said.text
    assert "the second space moves" in said.text
