"""Planted features are found, training goes on as if it had never ended, and other people's files are read."""

import json
from itertools import islice

import pytest
import scipy
import torch
from tests.planted import Planted
from tests.probes.sparse import sparse_law
from torch import nn

from scorescope.data.errors import InputError
from scorescope.probes.sites import Intervention, intervened
from scorescope.probes.sparse import (
    Bands,
    SparseAutoencoder,
    codec_at,
    codec_of,
    dictionary,
    feature_direction,
    load_sparse,
    scale_features,
    spliced,
    train_sparse,
)
from scorescope.probes.sparse.training import _Run

SMALL = {"features": 48, "k": 3, "steps": 40, "lr": 3e-3, "dead_after": 2000}


def few(epoch):
    return sparse_law.batches(epoch, count=15)


@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
def test_planted_features_are_recovered(kind):
    # three of 64 in a row of 32 channels; with half as many features again as are planted, fits seldom get stuck
    features = 96
    found = train_sparse(
        sparse_law.batches, features=features, k=sparse_law.ACTIVE, steps=500, kind=kind, lr=1e-2, dead_after=10_000
    )
    cosines = (sparse_law.truth() @ found.decoder.detach().T).numpy()
    matched = cosines[scipy.optimize.linear_sum_assignment(-cosines)]
    assert (matched >= 0.9).mean() >= 0.9
    rows = sparse_law.draw(5)[1]
    active = (found.encode(rows) > 0).sum(1).float()
    assert active.mean() == pytest.approx(sparse_law.ACTIVE, rel=0.05) and (kind == "batchtopk" or (active <= 3).all())
    assert ((found(rows) - rows).square().sum() / (rows - rows.mean(0)).square().sum()).item() < 0.1
    # more than are planted: the others fall silent, and are counted
    assert abs(found.card["silent"] - (features - sparse_law.FEATURES)) <= 3
    torch.testing.assert_close(found.decoder.norm(dim=1), torch.ones(features))


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_silent_features_learn_from_what_is_left_alone(weight):
    """Of one step from the same start: silent features move if and only if they are asked for the rest."""
    rows = sparse_law.draw(3)[1]
    asked = {"features": 48, "k": 3, "kind": "topk", "lr": 1e-2, "steps": 9, "seed": 0, "auxiliary": 2}
    run = _Run.begun(rows, asked | {"auxiliary_weight": weight, "dead_after": 100}, "cpu")
    with torch.no_grad():
        run.model.encoder_bias[:5] = -3.0  # positive now and then, and never among the three largest
    run.idle[:5] = 10**6
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    scores = run.model.scores(run.model.normalised(rows))
    codes, error = run.model.sparse(scores), torch.randn(len(rows), sparse_law.WIDTH)
    assert not codes[:, :5].any()
    best = scores[:, :5].sort(dim=1, descending=True)
    made = sum(best.values[:, [k]].relu() * run.model.decoder[:5][best.indices[:, k]] for k in range(2))
    torch.testing.assert_close(run._auxiliary(scores, error), (error - made).square().mean())
    run.learn(rows)
    moved = (run.model.decoder - before["decoder"]).norm(dim=1) > 1e-6
    assert moved[5:].any() and moved[:5].any() == (weight > 0)


def test_training_goes_on_to_the_same_numbers(tmp_path):
    whole, file = train_sparse(few, **SMALL), tmp_path / "sae.safetensors"

    def cut_off(epoch):  # ends the run in its second epoch, after 20 batches and one save
        yield from islice(few(epoch), 5 if epoch else None)
        if epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sparse(cut_off, path=file, save_every=16, **SMALL)
    assert load_sparse(file).card["steps"] == 16
    resumed = train_sparse(few, path=file, save_every=16, **SMALL)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert whole.card == resumed.card and resumed.card["rows"] == 40 * 512
    rows = sparse_law.draw(5)[1]
    assert torch.equal(load_sparse(file).encode(rows), whole.encode(rows))
    with pytest.raises(InputError, match=r"lr: found 0.1; expected 0.003"):
        train_sparse(few, path=file, **SMALL | {"lr": 0.1})


