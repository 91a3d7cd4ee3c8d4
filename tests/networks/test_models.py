"""Architectures against the published parameter counts, and the rules by which the repositories differ."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from fastat.features import logits_and_features, n_features
from fastat.networks import models

SMALL = {"preact": "preact_tiny", "postact": "postact_tiny", "wide": "wrn16_1"}
EVERY = [(SMALL[kind], arch) for arch, kinds in models.ARCHS.items() for kind in kinds if kind in SMALL]


@pytest.mark.parametrize(
    "name,arch,n_classes,expected",  # [V] in the method cards: counted on the repositories' own networks
    [
        ("preact_resnet18", "shared", 10, 11_172_170),
        ("preact_resnet18", "shared", 100, 11_218_340),
        ("preact_resnet18", "fast_adversarial", 10, 11_172_170),
        ("preact_resnet18", "robust_overfitting", 10, 11_172_170),
        ("preact_resnet18", "subat", 10, 11_172_170),
        ("preact_resnet18", "gradalign", 10, 11_171_146),  # no last BatchNorm
        ("preact_resnet18", "ssat", 10, 11_171_146),
        ("preact_resnet18", "yopo", 10, 11_171_146),
        ("preact_resnet18", "sdi_pgi", 10, 11_171_146),
        ("postact_resnet18", "nuat", 10, 11_173_962),
        ("postact_resnet18", "sdi_pgi", 10, 11_173_962),
        ("wrn28_10", "shared", 10, 36_479_194),
        ("wrn28_10", "shared", 100, 36_536_884),
        ("wrn28_10", "ssat", 10, 36_479_194),
        ("wrn34_10", "robust_overfitting", 10, 46_160_474),
        ("wrn34_10", "yopo", 10, 46_160_474),  # 48,262,586 there, with the unused sub_block1
        ("wrn34_10", "atta", 10, 46_160_474),
        ("wrn34_10", "nuat", 10, 46_172_810),  # convolutions with bias
        ("resnet18", "shared", 1000, 11_689_512),  # torchvision's documentation
        ("resnet50", "shared", 1000, 25_557_032),
    ],
)
def test_networks_have_the_parameters_of_the_authors(name, arch, n_classes, expected):
    with torch.device("meta"):
        model = models.build(name, 3, n_classes, arch)
    assert sum(p.numel() for p in model.parameters()) == expected


NORM = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


@pytest.mark.parametrize(
    "name,last",  # the last three weights drawn after seed 0, at commit d82c43e
    [
        ("preact_tiny", (-0.1212149, 0.0652605, -0.1227168)),
        ("preact_small", (-0.0271643, 0.0547372, -0.0779356)),
        ("preact_tiny_s2", (-0.1212149, 0.0652605, -0.1227168)),
    ],
)
def test_the_networks_of_the_committed_results_still_start_with_the_same_weights_and_keys(name, last):
    torch.manual_seed(0)
    state = models.build(name, 1, 10).state_dict()
    torch.testing.assert_close(state["trunk.7.bias"][:3], torch.tensor(last), atol=1e-6, rtol=0)
    expected = ["stem.0.mean", "stem.0.std", "stem.1.weight"]
    for block in range(3):
        for part in ("1", "2"):
            expected += [f"trunk.{block}.bn{part}.{key}" for key in NORM] + [f"trunk.{block}.conv{part}.weight"]
        expected += [f"trunk.{block}.shortcut.weight"] if block else []
    assert list(state) == [*expected, *(f"trunk.3.{key}" for key in NORM), "trunk.7.weight", "trunk.7.bias"]


def test_forward_is_trunk_of_stem(tiny_model):
    x = torch.rand(2, 1, 8, 8)
    tiny_model.eval()
    assert torch.equal(tiny_model(x), tiny_model.trunk(tiny_model.stem(x)))


@pytest.mark.parametrize("name,arch", [*EVERY, ("resnet18", "shared")])
def test_every_network_has_a_stem_that_ends_in_a_convolution_and_gives_logits(name, arch):
    model = models.build(name, 3, 7, arch).eval()
    x = torch.rand(2, 3, 32, 32)
    assert isinstance(model.stem[-1], nn.Conv2d)
    assert torch.equal(model(x), model.trunk(model.stem(x)))
    assert model(x).shape == (2, 7)
    logits, features = logits_and_features(model, x)
    assert torch.equal(logits, model(x)) and torch.equal(features, model.trunk[:-1](model.stem(x)))
    assert features.shape == (2, n_features(model))


@pytest.mark.parametrize(
    "name,arch,window", [("preact_resnet18", "shared", 4), ("postact_resnet18", "nuat", 4), ("wrn16_1", "shared", 8)]
)
def test_pooling_the_whole_map_equals_the_authors_fixed_window_on_32x32_images(name, arch, window):
    trunk, maps = models.build(name, 3, 10, arch).eval(), []
    pool = next(module for module in trunk.modules() if isinstance(module, nn.AdaptiveAvgPool2d))
    pool.register_forward_hook(lambda _module, args, out: maps.append((args[0], out)))
    trunk(torch.rand(2, 3, 32, 32))
    (before, after) = maps[0]
    torch.testing.assert_close(after, avg_pool2d(before, window))  # float32 rounding
    assert after.shape[2:] == (1, 1)


@pytest.mark.parametrize("name,arch", [("wrn16_1", "shared"), ("preact_tiny", "gradalign")])
def test_he_initialisation_has_the_standard_deviation_of_the_authors(name, arch):
    torch.manual_seed(0)
    model = models.build(name, 3, 10, arch)
    for conv in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
        sigma = math.sqrt(2 / (conv.kernel_size[0] ** 2 * conv.out_channels))
        # the estimate's own spread is sigma / sqrt(2 n); five of them
        assert abs(conv.weight.std().item() / sigma - 1) < 5 / math.sqrt(2 * conv.weight.numel())
    linear = model.trunk[-1]
    assert linear.bias.abs().max() == 0
    sigma = math.sqrt(2 / 64) if arch == "gradalign" else 1 / math.sqrt(3 * 64)  # torch: uniform in +-1/sqrt(n_in)
    assert abs(linear.weight.std().item() / sigma - 1) < 5 / math.sqrt(2 * 640)


@pytest.mark.parametrize("arch,activated", [("shared", False), ("yopo", True), ("gradalign", False), ("subat", True)])
def test_a_projection_reads_what_the_repository_says_and_an_identity_the_raw_input(arch, activated):
    rules = models.ARCHS[arch]["preact"]
    x = torch.randn(2, 4, 8, 8)
    for block, projects in ((models.PreActBlock(4, 8, 2, rules), True), (models.PreActBlock(4, 4, 1, rules), False)):
        nn.init.zeros_(block.eval().conv2.weight)  # leaves the shortcut alone
        read = block.bn1(x).relu() if activated and projects else x
        assert torch.equal(block(x), block.shortcut(read))


def test_nuats_block_cuts_off_the_negative_part_before_the_sum():
    x = torch.full((1, 4, 8, 8), 0.5)
    for arch, expected in (("nuat", 0.5), ("sdi_pgi", 0.2)):
        block = models.PostActBlock(4, 4, 1, models.ARCHS[arch]["postact"]).eval()
        nn.init.zeros_(block.bn2.weight)
        nn.init.constant_(block.bn2.bias, -0.3)
        torch.testing.assert_close(block(x), torch.full_like(x, expected))


def test_nuats_wide_network_strides_in_the_second_convolution_and_trusts_the_newest_batch():
    model = models.build("wrn16_1", 3, 10, "nuat")
    assert [(block.conv1.stride[0], block.conv2.stride[0]) for block in model.trunk[:3]] == [(1, 1), (1, 1), (1, 2)]
    assert model.trunk[6].momentum == 0.9
    assert all(conv.bias is not None for conv in model.modules() if isinstance(conv, nn.Conv2d))


def test_ssats_wide_network_drops_out_in_training_alone():
    model, x = models.build("wrn16_1", 3, 10, "ssat"), torch.rand(4, 3, 16, 16)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    "arch,n_channels,n_classes,mean",
    [
        ("shared", 3, 10, (0.485, 0.456, 0.406)),
        ("shared", 3, 100, (0.485, 0.456, 0.406)),
        ("shared", 1, 10, (0.449,)),
        ("robust_overfitting", 3, 10, (0.4914, 0.4822, 0.4465)),
        ("robust_overfitting", 3, 100, (0.50707516, 0.48654887, 0.44091784)),
        ("subat", 3, 100, (0.5071, 0.4865, 0.4409)),
        ("gradalign", 3, 10, (0, 0, 0)),
    ],
)
def test_normalisation_follows_the_arch_and_the_number_of_classes(arch, n_channels, n_classes, mean):
    found = models.build("preact_tiny", n_channels, n_classes, arch).stem[0].mean.flatten()
    torch.testing.assert_close(found, torch.tensor(mean, dtype=torch.float32))


def test_torchvisions_network_computes_what_torchvision_computes():
    import torchvision

    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=10).eval()
    torch.manual_seed(0)
    ours = models.build("resnet18", 3, 10).eval()
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(ours(x), theirs(models.Normalize(3)(x)))


@pytest.mark.parametrize(
    "name,n_channels,arch,message",
    [
        ("resnet99", 3, "shared", "unknown model 'resnet99'. Known: preact_tiny"),
        ("wrn28_10", 3, "free_adv_train", "unknown arch 'free_adv_train'. Known: shared"),
        ("wrn28_10", 3, "gradalign", "has no wrn28_10; it has preact_tiny.*Archs that have wrn28_10: shared"),
        ("preact_resnet18", 3, "nuat", "has no preact_resnet18; it has postact_tiny"),
        ("resnet50", 1, "shared", "reads 3 channels, got 1"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_names_that_can(name, n_channels, arch, message):
    with pytest.raises(ValueError, match=message):
        models.build(name, n_channels, 10, arch)
