"""network.py is our network, to the last bit, and knows nothing of us."""

import ast
import runpy

import pytest
import torch

from fastat.config.networks import canonical
from fastat.errors import BadInput
from fastat.exchange import source
from fastat.networks import models, own

LARGE = ("wrn28_10", "wrn34_10", "resnet50")  # the same code as their small sisters
PAIRS = [
    (name, arch) for arch, kinds in models.ARCHS.items() for name, size in models.MODELS.items() if size.kind in kinds
]


def built(text, folder):
    """What `build()` of a network.py gives."""
    (folder / "network.py").write_text(text)
    return runpy.run_path(str(folder / "network.py"))["build"]()


def imported(text):
    """The packages that a text imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(text)))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in found}


@pytest.mark.parametrize("name,arch", [(name, arch) for name, arch in PAIRS if name not in LARGE])
def test_every_network_of_ours_is_written_out_to_the_last_bit(name, arch, tmp_path):
    for n_classes in (10, 100):  # some normalise CIFAR100 by other numbers
        ours = models.build(name, 3, n_classes, arch).eval()
        network = built(source.network_py(name, {}, (3, 32, 32), n_classes, arch), tmp_path)
        network.load_state_dict(ours.state_dict())
        x = torch.rand(2, 3, 32, 32)
        with torch.no_grad():
            assert torch.equal(network.eval()(x), ours(x))


@pytest.mark.parametrize("name,arch", PAIRS)
def test_it_needs_torch_alone_and_torchvision_for_its_networks(name, arch):
    text = source.network_py(name, {}, (3, 224, 224), 10, arch)
    extra = {"torchvision"} if models.MODELS[name].kind == "torchvision" else set()
    assert imported(text) <= {"collections", "dataclasses", "typing", "torch"} | extra
    assert imported(source.load_py("a/run", (3, 8, 8), 10, {})) == {"runpy", "sys", "pathlib", "torch", "safetensors"}
    assert max(map(len, text.splitlines())) <= 120


def test_the_loader_is_about_twenty_lines():
    text = source.load_py("a/run", (3, 8, 8), 10, {"A": "b"})
    lines = text[text.index('"""\n\nimport') + 4 :].splitlines()
    assert len([line for line in lines if line.strip()]) <= 27


def test_a_network_that_is_not_ours_is_built_by_the_code_it_came_from(tmp_path, monkeypatch):
    (tmp_path / "exportednets.py").write_text(
        "from torch import nn\n\n\ndef small(n_channels, n_classes, width=4):\n"
        "    conv = nn.Conv2d(n_channels, width, 3)\n"
        "    return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for normalise in ("cifar10", {"mean": [0.5, 0.25, 0.5], "std": [1.0, 0.5, 2.0]}, "inside"):
        door = canonical({"factory": "exportednets:small", "args": {"width": 8}, "normalise": normalise})
        ours = own.build(door, 3, 10).eval()
        text = source.network_py("mine", door, (3, 8, 8), 10, "shared")
        network = built(text, tmp_path)
        network.load_state_dict(ours.state_dict())
        x = torch.rand(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            assert torch.equal(network.eval()(x), ours(x)) and "exportednets" in imported(text)


def test_a_torchvision_network_by_config_too(tmp_path):
    door = {"torchvision": "resnet18", "normalise": "imagenet"}
    ours = own.build(door, 3, 7).eval()
    network = built(source.network_py("theirs", door, (3, 32, 32), 7, "shared"), tmp_path)
    network.load_state_dict(ours.state_dict())
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network.eval()(x), ours(x))


def test_a_network_that_this_version_does_not_know_is_refused():
    for name, arch in (("preact_huge", "shared"), ("preact_tiny", "nobody"), ("preact_tiny", "atta")):
        with pytest.raises(BadInput, match="there is no network"):
            source.network_py(name, {}, (1, 8, 8), 10, arch)
