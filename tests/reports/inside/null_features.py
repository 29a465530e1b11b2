"""The whole choice of `study_sparse` where nothing is to be found: features that are random directions.

    OMP_NUM_THREADS=1 python -m tests.reports.inside.null_features 200

A dictionary of random unit directions, as many active as in a trained one, is read, screened and judged as the study
does it, with a new dictionary and new controls each time, at a site of 64 numbers of which two move the image. Labels
are those of the images, or mean nothing. What counts is p, with no smallest relevant effect.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import torch
from tests.planted_subject import planted_subject

from scorescope.probes.sparse import SparseAutoencoder
from scorescope.reports.inside import sparse_study as module

SITE, CANDIDATES = "means", 3


def verdicts(repeats: int, *, labels: bool, planted: bool = False) -> pd.DataFrame:
    """One verdict a repeat.

    Parameters
    ----------
    repeats : int
        How many.
    labels : bool
        Whether the labels are those of the images.
    planted : bool
        Whether two of the features are the directions that move the image.
    """
    subject, found = planted_subject(300), []
    with tempfile.TemporaryDirectory() as folder, patch.object(module, "RELEVANT", 0.0):
        work = module._Work(subject, [SITE], Path(folder), 3, 0, False)
        rows = work.trained_on.at(SITE, work.level).flatten(0, 1)
        for repeat in range(repeats):
            codec = random_features(rows, seed=repeat, planted=planted)
            if not labels:
                order = torch.randperm(len(subject.labels), generator=torch.Generator().manual_seed(repeat))
                work.subject = replace(subject, labels=subject.labels[order])
            work.seed = repeat
            row = work.choose(SITE, subject.contrasts[repeat % 2], codec, CANDIDATES)
            found.append(work.judge(row, codec).verdicts)
    return pd.concat(found, ignore_index=True)


def random_features(rows: torch.Tensor, *, seed: int, planted: bool) -> SparseAutoencoder:
    """As training begins."""
    width = rows.shape[1]
    codec = SparseAutoencoder(width, module.FEATURES * width, module.ACTIVE, seed=seed).eval()
    codec.centre.data.copy_(rows.mean(0))
    codec.scale.fill_(float((rows - rows.mean(0)).square().mean().sqrt()))
    if planted:
        for weights in (codec.encoder.data, codec.decoder.data):
            weights[:2] = torch.eye(width)[:2]
    return codec


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for labels in (False, True):
        table = verdicts(repeats, labels=labels)
        shares = [(table[name] <= 0.05).mean() for name in ("p_random", "p")]
        print(
            f"labels {'of the images' if labels else 'that mean nothing'}: of {repeats} chosen random features "
            f"{shares[0]:.1%} pass as if they were not chosen, {shares[1]:.1%} as they are judged"
        )


if __name__ == "__main__":
    main()
