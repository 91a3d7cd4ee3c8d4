"""Views: what is written can be read back, whatever the crop and flip."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from fastat.data import views
from fastat.types import View


@given(st.integers(0, 4), st.integers(0, 4), st.booleans())
def test_write_then_see_is_the_identity_and_the_rest_is_untouched(top, left, flip):
    rng = torch.Generator().manual_seed(top * 10 + left)
    frames, seen = torch.rand((3, 2, 9, 9), generator=rng), torch.rand((1, 2, 5, 5), generator=rng)
    view = View(torch.tensor([top]), torch.tensor([left]), torch.tensor([flip]))
    index, before = torch.tensor([1]), frames.clone()
    views.write(frames, index, view, seen)
    assert torch.equal(views.see(frames, index, view, (5, 5)), seen)
    window = torch.zeros(9, 9, dtype=torch.bool)
    window[top : top + 5, left : left + 5] = True
    assert torch.equal(frames[1][:, ~window], before[1][:, ~window])
    assert torch.equal(frames[[0, 2]], before[[0, 2]])


def test_see_crops_and_mirrors():
    frames = torch.arange(16.0).reshape(1, 1, 4, 4)
    view = View(torch.tensor([1]), torch.tensor([2]), torch.tensor([True]))
    assert views.see(frames, torch.tensor([0]), view, (2, 2)).tolist() == [[[[7.0, 6.0], [11.0, 10.0]]]]
