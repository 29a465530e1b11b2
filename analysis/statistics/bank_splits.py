"""Splits of a bank's images into those that something is fitted on and those that it is tested on.

    fit, test = split_rows(bank, fit_rows, None)

No image may be in both.
"""

from hashlib import blake2b

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.bank.compare import checked_rows
from scorescope.probes.bank.points import Bank


def split_rows(bank: Bank, fit_rows: Tensor | None, test_rows: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """Rows of the two splits.

    Parameters
    ----------
    bank : Bank
        The images.
    fit_rows, test_rows : Tensor of int, optional
        By default there is no fit split, and the test split is everything else.

    Raises
    ------
    InputError
        For rows that are not there, no image left for the test, or an image in both splits: the same row, or another
        row with the same pixels.
    """
    if fit_rows is None:
        return None, checked_rows(test_rows, len(bank))
    fit = checked_rows(fit_rows, len(bank))
    if test_rows is None:
        others = torch.ones(len(bank), dtype=torch.bool).index_fill(0, fit, False).nonzero()[:, 0]
        if not len(others):
            raise InputError("fit_rows", found="every image", expected="some left for the test")
        test_rows = others
    test = checked_rows(test_rows, len(bank))
    if shared := _digests(bank, fit).keys() & _digests(bank, test).keys():
        rows = [_digests(bank, test)[digest] for digest in shared]
        expected = "splits that share no image: weights fitted on test images make its accuracy meaningless"
        raise InputError("fit_rows, test_rows", found=f"leakage: images {sorted(rows)[:5]} in both", expected=expected)
    return fit, test


def _digests(bank: Bank, rows: Tensor) -> dict[bytes, int]:
    images = bank.x0[rows.to(bank.x0.device)].float().cpu().numpy()
    return {blake2b(image.tobytes()).digest(): int(row) for image, row in zip(images, rows, strict=True)}
