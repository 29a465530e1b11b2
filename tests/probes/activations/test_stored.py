"""Stored activations are those in memory, whatever ended the run that wrote them; shuffled rows are all rows, once."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.probes.activations import stored_run
from tests.probes.activations.test_activations import SITE, Transformer, bank, unet
from torch.utils.data import DataLoader

from scorescope.data.errors import InputError
from scorescope.probes import CFG
from scorescope.probes.activations import (
    Positions,
    ShuffledRows,
    StoredActivations,
    collect,
    sample_with_sites,
    store_samples,
)
from scorescope.probes.activations.planned import Planned
from scorescope.probes.activations.storing import Where, described_sites
from scorescope.probes.models import edm_sigmas
from scorescope.probes.recording.plan import BudgetError
from scorescope.probes.recording.store import write_manifest

SITES = {SITE: "mean", "network.up.1": "whole", "x": 2, "denoised": "whole"}
LABELS = torch.arange(7)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return collect(unet(), bank(), SITES, condition=LABELS, batch=3, path=tmp_path_factory.mktemp("a"), shard="40 kB")


def files(folder):
    return {file.name: file.read_bytes() for file in sorted((Path(folder) / "shards").iterdir())}


def test_what_is_stored_is_what_is_collected_in_memory(stored):
    memory, disk = collect(unet(), bank(), SITES, condition=LABELS, batch=3), stored.activations()
    assert len(files(stored.path)) > 4 and stored.is_complete and stored.verify() == []
    for site in SITES:
        assert torch.equal(memory.site(site), disk.site(site)), site
    for name in ("images", "contents"):
        assert torch.equal(getattr(memory, name), getattr(disk, name))
    for name in ("sigmas", "how", "branch", "outputs"):
        assert getattr(memory, name) == getattr(disk, name)
    assert stored.inner_shape("network.up.1") == (8, 8) and stored.width("network.up.1") == 16
    assert torch.equal(stored.at(SITE, 2)[:, 0], memory.at(SITE, 2))


def test_tokens_keep_their_order(tmp_path):
    denoiser, points = Transformer(), bank(shape=Transformer.shape)
    memory = collect(denoiser, points, ["block"], how="whole")
    disk = collect(denoiser, points, ["block"], how="whole", path=tmp_path / "a")
    assert torch.equal(memory.site("block"), disk.activations().site("block")) and disk.inner_shape("block") == (6,)


def test_the_index_names_every_evaluation(stored):
    table = stored.index
    assert len(table) == len(stored) == 7 * 2 * 3 and set(table["branch"]) == {"cond"} and set(table["seed"]) == {3}
    assert not table.duplicated(["image", "draw", "step"]).any()
    np.testing.assert_array_equal(table["sigma"], np.array(stored.sigmas)[table["step"]])


def test_positions_are_drawn_by_evaluation_alone(stored, tmp_path):
    whole = torch.cat(list(stored.pieces("network.up.1")))
    for batch in (3, 7):
        some = {"network.up.1": Positions(5, seed=1)}
        found = collect(unet(), bank(), some, condition=LABELS, batch=batch, path=tmp_path / str(batch))
        places, values = found.place_of("network.up.1").long(), torch.cat(list(found.pieces("network.up.1")))
        assert (places.diff() > 0).all() and len(places.unique(dim=0)) > 30
        # convolutions of other batches differ by rounding
        torch.testing.assert_close(values, torch.take_along_dim(whole, places[:, :, None], 1), rtol=1e-5, atol=1e-6)


def test_an_update_is_what_a_module_adds(tmp_path):
    denoiser, points = Transformer(), bank(shape=Transformer.shape)
    given = {}
    denoiser.block.register_forward_pre_hook(lambda _, inputs: given.update(x=inputs[0]))
    put_out = collect(denoiser, points, ["block"], how="whole").at("block", 2)[7:]
    with torch.no_grad():
        point = points.point(torch.arange(7), 2, 1)
        denoiser(point.x, point.sigma, None)
    added = collect(denoiser, points, ["block"], how="whole", update=True)
    torch.testing.assert_close(added.at("block", 2)[7:], put_out - given["x"].flatten(1), rtol=1e-5, atol=1e-6)
    disk = collect(denoiser, points, ["block"], how="whole", update=True, path=tmp_path / "a")
    assert torch.equal(disk.activations().site("block"), added.site("block"))
    with pytest.raises(InputError, match="same shapes"):
        collect(unet(), bank(), ["network.down.1"], update=True)


@pytest.mark.parametrize("attempt", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, 6))])
@pytest.mark.parametrize("what", ["store", "store_sampled"])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, what, attempt):
    store = getattr(stored_run, what)
    whole = files(store(tmp_path / "whole").path)
    folder = tmp_path / "killed"
    code = f"from tests.probes.activations.stored_run import store_slowly; store_slowly({str(folder)!r}, {what!r})"
    paths = os.pathsep.join(path for path in sys.path if path)
    child = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths})
    while not (folder / "steps.jsonl").is_file() or not (folder / "steps.jsonl").read_bytes():
        assert child.poll() is None, "it ended by itself"
        time.sleep(0.001)
    time.sleep(random.random() * 0.3)
    child.send_signal(signal.SIGKILL)
    child.wait()
    found = StoredActivations(folder)
    said = {name: data for name, data in files(folder).items() if name in {line["shard"] for line in found._lines}}
    assert 0 < len(said) < len(whole) and not found.is_complete  # each is a whole shard
    assert all(whole[name] == data for name, data in said.items())
    with pytest.raises(InputError, match="collect them to the end"):
        found.activations()
    assert files(store(folder).path) == whole and StoredActivations(folder).is_complete


def test_a_truncated_shard_is_refused_and_made_again(tmp_path):
    whole = stored_run.store(tmp_path / "a")
    before, shards = files(whole.path), tmp_path / "a" / "shards"
    (shards / "00000004.safetensors").write_bytes(before["00000004.safetensors"][:-8])
    with pytest.raises(InputError, match=r"00000004.*bytes.*makes it again"):
        StoredActivations(whole.path)
    flipped = bytearray(before["00000007.safetensors"])
    flipped[-1] ^= 1
    (shards / "00000007.safetensors").write_bytes(flipped)
    (shards / "00000009.safetensors.partial").write_bytes(b"half")
    assert files(stored_run.store(tmp_path / "a").path) == before


def told(folder, **changed):
    """The same folder with another manifest, whose hash is right."""
    body = {k: v for k, v in json.loads((folder / "manifest.json").read_text()).items() if k != "check"} | changed
    write_manifest(folder, body)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"sigmas": ["a"]}, "sigmas"), ({"images": 0}, "images"), ({"contents": [10**40] * 12}, "contents"),
        ({"branches": []}, "branches"),
        ({"dtype": "int3"}, "dtype"), ({"sites": []}, "sites"), ({"outputs": {"convolution": {}}}, "outputs place"),
        ({"sites": [{"site": "x", "how": "mean"}]}, "sites positions"),
    ],
)  # fmt: skip
def test_a_manifest_that_lacks_something_is_refused(tmp_path, changed, word):
    stored_run.store(tmp_path / "a")
    told(tmp_path / "a", **changed)
    with pytest.raises(InputError, match=f"no {word} of the right type"):
        StoredActivations(tmp_path / "a")


def test_shards_and_index_that_are_of_something_else_are_refused(tmp_path):
    found = stored_run.store(tmp_path / "a")
    about = [{**site, "channels": site["channels"] + 1} for site in found.manifest["sites"]]
    told(tmp_path / "a", sites=about)
    with pytest.raises(InputError, match=r"convolution of type F32 and shape"):
        list(StoredActivations(tmp_path / "a").blocks("convolution"))
    told(tmp_path / "a", sites=found.manifest["sites"], sigmas=[4.0, 1.0])
    with pytest.raises(InputError, match="an index with a wrong step"):
        StoredActivations(tmp_path / "a").activations()


def test_a_folder_that_was_made_anew_is_read_at_its_new_places(tmp_path):
    """Where arrays lie is not remembered beyond the object that reads them."""
    for how in ("whole", Positions(3)):
        shutil.rmtree(tmp_path / "a", ignore_errors=True)
        found = collect(stored_run.Small(), bank(shape=(1, 4, 4)), {"convolution": how}, path=tmp_path / "a")
        assert found.verify() == [] and found.positions("convolution") == (16 if how == "whole" else 3)
        list(found.blocks("convolution"))
        list(ShuffledRows(found, "convolution"))


def test_a_folder_without_a_shard_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("scorescope.probes.activations.storing.Filled.of", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stored_run.store(tmp_path / "a")
    begun = StoredActivations(tmp_path / "a")
    assert len(begun) == len(begun.index) == 0 and not begun.is_complete
    with pytest.raises(InputError, match="without a shard yet"):
        begun.to_xarray()


def test_another_run_is_not_continued(stored):
    other = bank()
    other.x0[0] += 1
    for more in ({"batch": 2}, {"dtype": "float16"}, {"update": True}, {"condition": None}, {"bank": other}):
        given = {"bank": bank(), "condition": LABELS, "batch": 3, "shard": "40 kB"} | more
        with pytest.raises(InputError, match=r"to be continued|same shapes"):
            collect(unet(), sites=SITES, path=stored.path, **given)
    with pytest.raises(InputError, match="to be continued"):
        collect(unet(seed=1), bank(), SITES, condition=LABELS, batch=3, path=stored.path, shard="40 kB")


def test_room_is_told_and_kept_to(tmp_path, capsys):
    with pytest.raises(BudgetError, match="10,000 bytes for"):
        collect(unet(), bank(), SITES, path=tmp_path / "a", budget="10 kB")
    assert not (tmp_path / "a").exists()
    found = collect(unet(), bank(), SITES, path=tmp_path / "b", budget="1 MB", progress=True)
    told, size = capsys.readouterr().err, sum(len(data) for data in files(found.path).values())
    assert "190 kB of 42 evaluations" in told and size == pytest.approx(190_000, rel=0.05)  # headers come to it


def test_numbers_beyond_the_stored_type_are_refused(tmp_path):
    class Large(stored_run.Small):
        def forward(self, x, sigma, condition=None):
            return self.convolution(x * 1e6).mean(1, keepdim=True)

    points = stored_run.Bank(torch.ones(2, 1, 4, 4), [1.0])
    with pytest.raises(InputError, match=r"convolution.*range of dtype"):
        collect(Large(), points, ["convolution"], path=tmp_path / "a", dtype="float16")
    found = collect(Large(), points, ["convolution"], path=tmp_path / "b", dtype="bfloat16")
    exact = collect(Large(), points, ["convolution"])
    # eight bits of significand
    torch.testing.assert_close(found.activations().site("convolution"), exact.site("convolution"), rtol=2**-8, atol=0)
    assert next(found.blocks("convolution")).dtype == np.float32


def test_what_memory_cannot_hold_is_said(tmp_path):
    with pytest.raises(InputError, match="path="):
        collect(unet(), bank(), {SITE: Positions(4)})
    drawn = collect(unet(), bank(), {SITE: Positions(4)}, path=tmp_path / "a")
    with pytest.raises(InputError, match="positions were drawn"):
        drawn.activations()
    with pytest.raises(InputError, match="not averaged"):
        collect(unet(), bank(), [SITE], draws="mean", path=tmp_path / "b")


def rows_of(stored, site="network.up.1"):
    return torch.cat(list(stored.pieces(site))).flatten(0, 1)


def ordered(rows):
    return rows[np.lexsort(rows.numpy().T[::-1])]


def test_shuffled_rows_are_all_rows_once(stored):
    rows = ShuffledRows(stored, "network.up.1", batch=100, seed=4, run=16, pool=500)
    first, second, again = list(rows.epoch(0)), list(rows.epoch(1)), list(rows.epoch(0))
    assert [len(part) for part in first] == [100] * 26 + [88] and len(rows) == 27
    assert torch.equal(ordered(torch.cat(first)), ordered(rows_of(stored)))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert torch.equal(next(iter(rows)), first[0]) and torch.equal(next(iter(rows)), second[0])  # epoch by epoch


def test_a_batch_is_of_many_shards(stored):
    level = torch.from_numpy(stored.index["step"].to_numpy()).repeat_interleave(64)
    lookup = {tuple(row): int(step) for row, step in zip(rows_of(stored).tolist(), level, strict=True)}
    rows = ShuffledRows(stored, "network.up.1", batch=200, seed=0, run=16, pool=600)
    for batch in list(rows)[:-1]:
        counts = np.bincount([lookup[tuple(row)] for row in batch.tolist()], minlength=3)
        # of 200 rows, in runs of 16 of a pool of 600 by chance: a level's share of 1/3 with a spread of 11 % at most
        assert counts.min() > 0


def test_a_level_can_be_read_alone_and_by_workers(stored):
    one = ShuffledRows(stored, "network.up.1", batch=64, levels=[1])
    assert torch.equal(ordered(torch.cat(list(one))), ordered(stored.at("network.up.1", 1).flatten(0, 1)))
    rows = ShuffledRows(stored, "network.up.1", batch=64, run=16)
    loaded = torch.cat(list(DataLoader(rows, batch_size=None, num_workers=2)))
    assert torch.equal(ordered(loaded), ordered(rows_of(stored)))
    with pytest.raises(InputError, match="levels among 3"):
        ShuffledRows(stored, "network.up.1", levels=[7])


def test_other_readers_see_the_same_numbers(stored, monkeypatch):
    blocks = np.concatenate(list(stored.blocks("network.up.1")))
    np.testing.assert_array_equal(blocks, rows_of(stored).numpy())
    lazy = stored.to_xarray()
    assert lazy["network.up.1"].chunks is not None
    np.testing.assert_array_equal(lazy["network.up.1"].sel(evaluation=5).to_numpy(), blocks.reshape(42, 64, 16)[5])
    monkeypatch.setitem(sys.modules, "dask", None)
    np.testing.assert_array_equal(stored.to_xarray()["network.up.1"].to_numpy(), blocks.reshape(42, 64, 16))


SAMPLED = {"condition": LABELS[:5], "sigmas": edm_sigmas(4), "rule": CFG(2.0), "batch": 2}


@pytest.mark.parametrize("branch", ["cond", "uncond"])
@pytest.mark.parametrize("call", [0, 1])
def test_what_sampling_stores_is_what_it_keeps_in_memory(tmp_path, branch, call):
    run = {"seeds": range(20, 25), **SAMPLED}
    _, taps = sample_with_sites(unet(), SITES, progress=False, **run)
    disk = store_samples(unet(), SITES, branch=branch, call=call, path=tmp_path / "a", shard="60 kB", **run)
    steps = [step for step, number in taps.sigmas if number == call]
    assert len(files(disk.path)) == 2 and disk.is_complete and disk.branch == branch
    assert disk.sigmas == tuple(taps.sigmas[step, call] for step in steps)
    found = disk.activations()
    for site in SITES:
        expected = torch.stack([taps.at(site, step=step, call=call, branch=branch) for step in steps])
        # batches of other sizes differ by rounding
        torch.testing.assert_close(found.site(site), expected, rtol=1e-4, atol=1e-5)
    table = disk.index
    np.testing.assert_array_equal(table["seed"], 20 + table["image"])
    assert set(table["call"]) == {call} and not table.duplicated(["image", "step"]).any()


def test_sampling_keeps_to_its_budget_and_to_its_folder(tmp_path):
    run = {"seeds": range(5), "shard": "40 kB", **SAMPLED}
    store_samples(unet(), SITES, path=tmp_path / "a", **run)
    for more in ({"rule": CFG(3.0)}, {"seeds": range(1, 6)}, {"condition": LABELS[1:6]}, {"branch": "uncond"}):
        with pytest.raises(InputError, match="to be continued"):
            store_samples(unet(), SITES, path=tmp_path / "a", **(run | more))
    with pytest.raises(BudgetError, match="10,000 bytes for"):
        store_samples(unet(), SITES, path=tmp_path / "c", budget="10 kB", **run)
    for seeds in ([], [3, 4, 3, 5, 6]):
        with pytest.raises(InputError, match=r"^seeds: .*all different"):
            store_samples(unet(), SITES, path=tmp_path / "c", **(run | {"seeds": seeds}))
    with pytest.raises(InputError, match="a branch and a call"):
        store_samples(unet(), SITES, path=tmp_path / "c", branch="other", **run)
    assert not (tmp_path / "c").exists()


def test_sampling_draws_positions_by_sample_and_step(tmp_path):
    run, some = {"seeds": range(5), **SAMPLED}, {"network.up.1": Positions(5, seed=1)}
    whole = store_samples(unet(), {"network.up.1": "whole"}, path=tmp_path / "a", shard="60 kB", **run)
    found = store_samples(unet(), some, path=tmp_path / "b", shard="3 kB", **run)
    places, order = found.place_of("network.up.1").long(), ["image", "step"]
    kept = [part.index.sort_values(order).index.to_numpy() for part in (whole, found)]
    values, every = (torch.cat(list(part.pieces("network.up.1"))) for part in (found, whole))
    expected = torch.take_along_dim(every[kept[0]], places[kept[1]][:, :, None], 1)
    torch.testing.assert_close(values[kept[1]], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("given", [3, 5])
def test_a_shard_of_other_rows_than_were_told_is_refused(tmp_path, given):
    """As of a branch that a rule leaves out for some samples, or asks for once more."""

    class Parts:
        shards = 1

        def rows(self, shard):
            return 4

        def each(self, shard, put):
            for row in range(given):
                put(Where(torch.tensor([row]), 0, 0, 1.0), {"site": torch.ones(1, 2)})

    described, item = described_sites(lambda: {"site": torch.ones(1, 2)}, {"site": "whole"}, "float32")
    manifest = {"sites": described, "dtype": "float32"}
    with pytest.raises(InputError, match=r"evaluations in (a )?shard"):
        Planned(Parts(), {"site": "whole"}, manifest, 4, item).store(tmp_path / "a", budget=None, progress=False)
