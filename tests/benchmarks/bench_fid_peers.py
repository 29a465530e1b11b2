"""FID beside torchmetrics and torch-fidelity: the same numbers, and the speed of extraction.

    python -m tests.benchmarks fid_peers

What is not installed is skipped. Both import torchvision, of which nothing here is called.
"""

import importlib
import tempfile
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from scorescope.analysis.fid.companions import inception_score
from scorescope.analysis.fid.frechet import frechet_distance
from scorescope.analysis.fid.kernels import kid
from scorescope.analysis.fid.neighbours import neighbour_table
from scorescope.probes.features.extractors import inception_extractor
from scorescope.probes.features.inception import Inception2015
from tests.benchmarks.bench_fid import best, line

N, D = 1200, 256


def find(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"  {name}: skipped ({error})")
        return None


def features():
    rng = np.random.default_rng(0)
    fake = np.maximum(rng.normal(size=(N, D)) * 1.1 + 0.1, 0)
    real = np.maximum(rng.normal(size=(N, D)), 0)
    return fake.astype(np.float32), real.astype(np.float32), rng.normal(size=(N, 50)).astype(np.float32) * 2


def show(what, ours, theirs):
    print(f"  {what:<52} {ours:.9g}, relative difference {abs(ours - theirs) / abs(theirs):.1e}")


def with_torchmetrics(fake, real, logits):
    fid, kernel = find("torchmetrics.image.fid"), find("torchmetrics.image.kid")
    score = find("torchmetrics.image.inception")
    if fid is None or kernel is None or score is None:
        return
    x, y = torch.tensor(fake), torch.tensor(real)
    moments = [(t.double().mean(0), torch.cov(t.double().T)) for t in (x, y)]
    show("torchmetrics FD", frechet_distance(fake, real).value, float(fid._compute_fid(*moments[0], *moments[1])))
    show("torchmetrics KID, float64", kid(fake, real).value, float(kernel.poly_mmd(x.double(), y.double())))
    metric = score.InceptionScore(feature=torch.nn.Flatten(), splits=10)
    metric.features = [torch.tensor(logits)]
    torch.manual_seed(0)  # it shuffles
    mean, _ = metric.compute()
    torch.manual_seed(0)
    show("torchmetrics Inception Score", inception_score(logits[torch.randperm(N).numpy()]).mean, float(mean))


def with_torch_fidelity(fake, real, logits):
    names = ("fid", "kid", "isc", "prc")
    fid, kernel, score, near = (find(f"torch_fidelity.metric_{name}") for name in names)
    if fid is None or kernel is None or score is None or near is None:
        return
    x, y = torch.tensor(fake), torch.tensor(real)
    moments = [fid.fid_features_to_statistics(t) for t in (x, y)]
    value = fid.fid_statistics_to_metric(*moments, verbose=False)["frechet_inception_distance"]
    show("torch-fidelity FD", frechet_distance(fake, real).value, value)
    setting = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None}
    found = kernel.kid_features_to_metric(
        x, y, kid_subsets=1, kid_subset_size=N, kid_kernel_poly_coef0=1, rng_seed=0, verbose=False, **setting
    )
    show("torch-fidelity KID, float32", kid(fake, real).value, found["kernel_inception_distance_mean"])
    found = score.isc_features_to_metric(torch.tensor(logits), splits=10, shuffle=False)
    show("torch-fidelity Inception Score", inception_score(logits).mean, found["inception_score_mean"])
    show("  its spread over splits", inception_score(logits).std, found["inception_score_std"])
    found = near.prc_features_to_metric(
        x, y, prc_neighborhood=3, prc_batch_size=N, save_cpu_ram=False, verbose=False, cuda=False
    )
    ours = neighbour_table(fake, real).set_index("metric")["value"]
    for name in ("precision", "recall"):
        show(f"torch-fidelity {name}, k = 3", ours[name], found[name])


def extraction():
    """From uint8 to pool3 with the same random weights, in one process, one thread."""
    network = Inception2015().eval().requires_grad_(False)
    images = torch.randint(0, 256, (16, 3, 256, 256), dtype=torch.uint8)
    print("Extraction of 16 images of 256 x 256, one batch")
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder) / "random.pth"
        torch.save(network.state_dict(), path)
        extractor = inception_extractor(path, expected_sha256=None)
        peers = {}
        if module := find("torch_fidelity.feature_extractor_inceptionv3"):
            peers["torch-fidelity"] = module.FeatureExtractorInceptionV3("x", ["2048"], str(path)).eval()
        if module := find("torchmetrics.image.fid"):
            peers["torchmetrics"] = module.NoTrainInceptionV3("x", ["2048"], str(path), antialias=False)
        ours, b = best(lambda: extractor.features(extractor.prepare(images)), 3)
        for name, peer in peers.items():
            theirs, found = best(lambda peer=peer: peer(images), 3)
            a = found if isinstance(found, torch.Tensor) else found[0]
            line(f"{name} (peer)", theirs, theirs)
            line("ours", ours, theirs, f"largest difference {float((a - b).abs().max() / a.abs().max()):.1e}")


def main():
    torch.set_num_threads(1)
    with threadpool_limits(1):
        sets = features()
        print(f"Metrics of {N} against {N} rows, d = {D}")
        with_torchmetrics(*sets)
        with_torch_fidelity(*sets)
        extraction()


if __name__ == "__main__":
    main()
