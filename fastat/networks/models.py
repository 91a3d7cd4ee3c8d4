"""Networks. `forward = trunk(stem(x))`; the stem normalises and ends in the first convolution.

A network is a size (MODELS) built by the rules of one repository (ARCHS). `shared` are the rules of the ATAS authors:
their CIFAR "ResNet-18" is `preact_resnet18`, projection shortcut from the raw block input, BatchNorm + ReLU before
pooling. The other rules are those of the official code of the methods that the paper compares.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fastat.errors import BadInput

Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]  # mean and standard deviation of R, G, B
IMAGENET: Statistics = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RAW: Statistics = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


class Normalize(nn.Module):
    """(x - mean) / std per channel. One-channel images use the mean of the three channels' statistics."""

    mean: Tensor
    std: Tensor

    def __init__(self, n_channels: int, statistics: Statistics = IMAGENET):
        super().__init__()
        mean, std = torch.tensor(statistics[0]), torch.tensor(statistics[1])
        if n_channels == 1:
            mean, std = mean.mean().reshape(1), std.mean().reshape(1)
        self.register_buffer("mean", mean.reshape(-1, 1, 1))
        self.register_buffer("std", std.reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> the same shape, normalised."""
        return (x - self.mean) / self.std


def fan_out(network: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / (k^2 c_out)), set the last layer's bias to 0; its weight stays torch's."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def fan_out_and_linear(network: nn.Module) -> None:
    """`fan_out`, and the last layer's weight from N(0, 2 / n_in)."""
    fan_out(network)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")


@dataclass(frozen=True)
class Rules:
    """What repositories do differently with networks of one size."""

    statistics: Statistics = IMAGENET  # normalise by these
    cifar100: Statistics | None = None  # where there are 100 classes, by these
    shortcut: Literal["raw", "activated"] = "raw"  # a projection reads the block's input, or that after BN and ReLU
    last_norm: bool = True  # BatchNorm + ReLU before pooling
    last_momentum: float = 0.1  # of that BatchNorm
    conv_bias: bool = False
    strided: Literal[1, 2] = 1  # which of a block's two convolutions has the stride
    dropout: float = 0.0  # before the second convolution
    relu_before_sum: bool = False  # post-activation block: another ReLU before the shortcut is added
    init: Callable[[nn.Module], None] | None = None  # None: torch's

    def statistics_of(self, n_classes: int) -> Statistics:
        """What a network for so many classes normalises by."""
        return self.cifar100 if self.cifar100 and n_classes == 100 else self.statistics


SHARED = Rules()


class PreActBlock(nn.Module):
    """BN-ReLU-conv, twice, around a shortcut; a strided or widening block has a 1x1 convolution there."""

    def __init__(self, n_in: int, n_out: int, stride: int, rules: Rules):
        super().__init__()
        first, second = (stride, 1) if rules.strided == 1 else (1, stride)
        self.bn1 = nn.BatchNorm2d(n_in)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, first, 1, bias=rules.conv_bias)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, second, 1, bias=rules.conv_bias)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(rules.dropout)
        same = stride == 1 and n_in == n_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(n_in, n_out, 1, stride, bias=rules.conv_bias)
        self.from_activated = rules.shortcut == "activated" and not same

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, H, W) -> (B, n_out, H/stride, W/stride)."""
        active = self.relu(self.bn1(x))
        out = self.relu(self.bn2(self.conv1(active)))
        return self.conv2(self.dropout(out)) + self.shortcut(active if self.from_activated else x)


class PostActBlock(nn.Module):
    """The block of He et al. 2015: conv-BN-ReLU-conv-BN, the shortcut added, ReLU; a projection has a BN as well."""

    def __init__(self, n_in: int, n_out: int, stride: int, rules: Rules):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.relu_before_sum = rules.relu_before_sum
        projection = nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
        self.shortcut = nn.Sequential(*(() if stride == 1 and n_in == n_out else projection))

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, H, W) -> (B, n_out, H/stride, W/stride)."""
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.relu_before_sum:
            out = self.relu(out)
        return self.relu(out + self.shortcut(x))


