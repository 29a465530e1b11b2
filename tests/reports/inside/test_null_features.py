"""Features that were chosen and then judged: random ones are seldom said to move anything, planted ones are."""

import numpy as np
import pytest
from tests.reports.inside.null_features import verdicts


@pytest.mark.slow
@pytest.mark.parametrize("labels", [False, True])
def test_the_best_of_random_features_do_not_pass(labels):
    """At 5 %, more than 6 of 40 would be seen in one of 70 studies; without the correction there are 10 or more."""
    table = verdicts(40, labels=labels)
    assert (table["p"] <= 0.05).sum() <= 6 and (table["verdict"] != "steerable").sum() >= 34
    assert (table["p_random"] <= 0.05).sum() >= 10


def test_features_that_move_the_image_still_pass():
    table = verdicts(2, labels=True, planted=True)
    assert (table["verdict"] == "steerable").all() and (table["chosen_from"] == 256).all()
    np.testing.assert_array_equal(table["method"].str.split().str[-1], ["0", "1"])
