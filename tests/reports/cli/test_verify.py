"""Every kind of file that is written and read back: sound, damaged at any byte, and of an earlier version."""

import json
import random
import warnings
import zipfile
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.oracles import random_pair
from tests.reports.page.test_pages import section
from typer.testing import CliRunner

from scorescope.data import EDMDenoiser, InputError, IntegrityWarning, UNetConfig, load_denoiser, save_denoiser
from scorescope.data.train import Recipe, train
from scorescope.data.training_images import training_images
from scorescope.probes import CFG, Bank, collect, record, sweep
from scorescope.probes.approximations import (
    Mixture,
    TrainingSet,
    fit_gaussian,
    load_approximation,
    save_approximation,
)
from scorescope.probes.experiments.sweep_store import read_setting
from scorescope.probes.features import Moments, read_moments, write_moments
from scorescope.probes.sites import Direction
from scorescope.probes.sparse import SparseAutoencoder
from scorescope.reports.cli.commands import app
from scorescope.reports.page.pages import ReportWriter


@dataclass(frozen=True)
class Kind:
    """A file that `write(path)` makes and `read(path)` reads; what it holds as tensors and words."""

    name: str
    write: object
    read: object
    hold: object


def _direction(path):
    Direction(torch.randn(6), site="network.middle1", attribute="size", method="lda", scale=2.5, sigma=0.7).save(path)


def _approximation(path):
    save_approximation(path, fit_gaussian(torch.randn(40, 1, 2, 2)))


def _setting(path):
    sweep(random_pair(), {"CFG": CFG(2.0)}, seeds=range(2), condition=torch.zeros(2, dtype=torch.long), shape=(6,),
          sigmas=[1.0, 0.0], folder=path.parent, progress=False)  # fmt: skip
    next(path.parent.glob("CFG-*.json")).rename(path)
    for part in ("safetensors", "scalars.parquet", "samples.parquet"):
        next(path.parent.glob(f"CFG-*.{part}")).rename(path.with_suffix(f".{part}"))


def _weights(path):
    save_denoiser(path, EDMDenoiser(UNetConfig(channels=(8,), embedding=8), sigma_data=0.7), {})
    path.with_suffix(".json").unlink()


KINDS = [
    Kind("direction", _direction, Direction.load, lambda d: (d.vector, d.scale, d.sigma, d.site, d.attribute)),
    Kind("moments", lambda path: write_moments(path, Moments.of(np.random.default_rng(0).normal(size=(9, 3)))),
         read_moments, lambda m: (torch.tensor(m.mean), torch.tensor(m.covariance), m.n)),
    Kind("approximation", _approximation, load_approximation, lambda g: (g.mean, g.basis, g.eigenvalues, g.units)),
    Kind("setting of a sweep", _setting, read_setting, lambda said: (said["fixed"], said["rule"])),
    Kind("sparse autoencoder", lambda path: SparseAutoencoder(4, 6, 2).save(path), SparseAutoencoder.load,
         lambda found: (*found.state_dict().values(), found.k, found.kind)),
    Kind("weights", _weights, load_denoiser, lambda found: tuple(found[0].state_dict().values())),
]  # fmt: skip
SUFFIX = {"moments": ".npz", "setting of a sweep": ".json"}


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return all(map(equal, a, b)) and len(a) == len(b) if isinstance(a, tuple) else a == b


def unseal(path):
    """The file as the version before wrote it."""
    if path.suffix == ".json":
        said = json.loads(path.read_text())
        path.write_text(json.dumps({name: value for name, value in said.items() if name not in ("seal", "files")}))
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path, "a") as archive:
            archive.comment = b""
    else:
        with safe_open(path, framework="pt") as file:
            metadata = {name: value for name, value in file.metadata().items() if name != "seal"}
        save_file(load_file(path), path, metadata)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def made(request, tmp_path):
    kind = request.param
    path = tmp_path / f"a{SUFFIX.get(kind.name, '.safetensors')}"
    kind.write(path)
    return kind, path


def run(*paths):
    return CliRunner().invoke(app, ["verify", *map(str, paths)])


def test_no_flipped_bit_is_taken_for_data(made):
    """Anywhere in the file, its own hash included: our error, or what was saved."""
    kind, path = made
    whole, saved = path.read_bytes(), kind.hold(kind.read(path))
    places, refused = random.Random(0).sample(range(len(whole)), min(300, len(whole))), 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IntegrityWarning)
            try:
                assert equal(kind.hold(kind.read(path)), saved)  # the sign of the seal was hit, and nothing else
            except InputError:
                refused += 1
    assert refused >= len(places) - 20
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError):
        kind.read(path)


def test_verify_tells_the_kind_of_a_sound_and_of_a_damaged_file(made):
    kind, path = made
    result = run(path)
    assert (result.exit_code, result.output) == (0, f"{path}: {kind.name}, sound\n")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    result = run(path)
    assert result.exit_code == 1 and "does not match its hash" in result.output


def test_files_of_the_version_before_are_read_and_said_to_carry_no_hash(made):
    kind, path = made
    saved = kind.hold(kind.read(path))
    unseal(path)
    with pytest.warns(IntegrityWarning, match="carries no hash"):
        found = kind.hold(kind.read(path))
    assert equal(found, saved)
    result = run(path)
    assert result.exit_code == 0 and f"{kind.name}, can be read; it carries no hash" in result.output