class Network(nn.Module):
    """Two parts, for the methods that treat the first layer by itself.

    Shapes: (B, C, H, W) in [0, 1] -> (B, K) logits. `stem` = normalise + first convolution, `trunk` = the rest.
    """

    def __init__(self, stem: nn.Sequential, trunk: nn.Sequential, rules: Rules):
        super().__init__()
        self.stem, self.trunk = stem, trunk
        if rules.init is not None:
            rules.init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> logits (B, K)."""
        return self.trunk(self.stem(x))


def stem_of(n_channels: int, width: int, stride: int, n_classes: int, rules: Rules) -> nn.Sequential:
    """Normalise, and a 3x3 convolution."""
    normalize = Normalize(n_channels, rules.statistics_of(n_classes))
    return nn.Sequential(normalize, nn.Conv2d(n_channels, width, 3, stride, 1, bias=rules.conv_bias))


def block_shapes(stem_width: int, width: int, blocks: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """(n_in, n_out, stride) of every block: each stage doubles the width and, but for the first, halves the image."""
    n_in = stem_width
    for stage, n_blocks in enumerate(blocks):
        n_out = width * 2**stage
        for block in range(n_blocks):
            yield n_in, n_out, 2 if stage > 0 and block == 0 else 1
            n_in = n_out


def head(n_in: int, n_classes: int) -> list[nn.Module]:
    """Mean over the whole map, whatever its size, and the linear layer."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, n_classes)]


class PreActResNet(Network):
    """Pre-activation ResNet (He et al. 2016) for small images, narrow or wide."""

    def __init__(
        self,
        width: int,
        blocks: tuple[int, ...],
        stem_stride: int,
        n_channels: int,
        n_classes: int,
        stem_width: int | None = None,
        rules: Rules = SHARED,
    ):
        first, last = stem_width or width, width * 2 ** (len(blocks) - 1)
        stem = stem_of(n_channels, first, stem_stride, n_classes, rules)
        layers: list[nn.Module] = [PreActBlock(*shape, rules) for shape in block_shapes(first, width, blocks)]
        if rules.last_norm:
            layers += [nn.BatchNorm2d(last, momentum=rules.last_momentum), nn.ReLU(inplace=True)]
        super().__init__(stem, nn.Sequential(*layers, *head(last, n_classes)), rules)


class PostActResNet(Network):
    """ResNet (He et al. 2015) for small images: BatchNorm + ReLU after the first convolution, none before pooling."""

    def __init__(
        self, width: int, blocks: tuple[int, ...], stem_stride: int, n_channels: int, n_classes: int, rules: Rules
    ):
        stem = stem_of(n_channels, width, stem_stride, n_classes, rules)
        layers: list[nn.Module] = [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers += [PostActBlock(*shape, rules) for shape in block_shapes(width, width, blocks)]
        super().__init__(stem, nn.Sequential(*layers, *head(width * 2 ** (len(blocks) - 1), n_classes)), rules)


class TorchvisionResNet(Network):
    """torchvision's network of that name with random weights; it reads three channels."""

    def __init__(self, name: str, n_channels: int, n_classes: int, rules: Rules):
        import torchvision

        if n_channels != 3:
            raise BadInput(f"{name} is torchvision's and reads 3 channels, got {n_channels}. Use a preact_ network.")
        parts = OrderedDict(getattr(torchvision.models, name)(num_classes=n_classes).named_children())
        stem = nn.Sequential(Normalize(n_channels, rules.statistics_of(n_classes)), parts.pop("conv1"))
        parts["flatten"] = nn.Flatten()
        parts.move_to_end("fc")
        super().__init__(stem, nn.Sequential(parts), rules)


@dataclass(frozen=True)
class Size:
    """What a name says of a network, whoever's rules it is built by."""

    kind: Literal["preact", "wide", "postact", "torchvision"]
    width: int
    blocks: tuple[int, ...]
    stem_width: int | None = None  # None: as `width`
    stem_stride: int = 1


MODELS = {
    "preact_tiny": Size("preact", 16, (1, 1, 1)),  # digits in seconds on one core
    "preact_small": Size("preact", 32, (1, 1, 1)),  # the wider network beside it
    "preact_tiny_s2": Size("preact", 16, (1, 1, 1), stem_stride=2),  # 28x28 images on a CPU
    "preact_resnet18": Size("preact", 64, (2, 2, 2, 2)),
    "postact_tiny": Size("postact", 16, (1, 1, 1)),
    "postact_resnet18": Size("postact", 64, (2, 2, 2, 2)),
    "wrn16_1": Size("wide", 16, (2, 2, 2), stem_width=16),  # for tests
    "wrn28_10": Size("wide", 160, (4, 4, 4), stem_width=16),
    "wrn34_10": Size("wide", 160, (5, 5, 5), stem_width=16),
    "resnet18": Size("torchvision", 64, (2, 2, 2, 2)),  # ImageNet's; torchvision knows the rest
    "resnet50": Size("torchvision", 64, (3, 4, 6, 3)),
}

CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)  # fast_adversarial CIFAR10/utils.py:8-9
CIFAR100 = (0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)  # robust_overfitting
SUBAT_10 = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # Sub-AT utils.py:252-260
SUBAT_100 = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
SSAT_10 = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # catastrophic-overfitting defenses/model.py:10

