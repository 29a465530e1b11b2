"""Deltas of token embeddings as attribute control saves them, and files that are none."""

from collections import OrderedDict

import pytest
import torch

from scorescope.data.errors import InputError
from scorescope.probes.sites import Intervention, load_token_delta


def saved(path, **parts):
    delta = OrderedDict({f"tokenwise_delta.{name}": value for name, value in parts.items()})
    torch.save({"delta": delta}, path)
    return path


def test_parts_of_encoders_lie_side_by_side_and_strength_one_is_the_delta(tmp_path):
    first, second = torch.arange(1.0, 5).bfloat16(), torch.tensor([-2.0, 3.0]).bfloat16()
    path = saved(tmp_path / "person_age.pt", openclip_g=second, oai_clip_vit_l=first)
    found = load_token_delta(path)
    assert found.vector.tolist() == [1, 2, 3, 4, -2, 3] and found.site == "condition"
    assert (found.attribute, found.method) == ("person_age", "attribute control")
    torch.testing.assert_close(Intervention.along(found).value, found.vector)
    assert load_token_delta(path, encoders=["oai_clip_vit_l"], attribute="age").vector.tolist() == [1, 2, 3, 4]


class Harmful:
    """Code in a file, which must not run."""

    def __reduce__(self):
        return pytest.fail, ("the file's code was run",)


def test_other_files_are_one_clear_error(tmp_path):
    path = saved(tmp_path / "one.pt", oai_clip_vit_l=torch.ones(4))
    with pytest.raises(InputError, match=r"encoders: found \['openclip_g'\]"):
        load_token_delta(path)
    torch.save({"weights": torch.ones(3)}, tmp_path / "other.pt")
    torch.save({"delta": Harmful()}, tmp_path / "harmful.pt")
    (tmp_path / "damaged.pt").write_bytes(b"no archive")
    for name in ("other.pt", "harmful.pt", "damaged.pt", "absent.pt"):
        with pytest.raises(InputError, match="as attribute control saves it"):
            load_token_delta(tmp_path / name)
    saved(tmp_path / "zero.pt", oai_clip_vit_l=torch.zeros(4))
    with pytest.raises(InputError, match="vector: found norm 0"):
        load_token_delta(tmp_path / "zero.pt", encoders=["oai_clip_vit_l"])
