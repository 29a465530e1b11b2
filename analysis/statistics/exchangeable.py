"""P-values of a value among draws that are exchangeable with it where there is nothing to be found.

    scaled = standardised(values)            # (1 + draws, tests): the value's own row first
    p = share_as_large(scaled)               # one by one
    p_adjusted = share_as_large(scaled, scaled.max(1))        # of a family: among the largest of each draw

Permutations of labels, and random sets in the place of a chosen one, are such draws. The p-values are exact for any
law: the own row is counted, so that none is below 1 / (1 + draws). With the largest of the family in each draw, the
chance that any of its tests is wrongly below a level is at most that level (Westfall & Young 1993, single step), as
the tests share their draws; standardised values make tests of different spread weigh alike.
"""

import numpy as np

from scorescope.analysis.statistics.arrays import Floats


def standardised(values: Floats, *, centred: bool = True) -> Floats:
    """Values (1 + draws, tests) less their mean over all rows, by their standard deviation; 0 where they do not vary.

    Without `centred`, divided by their root mean square alone, for sizes of effects of either sign.
    """
    rest = values - values.mean(0) if centred else values
    size = np.sqrt((rest**2).mean(0))
    sound = size > 1e-12 * np.abs(values).max(0)  # equal values, but for rounding
    found: Floats = np.divide(rest, size, out=np.zeros_like(rest), where=sound)
    return found


def share_as_large(values: Floats, among: Floats | None = None) -> Floats:
    """Share of rows, the own one among them, that are as large as the first row, shape (tests,).

    Parameters
    ----------
    values : array, shape (1 + draws, tests)
        The own values in the first row.
    among : array, shape (1 + draws,), optional
        Compare with these, the same for all tests.
    """
    draws = values if among is None else among[:, None]
    own = values[0] - 1e-9 * np.abs(values[0])  # sums in another order
    found: Floats = (draws >= own).mean(0)
    return found
