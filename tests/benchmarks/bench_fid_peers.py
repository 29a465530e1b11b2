"""FID beside torchmetrics, torch-fidelity and clean-fid: the same numbers, their time, and the speed of extraction.

    OMP_NUM_THREADS=1 python -m tests.benchmarks fid_peers

What is not installed is skipped. All three import torchvision, of which nothing here is called: where it is not
installed, a stand-in without contents takes its place.
"""

import importlib.machinery
import importlib.util
import sys
import tempfile
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from scorescope.analysis.fid.companions import inception_score
from scorescope.analysis.fid.frechet import frechet_distance
from scorescope.analysis.fid.kernels import kid
from scorescope.analysis.fid.neighbours import neighbour_table
from scorescope.probes.features.extractors import inception_extractor
from scorescope.probes.features.inception import Inception2015
from scorescope.probes.features.preprocessing import prepare
from tests.benchmarks.timing import Row, compared, find, show, version

N, D = 1200, 256
SETS = f"{N} x {D}"


class _Nothing(type):
    """A class with every attribute, each a class of this kind."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing(name, (), {})


class _Empty(types.ModuleType):
    """Has every name, and nothing behind it."""

    __getattr__ = _Nothing.__getattr__


class StandIn:
    """Finds packages and all that is in them, empty."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.split(".")[0] not in self.names:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__version__ = "0.0"


def stand_in(*names: str) -> None:
    """Let packages that peers import, and nothing here calls, be found where they are not installed."""
    import transformers.utils.import_utils  # noqa: F401  # looks for them first, and then knows of none

    sys.meta_path.append(StandIn([name for name in names if importlib.util.find_spec(name) is None]))


def features() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    fake = np.maximum(rng.normal(size=(N, D)) * 1.1 + 0.1, 0)
    real = np.maximum(rng.normal(size=(N, D)), 0)
    return fake.astype(np.float32), real.astype(np.float32), rng.normal(size=(N, 50)).astype(np.float32) * 2


def with_torchmetrics(fake: Any, real: Any, logits: Any) -> Iterator[Row]:
    peer = version("torchmetrics")
    modules = [find(f"torchmetrics.image.{name}") for name in ("fid", "kid", "inception")]
    if missing := [module for module in modules if isinstance(module, str)]:
        yield Row("FD, KID, Inception Score", peer, note=missing[0])
        return
    fid, kernel, score = modules
    x, y = torch.tensor(fake).double(), torch.tensor(real).double()

    def distance() -> float:
        moments = [(t.mean(0), torch.cov(t.T)) for t in (x, y)]
        return float(fid._compute_fid(*moments[0], *moments[1]))

    yield compared(f"Frechet distance, {SETS}", peer, lambda: frechet_distance(fake, real).value, distance)
    yield compared(
        f"KID of all pairs, float64, {SETS}", peer, lambda: kid(fake, real).value, lambda: float(kernel.poly_mmd(x, y)),
        note="ours with its interval",
    )  # fmt: skip
    metric = score.InceptionScore(feature=torch.nn.Flatten(), splits=10)
    metric.features = [torch.tensor(logits)]
    torch.manual_seed(0)  # it shuffles
    shuffled = logits[torch.randperm(N).numpy()]

    def theirs() -> float:
        torch.manual_seed(0)
        metric._computed = None
        return float(metric.compute()[0])

    yield compared("Inception Score of 50 classes", peer, lambda: inception_score(shuffled).mean, theirs)


