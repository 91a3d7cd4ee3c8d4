"""Architectures against the published parameter counts."""

import pytest
import torch

from fastat import models


@pytest.mark.parametrize("n_classes,expected", [(10, 11_172_170), (100, 11_218_340)])
def test_preact_resnet18_has_the_parameters_of_the_authors_network(n_classes, expected):
    with torch.device("meta"):
        model = models.PreActResNet(64, (2, 2, 2, 2), 1, 3, n_classes)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_forward_is_trunk_of_stem(tiny_model):
    x = torch.rand(2, 1, 8, 8)
    tiny_model.eval()
    assert torch.equal(tiny_model(x), tiny_model.trunk(tiny_model.stem(x)))
