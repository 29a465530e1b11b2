"""What the network does when a site is replaced by its reconstruction: loss and prediction, beside ablations.

The same noisy points in every arm. Keyed on the noise level, as every intervention.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.statistics.arrays import Floats
from scorescope.probes.bank import Bank
from scorescope.probes.models.conditions import select_rows, to_device
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate
from scorescope.probes.sites import Intervention, intervened
from scorescope.probes.sparse import Bands, Codec, spliced

ARMS = ("none", "reconstruction", "zero", "mean")


@torch.no_grad()
def replaced(
    denoiser: Denoiser, codec: Codec | Bands, bank: Bank, site: str, means: Sequence[Tensor], *,
    condition: Condition = None, output: int | None = None, batch: int = 256, progress: bool = False,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Denoising loss of every arm, and how far its prediction is from that of the network as it is.

    Parameters
    ----------
    denoiser, codec, bank, site, condition, output, batch, progress
        As in `sparse_sheet`.
    means : sequence of Tensor, each of shape (channel,)
        What the site is on average, at each level of the bank.

    Returns
    -------
    losses, changes : array, shape (arm, level, image)
        Mean square of D - x0, and of D less that of the arm "none", over all numbers of an image and its noise draws.
    """
    losses = np.zeros((len(ARMS), len(bank.sigmas), len(bank)))
    changes = np.zeros_like(losses)
    condition = to_device(condition, bank.x0.device)
    branch = "uncond" if condition is None else "cond"
    arms: list[Denoiser] = []
    level = -1
    total = len(bank.sigmas) * bank.draws * -(-len(bank) // batch)
    for point in tqdm(bank.points(batch=batch), total=total, desc="replaced", disable=not progress, leave=False):
        if point.level != level:
            level = point.level
            mean = Intervention("mean", site, means[level].float(), output=output)
            edits = (spliced(codec, site, output=output), Intervention("zero", site, output=output), mean)
            arms = [denoiser, *(intervened(denoiser, [edit]) for edit in edits)]
        rows = None if condition is None else select_rows(condition, point.rows)
        images = point.rows.cpu().numpy()  # of one row a tensor would be taken for a number
        bare: Tensor | None = None
        for place, arm in enumerate(arms):
            found = evaluate(arm, point.x, point.sigma, rows, branch=branch).double()
            bare = found if bare is None else bare
            losses[place, level, images] += _mean_square(found - point.x0.double()) / bank.draws
            changes[place, level, images] += _mean_square(found - bare) / bank.draws
    return losses, changes


def _mean_square(difference: Tensor) -> Floats:
    found: Floats = difference.flatten(1).square().mean(1).cpu().numpy()
    return found
