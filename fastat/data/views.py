"""Crops and flips as records: see a frame through a window, or write what was seen back into it.

A frame is an image with `pad` zero pixels around it. One window and one flip per image and visit; the stored
perturbation is read and written through the same view (ATAS paper, Sec. V: "transformed according to the data
augmentation"; data_aug.py:9-61 of its code, here without a loop over images).
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad as pad_with_zeros

from fastat.types import View

AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # of a resized crop: shares of the frame, width to height


def frame(images: Tensor, pad: int) -> Tensor:
    """(n, C, H, W) -> (n, C, H + 2 pad, W + 2 pad), black around."""
    return pad_with_zeros(images, (pad, pad, pad, pad)) if pad else images


def draw(n: int, slack: tuple[int, int], flip: bool, rng: torch.Generator) -> View:
    """n independent views of frames that are `slack` rows and columns larger than what is seen.

    Offsets are uniform on {0..slack}; mirrored with probability 1/2 if `flip`.
    """
    return View(
        torch.randint(slack[0] + 1, (n,), generator=rng),
        torch.randint(slack[1] + 1, (n,), generator=rng),
        mirrored(n, flip, rng),
    )


def draw_boxes(n: int, frame: tuple[int, int], flip: bool, rng: torch.Generator) -> tuple[View, Tensor, Tensor]:
    """n independent boxes of frames, to be resized to what is seen: views of their corners, their heights and widths.

    A share U(0.08, 1) of the area, an aspect whose logarithm is U(log 3/4, log 4/3); of ten draws the first that fits,
    else the whole frame; then any place in it (torchvision's RandomResizedCrop of a square).
    """
    rows, cols = frame
    height, width = torch.full((n,), rows), torch.full((n,), cols)
    unset = torch.ones(n, dtype=torch.bool)
    for _ in range(10):
        area = rows * cols * torch.empty(n).uniform_(*AREA, generator=rng)
        aspect = torch.empty(n).uniform_(*(math.log(ratio) for ratio in ASPECT), generator=rng).exp()
        h, w = (area / aspect).sqrt().round().long(), (area * aspect).sqrt().round().long()
        fits = unset & (h > 0) & (h <= rows) & (w > 0) & (w <= cols)
        height, width = torch.where(fits, h, height), torch.where(fits, w, width)
        unset &= ~fits
    top = (torch.rand(n, generator=rng) * (rows - height + 1)).long()
    left = (torch.rand(n, generator=rng) * (cols - width + 1)).long()
    return View(top, left, mirrored(n, flip, rng)), height, width


def draw_holes(n: int, size: tuple[int, int], side: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """First rows and columns, (n,) each, of squares around independent pixels of images of `size` = (H, W).

    A square near the border reaches beyond it (Cutout: DeVries and Taylor 2017, arXiv 1708.04552).
    """
    top, left = (torch.randint(length, (n,), generator=rng) - side // 2 for length in size)
    return top, left


def cut_out(x: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """x (B, C, H, W), black in place where its square of `side` x `side` pixels lies. top, left: (B,)."""
    rows, cols = (
        torch.arange(length, device=x.device) - first[:, None]
        for length, first in zip(x.shape[2:], (top, left), strict=True)
    )
    rows, cols = ((ahead >= 0) & (ahead < side) for ahead in (rows, cols))
    return x.masked_fill_(rows[:, None, :, None] & cols[:, None, None, :], 0)


def mirrored(n: int, flip: bool, rng: torch.Generator) -> Tensor:
    """Each with probability 1/2 if `flip`."""
    return torch.rand(n, generator=rng) < 0.5 if flip else torch.zeros(n, dtype=torch.bool)


def centred(n: int, pad: int, device: torch.device) -> View:
    """The views that show each image as it is."""
    offset = torch.full((n,), pad, device=device)
    return View(offset, offset, torch.zeros(n, dtype=torch.bool, device=device))


def see(frames: Tensor, index: Tensor, view: View, size: tuple[int, int]) -> Tensor:
    """What the views show of frames[index].

    Shapes: frames (n, C, Hf, Wf), index (B,), size = (H, W) -> (B, C, H, W)
    """
    return frames[_address(frames, index, view, size)]


def write(frames: Tensor, index: Tensor, view: View, seen: Tensor) -> None:
    """Put `seen` (B, C, H, W) back where the views show it; pixels outside the windows keep their value."""
    frames[_address(frames, index, view, (seen.shape[2], seen.shape[3]))] = seen.to(frames.dtype)


def _address(frames: Tensor, index: Tensor, view: View, size: tuple[int, int]) -> tuple[Tensor, ...]:
    n_channels, device = frames.shape[1], frames.device
    rows = view.top[:, None] + torch.arange(size[0], device=device)  # (B, H)
    ahead = torch.arange(size[1], device=device)
    cols = view.left[:, None] + torch.where(view.flip[:, None], size[1] - 1 - ahead, ahead)  # (B, W)
    channel = torch.arange(n_channels, device=device)
    return (
        index[:, None, None, None],
        channel[None, :, None, None],
        rows[:, None, :, None],
        cols[:, None, None, :],
    )