def with_torch_fidelity(fake: Any, real: Any, logits: Any) -> Iterator[Row]:
    peer = version("torch-fidelity")
    modules = [find(f"torch_fidelity.metric_{name}") for name in ("fid", "kid", "isc", "prc")]
    if missing := [module for module in modules if isinstance(module, str)]:
        yield Row("FD, KID, Inception Score, precision, recall", peer, note=missing[0])
        return
    fid, kernel, score, near = modules
    x, y = torch.tensor(fake), torch.tensor(real)

    def distance() -> float:
        moments = [fid.fid_features_to_statistics(t) for t in (x, y)]
        return fid.fid_statistics_to_metric(*moments, verbose=False)["frechet_inception_distance"]

    yield compared(
        f"Frechet distance, {SETS}", peer, lambda: frechet_distance(fake, real).value, distance,
        note="its mean is in float32",
    )  # fmt: skip

    def polynomial() -> float:
        found = kernel.kid_features_to_metric(
            x, y, kid_subsets=1, kid_subset_size=N, kid_kernel="poly", kid_kernel_poly_degree=3,
            kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1, rng_seed=0, verbose=False,
        )  # fmt: skip
        return found["kernel_inception_distance_mean"]

    yield compared(
        f"KID of all pairs, {SETS}", peer, lambda: kid(fake, real).value, polynomial,
        note="float32; ours in float64 and with its interval",
    )  # fmt: skip

    def inception() -> list[float]:
        found = score.isc_features_to_metric(torch.tensor(logits), splits=10, shuffle=False)
        return [found["inception_score_mean"], found["inception_score_std"]]

    def both() -> list[float]:
        found = inception_score(logits)
        return [found.mean, found.std]

    yield compared("Inception Score and its spread, 50 classes", peer, both, inception)

    def manifold() -> list[float]:
        found = near.prc_features_to_metric(
            x, y, prc_neighborhood=3, prc_batch_size=N, save_cpu_ram=False, verbose=False, cuda=False
        )
        return [found["precision"], found["recall"]]

    def ours() -> Any:
        return neighbour_table(fake, real).set_index("metric")["value"][["precision", "recall"]].to_numpy()

    yield compared(
        f"precision and recall, {SETS}", peer, ours, manifold, note="ours with density, coverage and intervals"
    )


def with_clean_fid(fake: Any, real: Any, logits: Any) -> Iterator[Row]:
    peer = version("clean-fid")
    fid, resize = find("cleanfid.fid"), find("cleanfid.resize")
    if isinstance(fid, str) or isinstance(resize, str):
        yield Row("FD, KID, resizing", peer, note=fid if isinstance(fid, str) else resize)
        return

    def distance() -> float:
        moments = [(rows.mean(0), np.cov(rows, rowvar=False)) for rows in (fake.astype(float), real.astype(float))]
        return fid.frechet_distance(*moments[0], *moments[1])

    yield compared(f"Frechet distance, {SETS}", peer, lambda: frechet_distance(fake, real).value, distance)
    a, b = fake.astype(float), real.astype(float)

    def subsets() -> float:  # one subset of all rows, in an order of its own
        return fid.kernel_distance(a, b, num_subsets=1, max_subset_size=N)

    yield compared(f"KID of all pairs, {SETS}", peer, lambda: kid(fake, real).value, subsets,
                   note="ours with its interval")  # fmt: skip
    images = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = images.permute(0, 2, 3, 1).numpy()
    resizer = resize.build_resizer("clean")
    yield compared(
        "resizing of 8 images of 64 x 64 to 299 x 299", peer, lambda: 128 * prepare(images, "clean_fid") + 128,
        lambda: np.stack([resizer(image) for image in whole]).transpose(0, 3, 1, 2),
    )  # fmt: skip


def extraction() -> Iterator[Row]:
    """From uint8 to pool3 with the same random weights, in one process, one thread."""
    network = Inception2015().eval().requires_grad_(False)
    images = torch.randint(0, 256, (8, 3, 256, 256), dtype=torch.uint8)
    what = "Inception features of 8 images of 256 x 256"
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder) / "random.pth"
        torch.save(network.state_dict(), path)
        extractor = inception_extractor(path, expected_sha256=None)

        def ours() -> Any:
            return extractor.features(extractor.prepare(images))

        module = find("torch_fidelity.feature_extractor_inceptionv3")
        peer = version("torch-fidelity")
        if isinstance(module, str):
            yield Row(what, peer, note=module)
        else:
            theirs = module.FeatureExtractorInceptionV3("x", ["2048"], str(path)).eval()
            yield compared(what, peer, ours, lambda: theirs(images)[0], pairs=3)
        module = find("torchmetrics.image.fid")
        peer = version("torchmetrics")
        if isinstance(module, str):
            yield Row(what, peer, note=module)
        else:
            other = module.NoTrainInceptionV3("x", ["2048"], str(path), antialias=False)
            yield compared(what, peer, ours, lambda: other(images), pairs=3)


def rows() -> Iterator[Row]:
    """All of them, one thread."""
    stand_in("torchvision")
    torch.set_num_threads(1)
    with threadpool_limits(1):
        sets = features()
        for made in (with_torchmetrics, with_torch_fidelity, with_clean_fid):
            yield from made(*sets)
        yield from extraction()


def main() -> None:
    show(rows())


if __name__ == "__main__":
    main()
