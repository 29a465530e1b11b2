"""FID: our routes beside the usual ones, at full size. `python tests/benchmarks/bench_fid.py [part ...]`

Parts: moments, features, influence, heatmaps, memory, lbfgs, audit. CPU seconds of one thread (`audit`: all
threads, wall seconds), best of several, in one process. Ratios are to the line marked "peer".
"""

import functools
import resource
import sys
import time

import numpy as np
import torch
from scipy import linalg
from threadpoolctl import threadpool_limits

from scorescope.analysis.fid.frechet import frechet_distance, trace_of_root
from scorescope.analysis.fid.heatmaps import gradient_maps
from scorescope.analysis.fid.optimal_transport import image_gradients, influence, transport
from scorescope.analysis.fid.weights import WeightedDistance, optimise_weights
from scorescope.data.classifiers import load_classifier
from scorescope.data.scenes import render_scenes
from scorescope.probes.features.extraction import extract, extract_maps
from scorescope.probes.features.extractors import classifier_extractor
from scorescope.probes.features.images import tensor_images
from scorescope.probes.features.moments import Moments, RunningMoments

D = 2048


def best(call, repeats=2):
    """Least CPU time of several calls, and the last result."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        times.append(time.process_time() - start)
    return min(times), result


def line(what, seconds, peer, note=""):
    print(f"  {what:<52} {seconds:8.2f} s  {peer / seconds:6.1f}x  {note}")


def draw(n, d, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d)) / np.sqrt(d)
    return np.maximum(rng.normal(size=(n, d)) @ (spread * mixing + 0.3 * np.eye(d)), 0)


def distance_of(m1, m2, trace):
    gap = m1.mean - m2.mean
    return gap @ gap + np.trace(m1.covariance) + np.trace(m2.covariance) - 2 * trace


def distance_by_eigvals(x, y):
    m1, m2 = Moments.of(x), Moments.of(y)
    values = np.linalg.eigvals(m1.covariance @ m2.covariance).astype(complex)
    return distance_of(m1, m2, np.sqrt(values).sum().real)


def moments_part():
    print(f"FD from moments, d = {D}, n = 10000")
    m1, m2 = Moments.of(draw(10_000, D, 0, 1.05)), Moments.of(draw(10_000, D, 1))
    ours, (trace, *_) = best(lambda: trace_of_root(m1, m2), 3)
    whole, _ = best(lambda: frechet_distance(m1, m2))
    value = distance_of(m1, m2, trace)
    root, by_root = best(lambda: np.trace(linalg.sqrtm(m1.covariance @ m2.covariance)).real, 1)
    eig, by_eig = best(lambda: np.sqrt(np.linalg.eigvals(m1.covariance @ m2.covariance).astype(complex)).sum().real, 1)
    line("scipy.linalg.sqrtm (peer)", root, root, f"dFD {distance_of(m1, m2, by_root) - value:+.1e}")
    line("numpy.linalg.eigvals", eig, root, f"dFD {distance_of(m1, m2, by_eig) - value:+.1e}")
    line("ours: Cholesky, symmetric eigenvalues", ours, root, f"{eig / ours:.1f}x of eigvals")
    line("ours with the null floor (one more spectrum)", whole, root)


def features_part():
    for n in (500, 1000):
        print(f"FD from features, n = {n}, d = {D}")
        x, y = draw(n, D, 0, 1.05), draw(n, D, 1)
        ours, found = best(functools.partial(frechet_distance, x, y), 3)

        eig, value = best(functools.partial(distance_by_eigvals, x, y), 1)
        line("covariances and numpy.linalg.eigvals (peer)", eig, eig, f"dFD {value - found.value:+.1e}")
        line("ours: nuclear norm of the cross Gram", ours, eig)


def influence_part():
    n = 10_000
    print(f"All {n} influences, d = {D}, against ONE gradient by autograd through torch.linalg.eig")
    x, y = draw(n, D, 0, 1.05), draw(n, D, 1)
    m1, m2 = Moments.of(x), Moments.of(y)
    s1, s2 = torch.tensor(m1.covariance, requires_grad=True), torch.tensor(m2.covariance)

    def gradient_once():
        values = torch.linalg.eig(s1 @ s2).eigenvalues
        return torch.autograd.grad(s1.trace() - 2 * (values.real + 1e-12).sqrt().sum(), s1)[0]

    peer, by_autograd = best(gradient_once, 1)
    plan_time, plan = best(lambda: transport(m1, m2), 2)
    both, _ = best(lambda: influence(plan, x), 2)
    error = np.abs((by_autograd + by_autograd.T).numpy() / 2 - plan.gradient).max() / np.abs(plan.gradient).max()
    line("one gradient matrix by autograd (peer)", peer, peer)
    line("ours: transport map", plan_time, peer, f"relative difference of G {error:.1e}")
    line(f"ours: map and {n} influences", plan_time + both, peer)


def heatmaps_part():
    print("Heatmaps of 2000 scenes: maps beside the forward passes that the features need anyway")
    network, _ = load_classifier("accessory")
    images = render_scenes(2000, seed=0).images
    extractor, source = classifier_extractor("accessory"), tensor_images(images)
    with torch.inference_mode():
        forward, _ = best(lambda: [network.activations(part) for part in images.split(250)], 3)
    found = extract(source, extractor, progress=False, batch=250).features
    plan = transport(found, found[:1000] * 1.1)
    maps = extract_maps(source, extractor, batch=250)
    closed, _ = best(lambda: gradient_maps(maps, image_gradients(plan, found)), 3)
    line("forward passes (peer)", forward, forward)
    line(
        "forward passes and maps",
        forward + closed,
        forward,
        f"{(forward + closed) / forward:.3f} of the forward passes",
    )


def memory_part():
    print(f"Streaming moments, d = {D}: peak memory against the number of images")
    running = RunningMoments()
    for number in range(1, 201):
        running.add(np.random.default_rng(number).normal(size=(100, D)).astype(np.float32))
        if number in (20, 200):
            print(
                f"  after {100 * number:6d} images: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB"
            )


def descend(x, y, rate, steps):
    """The published form: free weights exp(omega), plain gradient steps. Returns the loss after all of them."""
    rows, real = torch.tensor(x), torch.tensor(y)
    other, other_mean = torch.cov(real.T), real.mean(0)
    factor = torch.linalg.cholesky(other)
    omega = torch.zeros(len(x), dtype=torch.float64)
    for _ in range(steps):
        w = omega.exp()
        total = w.sum()
        mean = w @ rows / total
        c = rows - mean
        cov = (w[:, None] * c).T @ c / (total - 1)
        values, vectors = torch.linalg.eigh(factor.T @ cov @ factor)
        half = factor @ vectors
        g = torch.eye(x.shape[1], dtype=torch.float64) - half / values.sqrt() @ half.T
        slope = 2 / total * (c @ (mean - other_mean)) + (((c @ g) * c).sum(1) - (g * cov).sum()) / (total - 1)
        omega = omega - rate * w * slope
    return WeightedDistance(x, y)(omega.numpy())[0]


def lbfgs_part():
    x, y = draw(5000, 64, 0, 1.4), draw(2000, 64, 1)
    print("Weights of 5000 candidates, d = 64: evaluations to the loss of 1000 plain gradient steps")
    found = optimise_weights(x, y, evaluations=250)
    for rate in (10, 100):
        reached = descend(x, y, rate, 1000)
        below = found.history["value"].cummin() <= reached
        needed = int(below.idxmax()) + 1 if below.any() else None
        share = "not reached in 250" if needed is None else f"{needed} evaluations, {1000 / needed:.0f}x fewer"
        print(f"  learning rate {rate:>3}: {found.start:.4f} to {reached:.4f}; L-BFGS needs {share}")


def audit_part(n=20_000, evaluations=60):
    print(f"L-BFGS over {n} candidates, d = {D}, {evaluations} evaluations, {torch.get_num_threads()} threads")
    x, y = draw(n, D, 0, 1.1).astype(np.float32), draw(n, D, 1).astype(np.float32)
    real = Moments.of(y)
    start, cpu = time.perf_counter(), time.process_time()
    found = optimise_weights(x, real, evaluations=evaluations, progress=True)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    gone = (found.start - found.history["value"].cummin()) / (found.start - found.value)
    print(
        f"  {seconds:.0f} s wall, {cpu:.0f} s of processors, peak {peak:.1f} GB; FD {found.start:.3f} to "
        f"{found.value:.3f}, half of that after {int((gone >= 0.5).idxmax()) + 1} evaluations, 95 % after "
        f"{int((gone >= 0.95).idxmax()) + 1}; effective size {found.effective_size:.0f}, {found.status}"
    )


PARTS = {
    "moments": moments_part, "features": features_part, "influence": influence_part, "heatmaps": heatmaps_part,
    "memory": memory_part, "lbfgs": lbfgs_part, "audit": audit_part,
}  # fmt: skip


def main(parts=()):
    """Run the named parts, by default all but `audit`, which takes minutes."""
    for name in parts or [name for name in PARTS if name != "audit"]:
        if name == "audit":
            PARTS[name]()
            continue
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        with threadpool_limits(1):
            PARTS[name]()
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main(sys.argv[1:])
