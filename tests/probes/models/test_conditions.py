import pytest
import torch

from scorescope.data import InputError
from scorescope.probes.models import attribute_candidates, open_attributes
from scorescope.probes.models.conditions import ConditionRows, stack_conditions

SIZES = (4, 2, 3)


def test_open_attributes():
    labels = torch.tensor([[3, 1, 2], [0, 0, 0]])
    assert open_attributes(labels, SIZES, [1]).tolist() == [[4, 1, 3], [4, 0, 3]]
    assert open_attributes(labels, SIZES, []).tolist() == [[4, 2, 3]] * 2
    assert open_attributes(labels, SIZES, [0, 1, 2]).tolist() == labels.tolist()


def test_candidates_with_the_others_open_or_fixed():
    assert {k: v.tolist() for k, v in attribute_candidates(SIZES, 1).items()} == {"0": [[4, 0, 3]], "1": [[4, 1, 3]]}
    fixed = attribute_candidates(SIZES, 1, labels=torch.tensor([[3, 1, 2], [0, 0, 0]]), names=["off", "on"])
    assert fixed["off"].tolist() == [[3, 0, 2], [0, 0, 0]] and fixed["on"].tolist() == [[3, 1, 2], [0, 1, 0]]


def test_rows_of_several_conditions():
    table = ConditionRows.join([torch.tensor([1, 2, 3]), torch.tensor([9])], count=3)
    assert table.take(torch.tensor([0, 1, 0, 1]), torch.tensor([2, 2, 0, 1])).tolist() == [3, 9, 1, 9]


def test_conditions_one_under_the_other():
    found = stack_conditions([{"a": torch.zeros(1), "b": ["x"]}, {"a": torch.ones(2), "b": ["y", "z"]}])
    assert found["a"].tolist() == [0, 1, 1] and found["b"] == ["x", "y", "z"]
    assert stack_conditions([None, None]) is None
    with pytest.raises(InputError, match="one kind"):
        stack_conditions([None, torch.zeros(1)])


def test_bad_input():
    labels = torch.tensor([[3, 1, 2]])
    with pytest.raises(InputError, match="column"):
        open_attributes(labels, SIZES, [3])
    with pytest.raises(InputError, match="labels"):
        open_attributes(labels[:, :2], SIZES, [0])
    with pytest.raises(InputError, match="names"):
        attribute_candidates(SIZES, 0, names=["a"])
    with pytest.raises(InputError, match="labels"):
        attribute_candidates(SIZES, 0, labels=labels[0])
    with pytest.raises(InputError, match="kinds"):
        ConditionRows.join([torch.zeros(2), torch.zeros(2, 3)], count=2)
    with pytest.raises(InputError, match="Tensor"):
        ConditionRows.join([torch.tensor(1)], count=2)
    with pytest.raises(InputError, match="equally many"):
        ConditionRows.join([{"a": torch.zeros(2), "b": torch.zeros(1)}], count=2)
