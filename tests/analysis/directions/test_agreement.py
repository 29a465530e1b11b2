import pytest
import torch

from scorescope.analysis.guidance.quality import attribute_agreement
from scorescope.data import InputError


def test_agreement_counts_each_attribute_and_all_at_once():
    labels = torch.tensor([[0, 1], [1, 1], [1, 0], [0, 0]])
    named = torch.tensor([[0, 1], [1, 0], [0, 1], [0, 0]])

    def scorer(images):
        rows = images[:, 0].long()
        one_hot = torch.nn.functional.one_hot(named[rows], 2)
        return {"a": one_hot[:, 0], "b": one_hot[:, 1], "nuisance": one_hot[:, 1]}

    table = attribute_agreement(scorer, {"samples": (torch.arange(4.0)[:, None], labels)}, batch=3)
    assert table.set_index("attribute").agreement.to_dict() == {"a": 0.75, "b": 0.5, "all": 0.5}
    row = table.iloc[1]
    assert row.low == pytest.approx(0.0676, abs=1e-3) and row.high == pytest.approx(0.9324, abs=1e-3)  # 2 of 4, exact
    with pytest.raises(InputError, match="sets"):
        attribute_agreement(scorer, {"samples": (torch.zeros(3, 1), labels)})
