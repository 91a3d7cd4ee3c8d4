"""Images of files as arrays of one size and one number of channels, as the config says: nothing is guessed."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from fastat.errors import BadInput

CHANNELS = {"L": 1, "RGB": 3}  # modes that need no saying
MODES = {channels: mode for mode, channels in CHANNELS.items()}
DEEP = ("I", "F")  # how Pillow's modes of more than 8 bits begin
NAMED = 5  # sizes that an error names
BOTH = "`resize: exact` (the aspect is not kept), or `resize: shortest` with `crop: centre`"


@dataclass(frozen=True)
class Fit:
    """What every image becomes: `mode` L or RGB, (H, W) pixels, resized by `resize` if that is said, then cropped."""

    mode: str
    height: int
    width: int
    resize: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return CHANNELS[self.mode], self.height, self.width


def plan(sizes: Counter[tuple[int, int]], modes: Counter[str], options: dict[str, Any], where: str) -> Fit:
    """The one fit of images of these sizes (width, height) and Pillow modes.

    Raises: BadInput if the options do not say how they become alike.
    """
    mode = mode_of(modes, options, where)
    if "size" not in options:
        if len(sizes) > 1:
            raise BadInput(
                f"{where}: the images have {len(sizes)} sizes, {counted(sizes)}. Say which one they get and how: "
                f"`size: 32` or `size: [height, width]`, with {BOTH}"
            )
        ((width, height),) = sizes
        return Fit(mode, height, width)
    size = options["size"]
    height, width = size if isinstance(size, list) else (size, size)
    fit = Fit(mode, height, width, options.get("resize", ""))
    check_sizes(sizes, fit, "crop" in options, where)
    return fit


def check_sizes(sizes: Counter[tuple[int, int]], fit: Fit, crops: bool, where: str) -> None:
    """Raises: BadInput if an image would be neither of the size that is asked for, nor made so by what is said."""
    after = {(w, h): resized(w, h, fit) for w, h in sizes}
    small = Counter({size: sizes[size] for size, (w, h) in after.items() if w < fit.width or h < fit.height})
    other = Counter({size: sizes[size] for size, new in after.items() if new != (fit.width, fit.height)})
    asked = f"{fit.width}x{fit.height}"
    if small:
        raise BadInput(f"{where}: {counted(small)} images are smaller than {asked} pixels. Say {BOTH}")
    if other and not crops:
        way_out = f"Say {BOTH}" if not fit.resize else "Say `crop: centre`, or `resize: exact`"
        state = "after resize: shortest larger than" if fit.resize else "not of"
        raise BadInput(f"{where}: {counted(other)} images are {state} {asked} pixels. {way_out}")


def mode_of(modes: Counter[str], options: dict[str, Any], where: str) -> str:
    """`L` or `RGB`.

    Raises: BadInput for mixed or other modes of which `channels` does not say what they become, or more than 8 bits.
    """
    if deep := [mode for mode in modes if mode.startswith(DEEP)]:
        raise BadInput(
            f"{where}: {modes[deep[0]]} images have more than 8 bits a channel ({deep[0]}). Save them as 8-bit"
        )
    if "channels" in options:
        return MODES[options["channels"]]
    if len(modes) > 1 or not modes.keys() <= CHANNELS.keys():
        found = ", ".join(f"{mode} ({n:,})" for mode, n in modes.most_common())
        raise BadInput(
            f"{where}: the images' modes are {found}. Say what they become: `channels: 1` (grey) or `channels: 3`, "
            "without transparency"
        )
    return next(iter(modes))


def counted(sizes: Counter[tuple[int, int]]) -> str:
    """`32x32 (50), 28x30 (2)`: width x height, the most frequent first."""
    named = ", ".join(f"{w}x{h} ({n:,})" for (w, h), n in sizes.most_common(NAMED))
    return named + (f" and {len(sizes) - NAMED} more" if len(sizes) > NAMED else "")


def resized(width: int, height: int, fit: Fit) -> tuple[int, int]:
    """The width and height of an image before it is cropped."""
    if fit.resize == "exact":
        return fit.width, fit.height
    if fit.resize == "shortest":  # the smallest scale at which it covers what is asked for
        scale = max(fit.width / width, fit.height / height)
        return max(round(width * scale), fit.width), max(round(height * scale), fit.height)
    return width, height


def fitted(image: Image.Image, fit: Fit) -> np.ndarray:
    """uint8 (C, H, W): converted, resized bilinearly (Pillow's, which is antialiased) and cropped to its middle."""
    if "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode != fit.mode:
        image = image.convert(fit.mode)
    if (size := resized(*image.size, fit)) != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - fit.width) // 2, (size[1] - fit.height) // 2
    pixels = np.asarray(image)[top : top + fit.height, left : left + fit.width]
    return pixels[None] if fit.mode == "L" else pixels.transpose(2, 0, 1)


def is_one(image: Image.Image, fit: Fit) -> bool:
    """Whether an image is what it is to become, as it is."""
    return image.mode == fit.mode and image.size == (fit.width, fit.height) and "transparency" not in image.info


def memory() -> int:
    """Bytes that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def bytes_of(n: int, fit: Fit) -> int:
    """Bytes of the pixels of n images."""
    return n * fit.shape[0] * fit.height * fit.width


def has_room(n_bytes: int) -> bool:
    """Whether so many bytes of pixels can be prepared: they are held in memory twice."""
    return 2 * n_bytes <= memory()


def room_for(n_bytes: int, where: str) -> None:
    """Raises: BadInput if so many bytes of pixels cannot be prepared."""
    if not has_room(n_bytes):
        found = f"to prepare it takes {2 * n_bytes / 1e9:.1f} GB, and this machine has {memory() / 1e9:.1f}"
        raise BadInput(f"{where}: {found}. All of it is held in memory: take smaller images (`size`) or fewer")


def n_asked(test: float, n: int, where: str) -> int:
    """How many of n images `test` is, a share (below 1) or a number.

    Raises: BadInput if it leaves no training image.
    """
    count = round(test * n) if isinstance(test, float) and test < 1 else int(test)
    if not 0 < count < n:
        raise BadInput(f"{where}: test: {test} is {count} of {n} images. Leave some for each part")
    return count


def check_classes(counts: dict[str, int], where: str) -> None:
    """Every class that is split needs an image for each part.

    Raises: BadInput naming those with one.
    """
    if few := [name for name, n in counts.items() if n < 2]:
        raise BadInput(f"{where}: a split needs two images of every class, but there is one of {listed(few)}. Add some")


def listed(names: Iterable[object], most: int = 20) -> str:
    """`a, b, c`: the first `most`, then how many more."""
    every = [str(name) for name in names]
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")
