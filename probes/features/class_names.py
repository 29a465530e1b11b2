"""Names of the ImageNet classes, in the two orders in which networks have them.

    load_class_names()          # 1008, in the 2015 Inception network's own order
    names_by_wordnet_id()       # 1000, as torchvision, Keras and most others sort them

Both come from one shipped table, whose sources its first lines name.
"""

from pathlib import Path

import pandas as pd

from scorescope.data.checkpoints import SHIPPED
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import read_text

OUTPUTS = 1008  # of the 2015 network
CLASS_TABLE = SHIPPED.parent / "inception_classes.tsv"


@checked
def load_class_names(path: Path | str | None = None) -> list[str]:
    """Names of the 1008 classes in the 2015 network's own order.

    The order is not torchvision's, and no class but the unused ones is at the place that it has there: 0 and 1001 to
    1007 are unused, 1 is the kit fox and 1000 the dumbbell.

    Parameters
    ----------
    path : Path or str, optional
        A text file with one name a line; by default the shipped table, whose sources its first lines name. There a
        class has its first lemma, or all of them and the WordNet id where the first is not unique.

    Raises
    ------
    InputError
        For another number of lines, or names in torchvision's order, which would label every class wrongly.
    """
    if path is None:
        table = class_table_of_2015()
        return ["unused 0", *_short_names(table), *(f"unused {index}" for index in range(len(table) + 1, OUTPUTS))]
    path = Path(path)
    if not path.is_file():
        raise InputError("class names", found=f"no file {path}", expected="a text file with 1008 lines")
    text = read_text(path, expected="a text file with 1008 lines", limit=2**20)
    names = [line.strip() for line in text.splitlines()]
    if len(names) != OUTPUTS:
        expected = f"{OUTPUTS}, in the 2015 network's own order; lists of 1000 are in torchvision's"
        raise InputError(str(path), found=f"{len(names)} lines", expected=expected)
    anchors: dict[int, str] = {1: "kit fox", 2: "english setter", 3: "siberian husky", 1000: "dumbbell"}
    for index, name in anchors.items():
        if name not in names[index].lower():
            raise InputError(str(path), found=f"{names[index]!r} on line {index + 1}", expected=f"{name!r} there")
    return names


def names_by_wordnet_id() -> list[str]:
    """Names of the 1000 classes sorted by WordNet id: 0 is the tench, 999 toilet tissue."""
    return _short_names(class_table_of_2015().sort_values("wnid"))


def class_table_of_2015() -> pd.DataFrame:
    """The shipped table of the 1000 classes in use: columns `index` (1 to 1000), `wnid` and `lemmas`."""
    return pd.read_csv(CLASS_TABLE, sep="\t", comment="#", dtype={"index": int})


def _short_names(table: pd.DataFrame) -> list[str]:
    """The first lemma of each class; all of them, and the WordNet id, where that is not unique."""
    first = table["lemmas"].str.split(",").str[0]
    shared = set(first[first.duplicated(keep=False)])
    same = set(table["lemmas"][table["lemmas"].duplicated(keep=False)])
    return [
        f"{lemmas} ({wnid})" if lemmas in same else lemmas if short in shared else short
        for wnid, lemmas, short in zip(table["wnid"], table["lemmas"], first, strict=True)
    ]