@pytest.mark.parametrize(
    ("changed", "word"),
    [({"place": -1}, "place"), ({"rows": "7"}, "rows"), ({"asked": None}, "features: found 48; expected None")],
)
def test_a_state_of_training_that_does_not_fit_is_refused(tmp_path, changed, word):
    train_sparse(few, path=tmp_path / "a.safetensors", **SMALL)
    model, state = SparseAutoencoder.read(tmp_path / "a.safetensors")
    model.card |= changed
    model.save(tmp_path / "b.safetensors", more=state)
    with pytest.raises(InputError, match=word):
        train_sparse(few, path=tmp_path / "b.safetensors", **SMALL)
    model.card = SparseAutoencoder.load(tmp_path / "a.safetensors").card
    model.save(tmp_path / "c.safetensors", more=state | {"exp_avg.decoder": torch.zeros(3, 2)})
    with pytest.raises(InputError, match=r"the state of its training"):
        train_sparse(few, path=tmp_path / "c.safetensors", **SMALL)


def test_a_damaged_file_is_refused(tmp_path):
    file = SparseAutoencoder(4, 8, 2).save(tmp_path / "a.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(InputError, match="does not match its hash"):
        load_sparse(file)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": 0}, "at least 1"), ({"lr": -1.0}, "positive"), ({"k": 0}, "1 <= k"), ({"k": 500}, "1 <= k"),
        ({"batches": lambda epoch: iter(())}, "none in epoch 0"),
        ({"batches": lambda epoch: iter([torch.ones(3)])}, "width"),
        ({"batches": lambda epoch: iter([torch.full((2, 3), torch.nan)])}, "finite"),
        ({"batches": lambda epoch: iter([torch.ones(2, 3)])}, "rows that differ"),
    ],
)  # fmt: skip
def test_bad_training_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        train_sparse(**{"batches": few, **SMALL} | given)


class Unbox(nn.Module):
    """The formula of sdxl-unbox in its own words."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = nn.Linear(6, 10, bias=False), nn.Linear(10, 6, bias=False)
        self.pre_bias, self.latent_bias = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(10))
        self.register_buffer("stats_last_nonzero", torch.zeros(10, dtype=torch.long))

    def encode(self, x):
        values, places = (self.encoder(x - self.pre_bias) + self.latent_bias).topk(3, dim=-1)
        return torch.zeros(len(x), 10).scatter(-1, places, values.relu())

    def decode(self, codes):
        return self.decoder(codes) + self.pre_bias


class Saeuron(nn.Module):
    """The formula of SAeUron in its own words."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.encoder, self.W_dec = nn.Linear(6, 10), nn.Parameter(torch.randn(10, 6))
        self.b_dec = nn.Parameter(torch.randn(6))

    def encode(self, x):
        values, places = self.encoder(x - self.b_dec).relu().topk(3, dim=-1)
        return torch.zeros(len(x), 10).scatter(-1, places, values)

    def decode(self, codes):
        return codes @ self.W_dec + self.b_dec


@torch.no_grad()
@pytest.mark.parametrize("made", [Unbox, Saeuron])
def test_other_peoples_files_are_read(tmp_path, made):
    theirs = made()
    if made is Unbox:
        (tmp_path / "config.json").write_text(json.dumps({"n_dirs_local": 10, "d_model": 6, "k": 3, "auxk": 2}))
        torch.save({"state_dict": theirs.state_dict()}, tmp_path / "state_dict.pth")
    else:
        from safetensors.torch import save_file

        (tmp_path / "cfg.json").write_text(json.dumps({"k": 3, "batch_topk": True, "d_in": 6}))
        save_file(theirs.state_dict(), tmp_path / "sae.safetensors")
    ours, rows = load_sparse(tmp_path), torch.randn(20, 6)
    torch.testing.assert_close(ours.encode(rows), theirs.encode(rows))
    torch.testing.assert_close(ours(rows), theirs.decode(theirs.encode(rows)))
    assert ours.card["trained_as"] == ("topk" if made is Unbox else "batchtopk")


def test_pickles_and_strangers_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"k": 3}))
    torch.save({"state_dict": Unbox().state_dict(), "more": Unbox()}, tmp_path / "state_dict.pth")
    with pytest.raises(InputError, match="no plain state dict"):
        load_sparse(tmp_path)
    torch.save({"encoder.weight": torch.ones(2, 2)}, tmp_path / "state_dict.pth")
    with pytest.raises(InputError, match="latent_bias"):
        load_sparse(tmp_path)
    with pytest.raises(InputError, match="sdxl-unbox"):
        load_sparse(tmp_path / "nothing")