def test_files_of_others_are_read_without_a_word(tmp_path):
    np.savez(tmp_path / "theirs.npz", mu=np.zeros(2), sigma=np.eye(2))
    assert read_moments(tmp_path / "theirs.npz").n is None
    save_file({"vector": torch.ones(2)}, tmp_path / "theirs.safetensors", metadata={"site": "x"})
    assert Direction.load(tmp_path / "theirs.safetensors").site == "x"


def test_text_that_looks_like_a_seal_is_refused_before_it_is_saved(tmp_path):
    direction = Direction(torch.ones(2), site="x", attribute="scorescope-sha256:0", method="lda", scale=1.0)
    with pytest.raises(InputError, match="scorescope-sha256"):
        direction.save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_training_run_does_not_go_on_from_a_damaged_state(tmp_path):
    recipe = Recipe(network=UNetConfig(channels=(8,), embedding=8), steps=2, batch=4, check_every=2, warm_up=1)
    train(recipe, training_images("digits"), tmp_path)
    assert run(tmp_path).output.count("sound") == 3
    for name in ("state-2.safetensors", "best.safetensors", "state.json"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:-3] + bytes([whole[-3] ^ 4]) + whole[-2:])
        with pytest.raises(InputError, match=f"{name}.*does not match its hash"):
            train(recipe, training_images("digits"), tmp_path)
        (tmp_path / name).write_bytes(whole)


class Scheduler:
    def __init__(self):
        self.sigmas = torch.tensor([0.9, 0.5, 0.0])
        self.timesteps, self.step_index = self.sigmas[:-1] * 1000, 0

    def step(self, model_output, timestep, sample):
        self.step_index += 1
        return (sample.view(1, 4, 2, 2) - 0.4 * model_output,)


def test_a_folder_of_everything(tmp_path):
    for kind in KINDS:
        folder = tmp_path / kind.name
        folder.mkdir()
        kind.write(folder / f"a{SUFFIX.get(kind.name, '.safetensors')}")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "manifest.json").write_text("{}")
    pipe = SimpleNamespace(net=torch.nn.Identity(), scheduler=Scheduler())
    with torch.no_grad(), record(pipe, path=tmp_path / "trace") as trace:
        for spec in trace.runs([{"seed": 0}, {"seed": 1}], progress=False):
            x = pipe.scheduler.step(pipe.net(torch.ones(1, 4, 2, 2)), 900, torch.ones(1, 4, 2, 2))[0]
            if spec["seed"] == 1:
                with pytest.raises(RuntimeError):
                    pipe.scheduler.step(pipe.net(x), 500, x[:, :3])
    with ReportWriter(tmp_path / "report", name="a", title="A", question="?", command="a") as writer:
        writer.section("one", "One", section)
    result = run(tmp_path)
    assert result.exit_code == 0 and result.output.count("sound") == len(KINDS) + 2
    table = tmp_path / "report/tables/one.csv"
    table.write_text(table.read_text() + "1")
    result = run(tmp_path / "report", tmp_path / "trace", tmp_path / "direction")
    assert result.exit_code == 1 and "one.csv: of a report" in result.output and result.output.count("sound") == 2


def test_a_folder_of_activations(tmp_path):
    x0 = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    collect(lambda x, sigma, condition: x, Bank(x0, [1.0, 0.5]), ["x"], how="whole", path=tmp_path / "a", shard=500)
    result = run(tmp_path / "a")
    assert result.exit_code == 0 and "activations, sound, complete" in result.output
    shard = tmp_path / "a" / "shards" / "00000001.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    result = run(tmp_path / "a")
    assert result.exit_code == 1 and "00000001.safetensors" in result.output


def test_what_is_not_ours_is_said(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "notes.txt"):
        result = run(path)
        assert result.exit_code == 1 and "nothing that Scorescope writes" in result.output
    assert run(tmp_path / "none").exit_code == 1


def test_components_that_share_a_covariance_are_saved_once_and_share_it_again(tmp_path):
    """safetensors refuses tensors that share memory: a mixture with tied covariance could not be saved."""
    one = fit_gaussian(torch.randn(60, 1, 4, 4))
    means = torch.randn(3, *one.mean.shape, dtype=one.mean.dtype)
    components = tuple(type(one)(mean, one.basis, one.eigenvalues, one.residual) for mean in means)
    mixture = Mixture(components, torch.full((3,), 1 / 3, dtype=one.mean.dtype), labels=(0, 1, 2))
    save_approximation(tmp_path / "tied.safetensors", mixture)
    found = load_approximation(tmp_path / "tied.safetensors")
    x = torch.randn(5, 1, 4, 4)
    assert torch.equal(found(x, 0.7), mixture(x, 0.7)) and found.labels == (0, 1, 2)
    assert len({component.basis.data_ptr() for component in found.components}) == 1
    assert (tmp_path / "tied.safetensors").stat().st_size < 2 * one.basis.nbytes + 4096


def test_views_of_the_same_memory_are_saved(tmp_path):
    images = torch.randn(8, 1, 2, 2)
    whole = TrainingSet(images.flatten()[:16].view(4, 1, 2, 2))
    save_approximation(tmp_path / "a.safetensors", whole)
    x = torch.randn(3, 1, 2, 2)
    assert torch.equal(load_approximation(tmp_path / "a.safetensors")(x, 1.0), whole(x, 1.0))