# Whose rules -> how they build each kind of network; file:line in the repository named. What has no entry for 100
# classes normalises CIFAR100 as CIFAR10. Not built: the network of free_adv_train (TensorFlow, shortcuts without
# weights), and `sub_block1` in the wide networks of YOPO, ATTA, SDI and PGI: 2,102,112 parameters that are never used.
ARCHS: dict[str, dict[str, Rules]] = {
    # HuangZhiChao95/ATAS models/preact_resnet.py:25,72,91, models/wideresnet.py:50-91, ATAS.py:141-147
    "shared": {
        "preact": SHARED,
        "wide": Rules(shortcut="activated", init=fan_out),
        "torchvision": Rules(),
    },
    # locuslab/fast_adversarial CIFAR10/preact_resnet.py:24,68,85, ImageNet/main_fast.py:66-72
    "fast_adversarial": {
        "preact": Rules(CIFAR10),
        "torchvision": Rules(),
    },
    # locuslab/robust_overfitting preactresnet.py:30,75,92, wideresnet.py, train_cifar.py:211
    "robust_overfitting": {
        "preact": Rules(CIFAR10, CIFAR100, shortcut="activated"),
        "wide": Rules(CIFAR10, CIFAR100, shortcut="activated", init=fan_out),
    },
    # tml-epfl/understanding-fast-adv-training models.py:115,131-132,179-187, utils.py:317-330
    "gradalign": {
        "preact": Rules(RAW, last_norm=False, init=fan_out_and_linear),
    },
    # Harry24k/catastrophic-overfitting defenses/models/preact_resnet.py:25,86-95, defenses/model.py:10-13
    "ssat": {
        "preact": Rules(SSAT_10, shortcut="activated", last_norm=False),
        "wide": Rules(SSAT_10, shortcut="activated", dropout=0.3, init=fan_out),
    },
    # a1600012888/YOPO experiments/CIFAR10/pre-res18.yopo-5-3/network.py:30,55,82-93, lib/base_model/wide_resnet.py:61
    "yopo": {
        "preact": Rules(RAW, shortcut="activated", last_norm=False),
        "wide": Rules(RAW, shortcut="activated"),  # its He initialisation is commented out
    },
    # hzzheng93/ATTA models/wideresnet.py; its models/resnet.py is not used
    "atta": {
        "wide": Rules(RAW, shortcut="activated", init=fan_out),
    },
    # val-iisc/NuAT CIFAR10/ResNet.py:28-33, CIFAR10/WideResNet.py
    "nuat": {
        "postact": Rules(RAW, relu_before_sum=True),
        "wide": Rules(RAW, conv_bias=True, strided=2, last_momentum=0.9),
    },
    # nblt/Sub-AT resnet.py, wideresnet.py, utils.py:252-273
    "subat": {
        "preact": Rules(SUBAT_10, SUBAT_100, shortcut="activated"),
        "wide": Rules(SUBAT_10, SUBAT_100, shortcut="activated", init=fan_out),
    },
    # jiaxiaojunQAQ/FGSM-SDI and FGSM-PGI models/resnet.py, preact_resnet.py, wide_resnet.py, utils.py:17-20
    "sdi_pgi": {
        "postact": Rules(RAW),
        "preact": Rules(RAW, shortcut="activated", last_norm=False),
        "wide": Rules(RAW, shortcut="activated", init=fan_out),
    },
}


def build(name: str, n_channels: int, n_classes: int, arch: str = "shared") -> Network:
    """A freshly initialised network (from the global generator) of a size in MODELS, by the rules of ARCHS.

    Raises: BadInput (a ValueError) for an unknown name or arch, and for an arch that has no such network.
    """
    if name not in MODELS:
        raise BadInput(f"unknown model {name!r}. Known: {', '.join(MODELS)}")
    if arch not in ARCHS:
        raise BadInput(f"unknown arch {arch!r}. Known: {', '.join(ARCHS)}")
    size, rules = MODELS[name], ARCHS[arch].get(MODELS[name].kind)
    if rules is None:
        theirs = [other for other, one in MODELS.items() if one.kind in ARCHS[arch]]
        others = [other for other, kinds in ARCHS.items() if size.kind in kinds]
        raise BadInput(
            f"arch {arch!r} has no {name}; it has {', '.join(theirs)}. Archs that have {name}: {', '.join(others)}."
        )
    if size.kind == "torchvision":
        return TorchvisionResNet(name, n_channels, n_classes, rules)
    if size.kind == "postact":
        return PostActResNet(size.width, size.blocks, size.stem_stride, n_channels, n_classes, rules)
    return PreActResNet(size.width, size.blocks, size.stem_stride, n_channels, n_classes, size.stem_width, rules)