def test_any_object_with_both_is_a_codec():
    class Pairs:
        def encode(self, x):
            return x * 2, x.relu()

        def decode(self, codes):
            return codes + 1

    rows = torch.randn(5, 3)
    adapted = codec_of(Pairs())
    assert torch.equal(adapted.encode(rows), rows.relu())
    assert torch.equal(dictionary(adapted, [2], count=3), torch.eye(3)[2:])
    with pytest.raises(InputError, match="encode and decode"):
        codec_of(object())


def planted_codec(k=3):
    """Codes of the planted network's own units, k of them, their signs apart."""
    found = SparseAutoencoder(3, 6, k)
    found.encoder.data = torch.cat([torch.eye(3), -torch.eye(3)])
    found.decoder.data = found.encoder.data.clone()
    return found.eval()


def predicted(interventions):
    x, sigma = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 0.1, 1.0, 3.0])
    return intervened(Planted(), interventions)(x, sigma, torch.tensor([0, 1, 0, 1]))


def test_a_whole_codec_changes_nothing_and_an_empty_one_is_ablation():
    bare = predicted([])
    torch.testing.assert_close(predicted([spliced(planted_codec(), "units")]), bare, rtol=0, atol=1e-6)  # float32
    nothing = planted_codec()
    nothing.decoder.data.zero_()
    torch.testing.assert_close(predicted([spliced(nothing, "units")]), predicted([Intervention("zero", "units")]))


def test_scaled_features_leave_the_reconstruction_error():
    """A codec of one feature a row reconstructs little; what it leaves out stays."""
    poor = planted_codec(k=1)
    ablated = predicted([scale_features(planted_codec(), "units", {0: 0.0, 3: 0.0})])
    torch.testing.assert_close(ablated, predicted([Intervention("zero", "units", channels=(0,))]), rtol=0, atol=1e-6)
    torch.testing.assert_close(predicted([scale_features(poor, "units", {2: 0.5})]), predicted([]), rtol=0, atol=1e-6)
    assert not torch.allclose(predicted([spliced(poor, "units")]), predicted([]))
    with pytest.raises(InputError, match="features from 0 to 5"):
        predicted([scale_features(poor, "units", {6: 0.0})])


def test_the_codec_follows_the_noise_level():
    """Rows of one call at several noise levels: each gets the codec of its own band, edges to the band below."""
    nothing = planted_codec()
    nothing.decoder.data.zero_()
    bands = Bands([0.1, 1.0], [planted_codec(), nothing, planted_codec()])
    found, bare, off = predicted([spliced(bands, "units")]), predicted([]), predicted([Intervention("zero", "units")])
    torch.testing.assert_close(found[[0, 1, 3]], bare[[0, 1, 3]], rtol=0, atol=1e-6)
    torch.testing.assert_close(found[2], off[2])
    assert codec_at(bands, 0.1) is bands.codecs[0] and codec_at(bands, 2.0) is bands.codecs[2]
    with pytest.raises(InputError, match="rising"):
        Bands([1.0, 0.5], [nothing] * 3)


def test_a_feature_is_a_direction(tmp_path):
    values = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 3.0])
    found = feature_direction(planted_codec(), 4, site="units", values=values, sigma=2.0)
    assert torch.equal(found.unit, torch.tensor([0.0, -1.0, 0.0])) and found.attribute == "feature 4"
    assert found.scale == pytest.approx(float(values[:, 1].std()), rel=1e-5) and found.sigma == 2.0
    with pytest.raises(InputError, match="0 to 5"):
        feature_direction(planted_codec(), 6, site="units", values=values)


def test_map_needs_a_function_of_the_same_shape():
    with pytest.raises(InputError, match="a function for map"):
        Intervention("map", "units")
    with pytest.raises(InputError, match="same shape"):
        predicted([Intervention("map", "units", function=lambda values, sigma: values[:, :1])])
    half = predicted([Intervention("map", "units", strength=0.5, function=lambda values, sigma: 0 * values)])
    torch.testing.assert_close(half, predicted([Intervention("zero", "units", strength=0.5)]))
