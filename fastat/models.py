"""Networks: PreActResNet of any width and depth. `forward = trunk(stem(x))`, normalisation inside the stem.

The CIFAR "ResNet-18" of the ATAS paper is `preact_resnet18`: its authors' models/preact_resnet.py (projection
shortcut from the raw block input, BatchNorm + ReLU before pooling, 11,172,170 parameters for 10 classes).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ATAS.py:141-145, on every data set


class Normalize(nn.Module):
    """(x - mean) / std per channel. One-channel images use the mean of ImageNet's three channels."""

    mean: Tensor
    std: Tensor

    def __init__(self, n_channels: int):
        super().__init__()
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        if n_channels == 1:
            mean, std = mean.mean().reshape(1), std.mean().reshape(1)
        self.register_buffer("mean", mean.reshape(-1, 1, 1))
        self.register_buffer("std", std.reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> the same shape, normalised."""
        return (x - self.mean) / self.std


class PreActBlock(nn.Module):
    """BN-ReLU-conv, twice, around a shortcut; a strided or widening block projects the raw input by 1x1."""

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(n_in)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        same = stride == 1 and n_in == n_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, H, W) -> (B, n_out, H/stride, W/stride)."""
        out = self.conv1(self.relu(self.bn1(x)))
        out = self.conv2(self.relu(self.bn2(out)))
        return out + self.shortcut(x)


class PreActResNet(nn.Module):
    """Pre-activation ResNet (He et al. 2016) for small images.

    Shapes: (B, C, H, W) in [0, 1] -> (B, K) logits. `stem` = normalise + first convolution, `trunk` = the rest.
    """

    def __init__(self, width: int, blocks: tuple[int, ...], stem_stride: int, n_channels: int, n_classes: int):
        super().__init__()
        self.stem = nn.Sequential(Normalize(n_channels), nn.Conv2d(n_channels, width, 3, stem_stride, 1, bias=False))
        layers: list[nn.Module] = []
        n_in = width
        for stage, n_blocks in enumerate(blocks):
            n_out = width * 2**stage
            for block in range(n_blocks):
                layers.append(PreActBlock(n_in, n_out, stride=2 if stage > 0 and block == 0 else 1))
                n_in = n_out
        self.trunk = nn.Sequential(
            *layers,
            nn.BatchNorm2d(n_in),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(n_in, n_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> logits (B, K)."""
        return self.trunk(self.stem(x))


@dataclass(frozen=True)
class Architecture:
    """The size of a named PreActResNet."""

    width: int
    blocks: tuple[int, ...]
    stem_stride: int = 1


MODELS = {
    "preact_tiny": Architecture(16, (1, 1, 1)),  # digits in seconds on one core
    "preact_small": Architecture(32, (1, 1, 1)),  # the wider network beside it
    "preact_tiny_s2": Architecture(16, (1, 1, 1), stem_stride=2),  # 28x28 images on a CPU
    "preact_resnet18": Architecture(64, (2, 2, 2, 2)),
}


def build(name: str, n_channels: int, n_classes: int) -> PreActResNet:
    """A freshly initialised network (torch's default initialisation, from the global generator).

    Raises: ValueError for a name that is not in MODELS.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}. Known: {', '.join(MODELS)}")
    size = MODELS[name]
    return PreActResNet(size.width, size.blocks, size.stem_stride, n_channels, n_classes)
