"""Sparse features of a pipeline: trained on what a recording kept, and put back into it by noise level."""

import numpy as np
import pytest
import torch
from tests.pipelines import sd15

from scorescope.data.errors import InputError
from scorescope.probes import intervene, record
from scorescope.probes.activations import Positions, ShuffledRows, TraceRows, store_trace, trace_activations
from scorescope.probes.sparse import SparseAutoencoder, scale_features, spliced, train_sparse

SITE = "unet.mid_block"


@pytest.fixture(scope="module")
def recorded():
    pipe, arguments = sd15(steps=3)

    def run():
        return np.asarray(pipe(**arguments | {"generator": torch.Generator().manual_seed(0)}).images)

    bare = run()
    with record(pipe, sites=[SITE], progress=False) as trace:
        assert np.array_equal(run(), bare)
    return pipe, run, bare, trace


def test_rows_are_all_positions_of_all_steps_once(recorded):
    *_, trace = recorded
    rows = TraceRows(trace, SITE, branch="uncond", batch=7, together=2)
    maps = torch.cat([trace.arrays.site(SITE, step, "uncond").float() for step in range(3)])
    whole = maps.flatten(2).transpose(1, 2).flatten(0, 1)
    batches = list(rows.epoch(0))
    found = torch.cat(batches)
    assert {len(part) for part in batches[:-1]} == {7} and len(found) == len(whole)
    order = [np.lexsort(part.numpy().T[::-1]) for part in (found, whole)]
    assert torch.equal(found[order[0]], whole[order[1]])
    assert all(torch.equal(a, b) for a, b in zip(batches, rows.epoch(0), strict=True))
    assert not torch.equal(torch.cat(list(rows.epoch(1))), found)
    with pytest.raises(InputError, match="at least 1"):
        TraceRows(trace, SITE, batch=0)


def test_features_act_in_the_pipeline(recorded):
    pipe, run, bare, trace = recorded
    rows = TraceRows(trace, SITE, batch=64)
    width = next(iter(rows.epoch(0))).shape[1]
    found = train_sparse(rows.epoch, features=2 * width, k=4, steps=5)
    whole = SparseAutoencoder(width, 2 * width, 2 * width)
    whole.encoder.data = whole.decoder.data = torch.cat([torch.eye(width), -torch.eye(width)])

    def image(edit):
        with torch.no_grad(), intervene(pipe, [edit]):
            return run()

    near = {"rtol": 1e-4, "atol": 1e-4}  # float32 through three steps
    np.testing.assert_allclose(image(spliced(whole, SITE)), bare, **near)
    assert not np.allclose(image(spliced(found, SITE)), bare, **near)
    np.testing.assert_allclose(image(scale_features(found, SITE, {0: 1.0})), bare, **near)
    beyond = scale_features(found, SITE, dict.fromkeys(range(2 * width), 0.0), low=1e6)
    assert np.array_equal(image(beyond), bare)  # no step has such a noise level


def test_a_recording_goes_into_shards(recorded, tmp_path):
    """Rows are those of the recording, by sample and step; positions may be drawn, and the folder is gone on with."""
    *_, trace = recorded
    stored = store_trace(trace, [SITE], branch="uncond", path=tmp_path / "a", shard="1 kB")
    assert stored.is_complete and len(stored.index) == 3 and stored.branch == "uncond"
    memory = trace_activations(trace, [SITE], branch="uncond", how="whole")
    found = stored.activations()
    assert torch.equal(found.site(SITE), memory.site(SITE)) and found.sigmas == memory.sigmas
    shards = sorted((tmp_path / "a" / "shards").iterdir())
    before = [shard.read_bytes() for shard in shards]
    assert len(shards) == 3
    shards[1].unlink()
    store_trace(trace, [SITE], branch="uncond", path=tmp_path / "a", shard="1 kB")
    assert [shard.read_bytes() for shard in shards] == before
    some = store_trace(trace, {SITE: Positions(2)}, path=tmp_path / "b")
    assert some.positions(SITE) == 2 and len(list(ShuffledRows(some, SITE, batch=6))) == 1
    with pytest.raises(InputError, match="to be continued"):
        store_trace(trace, [SITE], branch="cond", path=tmp_path / "a", shard="1 kB")
