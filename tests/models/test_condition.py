"""Labels as conditions: one-hots with a column for the unknown."""

import pytest
import torch

from medgan_ray.errors import InputError
from medgan_ray.models import condition


def test_label_sets_stand_side_by_side_with_a_column_for_the_unknown() -> None:
    encoded = condition.encode(torch.tensor([[0, 1], [-1, 2], [1, -1]], dtype=torch.int32), (2, 3))
    assert encoded.tolist() == [[1, 0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0, 1]]
    assert encoded.dtype == torch.float32
    assert condition.width((2, 3)) == 7


def test_without_labels_there_is_nothing() -> None:
    assert condition.width(()) == 0
    assert condition.encode(torch.zeros((4, 0), dtype=torch.int32), ()).shape == (4, 0)


@pytest.mark.parametrize("labels", [[[2]], [[-2]], [[0, 0]], [0]])
def test_what_is_out_of_range_is_refused(labels: list[object]) -> None:
    with pytest.raises(InputError, match="label"):
        condition.encode(torch.tensor(labels), (2,))
