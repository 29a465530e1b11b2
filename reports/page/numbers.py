"""Numbers in sentences: a value with its interval, and ranges whose two ends are told apart.

told(row)                      # 0.74 (0.46 to 1)
between(3.46, 3.54)            # 3.46 to 3.54
"""

import math

import pandas as pd


def told(
    row: "pd.Series[float]",
    value: str = "mean",
    *,
    of: str = "",
    form: str = ".3g",
    what: str = "",
    brackets: bool = True,
) -> str:
    """A value with its 95 % interval, all in one format, so that rounding keeps the value inside.

    Parameters
    ----------
    row : Series
        Of a table: the value, `low` and `high`; where these are missing the value stands alone.
    value : str
        Name of the value.
    of : str
        The ends are `<of>_low` and `<of>_high`; without it `low` and `high`.
    form : str
        Format of all three.
    what : str
        What is said before the interval, for instance "95 % interval ".
    brackets : bool
        Around the interval; without them it stands after a comma.
    """
    text = f"{row[value]:{form}}"
    low, high = (row[f"{of}_{end}" if of else end] for end in ("low", "high"))
    if math.isnan(low) or math.isnan(high):
        return text
    interval = f"{what}{low:{form}} to {high:{form}}"
    return f"{text} ({interval})" if brackets else f"{text}, {interval}"


def duration(seconds: float) -> str:
    """A time in the unit that people would use, with two digits."""
    for unit, size in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} seconds"


def between(first: float, second: float, *, digits: int = 2) -> str:
    """Two ends as words, with as many digits as tell them apart; one number where they are the same."""
    if first == second:
        return f"{first:.{digits}g}"
    while f"{first:.{digits}g}" == f"{second:.{digits}g}" and digits < 17:
        digits += 1
    return f"{first:.{digits}g} to {second:.{digits}g}"


def plain(value: float, digits: int = 2) -> str:
    """A number as one writes it, at so many significant digits: 500 and not 5e+02, 0.034."""
    return f"{float(f'{value:.{digits}g}'):.15g}"
