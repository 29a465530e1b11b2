import numpy as np
import pytest

from scorescope.analysis.information.loss_tables import loss_table, pair_table
from scorescope.probes import Bank, log_snr_grid
from scorescope.probes.bank import Arm, compare_arms


def test_tables_of_a_comparison(known):
    bank = Bank(known.images[:30], log_snr_grid(-2, 2, 3))
    comparison = compare_arms(bank, [Arm("none", known.law), Arm("class", known.law, known.labels[:30])])
    losses, pairs = loss_table(comparison), pair_table(comparison)
    assert len(losses) == 2 * 2 * 3 and len(pairs) == 2 * 3
    row = pairs[(pairs["space"] == "eps") & (pairs["sigma"] == comparison.sigmas[1])].iloc[0]
    values = comparison.difference("none", "class")[:, 1]
    assert row["difference"] == pytest.approx(values.mean())
    assert row["difference_error"] == pytest.approx(values.std(ddof=1) / np.sqrt(30))
    assert pair_table(compare_arms(bank, [Arm("none", known.law)])).empty
