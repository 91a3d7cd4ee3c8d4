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


def test_boxes_are_those_of_torchvisions_random_resized_crop():
    from torchvision.transforms import RandomResizedCrop

    n, frame = 4000, (256, 256)
    (top, left, flip), height, width = views.draw_boxes(n, frame, True, torch.Generator().manual_seed(0))
    assert (
        (top >= 0).all() and (top + height <= frame[0]).all() and (left >= 0).all() and (left + width <= frame[1]).all()
    )
    torch.manual_seed(0)
    theirs = torch.tensor(
        [RandomResizedCrop.get_params(torch.empty(1, *frame), [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(n)]
    )
    ours, theirs = torch.stack([top, left, height, width], 1).double(), theirs.double()
    ours, theirs = (torch.cat([t, t[:, 2:3] * t[:, 3:]], 1) for t in (ours, theirs))
    error = ((ours.var(0) + theirs.var(0)) / n).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 4 * error).all()
    assert ((ours.std(0) / theirs.std(0) - 1).abs() < 0.06).all()
    assert 0.45 < flip.double().mean() < 0.55


def test_a_frame_that_no_box_fits_is_seen_whole():
    view, height, width = views.draw_boxes(50, (2, 400), False, torch.Generator().manual_seed(0))
    assert set(zip(height.tolist(), width.tolist(), strict=True)) == {(2, 400)}
    assert not view.top.any() and not view.left.any() and not view.flip.any()


def test_a_hole_is_black_and_ends_at_the_border():
    x = torch.ones(3, 2, 5, 6)
    views.cut_out(x, torch.tensor([1, -1, 4]), torch.tensor([2, 5, 7]), 2)
    expected = torch.ones(3, 5, 6)
    expected[0, 1:3, 2:4] = expected[1, :1, 5:] = 0  # the third lies outside
    assert torch.equal(x, expected[:, None].expand(3, 2, 5, 6))


def test_holes_lie_around_every_pixel_alike():
    top, left = views.draw_holes(4000, (3, 5), 4, torch.Generator().manual_seed(0))
    for first, length in ((top, 3), (left, 5)):
        counts = torch.bincount(first + 2, minlength=length)  # of centres
        assert len(counts) == length and ((counts / 4000 - 1 / length).abs() < 0.03).all()
